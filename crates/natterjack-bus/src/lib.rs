//! natterjack-bus
#![forbid(unsafe_code)]
