//! A client of a NATS server over sockets, as lean as the bus needs it: subscriptions that are fixed at the start, messages
//! handed over where they were read, operations written in batches, and a connection that is made again for ever.
//!
//! It knows the protocol, not the bus. What it does not do: queue groups, subscriptions that come and go, requests.

mod connection;
mod greeting;
mod incoming;
mod outgoing;
mod servers;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use natterjack_wire::client::{InfoError, Message, ServerInfo, error_text, subscribe};
use natterjack_wire::error::ProtocolError;
use tokio::sync::watch;

use self::connection::{Connection, Ended, FAREWELL_TIMEOUT};
use self::outgoing::{Outgoing, Writing};
use self::servers::{Address, Servers};
use crate::tls::ClientTls;

/// How to connect, and to what to subscribe.
pub(crate) struct Options {
    /// `scheme://host:port`
    pub(crate) address: String,
    /// What the server is told to call us.
    pub(crate) name: String,
    /// Whether to stay with this address even if the server names others.
    pub(crate) is_alone: bool,
    pub(crate) tls: ClientTls,
    /// Subjects. The first one's subscription has the id 1, and so on.
    pub(crate) subscriptions: Vec<String>,
    /// Largest message, header included, as long as no server has said it.
    pub(crate) payload_bytes_max: usize,
}

/// Who wants to know what happens. All of it is told by one task, in order, which must not be held up.
pub(crate) trait Events: Send + 'static {
    /// A message. [`Message::sid`] tells by which subscription.
    fn message(&mut self, message: &Message<'_>);

    /// The messages that were there have been handed over.
    fn batch_ended(&mut self);

    /// There is a connection, and the subscriptions go to the server before anything else does.
    fn connected(&mut self);

    /// There is no connection any more.
    fn disconnected(&mut self);

    /// Something has not worked: an attempt to connect, a connection, or what the server was asked to do.
    fn failed(&mut self, error: &ClientError);
}

/// What has not worked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClientError {
    #[error("the address is not host:port")]
    Address,
    #[error("DNS does not know the host `{host}`: {source}")]
    UnknownHost { host: String, source: io::Error },
    /// Of the socket, or of TLS.
    #[error("{0}")]
    Broken(io::Error),
    #[error("the connection was closed")]
    Ended,
    #[error("timed out: whoever is there does not greet as a NATS server")]
    Silent,
    #[error("timed out: the server has fallen silent")]
    Stale,
    #[error("whoever is there does not speak NATS: {0}")]
    Protocol(ProtocolError),
    #[error("{0}")]
    Info(InfoError),
    #[error(
        "the server does not speak TLS here: enable TLS there, with the same authority, or set \
         eventBus.nats.tls.enableTLS to false"
    )]
    NoTls,
    #[error("something was said before TLS began")]
    Early,
    #[error("the host is no name or address that a certificate could have")]
    NoName,
    #[error("authorization violation")]
    Unauthorized,
    /// Anything else that a server says, in its words.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// Behind `-ERR`.
    fn refused(argument: &[u8]) -> Self {
        let text = error_text(argument);
        if text.eq_ignore_ascii_case(b"Authorization Violation") {
            Self::Unauthorized
        } else {
            Self::Refused(String::from_utf8_lossy(text).into_owned())
        }
    }

    /// Whether this says no more than that there is no connection.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Ended | Self::Stale)
    }
}

/// A handle: what is sent, and the end. Clones share the client.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: Outgoing,
    payload_bytes_max: AtomicUsize,
    is_closed: watch::Sender<bool>,
}

impl Client {
    /// A client that does not connect before [`Starting::start`] is called.
    ///
    /// # Errors
    /// If the address is none.
    pub(crate) fn new(options: Options) -> Result<(Self, Starting), ClientError> {
        let address = Address::parse(&options.address).ok_or(ClientError::Address)?;
        let shared = Arc::new(Shared {
            outgoing: Outgoing::default(),
            payload_bytes_max: AtomicUsize::new(options.payload_bytes_max),
            is_closed: watch::Sender::new(false),
        });
        let starting = Starting {
            shared: Arc::clone(&shared),
            options,
            servers: Servers::new(address),
        };
        Ok((Self { shared }, starting))
    }

