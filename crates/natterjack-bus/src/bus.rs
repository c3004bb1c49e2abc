//! The handle of a bus for one type of events: publish, subscribe, ask, drain.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::ask::{self, AlreadyAnswering, Answering, Answers};
use crate::core::Core;
use crate::embedded::Embedded;
use crate::envelope::Draft;
use crate::error::{AskError, DrainError, PublishError, StartError};
use crate::event::Event;
use crate::fault::Fault;
use crate::feed::Feed;
use crate::health::Health;
use crate::merge::{Merging, MergingPublisher};
use crate::metrics::Metrics;
use crate::publish::Publish;
use crate::queue::{Overflow, Queue};
use crate::reload::{ReloadError, Reloaded};
use crate::settings::Settings;
use crate::stats::Stats;
use crate::subscription::{EventStream, Subscription};
use crate::transport::Link;

/// A handle of a bus, for events with values of type `T`. Clones, and handles for other types, share one bus. Dropping
/// the last of them without [`EventBus::drain`] ends the bus at once.
pub struct EventBus<T> {
    core: Arc<Core>,
    feed: Arc<Feed<T>>,
    /// CloudEvents `type`.
    kind: Arc<str>,
}

impl<T> Clone for EventBus<T> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            feed: Arc::clone(&self.feed),
            kind: Arc::clone(&self.kind),
        }
    }
}

