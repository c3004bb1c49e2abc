//! The phases of a server's life, and who is still there.
//!
//! A server that stops first has every connection stop reading, waits until all have, and only then closes
//! them: what one client sent and the server read has by then reached the queue of every client it was for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Running,
    /// No new connections; the old ones are asked to leave.
    LameDuck,
    /// No connection reads any more.
    Draining,
    /// Connections flush and close.
    Closing,
}

pub(crate) struct Lifecycle {
    phase: AtomicU8,
    phase_changed: Notify,
    /// Listeners that still accept clients.
    pub(crate) listeners: Arc<Gate>,
    /// The same for other servers, which are let in as long as there may be clients.
    pub(crate) route_listeners: Arc<Gate>,
    /// Connections that may still read.
    pub(crate) readers: Gate,
    /// Connections whose task has not ended.
    pub(crate) connections: Gate,
    /// The same of connections with other servers, which stay until the last client has gone.
    pub(crate) routes: Gate,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Running as u8),
            phase_changed: Notify::new(),
            listeners: Arc::new(Gate::new()),
            route_listeners: Arc::new(Gate::new()),
            readers: Gate::new(),
            connections: Gate::new(),
            routes: Gate::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::LameDuck,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Enters a later phase; never goes back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.phase_changed.notify_waiters();
    }

    /// Waits until the server is in `phase` or a later one.
    pub(crate) async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.phase_changed.notified();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }
}

/// Counts those who are inside, and tells when nobody is.
pub(crate) struct Gate {
    inside: AtomicUsize,
    emptied: Notify,
}

/// A place inside a [`Gate`].
pub(crate) struct Pass<'a>(&'a Gate);

/// The same for a task, from before it runs for the first time. Whoever stops a server may be quicker than that.
pub(crate) struct OwnPass(Arc<Gate>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inside: AtomicUsize::new(0),
            emptied: Notify::new(),
        }
    }

    pub(crate) fn pass(&self) -> Pass<'_> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        Pass(self)
    }

    pub(crate) fn own_pass(self: &Arc<Self>) -> OwnPass {
        self.inside.fetch_add(1, Ordering::SeqCst);
        OwnPass(Arc::clone(self))
    }

    fn leave(&self) {
        if self.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for OwnPass {
    fn drop(&mut self) {
        self.0.leave();
    }
}
