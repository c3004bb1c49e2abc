//! The connection to the middleware, as MCollective knows it: subscribe, publish, receive, by agent, collective and kind of
//! target instead of by subject.
//!
//! A [`Connector`] is a handle to a task that holds one connection: over TLS, to a server that Puppet's authority vouches
//! for, and to no other. Once it is wanted it is tried for ever; when it is lost it is made again, to the next server, and
//! has its subscriptions back before anything else is said. Meanwhile a little waits to be sent, and more is refused.
//!
//! The protocol is spoken here and not by the common client library for NATS. That one does not hear of servers that join a
//! cluster later, bounds what waits by number and not by size, cannot be stopped while it is away, and reads the
//! system's authorities for every attempt, although it shall not trust them.

mod backoff;
mod credentials;
mod dial;
mod event;
mod incoming;
mod life;
mod link;
mod outgoing;
mod overlap;
mod renewal;
mod servers;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::broadcast;
use tokio::time::timeout;

use self::dial::Caller;
use self::shared::{Core, Message, Refused, Status, Wish};
use crate::configuration::{Configuration, Role};
use crate::identity::{CallerId, Identity};
use crate::server::ServerAddress;
use crate::ssl::Ssl;
use crate::subject::{Collectives, SUBJECT_BYTES_MAX, TargetError, TargetKind, is_literal};
use crate::wire::{Transport, Wrapping};

pub use self::credentials::{Credentials, CredentialsError};
pub use self::dial::DialError;
pub use self::event::{Direction, Event, Statistics};
pub use self::incoming::{Incoming, IncomingStream};
pub use self::link::LossReason;
pub use self::outgoing::{
    FEDERATED_NODES_MAX, Outgoing, OutgoingReply, OutgoingRequest, Recipients,
};
pub use self::servers::Servers;

/// What may wait for a connection on a node, in bytes. Little, on purpose: thousands of nodes come back at once.
pub const NODE_AWAY_BYTES_MAX: usize = 10 << 10;

/// The same for somebody who asks.
pub const CLIENT_AWAY_BYTES_MAX: usize = 8 << 20;

/// What may wait to be received on a node, in bytes.
pub const NODE_INBOX_BYTES_MAX: usize = 4 << 20;

/// The same for somebody who asks: the replies of 50,000 nodes, each of a kilobyte.
pub const CLIENT_INBOX_BYTES_MAX: usize = 64 << 20;

/// How often files of keys and certificates are looked at, unless options say otherwise.
const FILES_INTERVAL: Duration = Duration::from_secs(60);

/// In which time connections are made anew for a renewed certificate, unless options say otherwise. A fleet of 50,000 comes
/// at 28 a second then.
const RENEWAL_SPREAD: Duration = Duration::from_secs(30 * 60);

/// What a connector goes by.
#[derive(Clone, Debug)]
pub struct ConnectorOptions {
    /// What this machine calls itself.
    pub identity: Identity,
    /// Who asks, or answers, here. Replies go to subjects that are his.
    pub caller: CallerId,
    /// The collectives that there are.
    pub collectives: Collectives,
    /// What servers know the connection by.
    pub name: String,
    /// What they want beside the certificate.
    pub credentials: Credentials,
    /// How long to try to connect for the first time; `None`: for ever.
    pub connection_timeout: Option<Duration>,
    /// How long a message may wait for a server that takes others slowly.
    pub publish_timeout: Duration,
    /// What may wait for a connection, in bytes.
    pub away_bytes_max: usize,
    /// What may have come and wait to be received, in bytes. What comes beyond that is lost.
    pub inbox_bytes_max: usize,
    /// Collectives elsewhere that requests go to, instead of to those here; none: there is no federation.
    pub federations: Vec<String>,
    /// How messages are written.
    pub wrapping: Wrapping,
    /// How often files of keys and certificates are looked at. They are before each round of attempts to connect as well.
    pub files_interval: Duration,
    /// After our certificate was renewed, the connection is made anew with it within this time, by chance, and before the old
    /// one has ended: fleets renew theirs at once.
    pub renewal_spread: Duration,
}

impl ConnectorOptions {
    /// Those of a client that asks nothing special.
    #[must_use]
    pub fn new(identity: Identity, caller: CallerId, collectives: Collectives) -> Self {
        Self {
            name: identity.to_string(),
            identity,
            caller,
            collectives,
            credentials: Credentials::None,
            connection_timeout: None,
            publish_timeout: Duration::from_secs(2),
            away_bytes_max: CLIENT_AWAY_BYTES_MAX,
            inbox_bytes_max: CLIENT_INBOX_BYTES_MAX,
            federations: Vec::new(),
            wrapping: Wrapping::default(),
            files_interval: FILES_INTERVAL,
            renewal_spread: RENEWAL_SPREAD,
        }
    }

