//! The two binaries as their users see them: real processes, real sockets.

mod bench;
mod bus;
mod daemon;
mod messages;
mod process;
