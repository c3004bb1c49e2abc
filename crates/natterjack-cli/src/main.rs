//! natterjack
fn main() {}
