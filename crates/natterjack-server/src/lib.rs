//! natterjack-server
#![forbid(unsafe_code)]
