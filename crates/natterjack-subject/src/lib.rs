//! Subjects: which are valid, which pattern matches which, and an index from a subject to its subscribers.
//!
//! Owns the syntax of subjects and the subscription index. Knows no connection and no message: a subscriber is
//! whatever handle the caller puts in.
#![forbid(unsafe_code)]

mod subject;

mod index;
mod match_set;
mod stamp;

mod literals;
mod trie;

mod members;
mod slot;

mod key;
mod shape;
mod slab;
mod split_table;

#[doc(hidden)]
pub mod fuzzing;

pub use index::{Entry, Index, InvalidPattern};
pub use match_set::{MatchSet, QueueGroup};
pub use stamp::Stamp;
pub use subject::{is_literal, is_valid_pattern, is_valid_publish_subject, matches, overlaps};
