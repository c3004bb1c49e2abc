//! Several engines as one cluster.

mod faults;
mod forming;
mod keeping;
mod passing;
mod reloading;
mod script;
mod world;
