//! What carries events: the one trait the bus knows, and its implementations.
//!
//! A transport delivers each node's own events back to it exactly once, in order, and everyone else's in their
//! publishers' order. It pushes what arrives into the bus's [`Inbound`] and never waits for subscribers there, except
//! where the publisher is the one to wait.

mod change;
pub(crate) mod local;
pub(crate) mod nats;
mod repeats;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use natterjack_wire::client::Message;
use natterjack_wire::headers::Headers;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use self::repeats::Repeats;
use crate::envelope::{Attributes, Draft, Envelope};
use crate::error::PublishError;
use crate::fault::{DecodeError, Fault, Faults};
use crate::headers;
use crate::health::{Said, Told};
use crate::ledger::{Ledger, Opened, Undelivered};
use crate::metrics::Histogram;
use crate::queue::{Overflow, Pushed, Queue};
use crate::settings::Settings;
use crate::stats::{Counters, count};
use crate::tally::{Question, Tally};

/// The connection to where the events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// The first connection has not been made yet.
    Connecting,
    /// Events flow.
    Connected,
    /// The connection broke; a new one is being tried.
    Disconnected,
    /// There is no connection and there will be none.
    Closed,
}

pub(crate) trait Transport: Send + Sync {
    /// Stamps and sends one event of this node. Waits for room where that can come; accepted events keep the order in
    /// which this was first polled. Answers the event's identifier.
    fn publish(&self, draft: Draft) -> BoxFuture<'_, Result<Uuid, PublishError>>;

    /// Tells all nodes, this one included, something that is no event. It stays behind the events accepted before it.
    /// Whoever answers does so at `token`, which is one word; the answer arrives on the same channel. Lost without a
    /// connection.
    fn tell(
        &self,
        channel: Channel,
        token: &str,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Answers [`Notice::reply`].
    fn answer(&self, reply: String, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Largest event, headers included, that [`Transport::publish`] accepts now.
    fn event_bytes_max(&self) -> usize;

    fn link(&self) -> Link;

    /// The same, as it changes.
    fn links(&self) -> watch::Receiver<Link>;

    /// Why we were refused last, if we were since the connection was made, or broke.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// Whether events go by way of the server with this id.
    fn is_at(&self, _server_id: &str) -> bool {
        false
    }

    /// Waits until this node is connected and subscribed.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Waits until the server has what was told and answered so far. Not for a connection.
    fn flush(&self) -> BoxFuture<'_, ()>;

    /// Names from now on which events are lost, for [`Transport::drain`].
    fn begin_drain(&self) {}

    /// Stops accepting, and waits until every accepted event has come back or is known to be lost. Answers which were lost
    /// since [`Transport::begin_drain`]. May be abandoned at any time.
    fn drain(&self) -> BoxFuture<'_, Undelivered>;

    /// Accepted events of this node that have not come back, and those that were lost since a drain began.
    fn undelivered(&self) -> Undelivered;

    /// Accepted events of this node that have not come back.
    fn outstanding_events(&self) -> u64;

    /// Whether events that waited for a connection are held back because others may not be back yet.
    fn is_holding_back(&self) -> bool {
        false
    }

    /// They are.
    fn let_go(&self) {}

    /// Ends delivery and lets the connection go.
    fn close(&self);
}

/// Who else is there, as far as this node knows.
pub(crate) trait Presence: Send + Sync {
    /// What every node that is up answers, on [`Channel::Health`].
    fn question(&self) -> Bytes;

    /// Who has given this answer.
    fn answerer(&self, answer: &[u8]) -> Option<String>;

    /// Who must answer: other nodes that are up.
    fn others(&self) -> BTreeSet<String>;
}

/// What nodes say to each other beside the events, each on a subject of its own below the bus's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Who is there.
    Health,
    /// Requests of one node to the others.
    Ask,
}

/// Something a node has told all others, or answered one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Where an answer is expected, if at all.
    pub(crate) reply: Option<String>,
    /// For an answer to this node: the token of its question.
    pub(crate) token: Option<String>,
    pub(crate) payload: Bytes,
}

impl Channel {
    pub(crate) const ALL: [Self; 2] = [Self::Health, Self::Ask];

