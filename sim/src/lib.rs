//! A whole server on a virtual clock: one engine, some clients, links that are slow, small and at times dead,
//! all from one seed.
//!
//! [`run`] plays a [`Scenario`] and reports what happened and, if a property did not hold, which one. The same
//! seed plays the same game, event by event; the report's `trace_hash` tells. Nothing here opens a socket, starts
//! a thread or reads a clock twice.
//!
//! Threads are simulated where they can meet: an engine holds no lock while it writes to a connection, so the
//! simulated [`Transport`](natterjack_engine::Transport) may, in the middle of a write, let another connection's
//! task run on another worker. The rest of a connection's task follows the server's own, with its order of
//! looking at things, and runs only when something woke it, so that a lost wake-up shows.
//!
//! Suggested reading: `scenario` (what differs from run to run), `simulation` (the loop), `world` (clock,
//! tasks and workers), `link` (what lies between client and server), `task` (the shell's side), `client` (what
//! clients do), `ledger` (what must hold).
#![forbid(unsafe_code)]

pub mod cluster;

mod scenario;
mod simulation;

mod client;
mod ledger;
mod link;
mod message;
mod task;
mod trace;
mod world;

pub use scenario::{Payloads, Scenario};
pub use simulation::{Failure, Report, run};
