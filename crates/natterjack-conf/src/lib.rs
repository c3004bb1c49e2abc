//! natterjack-conf
#![forbid(unsafe_code)]