    /// The last token of its subject.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ask => "ask",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// Notices that wait for this node's attention. Those beyond are dropped: who asks, asks again.
const NOTICES_MAX: usize = 4096;

/// Bytes of those, with where they are to be answered.
const NOTICES_BYTES_MAX: usize = 16 << 20;

/// The bus's side of a transport.
#[derive(Clone)]
pub(crate) struct Inbound {
    pub(crate) queue: Arc<Queue<Arrival>>,
    /// What arrives on [`Channel::Health`]. An event that arrived before a notice is in `queue` before this has it.
    pub(crate) health: Arc<Queue<Notice>>,
    /// The same for [`Channel::Ask`].
    pub(crate) asks: Arc<Queue<Notice>>,
    /// Which events never arrived.
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) counters: Arc<Counters>,
    /// How long events took from other nodes to here.
    pub(crate) latency: Arc<Histogram>,
    pub(crate) faults: Arc<Faults>,
    /// Set once somebody knows it.
    pub(crate) presence: Arc<OnceLock<Weak<dyn Presence>>>,
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Arrival {
    Event(Envelope),
    Unreadable {
        id: Option<String>,
        origin: String,
        reason: DecodeError,
        payload: Bytes,
    },
}

/// Hands over what arrives without waiting, and reports when an overflow begins and ends.
#[derive(Default)]
struct Overflowing {
    /// Events dropped in the running overflow.
    events: u64,
}

impl Overflowing {
    /// Answers whether there was room.
    fn deliver(&mut self, inbound: &Inbound, arrival: Arrival, bytes: usize) -> bool {
        if let Arrival::Event(Envelope {
            attributes,
            own: false,
            ..
        }) = &arrival
        {
            inbound.latency.arrived(attributes);
        }
        if let Pushed::Full(_) = inbound.queue.try_push(arrival, bytes) {
            count(&inbound.counters.overflowed_events);
            self.events += 1;
            if self.events == 1 {
                inbound.faults.overflow_began();
            }
            return false;
        }
        if self.events > 0 && inbound.queue.is_relaxed() {
            let events = std::mem::take(&mut self.events);
            inbound.faults.overflow_ended(events);
        }
        true
    }
}

/// Makes events of a server's messages and hands them over, and knows which are our own.
struct Intake {
    /// The subject of the events.
    subject: String,
    /// Of our own.
    source: String,
    overflowing: Overflowing,
    /// `None` if the server is always the same: it says nothing twice.
    repeats: Option<Repeats>,
}

impl Intake {
    fn new(subject: &str, source: &str, repeats: Option<Repeats>) -> Self {
        Self {
            subject: subject.into(),
            source: source.into(),
            overflowing: Overflowing::default(),
            repeats,
        }
    }

    fn take(&mut self, message: &Message<'_>, inbound: &Inbound, ledger: &Ledger) {
        let headers = Headers::parse(message.header()).ok();
        let headers = headers.iter().flat_map(Headers::entries);
        let payload = message.payload();
        let copy = Bytes::copy_from_slice(payload);
        let mut envelope = match headers::decode(headers, copy, &self.subject) {
            Ok(envelope) => envelope,
            Err(unreadable) => {
                if self.has_seen_alike(message, inbound) {
                    return;
                }
                let headers::Unreadable {
                    id,
                    origin,
                    reason,
                    bytes,
                } = *unreadable;
                let arrival = Arrival::Unreadable {
                    id,
                    origin,
                    reason,
                    payload: Bytes::copy_from_slice(payload),
                };
                self.overflowing.deliver(inbound, arrival, bytes);
                return;
            }
        };
        let own = own_id(&self.source, ledger, &envelope.attributes);
        envelope.own = own.is_some();
        if envelope.is_identified {
            if let Some(repeats) = &mut self.repeats {
                let Attributes { id, source, .. } = &envelope.attributes;
                if repeats.has_seen_id(source, id, now) && !envelope.own {
                    return;
                }
            }
        } else if self.has_seen_alike(message, inbound) {
            return;
        }
        let mut tally = inbound.tally.lock();
        if envelope.own {
            tally.own_event_arrived();
        } else {
            tally.event_arrived(&envelope.attributes.source);
        }
        drop(tally);
        let bytes = envelope.bytes;
        let arrival = Arrival::Event(envelope);
        let delivered = self.overflowing.deliver(inbound, arrival, bytes);
        let Some(id) = own else { return };
        // Only now: a drain ends delivery as soon as the ledger is empty. One that comes after it was given up has been counted
        // as lost and stays it, whether or not somebody receives it now.
        let Some(lost) = ledger.returned(id) else {
            return;
        };
        inbound.lost(lost);
        if !delivered {
            // The overflow is reported as such; a report for each event would push that one out.
            count(&inbound.counters.lost_events);
            ledger.list_one(id);
        }
    }

