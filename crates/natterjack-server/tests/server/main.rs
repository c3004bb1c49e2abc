//! The server through its public API and over real sockets.

mod in_process;
mod lifecycle;
mod slow_consumers;
mod support;
