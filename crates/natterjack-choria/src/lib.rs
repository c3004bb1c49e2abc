//! natterjack-choria
#![forbid(unsafe_code)]