    /// Appends whole operations to what is sent. Without a connection they wait for one. `false`: the client is closed.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.shared.outgoing.put(write)
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.shared.outgoing.bytes()
    }

    /// Largest message that the server takes, header included.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.shared.payload_bytes_max.load(Relaxed)
    }

    /// Ends the client. What was sent is still written, if there is a connection and it does not take long.
    pub(crate) fn close(&self) {
        self.shared.outgoing.close();
        self.shared.is_closed.send_replace(true);
    }
}

/// A client that has yet to learn who listens to it.
pub(crate) struct Starting {
    shared: Arc<Shared>,
    options: Options,
    servers: Servers,
}

impl Starting {
    /// Begins to connect, and goes on until [`Client::close`] is called. Must be called inside a tokio runtime.
    pub(crate) fn start(self, events: impl Events) {
        let session = Session {
            shared: self.shared,
            options: self.options,
            servers: self.servers,
            writing: Writing::default(),
            events,
        };
        tokio::spawn(session.run());
    }
}

/// The task: one connection after the other.
struct Session<E> {
    shared: Arc<Shared>,
    options: Options,
    servers: Servers,
    /// Outlives connections: what could not be written to one is written to the next.
    writing: Writing,
    events: E,
}

impl<E: Events> Session<E> {
    async fn run(mut self) {
        let mut is_closed = self.shared.is_closed.subscribe();
        loop {
            let greeted = tokio::select! {
                greeted = self.connect() => greeted,
                _ = is_closed.wait_for(|closed| *closed) => return,
            };
            match greeted {
                Ok(greeted) => {
                    let ended = tokio::select! {
                        ended = self.stay(greeted) => ended,
                        () = farewell(&mut is_closed) => return,
                    };
                    match ended {
                        Ended::Closed => return,
                        Ended::Failed(error) => {
                            self.events.disconnected();
                            self.events.failed(&error);
                        }
                    }
                }
                Err(error) => self.events.failed(&error),
            }
        }
    }

    async fn connect(&mut self) -> Result<greeting::Greeted, ClientError> {
        let (address, pause) = self.servers.next();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        greeting::connect(&address, &self.options.name, &self.options.tls).await
    }

    /// Uses a connection as long as it lasts.
    async fn stay(&mut self, greeted: greeting::Greeted) -> Ended {
        let mut subscriptions = Vec::new();
        for (index, subject) in self.options.subscriptions.iter().enumerate() {
            let id = natterjack_wire::client::decimal(index + 1);
            subscribe(&mut subscriptions, subject.as_bytes(), None, &id);
        }
        self.writing.start_over(subscriptions);
        learn(
            &greeted.info,
            &self.shared,
            &mut self.servers,
            self.options.is_alone,
        );
        self.events.connected();
        let outgoing = &self.shared.outgoing;
        let mut connection =
            Connection::new(greeted, outgoing, &mut self.writing, &mut self.events);
        let ended = loop {
            match connection.run().await {
                Ok(info) => learn(
                    &info,
                    &self.shared,
                    &mut self.servers,
                    self.options.is_alone,
                ),
                Err(ended) => break ended,
            }
        };
        if connection.has_lasted() {
            self.servers.lasted();
        }
        ended
    }
}

fn learn(info: &ServerInfo, shared: &Shared, servers: &mut Servers, is_alone: bool) {
    // Negative: without a limit.
    let payload_bytes_max = usize::try_from(info.max_payload).unwrap_or(usize::MAX);
    if payload_bytes_max > 0 {
        shared.payload_bytes_max.store(payload_bytes_max, Relaxed);
    }
    if !is_alone {
        servers.learn(&info.connect_urls);
    }
}

/// After the client is closed, as long as the rest may take.
async fn farewell(is_closed: &mut watch::Receiver<bool>) {
    // Should the handle be gone it has been closed.
    let _ = is_closed.wait_for(|closed| *closed).await;
    tokio::time::sleep(FAREWELL_TIMEOUT).await;
}

/// A subject that nobody else uses.
pub(crate) fn new_inbox() -> String {
    format!(
        "_INBOX.{:016x}{:016x}",
        fastrand::u64(..),
        fastrand::u64(..)
    )
}
