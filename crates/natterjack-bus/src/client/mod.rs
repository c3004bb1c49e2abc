//! A client of a NATS server, as lean as the bus needs it: subscriptions that are fixed at the start, messages handed over
//! where they were read, operations written in batches, and a connection that is made again for ever: over sockets, or to
//! the server in this process, with which it ends. A server that says that it will soon be gone is left for another one
//! before it is.
//!
//! It knows the protocol, not the bus. What it does not do: queue groups, subscriptions that come and go, requests.

mod connection;
mod dialler;
mod outgoing;
mod overlap;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use natterjack_link::{Dialled, ReadError};
use natterjack_server::InProcessConnection;
use natterjack_wire::client::{ConnectOptions, InfoError, Message, ServerInfo, decimal, subscribe};
use natterjack_wire::error::ProtocolError;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::connection::{Connection, Ended, FAREWELL_TIMEOUT, News};
use self::dialler::Dialler;
use self::outgoing::{Hold, Outgoing, Writing};
use self::overlap::Next;
pub(crate) use self::overlap::Stage;
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
    /// Whether the server shall answer requests that nobody listens to, with an empty message.
    pub(crate) no_responders: bool,
}

/// How the server is reached.
pub(crate) enum Way {
    Sockets {
        /// `scheme://host:port`
        address: String,
        /// Whether to stay with this address even if the server names others.
        is_alone: bool,
        /// The id of the server that must be there, if it is not any.
        server_id: Option<String>,
        tls: Box<ClientTls>,
    },
    /// Connects to the server in this process; `None`: it has stopped, and so does the client.
    Inside(Box<dyn Fn() -> Option<InProcessConnection> + Send>),
}

/// Who wants to know what happens. All of it is told by one task, in order, which must not be held up.
pub(crate) trait Events: Send + 'static {
    /// A message. [`Message::sid`] tells by which subscription.
    fn message(&mut self, message: &Message<'_>);

    /// The messages that were there have been handed over.
    fn batch_ended(&mut self);

    /// There is a connection, and the subscriptions go to the server before anything else does. Answers whether what has
    /// waited for it and must keep its order is to wait on, until [`Client::let_go`] is called, or a few seconds have passed.
    fn connected(&mut self) -> bool;

    /// There is no connection any more.
    fn disconnected(&mut self);

    /// Something has not worked: an attempt to connect, a connection, or what the server was asked to do.
    fn failed(&mut self, error: &ClientError);

    /// The server that is connected to will soon be gone, and another one is looked for.
    fn leaving(&mut self) {}

    /// There is one, over which everything that is subscribed to soon comes as well. What is sent goes to the old server. This
    /// may happen again before there is a change: the next server may be gone as well.
    fn overlap_began(&mut self) {}

    /// The change is at this stage. Told when it begins, and again and again as long as it lasts.
    fn overlapping(&mut self, _stage: Stage) {}

    /// A message that has come over the next server, and will be handed over as [`Events::message`] later, unless the change
    /// comes to nothing.
    fn ahead(&mut self, _message: &Message<'_>) {}

    /// Whether this stage has reached what it is for. Asked whenever something has come.
    fn may_go_on(&mut self, _stage: Stage) -> bool {
        true
    }

    /// The change is made: what follows comes over the next server, first what came over it before. Whether all stages have
    /// reached what they are for.
    fn changed_over(&mut self, _server: &ServerInfo, _is_certain: bool) {}
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
    #[error("the server says something that it should not say before it has accepted us")]
    Unexpected,
    #[error(
        "another server, `{name}`, answers at {address}, and not the one embedded in this node: what listens there is an \
         address that the name stands for as well, so give eventBus.nats.server.client.port a port that is free on all \
         of them, or name the embedded server's own address in eventBus.nats.client.endpoint"
    )]
    OtherServer { address: String, name: String },
    #[error("the server asks again and again whether we are there, and does not read the answers")]
    Flooded,
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
    /// What is behind `-ERR`, without the quotes.
    fn refused(text: String) -> Self {
        if text.eq_ignore_ascii_case("Authorization Violation") {
            Self::Unauthorized
        } else {
            Self::Refused(text)
        }
    }

    /// Whether this says no more than that there is no connection.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Ended | Self::Stale)
    }
}

