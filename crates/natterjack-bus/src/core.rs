//! What all handles of one bus share, whatever their types: the transport, the task that delivers, the end.
//!
//! What arrives goes from the transport into one inbound queue; one task takes it out and has the [`Feeds`] put it into
//! each subscriber's queue. Nothing else happens between a transport and a subscriber.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::ask::Asks;
use crate::client::Way;
use crate::embedded::Embedded;
use crate::envelope::{Draft, id_text};
use crate::error::{DrainError, PublishError, StartError};
use crate::fault::Fault;
use crate::feed::Feed;
use crate::feeds::Feeds;
use crate::health::Watch;
use crate::ledger::Undelivered;
use crate::merge::Flush;
use crate::queue::Queue;
use crate::settings::{Endpoint, Limits, Problem, Problems, Settings, TransportKind};
#[cfg(feature = "opentelemetry")]
use crate::spans::Spans;
use crate::stats::count;
use crate::tls::ClientTls;
use crate::transport::local::Local;
use crate::transport::nats::{Nats, Target};
use crate::transport::{Inbound, Link, Presence, Transport, now};

/// How long the embedded server may take to accept our own connection.
const EMBEDDED_READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a bus that has no time left, or is dropped and not drained, may take to tell the others.
const GOOD_BYE_TIMEOUT: Duration = Duration::from_millis(250);

/// A running bus. Dropping it ends it at once, but for a good-bye to the others.
pub(crate) struct Core {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) inbound: Inbound,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) asks: Arc<Asks>,
    pub(crate) limits: Limits,
    pub(crate) embedded: Option<Arc<Embedded>>,
    /// Locked while others are to take their place.
    pub(crate) in_force: tokio::sync::Mutex<Settings>,
    /// Knows who else is there.
    pub(crate) watch: Arc<Watch>,
    /// CloudEvents `type` of what is published where nothing else is said.
    pub(crate) main_kind: Arc<str>,
    #[cfg(feature = "opentelemetry")]
    pub(crate) spans: Arc<Spans>,
    mergings: Mutex<Vec<Weak<dyn Flush>>>,
    tasks: Vec<AbortHandle>,
    delivered: Arc<Queue<()>>,
    /// How the drain ended, once it has begun; `None` until it has ended.
    drained: OnceLock<watch::Receiver<Option<Result<(), DrainError>>>>,
}

