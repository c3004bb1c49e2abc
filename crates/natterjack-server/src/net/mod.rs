//! Sockets: accept, read, feed the engine, flush, wait. No protocol rule lives here.

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod pipe;
pub(crate) mod stream;
