//! natterjack-subject
#![forbid(unsafe_code)]