    /// What the settings say, for somebody with this certificate.
    #[must_use]
    pub fn of(configuration: &Configuration, ssl: &Ssl) -> Self {
        let (away_bytes_max, inbox_bytes_max, federations) = match configuration.role {
            Role::Client => (
                CLIENT_AWAY_BYTES_MAX,
                CLIENT_INBOX_BYTES_MAX,
                configuration.federation.collectives.clone(),
            ),
            // Whoever answers does so to where he was asked from.
            Role::Server => (NODE_AWAY_BYTES_MAX, NODE_INBOX_BYTES_MAX, Vec::new()),
        };
        let options = Self::new(
            configuration.identity.clone(),
            ssl.caller.clone(),
            configuration.collectives.clone(),
        );
        Self {
            credentials: Credentials::of(configuration),
            connection_timeout: configuration.connection_timeout,
            publish_timeout: configuration.publish_timeout,
            away_bytes_max,
            inbox_bytes_max,
            federations,
            ..options
        }
    }
}

/// Why there is no first connection.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It took too long. MCollective calls it `ClientTimeoutError`.
    #[error(
        "cannot connect to any server within {} s (connection_timeout){}{advice}{}",
        after.as_secs_f32(),
        last(reason.as_ref()),
        tried(servers)
    )]
    Timeout {
        /// How long it was tried.
        after: Duration,
        /// The server that failed last, and why.
        reason: Option<(ServerAddress, Arc<DialError>)>,
        /// What to do about that, as far as it is known; else empty.
        advice: String,
        /// All that there were to try.
        servers: Vec<ServerAddress>,
    },
    /// The connector has been closed.
    #[error("the connector has been closed")]
    Closed,
}

fn last(reason: Option<&(ServerAddress, Arc<DialError>)>) -> String {
    match reason {
        Some((server, reason)) => format!("; the last one was {server}: {reason}"),
        None => String::new(),
    }
}

fn tried(servers: &[ServerAddress]) -> String {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    match &*servers {
        [] => "; nobody named a server".to_owned(),
        servers => format!("; servers to try: {}", servers.join(", ")),
    }
}

/// Why something was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The request says not where to reply to.
    #[error("there is nowhere to reply to: the request has no reply-to header")]
    NoReplySubject,
    /// Nothing can be sent to such a subject.
    #[error("nothing can be sent to {0:?}")]
    Subject(String),
    /// A server would end the connection over such a subject.
    #[error("nothing can be sent to a subject of {0} bytes: {SUBJECT_BYTES_MAX} are allowed")]
    SubjectTooLong(usize),
    /// The server takes no message of this size.
    #[error("a message of {bytes} bytes is too large: the server takes {bytes_max}")]
    TooLarge {
        /// Of the message.
        bytes: usize,
        /// What the server takes.
        bytes_max: usize,
    },
    /// There is no connection, and no more can wait for one.
    #[error(
        "there is no connection to a server, and no more than {bytes_max} bytes can wait for one"
    )]
    Away {
        /// How much can wait.
        bytes_max: usize,
    },
    /// The server takes messages too slowly.
    #[error("the server does not take the message within {} s (publish_timeout)", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connector has been closed.
    #[error("the connector has been closed")]
    Closed,
}

/// A connection to the middleware. Clones are the same connection, which ends with the last one.
#[derive(Clone)]
pub struct Connector {
    core: Arc<Core>,
    /// Of this connector among those of the caller's.
    session: Arc<str>,
    requests: Arc<AtomicU64>,
    _end: Arc<End>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connector")
            .field("name", &self.core.options.name)
            .field("server", &self.connected_server())
            .finish_non_exhaustive()
    }
}

/// Ends the connection when the last handle goes.
struct End(Arc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.wish.send_replace(Wish::Stopped);
    }
}

