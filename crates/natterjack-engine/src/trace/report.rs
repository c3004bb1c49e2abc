//! What came of a message, as the shell is told (nats-server `MsgTraceEvent`).

use std::sync::Arc;
use std::time::Instant;

use crate::account::Account;
use crate::exchange::{Headers, header_bytes};

/// What came of one message on this server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TraceReport {
    /// The account it came in.
    pub account: Arc<Account>,
    /// Where in that account the report goes.
    pub destination: Box<[u8]>,
    /// The message's headers, each name as it was spelled.
    pub headers: Headers,
    /// Bytes of header and payload.
    pub message_bytes: usize,
    /// Servers it was passed on to.
    pub hops: u32,
    /// What happened, each with its time.
    pub events: Vec<(Instant, TraceEvent)>,
}

/// One thing that happened to a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TraceEvent {
    /// It came. Always the first.
    Ingress {
        /// From what.
        kind: TracedKind,
        /// Number of the connection.
        id: u64,
        /// What the client calls itself, or the name of the server.
        name: String,
        /// The account.
        account: String,
        /// What it was published to.
        subject: String,
        /// Why it went no further.
        error: Option<String>,
    },
    /// Its subject was replaced.
    Mapped {
        /// By this one.
        to: String,
    },
    /// Another account hears it.
    StreamExport {
        /// This account,
        account: String,
        /// under this subject.
        to: String,
    },
    /// It is a request to another account, or the answer to one.
    ServiceImport {
        /// That account.
        account: String,
        /// What it was published to,
        from: String,
        /// and what it is there.
        to: String,
    },
    /// It was delivered, or could not be.
    Egress {
        /// To what.
        kind: TracedKind,
        /// Number of the connection.
        id: u64,
        /// What the client calls itself, or the name of the server.
        name: String,
        /// The way it took, if to another server.
        hop: Option<String>,
        /// The client's account, if it is not the one that the message came in.
        account: Option<String>,
        /// The subject and the queue group of the client's subscription.
        subscription: Option<(String, Option<String>)>,
        /// Why it was not delivered as it should.
        error: Option<Undelivered>,
    },
}

impl TraceEvent {
    /// Bytes of the names in it.
    fn name_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Ingress {
                name,
                account,
                subject,
                error,
                ..
            } => name.len() + account.len() + subject.len() + optional(error),
            Self::Mapped { to } => to.len(),
            Self::StreamExport { account, to } => account.len() + to.len(),
            Self::ServiceImport { account, from, to } => account.len() + from.len() + to.len(),
            Self::Egress {
                name,
                hop,
                account,
                subscription,
                ..
            } => {
                let subscription = subscription.as_ref();
                let words =
                    subscription.map_or(0, |(subject, queue)| subject.len() + optional(queue));
                name.len() + optional(hop) + optional(account) + words
            }
        }
    }
}

/// What a message came from, or went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TracedKind {
    /// A client.
    Client,
    /// Another server of the cluster.
    Route,
}

impl TracedKind {
    /// Its number in reports (nats-server `CLIENT`, `ROUTER`).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Client => 0,
            Self::Route => 1,
        }
    }
}

/// Why somebody was not given a message, or what is missing although it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undelivered {
    /// It is the publisher, who does not want its own messages.
    Echo,
    /// Its user may not receive it.
    Denied,
    /// The subscription has ended.
    SubscriptionClosed,
    /// The connection has ended.
    ConnectionClosed,
    /// It has had as many messages as it wanted.
    Exhausted,
    /// It is too far behind.
    TooSlow,
    /// It is a server that cannot trace, and would deliver what is not to be delivered.
    CannotTrace,
    /// It is a server that delivers it, but does not tell.
    DoesNotTell,
}

impl Undelivered {
    /// What reports say (nats-server `msgtrace.go`).
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Echo => "Not delivered because of no echo",
            Self::Denied => "Not delivered because subscription denies this subject",
            Self::SubscriptionClosed => "Not delivered because subscription is closed",
            Self::ConnectionClosed => "Not delivered because client is closed",
            Self::Exhausted => "Not delivered because auto-unsubscribe exceeded",
            Self::TooSlow => "Not delivered because fast producer not stalled and consumer is slow",
            Self::CannotTrace => "Not delivered because remote does not support message tracing",
            Self::DoesNotTell => {
                "Message delivered but remote does not support message tracing so no trace event generated from there"
            }
        }
    }
}

impl TraceReport {
    /// Bytes it takes up, near enough. Linear in what it holds.
    pub(crate) fn bytes(&self) -> usize {
        /// What an event takes besides the names in it, with what memory is lost around those.
        const EVENT_BYTES: usize = 256;
        let events = self.events.iter();
        let event_bytes = events.map(|(_, event)| EVENT_BYTES + event.name_bytes());
        header_bytes(&self.headers) + self.destination.len() + event_bytes.sum::<usize>()
    }
}
