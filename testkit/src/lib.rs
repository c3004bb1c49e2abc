//! Tools for testing a NATS server from outside, over real sockets.
//!
//! - [`Peer`] is a scripted client: what it sends and what it expects are written as the protocol's own text.
//! - [`ServerUnderTest`] is a child process, ours or the real nats-server, behind one API.
//! - [`conversation`] plays text files in which client and server lines alternate.
//! - [`cluster`] is several of them that are to act as one, whose processes and connections can be disturbed.
//! - [`Authority`] makes certificates as Puppet does.
//! - [`Terminal`] is a program on a terminal: what it shows, and what is typed.
//! - [`DnsServer`] answers from a zone that a test writes.
//! - [`netns`] is machines of their own for them, and a bad network between these.
//! - [`differential`] plays one script against both servers and compares what came back.
//!
//! Everything here blocks, waits with a deadline, and panics with the whole exchange in the message: it is for tests. It
//! knows the shape of the protocol but not our implementation of it, so it depends on none of our crates.

#![forbid(unsafe_code)]

mod peer;
pub use peer::{Mismatch, Peer};

mod authority;
pub use authority::{Authority, Pair, of_version_1, replace, revocation_list};

mod strainer;

mod server;
pub use server::{Config, Kind, Listener, ServerUnderTest, Signal, StartError};

pub mod programs;

mod http;
pub use http::HttpAnswer;

#[cfg(unix)]
mod terminal;
#[cfg(unix)]
pub use terminal::Terminal;

mod program;
pub use program::{Ending, Program};

pub mod cluster;

mod dns;
pub use dns::{Answering, DnsServer, ServiceHost};

pub mod conversation;

mod differential;
pub use differential::{Difference, Session, differential};

#[cfg(target_os = "linux")]
pub mod netns;

mod deadline;
pub use deadline::{Deadline, PATIENCE, ask_until};

mod text;
pub use text::escaped;
