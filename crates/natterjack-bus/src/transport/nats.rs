//! The transport over a NATS server: one subject, published to and subscribed, without a queue group.
//!
//! The server echoes a node's own events, and that echo is how they arrive here, so all nodes see an event the same
//! way. The echo is also the proof that the server has the event: the [`Ledger`] knows which are outstanding. A fence,
//! a message to ourselves on a private subject, proves it for everything sent before, lost or not, since the server
//! keeps the order of one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{
    Client, ClientError, ConnectOptions, Event as ClientEvent, Message, Subject, Subscriber,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::{
    Arrival, Channel, Inbound, Link, Notice, Overflowing, Transport, channel_subject, enter, own_id,
};
use crate::envelope::Draft;
use crate::error::{PublishError, StartError};
use crate::fault::Fault;
use crate::headers;
use crate::ledger::Ledger;
use crate::settings::Limits;
use crate::stats::count;
use crate::tls::ClientTls;

/// A fence that has not come back is sent again after this long. The client library may drop its notice of a new
/// connection when many come at once, so a fence must not depend on that alone.
const FENCE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may take to have what was told, when nobody depends on it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Last token of the subject of fences.
const FENCE: &str = "fence";

/// First and longest pause between two attempts to connect.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Distinct refusals remembered, and so reported, for one connection or outage.
const REFUSALS_MAX: usize = 16;

/// What the client library calls a server that cannot be reached, without a cause. It says so at every attempt, and
/// [`Fault::Disconnected`] has said it already.
const UNREACHABLE: &str = "IO error";

/// Room in the client library's command queue beyond what the ledger admits, for fences and subscriptions.
const COMMANDS_EXTRA: usize = 64;

pub(crate) struct Nats {
    shared: Arc<Shared>,
    subject: Subject,
    source: String,
    kind: String,
    /// Whether publishing goes on. Held while an event is entered and sent, which keeps the ledger in sending order.
    accepting: tokio::sync::Mutex<bool>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    client: Client,
    ledger: Ledger,
    inbound: Inbound,
    link: Arc<LinkState>,
    /// Where what is for this node alone arrives, without the last tokens: `fence`, or a channel and a token.
    inbox: String,
}

/// What the client library tells about its connection.
struct LinkState {
    link: watch::Sender<Link>,
    connected: Notify,
    inbound: Inbound,
    /// Where we were told to connect to.
    server: String,
    /// Knows why certificates were refused.
    tls: ClientTls,
    /// What was refused since the connection was made, or broke: each attempt is refused with the same words.
    refusals: Mutex<Vec<String>>,
}

/// Whom to connect to, and as whom.
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) subject: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    /// Whether to stay with this address even if the server names others. So with the embedded server.
    pub(crate) alone: bool,
    /// What to encrypt with, and whom to believe.
    pub(crate) tls: ClientTls,
}

