//! A client of a NATS server, as lean as the bus needs it: subscriptions that are fixed at the start, messages handed over
//! where they were read, operations written in batches, and a connection that is made again for ever: over sockets, or one
//! to the server in this process, which ends with it.
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
use std::time::Duration;

use natterjack_server::InProcessConnection;
use natterjack_wire::client::{InfoError, Message, ServerInfo, decimal, error_text, subscribe};
use natterjack_wire::error::ProtocolError;
use tokio::sync::watch;

use self::connection::{Connection, Ended, FAREWELL_TIMEOUT};
use self::outgoing::{Outgoing, Writing};
use self::servers::{Address, Servers};
use crate::tls::ClientTls;

/// How to connect, and to what to subscribe.
pub(crate) struct Options {
    pub(crate) way: Way,
    /// What the server is told to call us.
    pub(crate) name: String,
    /// Subjects. The first one's subscription has the id 1, and so on.
    pub(crate) subscriptions: Vec<String>,
    /// Largest message, header included, as long as no server has said it.
    pub(crate) payload_bytes_max: usize,
}

/// How the server is reached.
pub(crate) enum Way {
    Sockets {
        /// `scheme://host:port`
        address: String,
        /// Whether to stay with this address even if the server names others.
        is_alone: bool,
        tls: Box<ClientTls>,
    },
    /// Once; when this ends the client does.
    Inside(InProcessConnection),
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
    /// Of the handshake.
    #[error(
        "TLS with the server cannot begin: {0}: look into that server's log; if what listens there is no NATS server, \
         correct eventBus.nats.client.endpoint"
    )]
    Tls(io::Error),
    #[error(
        "the server does not take headers, in which events say what they are: allow them there (without \
         no_header_support), or connect to a server of version 2.2 or later"
    )]
    NoHeaders,
    #[error("something was said before TLS began")]
    Early,
    #[error("the host is no name or address that a certificate could have")]
    NoName,
    #[error("authorization violation")]
    Unauthorized,
    /// Accepted when the limit was another one, or none was known.
    #[error(
        "{messages} of the messages that waited are larger than this server takes (max_payload is {bytes_max}) and are \
         left out: raise max_payload there, to the same value on all servers"
    )]
    TooLarge { messages: usize, bytes_max: usize },
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
        let Options {
            way,
            name,
            subscriptions,
            payload_bytes_max,
        } = options;
        let way = match way {
            Way::Inside(connection) => Dialler::Inside(Some(connection)),
            Way::Sockets {
                address,
                is_alone,
                tls,
            } => Dialler::Sockets {
                servers: Servers::new(Address::parse(&address).ok_or(ClientError::Address)?),
                is_alone,
                tls,
            },
        };
        let shared = Arc::new(Shared {
            outgoing: Outgoing::default(),
            payload_bytes_max: AtomicUsize::new(payload_bytes_max),
            is_closed: watch::Sender::new(false),
        });
        let starting = Starting {
            shared: Arc::clone(&shared),
            dialler: way,
            name,
            subscriptions,
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
    dialler: Dialler,
    name: String,
    subscriptions: Vec<String>,
}

impl Starting {
    /// Begins to connect, and goes on until [`Client::close`] is called. Must be called inside a tokio runtime.
    pub(crate) fn start(self, events: impl Events) {
        let session = Session {
            shared: self.shared,
            dialler: self.dialler,
            name: self.name,
            subscriptions: self.subscriptions,
            writing: Writing::default(),
            events,
        };
        tokio::spawn(session.run());
    }
}

/// Makes connections.
enum Dialler {
    Sockets {
        servers: Servers,
        is_alone: bool,
        tls: Box<ClientTls>,
    },
    /// Until it is used.
    Inside(Option<InProcessConnection>),
}

impl Dialler {
    /// Waits until it is time for another attempt and makes it. `None`: there is nobody left to try.
    async fn connect(&mut self, name: &str) -> Option<Result<greeting::Greeted, ClientError>> {
        match self {
            Self::Sockets { servers, tls, .. } => {
                let (address, pause) = servers.next();
                if !pause.is_zero() {
                    lapse(pause).await;
                }
                Some(greeting::connect(&address, name, tls).await)
            }
            Self::Inside(connection) => {
                let connection = connection.take()?;
                Some(greeting::connect_inside(connection, name).await)
            }
        }
    }

    fn learn(&mut self, urls: &[String]) {
        if let Self::Sockets {
            servers,
            is_alone: false,
            ..
        } = self
        {
            servers.learn(urls);
        }
    }

    fn lasted(&mut self) {
        if let Self::Sockets { servers, .. } = self {
            servers.lasted();
        }
    }
}

/// The task: one connection after the other.
struct Session<E> {
    shared: Arc<Shared>,
    dialler: Dialler,
    name: String,
    subscriptions: Vec<String>,
    /// Outlives connections: what could not be written to one is written to the next.
    writing: Writing,
    events: E,
}

impl<E: Events> Session<E> {
    async fn run(mut self) {
        let mut is_closed = self.shared.is_closed.subscribe();
        loop {
            let greeted = tokio::select! {
                greeted = self.dialler.connect(&self.name) => greeted,
                _ = is_closed.wait_for(|closed| *closed) => return,
            };
            let ended = match greeted {
                None => return,
                Some(Err(error)) => Ended::Failed(error),
                Some(Ok(greeted)) => {
                    let ended = tokio::select! {
                        ended = self.stay(greeted) => ended,
                        () = farewell(&mut is_closed) => return,
                    };
                    self.events.disconnected();
                    ended
                }
            };
            match ended {
                Ended::Closed => return,
                Ended::Failed(error) => self.events.failed(&error),
            }
        }
    }

    /// Uses a connection as long as it lasts.
    async fn stay(&mut self, greeted: greeting::Greeted) -> Ended {
        let Self {
            shared,
            dialler,
            subscriptions,
            writing,
            events,
            ..
        } = self;
        let mut operations = Vec::new();
        for (index, subject) in subscriptions.iter().enumerate() {
            let id = decimal(index + 1);
            subscribe(&mut operations, subject.as_bytes(), None, &id);
        }
        writing.start_over(operations);
        let mut learn = |info: &ServerInfo| {
            let payload_bytes_max = allowed_bytes(info);
            if payload_bytes_max > 0 {
                shared.payload_bytes_max.store(payload_bytes_max, Relaxed);
            }
            dialler.learn(&info.connect_urls);
        };
        learn(&greeted.info);
        events.connected();
        let mut connection = Connection::new(
            greeted,
            &shared.outgoing,
            writing,
            &shared.payload_bytes_max,
            events,
        );
        let ended = loop {
            match connection.run().await {
                Ok(info) => learn(&info),
                Err(ended) => break ended,
            }
        };
        if connection.has_lasted() {
            dialler.lasted();
        }
        ended
    }
}

/// What a server says about the messages that it takes. Negative: without a limit. 0: it does not say.
fn allowed_bytes(info: &ServerInfo) -> usize {
    usize::try_from(info.max_payload).unwrap_or(usize::MAX)
}

/// After the client is closed, as long as the rest may take.
async fn farewell(is_closed: &mut watch::Receiver<bool>) {
    // Should the handle be gone it has been closed.
    let _ = is_closed.wait_for(|closed| *closed).await;
    lapse(FAREWELL_TIMEOUT).await;
}

async fn lapse(pause: Duration) {
    // Nothing but time can end it.
    let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
}

/// A subject that nobody else uses.
pub(crate) fn new_inbox() -> String {
    format!(
        "_INBOX.{:016x}{:016x}",
        fastrand::u64(..),
        fastrand::u64(..)
    )
}
