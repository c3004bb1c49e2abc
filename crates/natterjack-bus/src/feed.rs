//! One type of events inside this process: who subscribed to it, and how an arriving event becomes a value in each
//! subscriber's queue.
//!
//! An event is decoded once for all subscribers, and only if at least one of them wants it: keys and ownership are looked
//! at before. Each subscriber then gets a clone, the last one the original. Clones, not shared pointers, so that a stream
//! yields values: of an event with 180 bytes of JSON a clone cost a quarter of its decoding (half of that the attributes,
//! half the value), and most nodes have one subscriber, for whom there is none. Whoever has large values and many
//! subscribers says `EventBus<Arc<T>>`, with serde's feature `rc`.
//!
//! The user's code runs here: deserialisation, filters, clones. None of it runs under a lock, and if it panics, this event
//! is lost to whom it concerns and a fault tells so.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::envelope::{Envelope, KEY};
use crate::event::Event;
use crate::fault::{DecodeError, Fault, Faults};
use crate::queue::{Overflow, Pushed, Queue};
use crate::stats::{Counters, count};

/// Subscribers that wait for room in their queues, if any.
pub(crate) type Waiting = SmallVec<[BoxFuture<'static, ()>; 1]>;

/// A feed of whatever type.
pub(crate) trait AnyFeed: Send + Sync {
    /// Whether somebody wants such an event.
    fn is_wanted(&self, envelope: &Envelope) -> bool;

    /// Hands an event to whom it concerns.
    fn deliver(&self, envelope: Envelope, waiting: &mut Waiting) -> Delivered;

    /// Lifts the bounds of all queues, also of those to come.
    fn lift(&self);

    /// Ends all streams, also those to come.
    fn close(&self);

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What became of an event in a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Nobody wanted it, and it was not decoded.
    Ignored,
    /// It is in the queues of those whose filters it passed.
    Decoded,
    /// It is not of this type.
    Undecodable,
}

/// The subscribers to one type of events.
pub(crate) struct Feed<T> {
    subscribers: Mutex<Subscribers<T>>,
    counters: Arc<Counters>,
    faults: Arc<Faults>,
}

struct Subscribers<T> {
    /// Those that want events whatever their key.
    keyless: Vec<Arc<dyn Sink<T>>>,
    by_key: HashMap<String, Vec<Arc<dyn Sink<T>>>>,
    /// How many were ever added; numbers the next.
    added: u64,
    /// Draining: queues are without bounds.
    is_lifted: bool,
    is_closed: bool,
}

/// Targets of one event; more than these cost an allocation.
type Targets<T> = SmallVec<[Arc<dyn Sink<T>>; 4]>;

impl<T: Send + Sync + 'static> Feed<T> {
    pub(crate) fn new(counters: Arc<Counters>, faults: Arc<Faults>) -> Self {
        Self {
            subscribers: Mutex::new(Subscribers {
                keyless: Vec::new(),
                by_key: HashMap::new(),
                added: 0,
                is_lifted: false,
                is_closed: false,
            }),
            counters,
            faults,
        }
    }

    /// Adds a subscriber for some keys, or for all events if there are none.
    pub(crate) fn add<U: Send + 'static>(
        self: &Arc<Self>,
        keys: Vec<String>,
        wants_own: bool,
        inbox: &Arc<Inbox<U>>,
        select: Select<T, U>,
    ) -> Registration {
        let mut subscribers = self.subscribers.lock();
        let number = subscribers.added;
        subscribers.added += 1;
        let sink: Arc<dyn Sink<T>> = Arc::new(Subscriber {
            number,
            wants_own,
            inbox: Arc::clone(inbox),
            select,
        });
        if subscribers.is_lifted {
            sink.lift();
        }
        if subscribers.is_closed {
            sink.close();
        } else if keys.is_empty() {
            subscribers.keyless.push(sink);
        } else {
            for key in &keys {
                let sinks = subscribers.by_key.entry(key.clone()).or_default();
                // A key may be named twice.
                if sinks.last().is_none_or(|last| last.number() != number) {
                    sinks.push(Arc::clone(&sink));
                }
            }
        }
        Registration {
            feed: Arc::clone(self) as Arc<dyn Remove>,
            keys,
            number,
        }
    }

    pub(crate) fn inbox<U>(
        &self,
        name: Arc<str>,
        queue: Queue<Event<U>>,
        overflow: Overflow,
    ) -> Arc<Inbox<U>> {
        Arc::new(Inbox {
            name,
            queue,
            overflow,
            episode_events: AtomicU64::new(0),
            counters: Arc::clone(&self.counters),
            faults: Arc::clone(&self.faults),
        })
    }

    fn report_panic(&self, place: &str, panic: &(dyn Any + Send)) {
        count(&self.counters.panics);
        self.faults.report(&Fault::Panicked {
            place: place.into(),
            message: panic_message(panic),
        });
    }

    fn targets(&self, envelope: &Envelope) -> Targets<T> {
        let subscribers = self.subscribers.lock();
        let wants = |sink: &&Arc<dyn Sink<T>>| !envelope.own || sink.wants_own();
        subscribers
            .keyless
            .iter()
            .chain(subscribers.keyed(envelope))
            .filter(wants)
            .cloned()
            .collect()
    }
}