impl Nats {
    /// Starts to connect; returns before that succeeds. Must be called inside a tokio runtime.
    pub(crate) async fn start(
        target: Target,
        limits: &Limits,
        inbound: Inbound,
    ) -> Result<Self, StartError> {
        let link = Arc::new(LinkState {
            link: watch::Sender::new(Link::Connecting),
            connected: Notify::new(),
            inbound: inbound.clone(),
            server: target.address.clone(),
            tls: target.tls.clone(),
            refusals: Mutex::default(),
        });
        let client = connect(&target, limits, Arc::clone(&link)).await?;
        let inbox = client.new_inbox();
        let subscribe = async |subject: String| {
            let subscriber = client.subscribe(subject).await;
            subscriber.map_err(StartError::client)
        };
        let subscriptions = Subscriptions {
            events: subscribe(target.subject.clone()).await?,
            health: subscribe(channel_subject(&target.subject, Channel::Health)).await?,
            asks: subscribe(channel_subject(&target.subject, Channel::Ask)).await?,
            own: subscribe(format!("{inbox}.>")).await?,
        };
        let ledger = Ledger::new(limits.outbound_events_max, limits.outbound_bytes_max);
        let shared = Arc::new(Shared {
            client,
            ledger,
            inbound,
            link,
            inbox,
        });
        let receiver = Receiver {
            shared: Arc::clone(&shared),
            source: target.source.clone(),
            overflowing: Overflowing::default(),
        };
        let tasks = vec![
            tokio::spawn(receiver.run(subscriptions)).abort_handle(),
            tokio::spawn(fence_each_connection(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self {
            shared,
            subject: target.subject.into(),
            source: target.source,
            kind: target.kind,
            accepting: tokio::sync::Mutex::new(true),
            tasks,
        })
    }

    async fn send(&self, draft: Draft) -> Result<(), PublishError> {
        let accepting = self.accepting.lock().await;
        if !*accepting {
            return Err(PublishError::Closed);
        }
        let (id, attributes, payload) = draft.stamp(&self.source, &self.kind);
        let (headers, header_bytes) = headers::encode(&attributes);
        let event_bytes = header_bytes + payload.len();
        let event_bytes_max = self.event_bytes_max();
        if event_bytes > event_bytes_max {
            return Err(PublishError::TooLarge {
                event_bytes,
                event_bytes_max,
            });
        }
        let Shared { ledger, link, .. } = &*self.shared;
        let entry = enter(ledger, &link.link, id, event_bytes).await?;
        self.shared
            .client
            .publish_with_headers(self.subject.clone(), headers, payload)
            .await
            .map_err(|_| PublishError::Closed)?;
        entry.sent();
        Ok(())
    }
}

impl Transport for Nats {
    fn publish(&self, draft: Draft) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(self.send(draft))
    }

    fn tell(
        &self,
        channel: Channel,
        token: &str,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        let subject = channel_subject(&self.subject, channel);
        let reply = format!("{}.{}.{token}", self.shared.inbox, channel.name());
        Box::pin(async move {
            // What is told to nobody now must not pile up in the client library.
            if self.link() != Link::Connected {
                return Ok(());
            }
            let client = &self.shared.client;
            let sent = client.publish_with_reply(subject, reply, payload).await;
            sent.map_err(|_| PublishError::Closed)
        })
    }

    fn answer(&self, reply: String, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let sent = self.shared.client.publish(reply, payload).await;
            sent.map_err(|_| PublishError::Closed)
        })
    }

    fn event_bytes_max(&self) -> usize {
        self.shared.client.max_payload()
    }

    fn link(&self) -> Link {
        *self.shared.link.link.borrow()
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.shared.link.link.subscribe()
    }

    fn refusal(&self) -> Option<String> {
        self.shared.link.refusals.lock().last().cloned()
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.fence_until(|ledger| ledger.fences() > 0))
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.link() == Link::Connected {
                // That the library has written it is not enough: the server must have read it.
                let before = self.shared.ledger.fences();
                let flushed = self.shared.fence_until(|ledger| ledger.fences() > before);
                // What has not arrived by then is nobody's any more.
                let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
            }
        })
    }

    fn drain(&self) -> BoxFuture<'_, u64> {
        Box::pin(async {
            *self.accepting.lock().await = false;
            let lost_before = self.shared.inbound.counters.lost_events.load(Relaxed);
            self.shared
                .fence_until(|ledger| ledger.open_events() == 0)
                .await;
            self.shared.inbound.counters.lost_events.load(Relaxed) - lost_before
        })
    }

    fn outstanding_events(&self) -> u64 {
        self.shared.ledger.open_events() as u64
    }

    fn close(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.link.end();
        self.shared.inbound.close();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Sends fences until one that comes back makes the condition true.
    async fn fence_until(&self, done: impl Fn(&Ledger) -> bool) {
        let mut interval = tokio::time::interval(FENCE_INTERVAL);
        loop {
            let changed = self.ledger.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(&self.ledger) {
                return;
            }
            tokio::select! {
                () = changed => {}
                _ = interval.tick() => self.send_fence().await,
            }
        }
    }

    /// While there is no connection a fence would only wait in the client library; the next connection sends its own.
    async fn send_fence(&self) {
        if *self.link.link.borrow() != Link::Connected {
            return;
        }
        let sent = self.ledger.sent().to_string();
        if self
            .client
            .publish(format!("{}.{FENCE}", self.inbox), sent.into())
            .await
            .is_err()
        {
            self.link.end();
        }
    }

    /// Something for this node alone.
    fn receive_own(&self, message: Message) {
        let Some(rest) = message.subject.strip_prefix(self.inbox.as_str()) else {
            return;
        };
        let mut tokens = rest.split('.').skip(1);
        match (tokens.next(), tokens.next()) {
            (Some(FENCE), None) => self.settle(&message),
            (Some(name), Some(token)) => {
                if let Some(channel) = Channel::named(name) {
                    let notice = Notice {
                        reply: None,
                        token: Some(token.into()),
                        payload: message.payload,
                    };
                    self.inbound.notice(channel, notice);
                }
            }
            _ => {}
        }
    }

    fn settle(&self, fence: &Message) {
        let Some(sent_before) = std::str::from_utf8(&fence.payload)
            .ok()
            .and_then(|text| text.parse().ok())
        else {
            return;
        };
        let lost = self.ledger.fenced(sent_before);
        self.inbound.lost(lost);
    }
}

