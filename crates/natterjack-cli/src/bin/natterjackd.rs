//! natterjackd
fn main() {}
