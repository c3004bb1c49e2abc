//! What the two binaries share: log lines as nats-server writes them, and the limit on open files.
//!
//! This is no library for other programs: what they would want is in `natterjack-bus` and `natterjack-server`.
#![forbid(unsafe_code)]

pub mod log;
pub mod open_files;
