//! natterjack-engine
#![forbid(unsafe_code)]
