//! The connections that ended last.
//!
//! What is kept of each is a snapshot and who it was: about 200 bytes and its names, which are cut to a bound, and
//! its peer's certificates if it had any. With the default of 10,000 that is some 4 MB, reached only by as
//! many closings. Its subscriptions are kept as well, of all together [`SUBSCRIPTION_BYTES_MAX`]: what is over is
//! forgotten of those that ended first.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::snapshot::{ClientFacts, ConnectionSnapshot, EndedSubscription};

/// Bytes kept of each text a client chose. The names of 10,000 that mean harm are then 10 MB at most.
const TEXT_BYTES_MAX: usize = 256;

/// Bytes kept of all connections' subscriptions.
const SUBSCRIPTION_BYTES_MAX: usize = 16 << 20;

/// The same of one connection's: some two thousand subscriptions.
pub(crate) const SUBSCRIPTION_BYTES_OF_ONE_MAX: usize = 256 << 10;

/// Entries copied under one hold of the lock.
const CHUNK: usize = 256;

pub(crate) struct ClosedConnections(Mutex<Ring>);

struct Ring {
    entries: VecDeque<ConnectionSnapshot>,
    max: usize,
    /// Entries that were ever dropped from the front.
    dropped: u64,
    /// Bytes of subscriptions, and how many entries ever were before the first that may have some.
    subscription_bytes: usize,
    without: u64,
}

impl ClosedConnections {
    pub(crate) fn new(max: usize) -> Self {
        Self(Mutex::new(Ring {
            entries: VecDeque::new(),
            max,
            dropped: 0,
            subscription_bytes: 0,
            without: 0,
        }))
    }

    /// `ended`: subscriptions it had, no more than [`SUBSCRIPTION_BYTES_OF_ONE_MAX`].
    pub(crate) fn push(&self, mut entry: ConnectionSnapshot, ended: Vec<EndedSubscription>) {
        entry.client = shortened(entry.client);
        entry.pending_bytes = 0;
        let bytes: usize = ended.iter().map(EndedSubscription::bytes).sum();
        entry.ended = (bytes > 0).then(|| ended.into());
        let mut ring = self.0.lock();
        ring.subscription_bytes += bytes;
        ring.entries.push_back(entry);
        ring.trim();
    }

