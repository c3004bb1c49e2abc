//! What goes wrong while the bus runs, and the readers who want to know. A fault never ends the bus.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::queue::{Overflow, Queue};

/// Something a running bus could not do. Episodes are reported when they begin and when they end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A message on the bus's subject is not an event of this bus's type. Its publisher is at fault.
    #[error("a message from `{origin}` (id {id}) cannot be read as an event: {reason}")]
    Undecodable {
        /// The event's identifier.
        id: String,
        /// The event's source.
        origin: String,
        /// What is wrong with it.
        reason: Arc<DecodeError>,
        /// The payload as it arrived.
        payload: Bytes,
    },
    /// Own events were on their way when the connection broke, or were dropped by a full queue on their way back.
    #[error(
        "{events} of this node's events did not come back: the connection to the server broke on the way"
    )]
    Lost {
        /// How many.
        events: u64,
    },
    /// The subscribers are too slow: events that arrive are being dropped.
    #[error("subscribers are too slow: arriving events are being dropped")]
    OverflowBegan,
    /// There is room again; noticed when the next event arrives.
    #[error("subscribers have caught up; {events} events were dropped")]
    OverflowEnded {
        /// How many were dropped in this episode.
        events: u64,
    },
    /// The connection to the server broke. The bus tries to connect again for ever.
    #[error("the connection to the server is lost; trying again")]
    Disconnected,
    /// The connection is back, and so is the subscription.
    #[error("connected to the server again")]
    Reconnected,
    /// The server or the client library refused something, a login perhaps. The same words are reported once for each
    /// connection, or way to one.
    #[error("the server or its client says: {message}")]
    Refused {
        /// In their words.
        message: String,
    },
}

/// Why a message is not an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A CloudEvents version whose attributes we cannot interpret.
    #[error("CloudEvents version `{0}` is not supported, only 1.x")]
    SpecVersion(String),
    /// A structured CloudEvent that is not a JSON object with the right members.
    #[error("it is not a structured CloudEvent: {0}")]
    Structured(serde_json::Error),
    /// A structured CloudEvent with binary data, which cannot be a JSON value.
    #[error("its data is binary")]
    Binary,
    /// The payload is not JSON, or not of the bus's type.
    #[error("its payload does not fit: {0}")]
    Payload(#[from] serde_json::Error),
}

/// Hands each fault to every reader. A reader that does not keep up loses the oldest.
#[derive(Default)]
pub(crate) struct Faults {
    readers: Mutex<Vec<Weak<Queue<Fault>>>>,
}

impl Faults {
    pub(crate) fn reader(&self, faults_max: usize) -> Arc<Queue<Fault>> {
        let queue = Arc::new(Queue::new(faults_max, usize::MAX));
        self.readers.lock().push(Arc::downgrade(&queue));
        queue
    }

    pub(crate) fn report(&self, fault: &Fault) {
        tracing::debug!(%fault, "event bus fault");
        self.readers.lock().retain(|reader| {
            let Some(queue) = reader.upgrade() else {
                return false;
            };
            queue.push_now(fault.clone(), 0, Overflow::DropOldest);
            true
        });
    }

    pub(crate) fn close(&self) {
        for queue in self
            .readers
            .lock()
            .drain(..)
            .filter_map(|reader| reader.upgrade())
        {
            queue.close();
        }
    }
}
