//! Sessions: what the server holds and decides for one connection, one type per kind of peer; and [`Session`], by which
//! the shell drives them all alike.

pub(crate) mod client;
pub(crate) mod complaints;
mod foreign;
mod heartbeat;
mod intake;
pub(crate) mod route;
mod stall;

use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use natterjack_wire::route::Compression;

use crate::access::PasswordCheck;
use crate::close_reason::CloseReason;
use crate::delivery::outbox::Outbox;
use crate::delivery::worker::Worker;

/// What a shell drives: the session of one connection.
///
/// Whenever the connection's task runs, the shell calls [`adapt`](Self::adapt) first; flushes the
/// [`outbox`](Self::outbox) if its socket takes bytes again; calls [`handle_timeout`](Self::handle_timeout) if
/// [`next_timeout`](Self::next_timeout) has come; then [`step`](Self::step), and as that says reads into
/// [`read_slices`](Self::read_slices) and calls [`handle_read`](Self::handle_read), unless the session
/// [is stalled](Self::is_stalled) or [is checking](Self::is_checking). After what it has read, timed or stepped it asks
/// for [`take_compression`](Self::take_compression). When the connection has ended,
/// [`close_step`](Self::close_step) is called until it is done.
pub trait Session: Send {
    /// The outbound side.
    fn outbox(&self) -> &Arc<Outbox>;

    /// How the connection appears in the log. Made anew for each call.
    fn label(&self) -> String;

    /// Tells the session the time, and changes it over to the configuration in force.
    fn adapt(&mut self, now: Instant);

    /// Where to read to next, with the worker that [`handle_read`](Self::handle_read) is given.
    fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2];

    /// Handles `count` bytes that were read into [`read_slices`](Self::read_slices): carries out every complete operation,
    /// delivers, and flushes what was delivered to.
    fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant);

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    fn next_timeout(&self) -> Instant;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// Does some of what there is to do beside reading.
    fn step(&mut self, now: Instant) -> Step;

    /// Whether reading must wait because consumers are behind. If so, `waker` is called when that changes, and
    /// [`next_timeout`](Self::next_timeout) tells when the wait ends in any case.
    fn is_stalled(&mut self, waker: &Waker, now: Instant) -> bool;

    /// No more is read from this peer; it waits for nobody any more.
    fn stop_reading(&mut self);

    /// Whether a password has to be checked before anything more is read.
    fn is_checking(&self) -> bool {
        false
    }

    /// That check, once; to be run where it holds up nobody.
    fn pending_check(&mut self) -> Option<PasswordCheck> {
        None
    }

    /// Takes the outcome of the check.
    fn finish_check(&mut self, _is_right: bool, _worker: &mut Worker, _now: Instant) {}

    /// How what follows on the wire is compressed, once for each change. The first time it holds for both directions:
    /// of what is sent for everything after what is in the outbox now, of what was read for
    /// [`take_unread`](Self::take_unread) and everything after it. Later it is only about the effort. Never a mode
    /// that does not compress, nor [`Compression::S2Auto`].
    ///
    /// The session writes what must not be compressed before it says so, and does not write what must be
    /// before it was asked; nobody else writes to its outbox until then.
    fn take_compression(&mut self) -> Option<Compression> {
        None
    }

    /// What [`handle_read`](Self::handle_read) was given beyond the point from which on the peer's bytes are compressed. It is
    /// given again, decompressed.
    fn take_unread(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Whether what the other side sends may take memory like what a server of the cluster sends.
    fn is_let_in(&self) -> bool {
        false
    }

    /// Ends the session, some of it a step. Returns `true` once nothing is delivered to it any more and the engine has
    /// forgotten it; to be called again until then. What was queued before can still be flushed.
    fn close_step(&mut self, reason: CloseReason) -> bool;
}

/// What [`Session::step`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing more to do.
    Done,
    /// There is more, to be done in turn with reading.
    More,
    /// There is more, and nothing is to be read before it is done.
    First,
}
