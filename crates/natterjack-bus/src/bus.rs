//! The bus itself: publish, subscribe, drain.
//!
//! What arrives goes from the transport into one inbound queue; one task decodes it and hands it to each subscriber's
//! queue. Nothing else happens between a transport and a subscriber.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use crate::embedded::Embedded;
use crate::envelope::{Draft, Envelope};
use crate::event::Event;
use crate::fault::{DecodeError, Fault};
use crate::queue::{Overflow, Pushed, Queue};
use crate::settings::{Endpoint, Limits, Settings, TransportKind};
use crate::stats::{Stats, count};
use crate::transport::local::Local;
use crate::transport::nats::{Nats, Target};
use crate::transport::{Arrival, Inbound, Link, Transport};

/// How long the embedded server may take to accept our own connection.
const EMBEDDED_READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A bus for events of type `T`. Share it behind an [`Arc`]; dropping it without [`EventBus::drain`] ends it at once.
pub struct EventBus<T> {
    transport: Box<dyn Transport>,
    inbound: Inbound,
    subscribers: Arc<Subscribers<T>>,
    limits: Limits,
    fan_out: AbortHandle,
    fan_out_done: Arc<Queue<()>>,
    embedded: Option<Embedded>,
    drained: OnceCell<Result<(), DrainError>>,
    /// The bus takes and gives `T`, but holds none.
    events: PhantomData<fn(T) -> T>,
}

/// Why a bus could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
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

/// What a drain could not do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// Later events came back from the server, these did not: the connection broke while they were on their way, or a
    /// full queue, the server's or ours, dropped them.
    #[error("{events} events were lost on their way to the server or back")]
    Lost {
        /// How many.
        events: u64,
    },
    /// Time is up; whether the server has these events is not known.
    #[error("{events} events were not confirmed within {timeout:?}; is the server reachable?")]
    Unconfirmed {
        /// How many.
        events: u64,
        /// [`Limits::drain_timeout`].
        timeout: Duration,
    },
}

impl<T> EventBus<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// Starts a bus, and the embedded server first if the settings enable it. Without an embedded server this does
    /// not wait for a connection: a node may start before the server it needs. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let limits = settings.limits.clone();
        let inbound = Inbound::new(&limits);
        let (transport, embedded) = match settings.transport {
            TransportKind::Local => (local(settings, inbound.clone()), None),
            TransportKind::Nats => nats(settings, inbound.clone()).await?,
        };
        let subscribers = Arc::new(Subscribers {
            state: Mutex::new(State::default()),
        });
        let fan_out_done = Arc::new(Queue::new(1, usize::MAX));
        let task = fan_out(
            inbound.clone(),
            Arc::clone(&subscribers),
            Arc::clone(&fan_out_done),
        );
        Ok(Self {
            transport,
            inbound,
            subscribers,
            limits,
            fan_out: tokio::spawn(task).abort_handle(),
            fan_out_done,
            embedded,
            drained: OnceCell::new(),
            events: PhantomData,
        })
    }

    /// Publishes an event to all nodes, this one included. On return it is accepted, not yet delivered. Events
    /// published one after the other arrive in that order.
    ///
    /// Over `nats` this waits while too many events are on their way to a connected server, and fails if there is no
    /// connection and the buffer is full; it never waits for a subscriber. Over `local` it waits for room, and so for
    /// subscribers that wait.
    ///
    /// # Errors
    /// See [`PublishError`]; the event is then not published.
    pub async fn publish(&self, event: &T) -> Result<(), PublishError> {
        let result = match serde_json::to_vec(event) {
            Ok(payload) => self.transport.publish(Draft::json(payload)).await,
            Err(error) => Err(error.into()),
        };
        let counters = &self.inbound.counters;
        count(if result.is_ok() {
            &counters.published_events
        } else {
            &counters.refused_events
        });
        result
    }

    /// Subscribes to every event that arrives from now on, with a queue of the default size that waits when full.
    #[must_use]
    pub fn subscribe(&self) -> EventStream<T> {
        self.subscribe_with(self.limits.subscriber_events_max, Overflow::Wait)
    }

    /// Subscribes with a queue of the given size and policy.
    #[must_use]
    pub fn subscribe_with(&self, queue_events_max: usize, overflow: Overflow) -> EventStream<T> {
        let queue = Arc::new(Queue::new(queue_events_max, usize::MAX));
        self.subscribers.add(Subscriber {
            queue: Arc::clone(&queue),
            overflow,
        });
        EventStream { queue }
    }

    /// What goes wrong from now on.
    #[must_use]
    pub fn faults(&self) -> FaultStream {
        FaultStream {
            queue: self.inbound.faults.reader(self.limits.faults_max),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inbound.counters.read()
    }

    /// Whether events flow now.
    #[must_use]
    pub fn link(&self) -> Link {
        self.transport.link()
    }

    /// Why the server, or the way to it, refused this node last, in their words, if it did since the connection was made,
    /// or broke. A [`Fault::Refused`] says so when it happens, but nobody may have been listening then.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.transport.refusal()
    }

    /// Largest event [`EventBus::publish`] accepts now, headers included. Before the first connection this is a guess.
    #[must_use]
    pub fn event_bytes_max(&self) -> usize {
        self.transport.event_bytes_max()
    }

    /// Accepted events of this node that have not come back from the server yet. They may have reached it.
    #[must_use]
    pub fn outstanding_events(&self) -> u64 {
        self.transport.outstanding_events()
    }

    /// Where clients reach the embedded server, if there is one.
    #[must_use]
    pub fn server_url(&self) -> Option<String> {
        self.embedded.as_ref().map(Embedded::client_url)
    }

    /// Waits until this node is connected and the server knows its subscription, so that it misses no event that is
    /// published from then on at the same server. Has no time limit of its own.
    pub async fn ready(&self) {
        self.transport.ready().await;
    }

    /// Ends the bus without losing what was accepted: refuses new events, waits until every accepted one is back from
    /// the server, hands everything over to the subscribers' streams, which end after it, and stops the embedded
    /// server. It does not wait for subscribers to read: their queues take what is left whatever its size. A second
    /// call answers as the first.
    ///
    /// # Errors
    /// If events were lost, or not confirmed within [`Limits::drain_timeout`]. The bus is closed all the same.
    pub async fn drain(&self) -> Result<(), DrainError> {
        self.drained.get_or_init(|| self.drain_once()).await.clone()
    }

    async fn drain_once(&self) -> Result<(), DrainError> {
        self.subscribers.lift();
        let timeout = self.limits.drain_timeout;
        let result = match tokio::time::timeout(timeout, self.transport.drain()).await {
            Ok(0) => Ok(()),
            Ok(events) => Err(DrainError::Lost { events }),
            Err(_) => {
                let events = self.transport.outstanding_events();
                Err(DrainError::Unconfirmed { events, timeout })
            }
        };
        self.transport.close();
        // Nothing can hold it up: all subscribers' queues are without bounds now.
        self.fan_out_done.pop().await;
        if let Some(embedded) = &self.embedded {
            embedded.shutdown().await;
        }
        self.inbound.faults.close();
        result
    }
}

