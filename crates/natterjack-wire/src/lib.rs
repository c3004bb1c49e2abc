//! natterjack-wire
#![forbid(unsafe_code)]
