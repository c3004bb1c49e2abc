//! What accounts make of subjects: mappings of an account's own messages to other subjects, and what accounts hear of
//! each other.
//!
//! Compiled from the plain data of [`access`](crate::access) and asked by sessions. Knows no connection.
//!
//! Suggested reading: `transform` (one subject to another), `mapping` (which of an account's transforms apply), `rules`
//! (who may import what), `stream` (what a subscription hears of other accounts), `service` (whom an account may ask).

mod mapping;
mod rules;
mod service;
mod stream;
mod transform;

pub use self::transform::TransformProblem;

pub(crate) use self::mapping::{Mapped, Mapper, Mappings};
pub(crate) use self::service::{ANSWER_PREFIX, CompiledService, PendingAnswers, ServiceImports};
pub(crate) use self::stream::{Interest, StreamImports};
pub(crate) use self::transform::Transform;
