//! What the two binaries share: log lines as nats-server writes them, the limit on open files, and what a service manager
//! is told.
//!
//! This is no library for other programs: what they would want is in `natterjack-bus` and `natterjack-server`.
#![forbid(unsafe_code)]

pub mod log;
pub mod open_files;
pub mod service_manager;