impl From<ReadError> for ClientError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Broken(error) => Self::Broken(error),
            ReadError::Protocol(error) => Self::Protocol(error),
            _ => Self::Ended,
        }
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
    /// Of the server that is connected to, or was last. Empty: there was none, or it does not say.
    server_id: Mutex<String>,
    /// Where that one is, as the setting names it or another server has. Empty: there was none, or it is in this process.
    address: Mutex<String>,
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
            no_responders,
        } = options;
        let hello = ConnectOptions {
            verbose: false,
            pedantic: false,
            echo: true,
            headers: true,
            no_responders,
            protocol: 1,
            name,
            lang: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectOptions::default()
        };
        let dialler = Dialler::new(way, hello)?;
        let shared = Arc::new(Shared {
            outgoing: Outgoing::default(),
            payload_bytes_max: AtomicUsize::new(payload_bytes_max),
            server_id: Mutex::default(),
            address: Mutex::default(),
            is_closed: watch::Sender::new(false),
        });
        let starting = Starting {
            shared: Arc::clone(&shared),
            dialler,
            subscriptions,
        };
        Ok((Self { shared }, starting))
    }

    /// Appends whole operations to what is sent, in this order. Without a connection they wait for one. `false`: the client
    /// is closed.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.shared.outgoing.put(write)
    }

    /// The same for what may overtake what is held back, and is never held back itself.
    pub(crate) fn send_ahead(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.shared.outgoing.put_ahead(write)
    }

    /// Whether what has waited for the connection is held back.
    pub(crate) fn is_holding_back(&self) -> bool {
        self.shared.outgoing.is_held(Hold::Backlog)
    }

    /// It need not be any more.
    pub(crate) fn let_go(&self) {
        self.shared.outgoing.release(Hold::Backlog);
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.shared.outgoing.bytes()
    }

    /// Largest message that the server takes, header included.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.shared.payload_bytes_max.load(Relaxed)
    }

    /// Whether this is the server that is connected to, or was last.
    pub(crate) fn is_at(&self, server_id: &str) -> bool {
        *self.shared.server_id.lock() == server_id
    }

    /// Where the server is that is connected to, or was last. `None`: there was none, or it is in this process.
    pub(crate) fn address(&self) -> Option<String> {
        Some(self.shared.address.lock().clone()).filter(|address| !address.is_empty())
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
    subscriptions: Vec<String>,
}

impl Starting {
    /// Begins to connect, and goes on until [`Client::close`] is called. Must be called inside a tokio runtime.
    pub(crate) fn start(self, events: impl Events) {
        let session = Session {
            shared: self.shared,
            dialler: self.dialler,
            subscriptions: self.subscriptions,
            writing: Writing::default(),
            events,
        };
        tokio::spawn(session.run());
    }
}

/// The task: one connection after the other.
struct Session<E> {
    shared: Arc<Shared>,
    dialler: Dialler,
    subscriptions: Vec<String>,
    /// Outlives connections: what could not be written to one is written to the next.
    writing: Writing,
    events: E,
}

/// A connection that there is now.
enum Start {
    /// None before it, or that one broke.
    Anew(Box<Dialled>),
    /// It takes the place of another one.
    Instead { next: Box<Next>, is_certain: bool },
}

impl<E: Events> Session<E> {
    async fn run(mut self) {
        let mut is_closed = self.shared.is_closed.subscribe();
        let mut instead = None;
        loop {
            let start = match instead.take() {
                Some(start) => start,
                None => {
                    let dialled = tokio::select! {
                        dialled = self.dialler.connect() => dialled,
                        _ = is_closed.wait_for(|closed| *closed) => return,
                    };
                    match dialled {
                        None => return,
                        Some(Ok(dialled)) => Start::Anew(Box::new(dialled)),
                        Some(Err(error)) => {
                            self.events.failed(&error);
                            continue;
                        }
                    }
                }
            };
            let ended = tokio::select! {
                ended = self.stay(start) => ended,
                () = farewell(&mut is_closed) => return,
            };
            match ended {
                Ended::Left { next, is_certain } => {
                    instead = Some(Start::Instead { next, is_certain });
                }
                Ended::Closed => {
                    self.events.disconnected();
                    return;
                }
                Ended::Failed(error) => {
                    self.events.disconnected();
                    self.events.failed(&error);
                }
            }
        }
    }