/// What the client library hands over.
struct Subscriptions {
    events: Subscriber,
    health: Subscriber,
    asks: Subscriber,
    /// The inbox.
    own: Subscriber,
}

async fn fence_each_connection(shared: Arc<Shared>) {
    loop {
        shared.link.connected.notified().await;
        shared.send_fence().await;
    }
}

/// Takes messages from the client library as fast as they come, so that its own queue never fills.
struct Receiver {
    shared: Arc<Shared>,
    source: String,
    overflowing: Overflowing,
}

impl Receiver {
    async fn run(mut self, mut subscriptions: Subscriptions) {
        loop {
            let Subscriptions {
                events,
                health,
                asks,
                own,
            } = &mut subscriptions;
            let (channel, message) = tokio::select! {
                biased;
                message = events.next() => match message {
                    Some(message) => {
                        self.receive(message);
                        continue;
                    }
                    None => break,
                },
                Some(message) = own.next() => (None, message),
                Some(message) = health.next() => (Some(Channel::Health), message),
                Some(message) = asks.next() => (Some(Channel::Ask), message),
            };
            // The library put what came before this message into the events' queue before it put this into its own.
            while let Some(Some(event)) = events.next().now_or_never() {
                self.receive(event);
            }
            match channel {
                Some(channel) => self.shared.inbound.notice(
                    channel,
                    Notice {
                        reply: message.reply.map(|reply| reply.to_string()),
                        token: None,
                        payload: message.payload,
                    },
                ),
                None => self.shared.receive_own(message),
            }
        }
        // The library ends subscriptions only when it gives up for good.
        self.shared.link.end();
        self.shared.inbound.close();
    }

    fn receive(&mut self, message: Message) {
        let Message {
            subject,
            payload,
            headers,
            ..
        } = message;
        let bytes = payload.len();
        let mut envelope =
            match headers::decode(headers::of_map(headers.as_ref()), payload.clone(), &subject) {
                Ok(envelope) => envelope,
                Err(unreadable) => {
                    let headers::Unreadable { id, origin, reason } = *unreadable;
                    let arrival = Arrival::Unreadable {
                        id,
                        origin,
                        reason,
                        payload,
                    };
                    self.overflowing
                        .deliver(&self.shared.inbound, arrival, bytes);
                    return;
                }
            };
        let Some(id) = own_id(&self.source, &self.shared.ledger, &envelope.attributes) else {
            self.overflowing
                .deliver(&self.shared.inbound, Arrival::Event(envelope), bytes);
            return;
        };
        envelope.own = true;
        let delivered =
            self.overflowing
                .deliver(&self.shared.inbound, Arrival::Event(envelope), bytes);
        // Only now: a drain ends delivery as soon as the ledger is empty.
        let lost = self.shared.ledger.returned(id);
        self.shared.inbound.lost(lost);
        if !delivered {
            // The overflow is reported as such; a report for each event would push that one out.
            count(&self.shared.inbound.counters.lost_events);
        }
    }
}