impl Core {
    /// Starts a bus with one feed; see [`crate::EventBus::start`].
    pub(crate) async fn start<T>(settings: Settings) -> Result<(Self, Arc<Feed<T>>), StartError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let limits = settings.limits.clone();
        let in_force = tokio::sync::Mutex::new(settings.clone());
        let inbound = Inbound::new(&settings);
        let main_kind = settings.nats.client.event_type.clone();
        let node = settings.nats.client.name.clone();
        let is_alone = settings.transport == TransportKind::Local;
        let routes_patience = (!is_alone).then_some(limits.routes_patience);
        let health = settings.health.clone();
        #[cfg(feature = "opentelemetry")]
        let spans = Arc::new(Spans::new(&settings));
        let (transport, embedded) = match settings.transport {
            TransportKind::Local => (local(settings, inbound.clone()), None),
            TransportKind::Nats => nats(settings, inbound.clone()).await?,
        };
        let embedded = embedded.map(Arc::new);
        let watch = Arc::new(Watch::new(
            node.clone(),
            health,
            routes_patience,
            inbound.clone(),
            &transport,
            embedded.as_ref(),
        ));
        let presence: Weak<dyn Presence> = Arc::downgrade(&watch) as _;
        // This is the only one who sets it.
        let _ = inbound.presence.set(presence);
        if let Some(embedded) = &embedded {
            embedded.show(&watch);
        }
        let (counters, faults) = (Arc::clone(&inbound.counters), Arc::clone(&inbound.faults));
        let (feeds, feed) = Feeds::new(main_kind.clone(), counters, faults);
        let feeds = Arc::new(feeds);
        let asks = Asks::new(
            node,
            main_kind.clone(),
            &inbound,
            #[cfg(feature = "opentelemetry")]
            &spans,
        );
        let asks = Arc::new(asks);
        let delivered = Arc::new(Queue::new(1, usize::MAX));
        let delivery = deliver(inbound.clone(), Arc::clone(&feeds), Arc::clone(&delivered));
        let answering = Arc::clone(&asks).run(inbound.clone(), Arc::downgrade(&transport));
        let tasks = vec![
            tokio::spawn(delivery).abort_handle(),
            tokio::spawn(answering).abort_handle(),
            tokio::spawn(Arc::clone(&watch).run()).abort_handle(),
        ];
        let core = Self {
            transport,
            inbound,
            feeds,
            asks,
            limits,
            embedded,
            in_force,
            watch,
            main_kind: main_kind.into(),
            #[cfg(feature = "opentelemetry")]
            spans,
            mergings: Mutex::default(),
            tasks,
            delivered,
            drained: OnceLock::new(),
        };
        Ok((core, feed))
    }

    /// Publishes what could be drafted. Answers the event's identifier.
    pub(crate) async fn publish(
        &self,
        draft: Result<Draft, PublishError>,
    ) -> Result<Uuid, PublishError> {
        let result = match draft {
            Ok(draft) => self.send(draft).await,
            Err(error) => Err(error),
        };
        let counters = &self.inbound.counters;
        count(if result.is_ok() {
            &counters.published_events
        } else {
            &counters.refused_events
        });
        result
    }

    #[cfg(not(feature = "opentelemetry"))]
    async fn send(&self, draft: Draft) -> Result<Uuid, PublishError> {
        self.transport.publish(draft).await
    }

    /// In a span, which goes with the event.
    #[cfg(feature = "opentelemetry")]
    async fn send(&self, mut draft: Draft) -> Result<Uuid, PublishError> {
        let span = self.spans.publishing(&mut draft);
        let result = self.transport.publish(draft).await;
        span.end(&result);
        result
    }

    pub(crate) fn report(&self, fault: &Fault) {
        self.inbound.report(fault);
    }

    /// Has a merging publisher finished by a drain.
    pub(crate) fn add_merging(&self, merging: &Arc<dyn Flush>) {
        let mut mergings = self.mergings.lock();
        mergings.retain(|merging| merging.strong_count() > 0);
        mergings.push(Arc::downgrade(merging));
    }

    pub(crate) fn undelivered_ids(&self) -> Vec<String> {
        texts(self.transport.undelivered().ids)
    }

    /// See [`crate::EventBus::drain`].
    pub(crate) async fn drain(self: &Arc<Self>) -> Result<(), DrainError> {
        let mut drained = self.drained.get_or_init(|| self.begin_drain()).clone();
        let result = drained.wait_for(Option::is_some).await;
        let result = result.ok().and_then(|result| result.clone());
        // Nothing but the end of the runtime, or a panic, can take the result away.
        result.unwrap_or_else(|| Err(self.unconfirmed(self.transport.undelivered())))
    }

    /// Whether it is, or has been.
    pub(crate) fn is_draining(&self) -> bool {
        self.drained.get().is_some()
    }

    /// In a task of its own: it cannot be begun again where somebody stopped waiting for it.
    fn begin_drain(self: &Arc<Self>) -> watch::Receiver<Option<Result<(), DrainError>>> {
        // Merged events and handlers may take their time, in which events may be lost.
        self.transport.begin_drain();
        let (sender, drained) = watch::channel(None);
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let result = core.drain_once().await;
            // Whoever waits may hold the last handle, whose end is then its doing.
            drop(core);
            sender.send_replace(Some(result));
        });
        drained
    }

    async fn drain_once(&self) -> Result<(), DrainError> {
        self.feeds.lift();
        let timeout = self.limits.drain_timeout;
        let began = now();
        let patience = tokio::time::timeout(timeout, std::future::pending::<()>());
        let mergings = std::mem::take(&mut *self.mergings.lock());
        let mergings: Vec<_> = mergings.iter().filter_map(Weak::upgrade).collect();
        let settled = async {
            for merging in &mergings {
                merging.finish().await;
            }
            // A handler without an end must not cost the events their confirmation.
            self.asks.finish(timeout / 2).await;
            self.transport.drain().await
        };
        let settled = tokio::time::timeout(timeout, settled).await;
        let left = match settled {
            Ok(_) => {
                let left = timeout.saturating_sub(began.elapsed());
                self.leave(left.max(GOOD_BYE_TIMEOUT)).await
            }
            Err(_) => {
                // There is no time for confirmations, but nobody must wait for this node.
                if self.transport.link() == Link::Connected {
                    let good_bye = self.watch.say_good_bye(&*self.transport);
                    let _ = tokio::time::timeout(GOOD_BYE_TIMEOUT, good_bye).await;
                }
                Ok(())
            }
        };
        let is_in_time = settled.is_ok();
        let mut undelivered = settled.unwrap_or_else(|_| self.transport.undelivered());
        self.transport.close();
        // No more of them is published now.
        undelivered.events += mergings.iter().map(|merging| merging.left()).sum::<u64>();
        let result = match (is_in_time, undelivered) {
            (true, Undelivered { events: 0, .. }) => left,
            (true, Undelivered { events, ids }) => Err(DrainError::Lost {
                events,
                ids: texts(ids),
            }),
            (false, undelivered) => Err(self.unconfirmed(undelivered)),
        };
        // Nothing can hold it up: all subscribers' queues are without bounds now.
        self.delivered.pop().await;
        if let Some(embedded) = &self.embedded {
            let patience = async {
                // Whatever is left of the time for all of this.
                let _ = patience.await;
            };
            embedded.retire(patience).await;
        }
        self.inbound.faults.close();
        result
    }

    /// Waits until what is back from the server is at the other nodes as well.
    async fn leave(&self, timeout: Duration) -> Result<(), DrainError> {
        let silent = self.watch.leave(&*self.transport, timeout).await;
        if silent.is_empty() {
            Ok(())
        } else {
            Err(DrainError::Unanswered { nodes: silent })
        }
    }

    fn unconfirmed(&self, undelivered: Undelivered) -> DrainError {
        DrainError::Unconfirmed {
            events: undelivered.events,
            ids: texts(undelivered.ids),
            timeout: self.limits.drain_timeout,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.feeds.close();
        self.inbound.faults.close();
        let transport = Arc::clone(&self.transport);
        let runtime = tokio::runtime::Handle::try_current();
        match runtime {
            // Otherwise whoever drains would wait for this node's confirmation in vain.
            Ok(runtime) if transport.link() == Link::Connected => {
                let (watch, embedded) = (Arc::clone(&self.watch), self.embedded.clone());
                runtime.spawn(async move {
                    let good_bye = watch.say_good_bye(&*transport);
                    // It is a courtesy.
                    let _ = tokio::time::timeout(GOOD_BYE_TIMEOUT, good_bye).await;
                    transport.close();
                    drop(embedded);
                });
            }
            _ => transport.close(),
        }
    }
}

