//! Why a bus does not start, takes an event, answers, or ends as it should.

use std::time::Duration;

use crate::settings::Problems;
use crate::tls::ClientTlsError;

/// Why a bus could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings contradict themselves, or files they name are not what they should be.
    #[error("{0}")]
    Settings(Problems),
    /// The client's files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
    /// A port of the embedded server is in use.
    #[error(
        "eventBus.nats.server.{section}.port: cannot listen on {host}:{port}: {source}; stop the program that uses this \
         port, perhaps another server, or set another port{}",
        if *section == "client" { ", here and in eventBus.nats.client.endpoint" } else { "" }
    )]
    PortInUse {
        /// Which listener: `client`, `http` or `cluster`.
        section: &'static str,
        /// Its `host`.
        host: String,
        /// Its `port`.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address of the embedded server is not to be had.
    #[error(
        "eventBus.nats.server.{section}.host: cannot listen on {host}:{port}: {source}; set `localhost`, `0.0.0.0`, or \
         an address that this host has"
    )]
    CannotListen {
        /// Which listener: `client`, `http` or `cluster`.
        section: &'static str,
        /// Its `host`.
        host: String,
        /// Its `port`.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The embedded server could not start.
    #[error("eventBus.nats.server: the embedded server cannot start: {0}")]
    Server(Box<dyn std::error::Error + Send + Sync>),
    /// The embedded server runs, but our own client cannot use it.
    #[error(
        "eventBus.nats.client.endpoint: no connection to {address} within {timeout:?}{}; the embedded server listens \
         at {server}",
        refusal.as_ref().map_or_else(String::new, |refusal| format!(", which says: {refusal}"))
    )]
    NotReady {
        /// Where the client tried.
        address: String,
        /// Where the server listens.
        server: String,
        /// For how long the client tried.
        timeout: Duration,
        /// Why it was refused last, if anybody said.
        refusal: Option<String>,
    },
    /// Another server answers where the embedded one should: the name of this host stands for several addresses.
    #[error("eventBus.nats.client.endpoint: {message}; the embedded server listens at {server}")]
    OtherServer {
        /// What answers, where, and what to do.
        message: String,
        /// Where the embedded server listens.
        server: String,
    },
    /// `inproc:` is the embedded server, and there is none.
    #[error(
        "eventBus.nats.client.endpoint: `inproc:` is the server inside this process; set \
         `eventBus.nats.server.enable: true`, or name the server to connect to"
    )]
    NoServerInProcess,
    /// The client library refused the settings.
    #[error("eventBus.nats.client: {0}")]
    Client(Box<dyn std::error::Error + Send + Sync>),
}

/// Why an event was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The value has no JSON form. The caller is at fault.
    #[error("the event cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The server would refuse it.
    #[error(
        "the event is {event_bytes} bytes with its headers; the limit (max_payload) is {event_bytes_max}"
    )]
    TooLarge {
        /// Its size, headers included.
        event_bytes: usize,
        /// The server's limit.
        event_bytes_max: usize,
    },
    /// An attribute given with the event has a name that is not free or no attribute's name, or a time before 1970 or after
    /// the year 9999. The caller is at fault.
    #[error(
        "the attribute `{name}` cannot be set so: names are lower-case letters and digits, and some are taken"
    )]
    Attribute {
        /// Its name.
        name: String,
    },
    /// There is no connection and no more room to wait for one.
    #[error("not connected to a server, and {buffered_events} events already wait for one")]
    Disconnected {
        /// Events that wait.
        buffered_events: usize,
    },
    /// The bus is draining or closed.
    #[error("the event bus is closed")]
    Closed,
}

/// What a drain could not do: [`DrainError::events`] and [`DrainError::ids`] say which events may not be where they belong.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// Later events came back from the server, these did not: the connection broke while they were on their way, or a
    /// full queue, the server's or ours, dropped them.
    #[error("{events} events were lost on their way to the server or back")]
    Lost {
        /// How many, those among them that were held back to be merged and could not be published.
        events: u64,
        /// Their identifiers, of the first 4,096 of them. What was held back to be merged has none yet.
        ids: Vec<String>,
    },
    /// Time is up; whether the server has these events is not known.
    #[error("{events} events were not confirmed within {timeout:?}; is the server reachable?")]
    Unconfirmed {
        /// How many, those among them that were lost meanwhile, or held back to be merged and not published.
        events: u64,
        /// Their identifiers, of the first 4,096 of them. What was held back to be merged has none yet.
        ids: Vec<String>,
        /// [`crate::Limits::drain_timeout`].
        timeout: Duration,
    },
    /// The server has all events, but these nodes, which were there a moment ago, have not confirmed that they do. They may
    /// have stopped without a good-bye.
    #[error("{} did not confirm that the last events arrived there", nodes.join(", "))]
    Unanswered {
        /// Their client names.
        nodes: Vec<String>,
    },
}

impl DrainError {
    /// How many events were not delivered, or are not known to be.
    #[must_use]
    pub fn events(&self) -> u64 {
        match self {
            Self::Lost { events, .. } | Self::Unconfirmed { events, .. } => *events,
            Self::Unanswered { .. } => 0,
        }
    }

    /// Identifiers of these events, in the order in which they were published: [`crate::Event::id`], and what
    /// [`crate::EventBus::publish_identified`] answers. At most 4,096.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        match self {
            Self::Lost { ids, .. } | Self::Unconfirmed { ids, .. } => ids,
            Self::Unanswered { .. } => &[],
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The question cannot be sent.
    #[error("the question is not sent: {0}")]
    Publish(#[from] PublishError),
    /// There is no connection. Questions, unlike events, do not wait for one.
    #[error("the question is not sent: not connected to a server")]
    Disconnected,
    /// Time is up. The node may not be there, or have been too slow.
    #[error("no answer from `{node}` within {timeout:?}")]
    NoAnswer {
        /// The node that was asked.
        node: String,
        /// How long it had.
        timeout: Duration,
    },
    /// The node is there, but answers no questions of this type.
    #[error("`{node}` answers no such questions")]
    NotAnswering {
        /// The node that was asked.
        node: String,
    },
    /// The node says why it cannot answer.
    #[error("`{node}` cannot answer: {message}")]
    Failed {
        /// The node that was asked.
        node: String,
        /// In its words.
        message: String,
    },
    /// The answer is not of the expected type.
    #[error("the answer of `{node}` cannot be read: {error}")]
    Undecodable {
        /// The node that was asked.
        node: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl StartError {
    pub(crate) fn client(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Client(Box::new(error))
    }
}