impl<T> Drop for EventBus<T> {
    fn drop(&mut self) {
        self.transport.close();
        self.fan_out.abort();
        self.subscribers.close();
        self.inbound.faults.close();
    }
}

fn local(settings: Settings, inbound: Inbound) -> Box<dyn Transport> {
    let client = settings.nats.client;
    let event_bytes_max = settings.limits.event_bytes_max;
    Box::new(Local::new(
        inbound,
        client.name,
        client.event_type,
        event_bytes_max,
    ))
}

async fn nats(
    settings: Settings,
    inbound: Inbound,
) -> Result<(Box<dyn Transport>, Option<Embedded>), StartError> {
    let client = settings.nats.client.clone();
    let embedded = if settings.nats.server.enable {
        Some(Embedded::start(&settings.nats).await?)
    } else {
        None
    };
    let address = match (client.endpoint, &embedded) {
        (Some(endpoint), _) => endpoint.to_string(),
        (None, Some(embedded)) => embedded.client_url(),
        (None, None) => Endpoint::standard().to_string(),
    };
    let target = Target {
        address: address.clone(),
        subject: client.subject,
        source: client.name,
        kind: client.event_type,
        alone: embedded.is_some(),
    };
    let transport = Nats::start(target, &settings.limits, inbound).await?;
    if let Some(embedded) = &embedded {
        let timeout = EMBEDDED_READY_TIMEOUT;
        let ready = tokio::time::timeout(timeout, transport.ready()).await;
        ready.map_err(|_| StartError::NotReady {
            address,
            server: embedded.client_url(),
            timeout,
            refusal: transport.refusal(),
        })?;
    }
    Ok((Box::new(transport), embedded))
}

