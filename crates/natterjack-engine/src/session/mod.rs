//! Sessions: what the server holds and decides for one connection, one type per kind of peer.

pub(crate) mod client;
mod heartbeat;
