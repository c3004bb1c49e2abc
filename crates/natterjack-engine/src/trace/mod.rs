//! What becomes of single messages, told to whoever asks for it in the message's header.
//!
//! A message that is traced goes alone: its session finishes what it has collected, reads the wish ([`wish`]), lends a
//! [`Trace`] to the worker, and publishes the message in the ordinary way. What finds a trace with the worker writes down
//! what it decides: mappings, borders between accounts, and each delivery
//! ([`delivery::traced`](crate::delivery)). At the end the [report](TraceReport) goes to the shell, which publishes it.
//!
//! Peers trace for themselves what they are passed, and report to the same subject; a header of its own tells them which
//! of the ways from server to server it took. What is not to be traced any further says so in the header, since peers do
//! not know why.

mod decision;
mod recorder;
mod report;
mod wish;

pub(crate) use decision::{Asker, Decision, cut};
pub(crate) use recorder::Trace;
pub use report::{TraceEvent, TraceReport, TracedKind, Undelivered};
pub(crate) use wish::{DESTINATION, DISABLED, HOP, may_ask, push_with};