impl Connector {
    /// Makes a connector with these keys and certificates, whose files it looks at from time to time, so that new ones are
    /// taken. It does not connect before it is asked to.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn start(options: ConnectorOptions, ssl: &Ssl, servers: impl Into<Servers>) -> Self {
        let caller = Caller::new(
            options.name.clone(),
            options.credentials.clone(),
            ssl.clone(),
        );
        let servers = renewal::before_attempts(ssl.clone(), servers.into());
        let files_interval = options.files_interval;
        let core = Arc::new(Core::new(options, caller, servers));
        tokio::spawn(renewal::watch(
            ssl.clone(),
            core.wish.subscribe(),
            files_interval,
        ));
        tokio::spawn(life::run(Arc::clone(&core)));
        Self {
            _end: Arc::new(End(Arc::clone(&core))),
            core,
            session: session().into(),
            requests: Arc::default(),
        }
    }

    /// Waits until there is a connection, and answers to whom. If there is one it is used.
    ///
    /// # Errors
    /// If the time for it is over, after which nothing is tried any more until this is called again; or if the connector
    /// has been closed.
    pub async fn connect(&self) -> Result<ServerAddress, ConnectError> {
        let mut events = self.events();
        self.core.wish.send_if_modified(|wish| {
            let is_idle = *wish == Wish::Idle;
            if is_idle {
                *wish = Wish::Connected;
            }
            is_idle
        });
        let Some(after) = self.core.options.connection_timeout else {
            return self.connected().await;
        };
        if let Ok(connected) = timeout(after, self.connected()).await {
            return connected;
        }
        self.core.wish.send_if_modified(|wish| {
            let is_in_vain = *wish == Wish::Connected && self.connected_server().is_none();
            if is_in_vain {
                *wish = Wish::Idle;
            }
            is_in_vain
        });
        let mut reason = None;
        while let Ok(event) = next_of(&mut events) {
            if let Event::Failed {
                server,
                reason: why,
            } = event
            {
                reason = Some((server, why));
            }
        }
        let advice = reason.as_ref().map(|(_, why)| self.core.caller.advice(why));
        Err(ConnectError::Timeout {
            after,
            reason,
            advice: advice.unwrap_or_default(),
            servers: self.server_pool(),
        })
    }

    async fn connected(&self) -> Result<ServerAddress, ConnectError> {
        let mut status = self.core.status.subscribe();
        let status = status.wait_for(|status| *status != Status::Away).await;
        match status.as_deref() {
            Ok(Status::Connected(server)) => Ok(server.clone()),
            _ => Err(ConnectError::Closed),
        }
    }

    /// Ends the connection for good, after what waits to be sent, for which there are two seconds. Streams of messages
    /// end after what has come.
    pub async fn disconnect(&self) {
        self.core.wish.send_replace(Wish::Stopped);
        let mut status = self.core.status.subscribe();
        // The sender is in the core.
        let _ = status.wait_for(|status| *status == Status::Stopped).await;
    }

    /// Listens to what comes for an agent in a collective. Being subscribed already is no fault.
    ///
    /// Requests to this node ([`TargetKind::Directed`]) and replies to this connector ([`TargetKind::Reply`]) are for no
    /// agent; one subscription is for all requests that [`Self::reply_subject`] is asked for.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn subscribe(
        &self,
        agent: &str,
        kind: TargetKind,
        collective: &str,
    ) -> Result<(), TargetError> {
        let subject = self.subject(agent, kind, collective)?;
        tracing::debug!(%subject, "subscribing");
        self.core.subscribe(subject, None);
        Ok(())
    }

    /// Ends a subscription. That there is none is no fault.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn unsubscribe(
        &self,
        agent: &str,
        kind: TargetKind,
        collective: &str,
    ) -> Result<(), TargetError> {
        let subject = self.subject(agent, kind, collective)?;
        tracing::debug!(%subject, "unsubscribing");
        self.core.unsubscribe(&subject);
        Ok(())
    }

    /// Listens to requests to an agent as a service: each goes to one of those who listen.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn subscribe_service(&self, agent: &str, collective: &str) -> Result<(), TargetError> {
        let subject = self.core.options.collectives.service(collective, agent)?;
        self.core.subscribe(subject, Some(agent.to_owned()));
        Ok(())
    }

    /// Ends a service.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn unsubscribe_service(&self, agent: &str, collective: &str) -> Result<(), TargetError> {
        let subject = self.core.options.collectives.service(collective, agent)?;
        self.core.unsubscribe(&subject);
        Ok(())
    }

    fn subject(
        &self,
        agent: &str,
        kind: TargetKind,
        collective: &str,
    ) -> Result<String, TargetError> {
        let options = &self.core.options;
        match kind {
            TargetKind::Broadcast => options.collectives.broadcast(collective, agent),
            TargetKind::Directed => options.collectives.directed(collective, &options.identity),
            TargetKind::Reply => {
                let any = self.reply_to(collective, 0)?;
                Ok(any.strip_suffix('0').unwrap_or(&any).to_owned() + "*")
            }
        }
    }

    /// A subject for the replies to one request; another one each time. Replies come if replies of the collective have
    /// been subscribed to.
    ///
    /// # Errors
    /// If there is no such collective.
    pub fn reply_subject(&self, collective: &str) -> Result<String, TargetError> {
        let sequence = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.reply_to(collective, sequence)
    }

    fn reply_to(&self, collective: &str, sequence: u64) -> Result<String, TargetError> {
        let options = &self.core.options;
        let session = &*self.session;
        options
            .collectives
            .reply(collective, &options.caller, session, sequence)
    }

    /// Publishes, and answers how many messages that took. Without a connection they wait for one, as far as there is room.
    ///
    /// # Errors
    /// If there is no such target, or if a message cannot be sent; others before it may have been.
    pub async fn publish(&self, outgoing: impl Into<Outgoing>) -> Result<usize, PublishError> {
        let server = self.connected_server();
        let messages = outgoing
            .into()
            .messages(&self.core.options, server.as_ref())?;
        let count = messages.len();
        for message in messages {
            self.push(message).await?;
        }
        Ok(count)
    }

    async fn push(&self, message: Message) -> Result<(), PublishError> {
        let limit = self.core.options.publish_timeout;
        let pushed = timeout(limit, async {
            loop {
                let room = self.core.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                match self.core.push(&message) {
                    Ok(()) => return Ok(()),
                    Err(Refused::Because(error)) => return Err(error),
                    Err(Refused::Later) => room.await,
                }
            }
        });
        pushed.await.unwrap_or(Err(PublishError::Timeout(limit)))
    }

    /// Publishes a message as it is to each of these subjects, for those who pass on what is not theirs. Answers how many got
    /// it, and why no more did.
    pub(crate) async fn publish_as_is(
        &self,
        subjects: Vec<String>,
        transport: &Transport,
    ) -> (u64, Option<PublishError>) {
        let content = Bytes::from(transport.to_bytes(self.core.options.wrapping));
        let mut count = 0;
        for subject in subjects {
            if let Err(error) = check_subject(&subject) {
                return (count, Some(error));
            }
            let content = content.clone();
            if let Err(error) = self.push(Message { subject, content }).await {
                return (count, Some(error));
            }
            count += 1;
        }
        (count, None)
    }

    /// Listens to a subject as one of a group.
    pub(crate) fn subscribe_in_group(&self, subject: &str, group: &str) {
        let group = Some(group.to_owned());
        self.core.subscribe(subject.to_owned(), group);
    }

    /// Waits until the server has taken all that was said to it before: subscriptions hold then, and messages are on their
    /// way. `false`: there is no connection, or it was lost meanwhile.
    pub async fn flush(&self) -> bool {
        match self.core.observe() {
            Some(seen) => seen.await.is_ok(),
            None => false,
        }
    }

    /// What comes for all subscriptions.
    #[must_use]
    pub fn receive(&self) -> IncomingStream {
        IncomingStream::new(Arc::clone(&self.core))
    }

    /// What happens from now on. Who is slow to look misses some.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.core.events()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core.counters.snapshot()
    }

    /// To whom it is connected; `None`: to nobody, now.
    #[must_use]
    pub fn connected_server(&self) -> Option<ServerAddress> {
        match &*self.core.status.borrow() {
            Status::Connected(server) => Some(server.clone()),
            Status::Away | Status::Stopped => None,
        }
    }

    /// All servers that are tried: those that were found, and those that they told of.
    #[must_use]
    pub fn server_pool(&self) -> Vec<ServerAddress> {
        self.core.pool().all().cloned().collect()
    }

    /// What it goes by.
    #[must_use]
    pub fn options(&self) -> &ConnectorOptions {
        &self.core.options
    }
}

/// Whether a message can be sent there.
fn check_subject(subject: &str) -> Result<(), PublishError> {
    if subject.len() > SUBJECT_BYTES_MAX {
        return Err(PublishError::SubjectTooLong(subject.len()));
    }
    if !is_literal(subject) {
        return Err(PublishError::Subject(subject.to_owned()));
    }
    Ok(())
}

/// The next event that is there, whether others were missed before it or not.
fn next_of(events: &mut broadcast::Receiver<Event>) -> Result<Event, ()> {
    use broadcast::error::TryRecvError;
    loop {
        match events.try_recv() {
            Ok(event) => return Ok(event),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Err(()),
        }
    }
}

/// Tells connectors of one caller apart.
fn session() -> String {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system has randomness");
    HEXLOWER.encode(&bytes)
}
