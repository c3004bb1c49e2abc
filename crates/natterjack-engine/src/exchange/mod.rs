//! What accounts make of subjects: mappings of an account's own messages to other subjects, and what accounts hear of
//! each other.
//!
//! Compiled from the plain data of [`access`](crate::access) and asked by sessions. Knows no session.
//!
//! Suggested reading: `transform` (one subject to another), `mapping` (which of an account's transforms apply), `rules`
//! (who may import what), `stream` (what a subscription hears of other accounts), `service` (whom an account may ask),
//! `answers` (who may answer), `crossing` (how messages get from account to account), `latency` (how long that took),
//! `measures` (the part of it that another server knows).

mod answers;
mod crossing;
mod first_bytes;
mod implied;
mod latency;
mod mapping;
mod measures;
mod request_info;
mod rules;
mod service;
mod stream;
mod transform;

pub use self::latency::{Headers, LatencyOutcome, LatencyReport};
pub use self::measures::{Measure, RemoteMeasure};
pub use self::transform::TransformProblem;

pub(crate) use self::answers::{ANSWER_PREFIX, AwaitedAnswers, PendingAnswers};
pub(crate) use self::crossing::{Crossing, Message};
pub(crate) use self::first_bytes::FirstBytes;
pub(crate) use self::latency::{by_name, header_bytes};
pub(crate) use self::mapping::{Mapped, Mapper, Mappings};
pub(crate) use self::measures::{Measures, is_measured};
pub(crate) use self::service::{ServiceImports, local_pattern};
pub(crate) use self::stream::{Interest, StreamImports};
pub(crate) use self::transform::Transform;
