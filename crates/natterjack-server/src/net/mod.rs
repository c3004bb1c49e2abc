//! Sockets: accept, read, feed the engine, flush, wait. No protocol rule lives here.

pub(crate) mod compressed;
pub(crate) mod connection;
mod handshake;
pub(crate) mod listener;
pub(crate) mod newcomers;
pub(crate) mod pipe;
pub(crate) mod route_tls;
pub(crate) mod secured;
mod slices;
pub(crate) mod socket;
pub(crate) mod strangers;
pub(crate) mod stream;