/// Decodes what arrives and hands it to all subscribers, until there is no more.
async fn fan_out<T>(inbound: Inbound, subscribers: Arc<Subscribers<T>>, done: Arc<Queue<()>>)
where
    T: DeserializeOwned + Clone,
{
    // However this ends, even by a panic in somebody's decoding, the subscribers and a drain must hear of it.
    let _end = FanOutEnd {
        subscribers: Arc::clone(&subscribers),
        done,
    };
    while let Some(arrival) = inbound.queue.pop().await {
        match decode(arrival) {
            Ok(event) => {
                count(&inbound.counters.received_events);
                if event.own {
                    count(&inbound.counters.own_events);
                }
                let dropped = subscribers.deliver(event).await;
                inbound
                    .counters
                    .subscriber_dropped_events
                    .fetch_add(dropped, Relaxed);
            }
            Err(fault) => {
                count(&inbound.counters.undecodable_messages);
                inbound.report(&fault);
            }
        }
    }
}

struct FanOutEnd<T> {
    subscribers: Arc<Subscribers<T>>,
    done: Arc<Queue<()>>,
}

impl<T> Drop for FanOutEnd<T> {
    fn drop(&mut self) {
        self.subscribers.close();
        self.done.close();
    }
}

fn decode<T: DeserializeOwned>(arrival: Arrival) -> Result<Event<T>, Fault> {
    let undecodable = |id, origin, reason: DecodeError, payload| Fault::Undecodable {
        id,
        origin,
        reason: Arc::new(reason),
        payload,
    };
    let Envelope {
        attributes,
        payload,
        own,
    } = match arrival {
        Arrival::Event(envelope) => envelope,
        Arrival::Unreadable {
            id,
            origin,
            reason,
            payload,
        } => {
            return Err(undecodable(id, origin, reason, payload));
        }
    };
    // A CloudEvent need not have data.
    let json: &[u8] = if payload.is_empty() {
        b"null"
    } else {
        &payload
    };
    match serde_json::from_slice(json) {
        Ok(data) => Ok(Event {
            id: attributes.id,
            source: attributes.source,
            kind: attributes.kind,
            time: attributes.time,
            content_type: attributes.content_type,
            others: attributes.others,
            own,
            data,
        }),
        Err(error) => Err(undecodable(
            attributes.id,
            attributes.source,
            if error.is_data() {
                DecodeError::OtherType(error)
            } else {
                DecodeError::NotJson(error)
            },
            payload,
        )),
    }
}

struct Subscribers<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    all: Vec<Subscriber<T>>,
    /// Draining: queues are without bounds.
    lifted: bool,
    closed: bool,
}

struct Subscriber<T> {
    queue: Arc<Queue<Event<T>>>,
    overflow: Overflow,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            lifted: false,
            closed: false,
        }
    }
}

impl<T> Subscribers<T> {
    fn add(&self, subscriber: Subscriber<T>) {
        let mut state = self.state.lock();
        if state.closed {
            subscriber.queue.close();
            return;
        }
        if state.lifted {
            subscriber.queue.lift();
        }
        state.all.push(subscriber);
    }

    fn lift(&self) {
        let mut state = self.state.lock();
        state.lifted = true;
        state
            .all
            .iter()
            .for_each(|subscriber| subscriber.queue.lift());
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state
            .all
            .drain(..)
            .for_each(|subscriber| subscriber.queue.close());
    }

    /// Answers how many subscribers lost an event over this one.
    async fn deliver(&self, event: Event<T>) -> u64
    where
        T: Clone,
    {
        let targets: Vec<_> = {
            let mut state = self.state.lock();
            state
                .all
                .retain(|subscriber| !subscriber.queue.is_abandoned());
            let target =
                |subscriber: &Subscriber<T>| (Arc::clone(&subscriber.queue), subscriber.overflow);
            state.all.iter().map(target).collect()
        };
        let mut dropped = 0;
        let mut event = Some(event);
        for (index, (queue, overflow)) in targets.iter().enumerate() {
            let last = index + 1 == targets.len();
            let event = if last { event.take() } else { event.clone() };
            let Some(event) = event else { break };
            match queue.push_now(event, 0, *overflow) {
                Pushed::Full(event) if *overflow == Overflow::Wait => {
                    queue.push(event, 0).await;
                }
                Pushed::Full(_) | Pushed::Evicted => dropped += 1,
                Pushed::Queued | Pushed::Gone => {}
            }
        }
        dropped
    }
}

/// One subscriber's events. Ends after the bus does. Dropping it unsubscribes.
pub struct EventStream<T> {
    queue: Arc<Queue<Event<T>>>,
}

impl<T> EventStream<T> {
    /// Events this subscriber lost to its own full queue.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.queue.dropped()
    }
}

impl<T> Stream for EventStream<T> {
    type Item = Event<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_pop(context)
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

/// Faults as they happen. Ends after the bus does.
pub struct FaultStream {
    queue: Arc<Queue<Fault>>,
}

impl Stream for FaultStream {
    type Item = Fault;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_pop(context)
    }
}

impl StartError {
    pub(crate) fn client(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Client(Box::new(error))
    }
}
