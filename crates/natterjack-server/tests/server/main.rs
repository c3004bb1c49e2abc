//! The server through its public API and over real sockets.

mod access;
mod cluster;
mod in_process;
mod lifecycle;
mod monitoring;
mod reload;
mod slow_consumers;
mod support;
mod system;
mod tls;