async fn connect(
    target: &Target,
    limits: &Limits,
    link: Arc<LinkState>,
) -> Result<Client, StartError> {
    let failed = Arc::clone(&link);
    let options = ConnectOptions::new()
        .name(&target.source)
        // Also without TLS: a server may demand it all the same, and then it is told what is missing.
        .tls_client_config(target.tls.config())
        .require_tls(target.tls.is_required())
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_pause)
        // Before each attempt. It is not to choose, but only here is told why the last one failed.
        .reconnect_to_server_callback(move |servers, _| {
            failed.explain(&servers);
            std::future::ready(None)
        })
        .client_capacity(limits.outbound_events_max.saturating_add(COMMANDS_EXTRA))
        .event_callback(move |event| {
            link.observe(event);
            std::future::ready(())
        });
    let options = if target.alone {
        options.ignore_discovered_servers()
    } else {
        options
    };
    options
        .connect(target.address.as_str())
        .await
        .map_err(StartError::client)
}

/// Doubles from attempt to attempt, and takes a random part of that off, so that nodes do not come back in step.
fn reconnect_pause(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts - 2).unwrap_or(u32::MAX).min(16);
    let pause = RECONNECT_PAUSE_MIN
        .saturating_mul(1 << doublings)
        .min(RECONNECT_PAUSE_MAX);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

impl LinkState {
    /// No more news: what happens to the connection from now on is our own doing.
    fn end(&self) {
        self.link.send_replace(Link::Closed);
    }

    /// Changes the state unless it is final. Answers what it was before.
    fn change(&self, link: Link) -> Link {
        let mut before = Link::Closed;
        self.link.send_if_modified(|current| {
            before = *current;
            if before != Link::Closed {
                *current = link;
            }
            before != *current
        });
        before
    }

    fn refused(&self, message: String) {
        let mut known = self.refusals.lock();
        if known.contains(&message) || known.len() == REFUSALS_MAX {
            return;
        }
        self.inbound.report(&Fault::Refused {
            message: message.clone(),
        });
        known.push(message);
    }

    /// Says what is wrong with certificates, and nothing of the rest.
    fn explain(&self, servers: &[async_nats::Server]) {
        let errors = servers
            .iter()
            .filter_map(|server| server.last_error.as_deref());
        for explained in errors.filter_map(|error| self.tls.explain(error)) {
            self.refused(explained);
        }
    }

    fn observe(&self, event: ClientEvent) {
        if *self.link.borrow() == Link::Closed {
            return;
        }
        match event {
            ClientEvent::Connected => {
                if self.change(Link::Connected) == Link::Disconnected {
                    count(&self.inbound.counters.reconnects);
                    let server = self.server.clone();
                    self.inbound.report(&Fault::Reconnected { server });
                }
                self.refusals.lock().clear();
                self.connected.notify_one();
            }
            ClientEvent::Disconnected => {
                if self.change(Link::Disconnected) == Link::Connected {
                    self.refusals.lock().clear();
                    let server = self.server.clone();
                    self.inbound.report(&Fault::Disconnected { server });
                }
            }
            // Our receiver empties the library's queue faster than a socket fills it, but if it ever fills, say so.
            ClientEvent::SlowConsumer(_) => count(&self.inbound.counters.overflowed_events),
            ClientEvent::ServerError(error) => self.refused(error.to_string()),
            ClientEvent::ClientError(ClientError::Other(text)) if text == UNREACHABLE => {}
            ClientEvent::ClientError(ClientError::Other(text)) => self.refused(text),
            ClientEvent::ClientError(error) => self.refused(error.to_string()),
            ClientEvent::Closed | ClientEvent::Draining | ClientEvent::LameDuckMode => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(reconnect_pause(1), Duration::ZERO);
        for attempts in [2, 3, 10, 1000, usize::MAX] {
            let pause = reconnect_pause(attempts);
            assert!(
                pause >= RECONNECT_PAUSE_MIN / 2 && pause <= RECONNECT_PAUSE_MAX,
                "{pause:?}"
            );
        }
        assert!(reconnect_pause(1000) >= RECONNECT_PAUSE_MAX / 2);
    }
}
