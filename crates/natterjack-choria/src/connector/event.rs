//! What happens to a connection, and what it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dial::DialError;
use super::link::LossReason;
use crate::server::ServerAddress;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// There is a connection.
    Connected {
        /// To whom.
        server: ServerAddress,
        /// Whether there was one before.
        is_again: bool,
    },
    /// It was lost. Servers are tried until there is one again.
    Disconnected {
        /// To whom it was.
        server: ServerAddress,
        /// Why.
        reason: Arc<LossReason>,
    },
    /// A server could not be connected to. The next one is tried.
    Failed {
        /// Which one.
        server: ServerAddress,
        /// Why.
        reason: Arc<DialError>,
    },
    /// Nobody named a server. Whoever is to find them is asked again.
    NoServers,
    /// A server told of others, which will be tried as well.
    Learnt {
        /// Which ones.
        servers: Vec<ServerAddress>,
    },
    /// The server says that something is wrong; the connection goes on, unless it is lost right after.
    ServerError {
        /// Who says so.
        server: ServerAddress,
        /// What it says.
        text: String,
    },
    /// Something came that is no message of this protocol, and was left out.
    Malformed {
        /// Where it was sent to.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Messages are lost from now on, because a queue is full. Said once until it takes some again;
    /// [`Statistics::dropped`] counts them.
    Dropping {
        /// Which queue.
        direction: Direction,
    },
    /// The connection was ended by this side.
    Closed,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Out,
    /// From the server.
    In,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Messages that came.
    pub messages_in: u64,
    /// Bytes of their content.
    pub bytes_in: u64,
    /// Messages that were given to a server.
    pub messages_out: u64,
    /// Bytes of their content.
    pub bytes_out: u64,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Messages that came and were none of this protocol.
    pub malformed: u64,
    /// Messages that were lost in either direction, because a queue was full.
    pub dropped: u64,
}

/// The counts themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages_in: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) messages_out: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            messages_in: read(&self.messages_in),
            bytes_in: read(&self.bytes_in),
            messages_out: read(&self.messages_out),
            bytes_out: read(&self.bytes_out),
            reconnects: read(&self.reconnects),
            malformed: read(&self.malformed),
            dropped: read(&self.dropped),
        }
    }
}

/// Adds to a count.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