impl<T> Subscribers<T> {
    fn keyed(&self, envelope: &Envelope) -> &[Arc<dyn Sink<T>>] {
        if self.by_key.is_empty() {
            return &[];
        }
        let key = envelope.attributes.others.get(KEY);
        key.and_then(|key| self.by_key.get(key))
            .map_or(&[], Vec::as_slice)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Sink<T>>> {
        self.keyless.iter().chain(self.by_key.values().flatten())
    }
}

impl<T> AnyFeed for Feed<T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn is_wanted(&self, envelope: &Envelope) -> bool {
        let subscribers = self.subscribers.lock();
        let wants = |sink: &Arc<dyn Sink<T>>| !envelope.own || sink.wants_own();
        subscribers.keyless.iter().any(wants) || subscribers.keyed(envelope).iter().any(wants)
    }

    fn deliver(&self, envelope: Envelope, waiting: &mut Waiting) -> Delivered {
        let mut targets = self.targets(&envelope);
        let Some(last) = targets.pop() else {
            return Delivered::Ignored;
        };
        let bytes = envelope.bytes;
        let event = match catch_unwind(AssertUnwindSafe(|| decode::<T>(envelope))) {
            Ok(Ok(event)) => event,
            Ok(Err(fault)) => {
                self.faults.report(&fault);
                return Delivered::Undecodable;
            }
            Err(panic) => {
                self.report_panic("the decoding of an event", &*panic);
                return Delivered::Undecodable;
            }
        };
        let mut offer = |sink: Arc<dyn Sink<T>>, given: Given<'_, T>| {
            let sink_offered = Arc::clone(&sink);
            match catch_unwind(AssertUnwindSafe(|| sink_offered.offer(given, bytes))) {
                Ok(None) => {}
                Ok(Some(wait)) => waiting.push(wait),
                Err(panic) => self.report_panic(sink.name(), &*panic),
            }
        };
        for sink in targets {
            let clone = Event::clone;
            let event = &event;
            offer(sink, Given::Shared { event, clone });
        }
        offer(last, Given::Owned(event));
        Delivered::Decoded
    }

    fn lift(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.is_lifted = true;
        subscribers.all().for_each(|sink| sink.lift());
    }

    fn close(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.is_closed = true;
        subscribers.all().for_each(|sink| sink.close());
        let keyless = std::mem::take(&mut subscribers.keyless);
        let by_key = std::mem::take(&mut subscribers.by_key);
        // The user's filters are dropped outside the lock.
        drop(subscribers);
        drop((keyless, by_key));
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

fn decode<T: DeserializeOwned>(envelope: Envelope) -> Result<Event<T>, Fault> {
    // A CloudEvent need not have data.
    let json: &[u8] = if envelope.payload.is_empty() {
        b"null"
    } else {
        &envelope.payload
    };
    match serde_json::from_slice(json) {
        Ok(data) => Ok(Event::from_envelope(envelope, data)),
        Err(error) => Err(Fault::Undecodable {
            id: envelope.is_identified.then_some(envelope.attributes.id),
            origin: envelope.attributes.source,
            kind: envelope.attributes.kind,
            reason: Arc::new(if error.is_data() {
                DecodeError::OtherType(error)
            } else {
                DecodeError::NotJson(error)
            }),
            payload: envelope.payload,
        }),
    }
}

/// What a panic said, if it said something.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it did not say why").into()
}

/// An event on its way to one subscriber.
pub(crate) enum Given<'a, T> {
    /// It is this subscriber's alone.
    Owned(Event<T>),
    /// Others get it, too. The function clones it; being carried along, it asks nothing of types that are never shared.
    Shared {
        event: &'a Event<T>,
        clone: fn(&Event<T>) -> Event<T>,
    },
}

