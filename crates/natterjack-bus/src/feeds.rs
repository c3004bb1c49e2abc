//! Which types of events this process knows, and which of its feeds an arriving event goes to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::fault::{Fault, Faults};
use crate::feed::{AnyFeed, Delivered, Feed, Waiting};
use crate::stats::{Counters, count};
use crate::transport::Arrival;

/// All feeds of a bus. A feed lives as long as somebody holds a handle or a stream of it.
pub(crate) struct Feeds {
    state: Mutex<State>,
    /// CloudEvents `type` of the first feed, as far as it is that of what we publish.
    main_kind: String,
    counters: Arc<Counters>,
    faults: Arc<Faults>,
}

struct State {
    /// The feed the bus was started with: it gets the events of its own type, and those that are nobody's.
    main: Weak<dyn AnyFeed>,
    /// The others, by CloudEvents `type`.
    by_kind: HashMap<Arc<str>, Vec<Weak<dyn AnyFeed>>>,
    is_lifted: bool,
    is_closed: bool,
}

/// Feeds of one event; more than these cost an allocation.
type Targets = SmallVec<[Arc<dyn AnyFeed>; 2]>;

impl Feeds {
    /// Starts with one feed.
    pub(crate) fn new<T>(
        main_kind: String,
        counters: Arc<Counters>,
        faults: Arc<Faults>,
    ) -> (Self, Arc<Feed<T>>)
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let main = Arc::new(Feed::<T>::new(Arc::clone(&counters), Arc::clone(&faults)));
        let weak = Arc::downgrade(&main);
        let feeds = Self {
            state: Mutex::new(State {
                main: weak,
                by_kind: HashMap::new(),
                is_lifted: false,
                is_closed: false,
            }),
            main_kind,
            counters,
            faults,
        };
        (feeds, main)
    }

    /// The feed of one type of events as values of `T`; a new one if there is none yet.
    pub(crate) fn feed<T>(&self, kind: &Arc<str>) -> Arc<Feed<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let mut state = self.state.lock();
        let State {
            by_kind,
            is_lifted,
            is_closed,
            ..
        } = &mut *state;
        let feeds = by_kind.entry(Arc::clone(kind)).or_default();
        feeds.retain(|feed| feed.strong_count() > 0);
        let known = feeds.iter().filter_map(Weak::upgrade);
        let mut known = known.filter_map(|feed| feed.into_any().downcast::<Feed<T>>().ok());
        if let Some(feed) = known.next() {
            return feed;
        }
        let (counters, faults) = (Arc::clone(&self.counters), Arc::clone(&self.faults));
        let feed = Arc::new(Feed::<T>::new(counters, faults));
        if *is_lifted {
            feed.lift();
        }
        if *is_closed {
            feed.close();
        }
        let weak = Arc::downgrade(&feed);
        feeds.push(weak);
        feed
    }

    /// Hands over what arrived.
    pub(crate) fn deliver(&self, arrival: Arrival) -> Waiting {
        let mut waiting = Waiting::new();
        let envelope = match arrival {
            Arrival::Event(envelope) => envelope,
            Arrival::Unreadable {
                id,
                origin,
                reason,
                payload,
            } => {
                count(&self.counters.undecodable_messages);
                self.faults.report(&Fault::Undecodable {
                    id,
                    origin,
                    kind: String::new(),
                    reason: Arc::new(reason),
                    payload,
                });
                return waiting;
            }
        };
        let is_own = envelope.own;
        let mut targets = self.targets(&envelope.attributes.kind);
        if targets.len() > 1 {
            targets.retain(|feed| feed.is_wanted(&envelope));
        }
        let mut outcomes = SmallVec::<[Delivered; 2]>::new();
        if let Some(last) = targets.pop() {
            for feed in targets {
                outcomes.push(feed.deliver(envelope.clone(), &mut waiting));
            }
            outcomes.push(last.deliver(envelope, &mut waiting));
        }
        if outcomes.contains(&Delivered::Undecodable) && !outcomes.contains(&Delivered::Decoded) {
            count(&self.counters.undecodable_messages);
            return waiting;
        }
        if !outcomes.contains(&Delivered::Decoded) {
            count(&self.counters.ignored_events);
        }
        count(&self.counters.received_events);
        if is_own {
            count(&self.counters.own_events);
        }
        waiting
    }

    fn targets(&self, kind: &str) -> Targets {
        let mut state = self.state.lock();
        let mut targets = Targets::new();
        if let Some(feeds) = state.by_kind.get_mut(kind) {
            targets.extend(feeds.iter().filter_map(Weak::upgrade));
            if targets.is_empty() {
                state.by_kind.remove(kind);
            }
        }
        if targets.is_empty() || kind == self.main_kind {
            targets.extend(state.main.upgrade());
        }
        targets
    }

    pub(crate) fn lift(&self) {
        self.state.lock().is_lifted = true;
        self.all().iter().for_each(|feed| feed.lift());
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.all().iter().for_each(|feed| feed.close());
    }

    fn all(&self) -> Vec<Arc<dyn AnyFeed>> {
        let state = self.state.lock();
        let others = state.by_kind.values().flatten();
        others
            .chain([&state.main])
            .filter_map(Weak::upgrade)
            .collect()
    }
}
