//! How local code subscribes: what it wants to see, how much may wait for it, and the stream it reads.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use crate::event::Event;
use crate::feed::{Feed, Given, Inbox, Registration, Select};
use crate::queue::{Overflow, Queue};
use crate::settings::Limits;

/// A subscription in the making: see [`crate::EventBus::subscription`]. `T` is what arrives, `U` what the stream will
/// yield.
///
/// Everything said here is applied before the queue, so that what is not wanted takes no room in it. Filters run in the
/// task that delivers to all subscribers of the bus: they should be quick, and must not block. One that panics loses its
/// subscriber this event, which [`crate::Fault::Panicked`] tells.
#[must_use = "a subscription receives nothing until it is started"]
pub struct Subscription<T, U = T> {
    feed: Arc<Feed<T>>,
    name: Option<Arc<str>>,
    queue_events_max: usize,
    queue_bytes_max: usize,
    overflow: Overflow,
    keys: Vec<String>,
    wants_own: bool,
    select: Select<T, U>,
}

impl<T, U> fmt::Debug for Subscription<T, U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Subscription")
            .field("name", &self.name)
            .field("keys", &self.keys)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Subscription<T> {
    pub(crate) fn new(feed: Arc<Feed<T>>, limits: &Limits) -> Self {
        Self {
            feed,
            name: None,
            queue_events_max: limits.subscriber_events_max,
            queue_bytes_max: limits.subscriber_bytes_max,
            overflow: Overflow::default(),
            keys: Vec::new(),
            wants_own: true,
            // `Some` itself is not general enough a function.
            select: Box::new(|given| Some(given)),
        }
    }
}

impl<T: Send + Sync + 'static, U: Send + 'static> Subscription<T, U> {
    /// How this subscriber is called where drops and panics are told. Default: `a subscriber`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many events may wait, and what happens to the next. Default: [`Limits::subscriber_events_max`] events, and
    /// [`Overflow::Wait`].
    pub fn queue(mut self, events_max: usize, overflow: Overflow) -> Self {
        self.queue_events_max = events_max;
        self.overflow = overflow;
        self
    }

    /// How many payload bytes of events may wait. Default: [`Limits::subscriber_bytes_max`]. An event that alone is
    /// larger passes if no other waits.
    pub fn queue_bytes(mut self, bytes_max: usize) -> Self {
        self.queue_bytes_max = bytes_max;
        self
    }

    /// Only events published with this key ([`crate::Publish::key`]), or another one so named. Events whose key nobody
    /// named are not even decoded, unless somebody subscribed without keys.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Not the events that this bus itself has published.
    pub fn others_only(mut self) -> Self {
        self.wants_own = false;
        self
    }

    /// Only events for which the function says so.
    pub fn filter(self, is_wanted: impl Fn(&Event<U>) -> bool + Send + Sync + 'static) -> Self {
        self.select(move |given| is_wanted(given.as_ref()).then_some(given))
    }

    /// Only events of which the function makes something; the stream yields that, with the event's attributes.
    pub fn filter_map<V: Send + 'static>(
        self,
        map: impl Fn(&Event<U>) -> Option<V> + Send + Sync + 'static,
    ) -> Subscription<T, V> {
        self.select(move |given| {
            let data = map(given.as_ref())?;
            Some(Given::Owned(given.with(data)))
        })
    }

    /// From now on events go to the stream.
    pub fn start(self) -> EventStream<U> {
        let name = self.name.unwrap_or_else(|| "a subscriber".into());
        let queue = Queue::new(self.queue_events_max, self.queue_bytes_max);
        let inbox = self.feed.inbox(name, queue, self.overflow);
        let registration = self
            .feed
            .add(self.keys, self.wants_own, &inbox, self.select);
        EventStream {
            inbox,
            _registration: registration,
        }
    }

    fn select<V>(
        self,
        next: impl for<'a> Fn(Given<'a, U>) -> Option<Given<'a, V>> + Send + Sync + 'static,
    ) -> Subscription<T, V> {
        let Self {
            feed,
            name,
            queue_events_max,
            queue_bytes_max,
            overflow,
            keys,
            wants_own,
            select,
        } = self;
        Subscription {
            feed,
            name,
            queue_events_max,
            queue_bytes_max,
            overflow,
            keys,
            wants_own,
            select: Box::new(move |given| next(select(given)?)),
        }
    }
}

/// One subscriber's events. Ends after the bus does. Dropping it unsubscribes.
pub struct EventStream<U> {
    inbox: Arc<Inbox<U>>,
    _registration: Registration,
}

impl<U> fmt::Debug for EventStream<U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventStream")
            .field("name", &self.inbox.name)
            .finish_non_exhaustive()
    }
}

impl<U> EventStream<U> {
    /// The next event, once there is one; `None` after the bus has ended and all is read. Nothing is lost if this is given
    /// up before. For all else that streams can do there is [`Stream`].
    pub async fn next(&mut self) -> Option<Event<U>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Events this subscriber lost to its own full queue.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.inbox.queue.dropped()
    }

    /// Events that wait to be read.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.inbox.queue.len()
    }
}

impl<U> Stream for EventStream<U> {
    type Item = Event<U>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inbox.queue.poll_pop(context);
        if polled.is_ready() {
            self.inbox.recover();
        }
        polled
    }
}

impl<U> Drop for EventStream<U> {
    fn drop(&mut self) {
        self.inbox.queue.abandon();
    }
}
