//! What goes wrong while the bus runs, and the readers who want to know. A fault never ends the bus.

use std::fmt::{self, Display};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::PublishError;
use crate::queue::{Overflow, Queue};

/// Bytes that wait for one reader.
const READER_BYTES_MAX: usize = 16 << 20;

/// Something a running bus could not do. Episodes are reported when they begin and when they end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A message on the bus's subject is not an event of this bus's type. Its publisher is at fault.
    #[error(
        "a message from `{}` ({}) cannot be read as an event: {}",
        short(origin),
        which(id.as_deref()),
        short(reason)
    )]
    Undecodable {
        /// The event's identifier, if its publisher has given it one.
        id: Option<String>,
        /// The event's source.
        origin: String,
        /// The event's CloudEvents `type`; empty if it could not be read.
        kind: String,
        /// What is wrong with it.
        reason: Arc<DecodeError>,
        /// The payload as it arrived.
        payload: Bytes,
    },
    /// Own events never came back from the server although later ones did: the connection broke while they were on
    /// their way, or a full queue, the server's or ours, dropped them.
    #[error("{events} of this node's events are lost: they did not come back from the server")]
    Lost {
        /// How many.
        events: u64,
    },
    /// Events of another node never arrived here, although its server had them: servers that are too slow for each other
    /// drop what they cannot pass on, and whoever is away misses what is published meanwhile.
    #[error("{events} events of `{node}` never arrived here")]
    Missed {
        /// Who published them.
        node: String,
        /// How many.
        events: u64,
    },
    /// Around a planned change of servers, events without an identifier were left out: each says the same as one that came
    /// over the other server, which is most probably the very same. Told a moment after the change.
    #[error(
        "{events} events without an identifier were left out around the change of servers: they say the same as others \
         that came over the other server"
    )]
    Repeated {
        /// How many.
        events: u64,
    },
    /// The embedded server has closed connections that did not keep up with it, and dropped what was on its way to them.
    /// What is behind them connects again.
    #[error(
        "the embedded server has dropped connections that did not keep up: {clients} of clients, {servers} to other \
         servers; events are lost with them"
    )]
    ServerOverflow {
        /// Connections of clients.
        clients: u64,
        /// Connections to other servers.
        servers: u64,
    },
    /// The subscribers are too slow: events that arrive are being dropped.
    #[error(
        "the subscribers of `{node}` are too slow: events that arrive on `{subject}` are being dropped"
    )]
    OverflowBegan {
        /// At which node.
        node: Arc<str>,
        /// The subject of the events.
        subject: Arc<str>,
    },
    /// There is room again; noticed when the next event arrives.
    #[error(
        "the subscribers of `{node}` have caught up; {events} events on `{subject}` were dropped"
    )]
    OverflowEnded {
        /// At which node.
        node: Arc<str>,
        /// The subject of the events.
        subject: Arc<str>,
        /// How many were dropped in this episode.
        events: u64,
    },
    /// A subscriber is too slow for its queue: events are being dropped for it, and for it alone. Reported when it begins
    /// and not again before it has ended.
    #[error("{subscriber} of `{node}` is too slow: events on `{subject}` for it are being dropped")]
    SubscriberOverflowBegan {
        /// At which node.
        node: Arc<str>,
        /// The subject of the events.
        subject: Arc<str>,
        /// Its name.
        subscriber: Arc<str>,
    },
    /// At least half of the subscriber's queue is free again.
    #[error(
        "{subscriber} of `{node}` has caught up; {events} events on `{subject}` for it were dropped"
    )]
    SubscriberOverflowEnded {
        /// At which node.
        node: Arc<str>,
        /// The subject of the events.
        subject: Arc<str>,
        /// Its name.
        subscriber: Arc<str>,
        /// How many were dropped in this episode.
        events: u64,
    },
    /// The program's own code panicked over an event, which is lost to whom it concerns. The bus goes on.
    #[error("{place} panicked: {message}")]
    Panicked {
        /// Where: the name of the subscriber whose filter it was, or what was being done.
        place: String,
        /// What the panic said.
        message: String,
    },
    /// An event that a [`crate::MergingPublisher`] had taken in cannot be published.
    #[error("a merged event is not published: {reason}")]
    Unpublished {
        /// Why not.
        reason: Arc<PublishError>,
    },
    /// The connection to the server broke. The bus tries to connect again for ever.
    #[error("disconnected from {server}; trying again")]
    Disconnected {
        /// Where the server is, or was.
        server: String,
    },
    /// The connection is back, and so is the subscription.
    #[error("reconnected to {server}")]
    Reconnected {
        /// Where the server is: as the settings name it, or, if it is another one of its cluster, as that one does.
        server: String,
    },
    /// The server was soon to be gone, by its own words, and was left for another one of its cluster. There was a connection
    /// all the time.
    #[error("moved to server `{server}`, since the one before will soon be gone{}", if *.is_certain { "" } else {
        "; not all nodes have confirmed in time that everything arrived by way of the old one: an event may be missed, or \
         have overtaken another one"
    })]
    Moved {
        /// What that other one calls itself.
        server: String,
        /// Whether it is certain that by this no event is missed, comes twice or overtakes another one: all nodes that are
        /// up have confirmed it.
        is_certain: bool,
    },
    /// Another node that is up has this node's client name, by which others tell them apart. Reported once.
    #[error(
        "another node is called `{node}` like this one: give each a name of its own (eventBus.nats.client.name), unless \
         one is about to take the other's place"
    )]
    NameShared {
        /// The name.
        node: String,
    },
    /// The server or the client library refused something, a login perhaps. The same words are reported once for each
    /// connection, and once for each time without one. That a server cannot be reached is no refusal.
    #[error("the server or its client says: {message}")]
    Refused {
        /// In their words.
        message: String,
    },
}