impl<T> fmt::Debug for EventBus<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventBus")
            .field("name", &self.core.asks.node())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> EventBus<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// Starts a bus, and the embedded server first if the settings enable it. Without an embedded server this does
    /// not wait for a connection: a node may start before the server it needs. Must be called inside a tokio runtime.
    ///
    /// The handle publishes events of the type named in the settings. It receives those, and all that belong to no other
    /// handle: programs without this library may name another type, or none.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // On the heap: it is large, above all where nothing is optimised, and its callers are often futures themselves.
        let (core, feed) = Box::pin(Core::start(settings)).await?;
        let core = Arc::new(core);
        let kind = Arc::clone(&core.main_kind);
        Ok(Self { core, feed, kind })
    }

    /// A handle of the same bus for another type of events: those whose CloudEvents `type` is this. As long as such a
    /// handle, or a stream of it, is there the handle that [`EventBus::start`] gave does not receive them. Handles for
    /// one `type` and different Rust types may coexist: each decodes for itself.
    ///
    /// By the specification `type` should begin with a reversed domain name, and name a version.
    #[must_use]
    pub fn with_type<U>(&self, kind: impl Into<Arc<str>>) -> EventBus<U>
    where
        U: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let kind = kind.into();
        EventBus {
            core: Arc::clone(&self.core),
            feed: self.core.feeds.feed(&kind),
            kind,
        }
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
        self.publish_with(event, Publish::default()).await
    }

    /// Publishes an event as [`EventBus::publish`] does, with a routing key or other attributes.
    ///
    /// # Errors
    /// See [`PublishError`]; the event is then not published.
    pub async fn publish_with(&self, event: &T, publish: Publish) -> Result<(), PublishError> {
        self.publish_draft(event, publish).await.map(drop)
    }

    /// The same, for whoever keeps account of events: answers the identifier under which this one arrives ([`Event::id`]), and
    /// by which a drain names it if it could not be delivered ([`DrainError::ids`]).
    ///
    /// # Errors
    /// See [`PublishError`]; the event is then not published.
    pub async fn publish_identified(
        &self,
        event: &T,
        publish: Publish,
    ) -> Result<String, PublishError> {
        let id = self.publish_draft(event, publish).await?;
        Ok(id.to_string())
    }

    /// Publishes what was merged of what was published with these spans around it.
    #[cfg(feature = "opentelemetry")]
    pub(crate) async fn publish_merged(
        &self,
        event: &T,
        publish: Publish,
        origins: Vec<opentelemetry::trace::SpanContext>,
    ) -> Result<(), PublishError> {
        let draft = self.draft(event, publish);
        let draft = draft.map(|draft| Draft { origins, ..draft });
        self.core.publish(draft).await.map(drop)
    }

    async fn publish_draft(&self, event: &T, publish: Publish) -> Result<Uuid, PublishError> {
        self.core.publish(self.draft(event, publish)).await
    }

    fn draft(&self, event: &T, publish: Publish) -> Result<Draft, PublishError> {
        let payload = encode(event)?;
        Ok(Draft {
            kind: Some(Arc::clone(&self.kind)),
            ..publish.draft(payload)?
        })
    }

    /// A publisher that holds events back for a moment and folds those into one that can be. `fold` gets two events that
    /// were published one after the other; if it can it makes the first one say what both said, and answers whether it
    /// did.
    ///
    /// Merged events are published as by one publisher: in the order of their first parts. There is no order between
    /// them and what is published otherwise.
    #[must_use]
    pub fn merging(
        &self,
        merging: Merging,
        fold: impl Fn(&mut T, &T) -> bool + Send + Sync + 'static,
    ) -> MergingPublisher<T> {
        MergingPublisher::new(self.clone(), merging, fold)
    }

    /// Subscribes to every event that arrives from now on, with a queue of the default size that waits when full.
    #[must_use]
    pub fn subscribe(&self) -> EventStream<T> {
        self.subscription().start()
    }

    /// Subscribes with a queue of the given size and policy.
    #[must_use]
    pub fn subscribe_with(&self, queue_events_max: usize, overflow: Overflow) -> EventStream<T> {
        self.subscription()
            .queue(queue_events_max, overflow)
            .start()
    }

    /// A subscription with keys, filters and a queue of its own.
    ///
    /// ```no_run
    /// # use natterjack_bus::{EventBus, Overflow};
    /// # fn of(bus: &EventBus<String>) {
    /// let lengths = bus.subscription()
    ///     .key("agent-7")
    ///     .others_only()
    ///     .filter(|event| !event.data.is_empty())
    ///     .filter_map(|event| u32::try_from(event.data.len()).ok())
    ///     .queue(64, Overflow::DropOldest)
    ///     .start(); // a stream of `Event<u32>`
    /// # }
    /// ```
    pub fn subscription(&self) -> Subscription<T> {
        Subscription::new(Arc::clone(&self.feed), &self.core.limits)
    }

    /// Asks one node, by its client name, which may be this one. It answers if it [`EventBus::answer`]s questions of this
    /// handle's type. The question may overtake events.
    ///
    /// # Errors
    /// See [`AskError`]: above all [`AskError::NoAnswer`] when time is up, and [`AskError::NotAnswering`] at once if that
    /// node answers no such questions.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        node: &str,
        question: &T,
        timeout: Duration,
    ) -> Result<A, AskError> {
        let replies = self.send_question(Some(node), question).await?;
        ask::one(replies, node, timeout).await
    }

    /// Asks all nodes, this one included. Answers come as they are given, until all nodes that are up have said what they
    /// have to say, or time is up. Who is up is known once the bus is [`EventBus::ready`]; before that this waits until time
    /// is up. Programs without this library may answer, too: see [`Answers::until_timeout`].
    ///
    /// # Errors
    /// If the question cannot be sent.
    pub async fn ask_all<A: DeserializeOwned>(
        &self,
        question: &T,
        timeout: Duration,
    ) -> Result<Answers<A>, AskError> {
        // Before the question: whoever comes later may not have heard it.
        let nodes = self.core.watch.nodes();
        let replies = self.send_question(None, question).await?;
        Ok(Answers::new(replies, timeout, nodes))
    }

    async fn send_question(
        &self,
        to: Option<&str>,
        question: &T,
    ) -> Result<ask::Replies, AskError> {
        let question = serde_json::value::to_raw_value(question).map_err(PublishError::Encode)?;
        let core = &self.core;
        core.asks
            .ask(&*core.transport, &self.kind, to, question)
            .await
    }

    /// Answers questions of this handle's type that other nodes, and this one, ask, until what is returned is dropped.
    /// Several are answered at the same time. An error is told to who asked, as text.
    ///
    /// # Errors
    /// If this type of questions is answered on this bus already.
    pub fn answer<A, E, F>(
        &self,
        handle: impl Fn(Event<T>) -> F + Send + Sync + 'static,
    ) -> Result<Answering, AlreadyAnswering>
    where
        A: Serialize,
        E: fmt::Display,
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        self.core
            .asks
            .answer(Arc::clone(&self.kind), ask::handler(handle))
    }

    /// Has the spans of this bus made by this provider, and not by the process's. Answers whether it is the first: that one
    /// stays.
    #[cfg(feature = "opentelemetry")]
    pub fn trace_with<P, U, S>(&self, provider: &P) -> bool
    where
        P: opentelemetry::trace::TracerProvider<Tracer = U>,
        U: opentelemetry::trace::Tracer<Span = S> + Send + Sync + 'static,
        S: opentelemetry::trace::Span + Send + Sync + 'static,
    {
        self.core.spans.give(provider)
    }

    /// Begins a span for what is done about an event, below that of its publisher, with the attributes of the semantic
    /// conventions for messaging. It is the active one of the context, and ends with the context's last clone. What is
    /// published in that context belongs to it.
    ///
    /// ```
    /// use natterjack_bus::{Event, EventBus, PublishError};
    /// use opentelemetry::trace::FutureExt as _;
    ///
    /// async fn double(bus: &EventBus<u32>, event: Event<u32>) -> Result<(), PublishError> {
    ///     let span = bus.consumer_span(&event);
    ///     bus.publish(&(event.data * 2)).with_context(span).await
    /// }
    /// ```
    #[cfg(feature = "opentelemetry")]
    #[must_use]
    pub fn consumer_span<U>(&self, event: &Event<U>) -> opentelemetry::Context {
        self.core.spans.processing(event)
    }

    /// This node's name: the source of its events, and whom others ask.
    #[must_use]
    pub fn name(&self) -> &str {
        self.core.asks.node()
    }

    /// CloudEvents `type` of the events this handle publishes.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What goes wrong from now on.
    #[must_use]
    pub fn faults(&self) -> FaultStream {
        FaultStream {
            queue: self.core.inbound.faults.reader(self.core.limits.faults_max),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.inbound.counters.read()
    }

    /// Whether events flow now.
    #[must_use]
    pub fn link(&self) -> Link {
        self.core.transport.link()
    }

    /// Why the server, or the way to it, refused this node last, in their words, if it did since the connection was made,
    /// or broke. A [`Fault::Refused`] says so when it happens, but nobody may have been listening then. Before the first
    /// connection also why there is none yet, that nobody listens there for instance.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.core.transport.refusal()
    }

    /// Largest event [`EventBus::publish`] accepts now, headers included. Before the first connection this is a guess.
    #[must_use]
    pub fn event_bytes_max(&self) -> usize {
        self.core.transport.event_bytes_max()
    }

    /// Accepted events of this node that have not come back from the server yet. They may have reached it.
    #[must_use]
    pub fn outstanding_events(&self) -> u64 {
        self.core.transport.outstanding_events()
    }

    /// Which these are, and while a drain goes on also those that were lost since it began: [`Event::id`], of the first 4,096
    /// of them. For whoever cannot wait for the end of a drain, which answers with the same.
    #[must_use]
    pub fn undelivered_ids(&self) -> Vec<String> {
        self.core.undelivered_ids()
    }

    /// Where clients reach the embedded server, if there is one.
    #[must_use]
    pub fn server_url(&self) -> Option<String> {
        self.core.embedded.as_deref().map(Embedded::client_url)
    }

    /// Where other servers connect to the embedded server, if there is one: what their routes name.
    #[must_use]
    pub fn cluster_url(&self) -> Option<String> {
        self.core.embedded.as_deref()?.cluster_url()
    }

    /// Where the monitoring pages of the embedded server are, if there is one.
    #[must_use]
    pub fn monitoring_url(&self) -> Option<String> {
        self.core.embedded.as_deref()?.monitoring_url()
    }

    /// Waits until an event that is published now reaches all nodes that are up, this one included, and this one gets
    /// theirs. It is what they confirm, so it takes a round trip and a moment in which nobody new turns up. Has no time
    /// limit of its own.
    ///
    /// Of nodes behind servers that are still to be found this knows if a node of the bus embeds the server that this one
    /// uses. A server that is no node's does not say whether it looks for others: whoever comes into reach later is waited
    /// for from then on.
    pub async fn ready(&self) {
        self.core.watch.ready().await;
    }

    /// How this bus is now: who answers, whether that is enough, whether it is [`EventBus::ready`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.watch.health()
    }

    /// All there is to know in numbers; [`Metrics::prometheus`] makes a page of it.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.core.watch.metrics()
    }

    /// Takes over what can be of new settings while the bus runs: the embedded server's routes, and the address that it
    /// advertises. What else differs from the settings in force is named, and stays as it is until a bus is started with
    /// the new ones; what only embedders can set, as [`crate::Limits`], is not looked at. The server reads its files of TLS
    /// again at once, which it does without this within seconds. Once begun it goes on, even if nobody waits for its end any
    /// more. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the new settings cannot work; then nothing changes.
    pub async fn reload(&self, settings: &Settings) -> Result<Reloaded, ReloadError> {
        self.core.reload(settings.clone()).await
    }

    /// Ends the bus without losing what was accepted: publishes what is held back to be merged, waits for questions that
    /// are being answered, for half of the time at most, refuses new events, waits until every accepted one is back from the
    /// server and the other nodes have confirmed that it is there, hands everything over to the subscribers' streams, which end after it, says good-bye
    /// and stops the embedded server. It does not wait for subscribers to read: their queues take what is left whatever its
    /// size. A second call answers as the first. Once begun it goes on, even if nobody waits for its end any more. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// If events were lost, or not confirmed within [`crate::Limits::drain_timeout`]: it says how many, and which
    /// ([`DrainError::ids`]). The bus is closed all the same.
    pub async fn drain(&self) -> Result<(), DrainError> {
        Box::pin(self.core.drain()).await
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

fn encode(event: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    /// Most events are smaller, and need not grow step by step.
    const BYTES_EXPECTED: usize = 512;
    let mut json = Vec::with_capacity(BYTES_EXPECTED);
    serde_json::to_writer(&mut json, event)?;
    Ok(json)
}

/// Faults as they happen. Ends after the bus does.
pub struct FaultStream {
    queue: Arc<Queue<Fault>>,
}

impl fmt::Debug for FaultStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FaultStream")
            .finish_non_exhaustive()
    }
}

impl FaultStream {
    /// The next fault, once there is one; `None` after the bus has ended. Nothing is lost if this is given up before.
    pub async fn next(&mut self) -> Option<Fault> {
        self.queue.pop().await
    }
}

impl Stream for FaultStream {
    type Item = Fault;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_pop(context)
    }
}
