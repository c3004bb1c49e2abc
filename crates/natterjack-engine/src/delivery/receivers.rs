//! Who receives the messages of one subject.

use std::sync::Arc;

use natterjack_subject::{MatchSet, QueueGroup};

use super::subscription::Subscriber;

/// The subscriptions that match, and what delivery must know about them as a whole.
#[derive(Clone, Default)]
pub(crate) struct Receivers {
    set: MatchSet<Subscriber>,
    share_connections: bool,
}

impl Receivers {
    pub(crate) fn new(set: MatchSet<Subscriber>) -> Self {
        let share_connections = share_connections(&set);
        Self {
            set,
            share_connections,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(crate) fn plain(&self) -> impl Iterator<Item = &Subscriber> {
        self.set.plain()
    }

    pub(crate) fn plain_len(&self) -> usize {
        self.set.plain_len()
    }

    pub(crate) fn groups(&self) -> &[QueueGroup<Subscriber>] {
        self.set.groups()
    }

    pub(crate) fn are(&self, set: &MatchSet<Subscriber>) -> bool {
        self.set.same_as(set)
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.set.same_as(&other.set)
    }

    /// Whether two of them belong to one connection. Messages must then be delivered one by one: with several at
    /// once, one subscription would get them all before the other got the first, and the connection would see
    /// its publisher's messages out of order.
    pub(crate) fn share_connections(&self) -> bool {
        self.share_connections
    }
}

fn share_connections(set: &MatchSet<Subscriber>) -> bool {
    let members = set.groups().iter().flat_map(QueueGroup::members);
    let mut connections: smallvec::SmallVec<[usize; 16]> = set
        .plain()
        .chain(members)
        .map(|subscriber| Arc::as_ptr(subscriber.0.outbox()) as usize)
        .collect();
    connections.sort_unstable();
    connections.windows(2).any(|pair| pair[0] == pair[1])
}