    /// For what does not say which one it is.
    fn has_seen_alike(&mut self, message: &Message<'_>, inbound: &Inbound) -> bool {
        let has_seen =
            (self.repeats.as_mut()).is_some_and(|repeats| repeats.has_seen_alike(message, now));
        if has_seen {
            count(&inbound.counters.repeated_events);
        }
        has_seen
    }
}

/// Where the nodes of a bus tell each other something that is no event.
pub(crate) fn channel_subject(subject: &str, channel: Channel) -> String {
    format!("{subject}.{}", channel.name())
}

/// Opens an entry for an event that is about to be sent. Waits for room while events can come back.
async fn enter<'a>(
    ledger: &'a Ledger,
    link: &watch::Sender<Link>,
    id: Uuid,
    event_bytes: usize,
) -> Result<Opened<'a>, PublishError> {
    if let Some(entry) = ledger.open(id, event_bytes) {
        return Ok(entry);
    }
    loop {
        let changed = ledger.change();
        tokio::pin!(changed);
        ledger.watch(changed.as_mut());
        let mut link = link.subscribe();
        if let Some(entry) = ledger.open(id, event_bytes) {
            return Ok(entry);
        }
        match *link.borrow_and_update() {
            Link::Connected => {}
            Link::Closed => return Err(PublishError::Closed),
            Link::Connecting | Link::Disconnected => {
                let buffered_events = ledger.open_events();
                return Err(PublishError::Disconnected { buffered_events });
            }
        }
        tokio::select! {
            () = changed => {}
            _ = link.changed() => {}
        }
    }
}

/// The identifier of an event that is ours and has not come yet. Another node may use our name by mistake.
fn own_id(source: &str, ledger: &Ledger, attributes: &Attributes) -> Option<Uuid> {
    if attributes.source != source {
        return None;
    }
    let id = Uuid::try_parse(&attributes.id).ok()?;
    ledger.is_own(id).then_some(id)
}

impl Inbound {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { limits, nats, .. } = settings;
        let notices = || Arc::new(Queue::new(NOTICES_MAX, NOTICES_BYTES_MAX));
        Self {
            queue: Arc::new(Queue::new(
                limits.inbound_events_max,
                limits.inbound_bytes_max,
            )),
            health: notices(),
            asks: notices(),
            tally: Arc::default(),
            counters: Arc::default(),
            latency: Arc::default(),
            faults: Arc::new(Faults::new(&nats.client.name, &nats.client.subject)),
            presence: Arc::default(),
        }
    }

    /// Queues what arrived on a channel, or drops it. What a node says of its events counts where it stands among them.
    pub(crate) fn notice(&self, channel: Channel, notice: Notice) {
        let queue = match channel {
            Channel::Health => {
                self.tally_notice(&notice);
                &self.health
            }
            Channel::Ask => &self.asks,
        };
        let subjects = [&notice.reply, &notice.token];
        let subjects_bytes: usize = subjects.into_iter().flatten().map(String::len).sum();
        let bytes = notice.payload.len() + subjects_bytes;
        queue.push_now(notice, bytes, Overflow::DropNewest);
    }

    fn tally_notice(&self, notice: &Notice) {
        let Some(Told { said, number }) = Told::of(notice) else {
            return;
        };
        match said {
            Said::Probe {
                node,
                instance,
                echoed,
            } => {
                let question = Question {
                    number,
                    instance: &instance,
                    node: &node,
                    echoed,
                };
                let events = self.tally.lock().question_arrived(question);
                if events > 0 {
                    self.missed(node, events);
                }
            }
            Said::Leave { instance, account } => {
                let left = self.tally.lock().left(&instance, account);
                if let Some((node, events)) = left.filter(|(_, events)| *events > 0) {
                    self.missed(node, events);
                }
            }
            Said::Status => {}
        }
    }

    /// Events of another node never arrived.
    fn missed(&self, node: String, events: u64) {
        self.counters.missed_events.fetch_add(events, Relaxed);
        self.report(&Fault::Missed { node, events });
    }

    /// Own events will not come back.
    fn lost(&self, events: u64) {
        if events > 0 {
            self.counters.lost_events.fetch_add(events, Relaxed);
            self.report(&Fault::Lost { events });
        }
    }

    /// Nothing more will arrive.
    pub(crate) fn close(&self) {
        self.queue.close();
        self.health.close();
        self.asks.close();
    }

    pub(crate) fn report(&self, fault: &Fault) {
        self.faults.report(fault);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is remembered for a while, and the roster, take the time as an argument; this is who gives it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