impl<T> Given<'_, T> {
    pub(crate) fn as_ref(&self) -> &Event<T> {
        match self {
            Self::Owned(event) => event,
            Self::Shared { event, .. } => event,
        }
    }

    fn into_owned(self) -> Event<T> {
        match self {
            Self::Owned(event) => event,
            Self::Shared { event, clone } => clone(event),
        }
    }

    /// The same event with another value.
    pub(crate) fn with<U>(self, data: U) -> Event<U> {
        match self {
            Self::Owned(event) => event.with(data),
            Self::Shared { event, .. } => event.clone_with(data),
        }
    }
}

/// A subscriber's filters, one after the other.
pub(crate) type Select<T, U> =
    Box<dyn for<'a> Fn(Given<'a, T>) -> Option<Given<'a, U>> + Send + Sync>;

/// A subscriber, whatever it makes of the events.
trait Sink<T>: Send + Sync {
    fn number(&self) -> u64;
    fn name(&self) -> &str;
    fn wants_own(&self) -> bool;
    /// Queues the event if it passes the filters. What is answered is to be awaited before the next event is offered.
    fn offer(self: Arc<Self>, given: Given<'_, T>, bytes: usize) -> Option<BoxFuture<'static, ()>>;
    fn lift(&self);
    fn close(&self);
}

struct Subscriber<T, U> {
    number: u64,
    wants_own: bool,
    inbox: Arc<Inbox<U>>,
    select: Select<T, U>,
}

impl<T, U: Send + 'static> Sink<T> for Subscriber<T, U> {
    fn number(&self) -> u64 {
        self.number
    }

    fn name(&self) -> &str {
        &self.inbox.name
    }

    fn wants_own(&self) -> bool {
        self.wants_own
    }

    fn offer(self: Arc<Self>, given: Given<'_, T>, bytes: usize) -> Option<BoxFuture<'static, ()>> {
        let event = (self.select)(given)?.into_owned();
        let event = self.inbox.put(event, bytes)?;
        let inbox = Arc::clone(&self.inbox);
        Some(Box::pin(async move {
            inbox.queue.push(event, bytes).await;
        }))
    }

    fn lift(&self) {
        self.inbox.queue.lift();
    }

    fn close(&self) {
        self.inbox.queue.close();
    }
}

/// A subscriber's queue, between the feed and its stream.
pub(crate) struct Inbox<U> {
    pub(crate) name: Arc<str>,
    pub(crate) queue: Queue<Event<U>>,
    overflow: Overflow,
    /// Events dropped in the running episode of overflow; 0: there is none.
    episode_events: AtomicU64,
    counters: Arc<Counters>,
    faults: Arc<Faults>,
}

impl<U> Inbox<U> {
    /// Queues an event, or gives it back if it must wait for room.
    fn put(&self, event: Event<U>, bytes: usize) -> Option<Event<U>> {
        let dropped = match self.queue.push_now(event, bytes, self.overflow) {
            Pushed::Queued | Pushed::Gone => return None,
            Pushed::Full(event) if self.overflow == Overflow::Wait => return Some(event),
            Pushed::Full(_) => 1,
            Pushed::Evicted { items } => items,
        };
        let counter = &self.counters.subscriber_dropped_events;
        counter.fetch_add(dropped, Relaxed);
        if self.episode_events.fetch_add(dropped, Relaxed) == 0 {
            self.faults.subscriber_overflow_began(&self.name);
        }
        None
    }

    /// To be called after an event was taken out: an episode ends when half of the queue is free.
    pub(crate) fn recover(&self) {
        if self.episode_events.load(Relaxed) == 0 || !self.queue.is_relaxed() {
            return;
        }
        let events = self.episode_events.swap(0, Relaxed);
        if events > 0 {
            self.faults.subscriber_overflow_ended(&self.name, events);
        }
    }
}

/// A feed that subscribers leave.
trait Remove: Send + Sync {
    fn remove(&self, keys: &[String], number: u64);
}

impl<T: Send + Sync + 'static> Remove for Feed<T> {
    fn remove(&self, keys: &[String], number: u64) {
        let mut removed = Targets::<T>::new();
        let mut subscribers = self.subscribers.lock();
        let take = |sinks: &mut Vec<Arc<dyn Sink<T>>>, removed: &mut Targets<T>| {
            if let Some(index) = sinks.iter().position(|sink| sink.number() == number) {
                removed.push(sinks.remove(index));
            }
        };
        if keys.is_empty() {
            take(&mut subscribers.keyless, &mut removed);
        }
        for key in keys {
            if let Some(sinks) = subscribers.by_key.get_mut(key) {
                take(sinks, &mut removed);
                if sinks.is_empty() {
                    subscribers.by_key.remove(key);
                }
            }
        }
        // The user's filters are dropped outside the lock.
        drop(subscribers);
    }
}

