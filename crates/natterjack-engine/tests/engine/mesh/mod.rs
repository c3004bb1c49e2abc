//! Several engines as one cluster.

mod faults;
mod forming;
mod script;
mod world;