    /// How many are kept from now on.
    pub(crate) fn set_max(&self, max: usize) {
        let mut ring = self.0.lock();
        ring.max = max;
        ring.trim();
        ring.entries.shrink_to(max);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// All that are kept, the one that ended first coming first.
    pub(crate) fn list(&self) -> Vec<ConnectionSnapshot> {
        let mut found = Vec::new();
        let mut next = self.0.lock().dropped;
        loop {
            let ring = self.0.lock();
            let start = usize::try_from(next.saturating_sub(ring.dropped)).unwrap_or(usize::MAX);
            next = next.max(ring.dropped);
            let before = found.len();
            found.extend(ring.entries.iter().skip(start).take(CHUNK).cloned());
            next += (found.len() - before) as u64;
            // Bounded also if connections end faster than this goes on.
            if found.len() == before || found.len() >= ring.max.saturating_add(CHUNK) {
                return found;
            }
        }
    }
}

impl Ring {
    fn trim(&mut self) {
        while self.entries.len() > self.max {
            self.forget_subscriptions(0);
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.without = self.without.max(self.dropped);
        while self.subscription_bytes > SUBSCRIPTION_BYTES_MAX {
            let index = usize::try_from(self.without - self.dropped).unwrap_or(usize::MAX);
            if index >= self.entries.len() {
                return;
            }
            self.forget_subscriptions(index);
            self.without += 1;
        }
    }

    fn forget_subscriptions(&mut self, index: usize) {
        if let Some(ended) = self.entries[index].ended.take() {
            let bytes: usize = ended.iter().map(EndedSubscription::bytes).sum();
            self.subscription_bytes -= bytes;
        }
    }
}

fn shortened(facts: Arc<ClientFacts>) -> Arc<ClientFacts> {
    let user_bytes = facts.user.as_ref().map_or(0, |user| user.len());
    let texts = [
        facts.name.len(),
        facts.language.len(),
        facts.version.len(),
        user_bytes,
    ];
    if texts.iter().all(|&bytes| bytes <= TEXT_BYTES_MAX) {
        return facts;
    }
    Arc::new(ClientFacts {
        name: cut(&facts.name),
        language: cut(&facts.language),
        version: cut(&facts.version),
        account: Arc::clone(&facts.account),
        user: facts.user.as_deref().map(cut),
        tls: facts.tls.clone(),
    })
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::close_reason::CloseReason;
    use crate::monitor::{ConnectionKind, Stop};

    fn ended(id: u64) -> ConnectionSnapshot {
        let now = Instant::now();
        ConnectionSnapshot {
            id,
            kind: ConnectionKind::Client,
            address: None,
            client: Arc::default(),
            started: now,
            last_activity: now,
            stop: Some(Stop {
                at: now,
                reason: CloseReason::ClientClosed,
            }),
            round_trip: None,
            pending_bytes: 7,
            messages_in: 0,
            bytes_in: 0,
            messages_out: 0,
            bytes_out: 0,
            stalls: 0,
            subscriptions: 0,
            ended: None,
        }
    }

    fn ids(closed: &ClosedConnections) -> Vec<u64> {
        closed.list().iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_latest_are_listed_in_order_over_many_chunks() {
        let closed = ClosedConnections::new(3 * CHUNK + 1);
        (0..2000).for_each(|id| closed.push(ended(id), Vec::new()));
        let first = 2000 - (3 * CHUNK as u64 + 1);
        assert!(ids(&closed).into_iter().eq(first..2000));
        assert!(closed.list().iter().all(|entry| entry.pending_bytes == 0));
    }

    #[test]
    fn fewer_are_kept_when_fewer_are_wanted_and_none_at_all() {
        let closed = ClosedConnections::new(10);
        (0..10).for_each(|id| closed.push(ended(id), Vec::new()));
        closed.set_max(2);
        assert_eq!(ids(&closed), [8, 9]);
        closed.set_max(4);
        (10..13).for_each(|id| closed.push(ended(id), Vec::new()));
        assert_eq!(ids(&closed), [9, 10, 11, 12]);
        closed.set_max(0);
        closed.push(ended(13), Vec::new());
        assert_eq!((ids(&closed).len(), closed.len()), (0, 0));
    }

    #[test]
    fn a_list_taken_while_connections_end_is_in_order_and_repeats_none() {
        let closed = ClosedConnections::new(1000);
        std::thread::scope(|scope| {
            let writer =
                scope.spawn(|| (0..50_000).for_each(|id| closed.push(ended(id), Vec::new())));
            while !writer.is_finished() {
                let ids = ids(&closed);
                assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
            }
        });
        assert_eq!(ids(&closed).len(), 1000);
    }

    #[test]
    fn subscriptions_are_kept_as_far_as_there_is_room() {
        const COUNT: usize = 4;
        let closed = ClosedConnections::new(1000);
        let subscription = || EndedSubscription {
            subject: vec![b'x'; SUBSCRIPTION_BYTES_OF_ONE_MAX / COUNT - 200].into(),
            queue: None,
            sid: b"1".as_slice().into(),
            delivered: 3,
            max: None,
        };
        (0..200).for_each(|id| closed.push(ended(id), vec![subscription(); COUNT]));
        let counts: Vec<usize> = (closed.list().iter())
            .map(|entry| entry.ended_subscriptions().count())
            .collect();
        assert!(counts.is_sorted() && counts[0] == 0, "{counts:?}");
        let kept = counts.iter().filter(|count| **count == COUNT).count();
        assert!(kept >= SUBSCRIPTION_BYTES_MAX / SUBSCRIPTION_BYTES_OF_ONE_MAX);
        assert!(kept < 100, "{kept}");
        closed.set_max(2);
        let bytes = 2 * COUNT * subscription().bytes();
        assert_eq!(closed.0.lock().subscription_bytes, bytes);
        closed.set_max(0);
        assert_eq!(closed.0.lock().subscription_bytes, 0);
    }
}