/// A place among a feed's subscribers, left when dropped. It keeps the feed.
pub(crate) struct Registration {
    feed: Arc<dyn Remove>,
    keys: Vec<String>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.feed.remove(&self.keys, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Poll, Waker};

    use futures_util::Stream as _;
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::Attributes;
    use crate::settings::Limits;
    use crate::subscription::{EventStream, Subscription};

    /// What a subscriber wants: any of these keys, if there are any; own events or not; multiples of a number.
    #[derive(Clone, Debug)]
    struct Wish {
        keys: Vec<String>,
        own: bool,
        multiples_of: u32,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(Wish),
        /// The subscriber with this number, modulo how many there are.
        Leave(usize),
        Arrive {
            number: u32,
            key: Option<String>,
            own: bool,
        },
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof!["a", "b", "c"].prop_map(String::from)
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = prop::collection::vec(key(), 0..3);
        let wish = (keys, any::<bool>(), 1_u32..4);
        let wish = wish.prop_map(|(keys, own, multiples_of)| Wish {
            keys,
            own,
            multiples_of,
        });
        let arrive = (0_u32..100, prop::option::of(key()), any::<bool>());
        prop_oneof![
            2 => wish.prop_map(Step::Subscribe),
            1 => any::<usize>().prop_map(Step::Leave),
            8 => arrive.prop_map(|(number, key, own)| Step::Arrive { number, key, own }),
        ]
    }

    fn envelope(number: u32, key: Option<&String>, own: bool) -> Envelope {
        let others = key.map(|key| (KEY.to_string(), key.clone()));
        Envelope {
            attributes: Attributes {
                others: others.into_iter().collect(),
                ..Attributes::default()
            },
            payload: number.to_string().into(),
            bytes: 1,
            own,
            is_identified: true,
        }
    }

    fn feed() -> Arc<Feed<u32>> {
        Arc::new(Feed::new(Arc::default(), Arc::default()))
    }

    fn read(stream: &mut EventStream<u32>) -> Vec<u32> {
        let mut context = std::task::Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(event)) =
            std::pin::Pin::new(&mut *stream).poll_next(&mut context)
        {
            read.push(event.data);
        }
        read
    }

    proptest! {
        #[test]
        fn each_gets_what_it_wished_and_nothing_else(steps in prop::collection::vec(step(), 0..60)) {
            let feed = feed();
            // Beside each stream, what it should yield.
            let mut subscribers: Vec<(Wish, EventStream<u32>, Vec<u32>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Subscribe(wish) => {
                        let multiples_of = wish.multiples_of;
                        let mut subscription = Subscription::new(Arc::clone(&feed), &Limits::default())
                            .filter(move |event| event.data.is_multiple_of(multiples_of));
                        for key in &wish.keys {
                            subscription = subscription.key(key);
                        }
                        if !wish.own {
                            subscription = subscription.others_only();
                        }
                        subscribers.push((wish, subscription.start(), Vec::new()));
                    }
                    Step::Leave(_) if subscribers.is_empty() => {}
                    Step::Leave(index) => {
                        let index = index % subscribers.len();
                        let (_, mut stream, expected) = subscribers.swap_remove(index);
                        prop_assert_eq!(read(&mut stream), expected);
                    }
                    Step::Arrive { number, key, own } => {
                        let mut is_wanted = false;
                        for (wish, _, expected) in &mut subscribers {
                            let has_key = wish.keys.is_empty() || key.as_ref().is_some_and(|key| wish.keys.contains(key));
                            if has_key && (wish.own || !own) {
                                is_wanted = true;
                                expected.extend(number.is_multiple_of(wish.multiples_of).then_some(number));
                            }
                        }
                        let envelope = envelope(number, key.as_ref(), own);
                        prop_assert_eq!(feed.is_wanted(&envelope), is_wanted);
                        let mut waiting = Waiting::new();
                        let delivered = feed.deliver(envelope, &mut waiting);
                        let expected = if is_wanted { Delivered::Decoded } else { Delivered::Ignored };
                        prop_assert_eq!(delivered, expected);
                        prop_assert!(waiting.is_empty());
                    }
                }
            }
            for (_, mut stream, expected) in subscribers {
                prop_assert_eq!(read(&mut stream), expected);
            }
            let subscribers = feed.subscribers.lock();
            prop_assert!(subscribers.keyless.is_empty() && subscribers.by_key.is_empty(), "all have left");
        }
    }
}
