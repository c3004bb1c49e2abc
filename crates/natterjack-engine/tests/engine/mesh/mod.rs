//! Several engines as one cluster.

mod faults;
mod forming;
mod reloading;
mod script;
mod world;