fn which(id: Option<&str>) -> impl Display {
    fmt::from_fn(move |formatter| match id {
        Some(id) => write!(formatter, "id {}", short(id)),
        None => formatter.write_str("without an id"),
    })
}

/// What somebody else has said, who may have said a megabyte, without its middle.
fn short(text: impl Display) -> impl Display {
    const BYTES_MAX: usize = 400;
    let mut text = text.to_string();
    if text.len() > BYTES_MAX {
        let begin = text.floor_char_boundary(BYTES_MAX / 2);
        let end = text.ceil_char_boundary(text.len() - BYTES_MAX / 2);
        text.replace_range(begin..end, " ... ");
    }
    text
}

impl Fault {
    /// What it takes in memory, for those that others can make large.
    fn bytes(&self) -> usize {
        match self {
            Self::Undecodable {
                origin,
                kind,
                payload,
                ..
            } => {
                // The reason may quote the payload.
                origin.len() + kind.len() + 2 * payload.len()
            }
            _ => 0,
        }
    }
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
    /// A structured CloudEvent whose binary data is not written as it should be.
    #[error("its data_base64 is not Base64")]
    Base64,
    /// The payload is not JSON.
    #[error("its payload is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The payload is JSON, but not of the bus's type.
    #[error("its payload is not of this bus's type: {0}")]
    OtherType(serde_json::Error),
}

/// Hands each fault to every reader. A reader that does not keep up loses the oldest.
#[derive(Default)]
pub(crate) struct Faults {
    node: Arc<str>,
    subject: Arc<str>,
    readers: Mutex<Vec<Weak<Queue<Fault>>>>,
}

impl Faults {
    /// Of this node, which has events on this subject.
    pub(crate) fn new(node: &str, subject: &str) -> Self {
        Self {
            node: node.into(),
            subject: subject.into(),
            readers: Mutex::default(),
        }
    }

    /// Tells that events that arrive are being dropped.
    pub(crate) fn overflow_began(&self) {
        let (node, subject) = self.place();
        self.report(&Fault::OverflowBegan { node, subject });
    }

    pub(crate) fn overflow_ended(&self, events: u64) {
        let (node, subject) = self.place();
        self.report(&Fault::OverflowEnded {
            node,
            subject,
            events,
        });
    }

    /// Tells that events for this subscriber are being dropped.
    pub(crate) fn subscriber_overflow_began(&self, subscriber: &Arc<str>) {
        let (node, subject) = self.place();
        self.report(&Fault::SubscriberOverflowBegan {
            node,
            subject,
            subscriber: Arc::clone(subscriber),
        });
    }

    pub(crate) fn subscriber_overflow_ended(&self, subscriber: &Arc<str>, events: u64) {
        let (node, subject) = self.place();
        self.report(&Fault::SubscriberOverflowEnded {
            node,
            subject,
            subscriber: Arc::clone(subscriber),
            events,
        });
    }

    fn place(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.node), Arc::clone(&self.subject))
    }

    pub(crate) fn reader(&self, faults_max: usize) -> Arc<Queue<Fault>> {
        let queue = Arc::new(Queue::new(faults_max, READER_BYTES_MAX));
        self.readers.lock().push(Arc::downgrade(&queue));
        queue
    }

    pub(crate) fn report(&self, fault: &Fault) {
        tracing::debug!(%fault, "event bus fault");
        self.readers.lock().retain(|reader| {
            let Some(queue) = reader.upgrade() else {
                return false;
            };
            queue.push_now(fault.clone(), fault.bytes(), Overflow::DropOldest);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn undecodable(bytes: usize) -> Fault {
        let text = "ü".repeat(bytes / 2);
        let error = serde_json::from_value::<u32>(text.clone().into());
        Fault::Undecodable {
            id: Some(text.clone()),
            origin: text.clone(),
            kind: text.clone(),
            reason: Arc::new(DecodeError::OtherType(error.expect_err("a number"))),
            payload: text.into(),
        }
    }

    #[test]
    fn what_others_can_make_large_is_told_in_short_and_kept_up_to_a_bound() {
        let fault = undecodable(1 << 20);
        let said = fault.to_string();
        assert!(said.len() < 2000, "{} bytes", said.len());
        assert!(said.starts_with("a message from `ü") && said.ends_with("expected u32"));
        let faults = Faults::new("a", "s");
        let reader = faults.reader(1000);
        for _ in 0..20 {
            faults.report(&fault);
        }
        assert!(reader.len() <= READER_BYTES_MAX >> 20);
        assert!(reader.dropped() > 0);
    }
}