fn texts(ids: Vec<Uuid>) -> Vec<String> {
    let buffer = &mut Uuid::encode_buffer();
    ids.into_iter()
        .map(|id| id_text(id, buffer).into())
        .collect()
}

fn local(settings: Settings, inbound: Inbound) -> Arc<dyn Transport> {
    let client = settings.nats.client;
    let event_bytes_max = settings.limits.event_bytes_max;
    Arc::new(Local::new(
        inbound,
        client.name,
        client.event_type,
        event_bytes_max,
    ))
}

async fn nats(
    settings: Settings,
    inbound: Inbound,
) -> Result<(Arc<dyn Transport>, Option<Embedded>), StartError> {
    let problems = settings.problems();
    if problems.iter().any(Problem::is_error) {
        return Err(StartError::Settings(Problems(problems)));
    }
    let client = settings.nats.client.clone();
    let embedded = if settings.nats.server.enable {
        Some(Embedded::start(&settings.nats).await?)
    } else {
        None
    };
    let own = embedded.as_ref().map(|embedded| Endpoint {
        port: embedded.client_port(),
        ..settings.nats.own_server()
    });
    // The name may stand for several addresses, and on some of them another server may listen.
    let server_id = match (&embedded, &own) {
        (Some(embedded), Some(own))
            if client.endpoint.as_ref().is_none_or(|told| told.means(own)) =>
        {
            Some(embedded.server().server_id().to_owned())
        }
        _ => None,
    };
    let is_in_process = (client.endpoint.as_ref()).is_some_and(Endpoint::is_in_process);
    let address = (client.endpoint.or(own)).unwrap_or_else(Endpoint::standard);
    let address = address.to_string();
    let way = if is_in_process {
        let embedded = embedded.as_ref().ok_or(StartError::NoServerInProcess)?;
        Way::Inside(embedded.connector())
    } else {
        Way::Sockets {
            address: address.clone(),
            is_alone: embedded.is_some(),
            server_id,
            tls: Box::new(ClientTls::load(&settings.nats.tls)?),
        }
    };
    let target = Target {
        way,
        subject: client.subject,
        source: client.name,
        kind: client.event_type,
    };
    let transport = Nats::start(target, &settings.limits, inbound)?;
    if let Some(embedded) = &embedded {
        let timeout = EMBEDDED_READY_TIMEOUT;
        let ready = tokio::time::timeout(timeout, transport.ready());
        let ready = tokio::select! {
            ready = ready => ready,
            message = transport.strange() => {
                let server = embedded.client_url();
                return Err(StartError::OtherServer { message, server });
            }
        };
        ready.map_err(|_| StartError::NotReady {
            address,
            server: embedded.client_url(),
            timeout,
            refusal: transport.refusal(),
        })?;
    }
    Ok((Arc::new(transport), embedded))
}

/// Hands what arrives to the subscribers, until there is no more.
async fn deliver(inbound: Inbound, feeds: Arc<Feeds>, delivered: Arc<Queue<()>>) {
    // However this ends, the subscribers and a drain must hear of it.
    let _end = DeliveryEnd {
        feeds: Arc::clone(&feeds),
        delivered,
    };
    let mut arrivals = Vec::new();
    while inbound.queue.pop_some(&mut arrivals).await {
        for arrival in arrivals.drain(..) {
            for room in feeds.deliver(arrival) {
                room.await;
            }
        }
        // Others of this thread want to go on, too, while events come faster than they are handed over.
        tokio::task::coop::consume_budget().await;
    }
}

struct DeliveryEnd {
    feeds: Arc<Feeds>,
    delivered: Arc<Queue<()>>,
}

impl Drop for DeliveryEnd {
    fn drop(&mut self) {
        self.feeds.close();
        self.delivered.close();
    }
}