    /// Uses a connection as long as it lasts, or until there is a better one.
    async fn stay(&mut self, start: Start) -> Ended {
        let dialled = self.begin(start);
        let Self {
            shared,
            dialler,
            subscriptions,
            writing,
            events,
        } = self;
        // The next one may say so in its greeting, or have said so meanwhile.
        let mut is_leaving = dialled.info.ldm && dialler.leave();
        if is_leaving {
            events.leaving();
        }
        let mut connection = Connection::new(
            dialled,
            &shared.outgoing,
            writing,
            &shared.payload_bytes_max,
            events,
        );
        let ended = loop {
            let news = if is_leaving {
                tokio::select! {
                    news = connection.run() => news,
                    other = dialler.succeed() => {
                        is_leaving = false;
                        if let Some(other) = other {
                            connection.leave_for(other, operations(subscriptions));
                        }
                        continue;
                    }
                }
            } else {
                connection.run().await
            };
            match news {
                Ok(News::Info(info)) => {
                    let is_new = !is_leaving && !connection.is_leaving();
                    learn(shared, dialler, &info);
                    if info.ldm && is_new {
                        is_leaving = dialler.leave();
                        if is_leaving {
                            connection.tell_leaving();
                        }
                    }
                }
                Ok(News::NextLost(error)) => {
                    tracing::debug!(%error, "a server cannot be changed to");
                    shared.outgoing.release(Hold::Change);
                    is_leaving = true;
                }
                Err(ended) => break ended,
            }
        };
        if connection.has_lasted() {
            dialler.lasted();
        }
        ended
    }

    /// What is said, and what waits, at the beginning of a connection.
    fn begin(&mut self, start: Start) -> Dialled {
        let Self {
            shared,
            dialler,
            subscriptions,
            writing,
            events,
        } = self;
        let outgoing = &shared.outgoing;
        if let Some(address) = dialler.address() {
            *shared.address.lock() = address;
        }
        match start {
            Start::Anew(dialled) => {
                let unsent = writing.start_over(operations(subscriptions));
                outgoing.hold_all(Hold::Backlog, unsent);
                outgoing.release(Hold::Change);
                learn(shared, dialler, &dialled.info);
                if !events.connected() {
                    outgoing.release(Hold::Backlog);
                }
                *dialled
            }
            Start::Instead { next, is_certain } => {
                let (dialled, rest, kept) = next.into_parts();
                let unsent = writing.start_over(rest);
                outgoing.hold_all(Hold::Change, unsent);
                learn(shared, dialler, &dialled.info);
                events.changed_over(&dialled.info, is_certain);
                for message in kept {
                    events.message(&message.message());
                }
                events.batch_ended();
                outgoing.release(Hold::Change);
                dialled
            }
        }
    }
}

/// The subscriptions, as the server is told of them.
fn operations(subscriptions: &[String]) -> Vec<u8> {
    let mut operations = Vec::new();
    for (index, subject) in subscriptions.iter().enumerate() {
        let id = decimal(index + 1);
        subscribe(&mut operations, subject.as_bytes(), None, &id);
    }
    operations
}

/// What a server says of itself.
fn learn(shared: &Shared, dialler: &mut Dialler, info: &ServerInfo) {
    let payload_bytes_max = allowed_bytes(info);
    if payload_bytes_max > 0 {
        shared.payload_bytes_max.store(payload_bytes_max, Relaxed);
    }
    shared.server_id.lock().clone_from(&info.server_id);
    dialler.learn(&info.connect_urls);
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

pub(crate) async fn lapse(pause: Duration) {
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

#[cfg(test)]
mod tests {
    use natterjack_server::{Options as ServerOptions, Server};
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;

    /// Tells of connections; its end is that of the client.
    struct Connections(mpsc::UnboundedSender<bool>);

    impl Events for Connections {
        fn message(&mut self, _message: &Message<'_>) {}

        fn batch_ended(&mut self) {}

        fn connected(&mut self) -> bool {
            // The test may be over.
            let _ = self.0.send(true);
            false
        }

        fn disconnected(&mut self) {
            let _ = self.0.send(false);
        }

        fn failed(&mut self, _error: &ClientError) {}
    }

    async fn server() -> Server {
        let options = ServerOptions {
            host: "127.0.0.1".into(),
            port: 0,
            ..ServerOptions::default()
        };
        Server::start(options).await.expect("a server")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_inside_the_process_is_made_again_until_there_is_nobody() {
        // It is the connection that ends each time: as for whoever asks for another one, the server goes on.
        let servers = Arc::new(Mutex::new(vec![server().await, server().await]));
        let known = Arc::clone(&servers);
        let connect = move || known.lock().last()?.in_process_connection().ok();
        let (client, starting) = Client::new(Options {
            way: Way::Inside(Box::new(connect)),
            name: "a".into(),
            subscriptions: vec!["a".into()],
            payload_bytes_max: 1000,
            no_responders: false,
        })
        .expect("no address is needed");
        let (teller, mut told) = mpsc::unbounded_channel();
        starting.start(Connections(teller));
        let mut next = async || {
            let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
            next.expect("something happens")
        };
        for _ in 0..2 {
            assert_eq!(next().await, Some(true));
            let gone = servers.lock().pop().expect("the one that is connected to");
            gone.shutdown().await;
            assert_eq!(next().await, Some(false));
        }
        assert_eq!(next().await, None, "it has ended");
        client.close();
    }
}
