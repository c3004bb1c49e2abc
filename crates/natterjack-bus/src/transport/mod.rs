//! What carries events: the one trait the bus knows, and its implementations.
//!
//! A transport delivers each node's own events back to it exactly once, in order, and everyone else's in their
//! publishers' order. It pushes what arrives into the bus's [`Inbound`] and never waits for subscribers there, except
//! where the publisher is the one to wait.

pub(crate) mod local;
pub(crate) mod nats;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::bus::PublishError;
use crate::envelope::Envelope;
use crate::fault::{DecodeError, Fault, Faults};
use crate::queue::Queue;
use crate::stats::Counters;

/// The connection to where the events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// The first connection has not been made yet.
    Connecting,
    /// Events flow.
    Connected,
    /// The connection broke; a new one is being tried.
    Disconnected,
    /// There is no connection and there will be none.
    Closed,
}

pub(crate) trait Transport: Send + Sync {
    /// Stamps and sends one JSON payload as an event of this node. Waits for room where that can come; accepted
    /// events keep the order in which this was first polled.
    fn publish(&self, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Largest event, headers included, that [`Transport::publish`] accepts now.
    fn event_bytes_max(&self) -> usize;

    fn link(&self) -> Link;

    /// Why we were refused last, if we were since the connection was made, or broke.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// Waits until this node is connected and subscribed.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Stops accepting, and waits until every accepted event has come back or is known to be lost. Answers how many
    /// were lost meanwhile. May be abandoned at any time.
    fn drain(&self) -> BoxFuture<'_, u64>;

    /// Accepted events of this node that have not come back.
    fn outstanding_events(&self) -> u64;

    /// Ends delivery and lets the connection go.
    fn close(&self);
}

/// The bus's side of a transport.
#[derive(Clone)]
pub(crate) struct Inbound {
    pub(crate) queue: Arc<Queue<Arrival>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Arc<Faults>,
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Arrival {
    Event(Envelope),
    Unreadable {
        id: String,
        origin: String,
        reason: DecodeError,
        payload: Bytes,
    },
}

impl Inbound {
    pub(crate) fn report(&self, fault: &Fault) {
        self.faults.report(fault);
    }
}
