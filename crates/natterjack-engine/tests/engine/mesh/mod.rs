//! Several engines as one cluster.

mod forming;
mod world;
