//! What accounts make of subjects: mappings of an account's own messages to other subjects.
//!
//! Compiled from the plain data of [`access`](crate::access) and asked by sessions. Knows no connection.
//!
//! Suggested reading: `transform` (one subject to another), `mapping` (which of an account's transforms apply).

mod mapping;
mod transform;

pub use self::transform::TransformProblem;

pub(crate) use self::mapping::{Mapped, Mapper, Mappings};
pub(crate) use self::transform::Transform;
