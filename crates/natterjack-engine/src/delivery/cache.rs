//! The receivers of the subjects a thread saw lately.
//!
//! A direct-mapped table, owned by one thread's [`Worker`](super::worker::Worker) and therefore free of locks,
//! and shared by all sessions the thread serves, so that an idle connection owns no cache. An entry is valid
//! as long as no subscription came or went that could concern its subject; the index's stamps tell, and an
//! inbox that comes or goes concerns nobody else.
//!
//! A subject enters the table only when it is seen a second time while its slot remembers it: a stream of ever
//! new subjects is looked up in the index directly and neither evicts the subjects that repeat nor pays
//! for being remembered.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use natterjack_subject::{MatchSet, QueueGroup, Stamp};

use super::receivers::Receivers;
use crate::account::Account;
use crate::monitor::counters::CacheUse;

/// Slots of the table; a power of two.
const SLOTS: usize = 4096;

/// Longer subjects are looked up each time: they are rare, and the table's memory must have a bound.
const SUBJECT_BYTES_MAX: usize = 256;

/// Slots looked at after each batch for entries that are out of date. An entry keeps its receivers in memory,
/// and those may be thousands of connections that are long gone.
const SWEPT_PER_BATCH: usize = 2;

/// Receivers of one subject.
struct Entry {
    account: Arc<Account>,
    subject: Vec<u8>,
    stamp: Stamp,
    peers_stamp: Stamp,
    receivers: Receivers,
}

impl Entry {
    fn is_current(&self) -> bool {
        self.account.index().is_current(&self.stamp)
            && self.account.remote().is_current(&self.peers_stamp)
            && self.account.passages.epoch() == self.receivers.epoch()
    }
}

pub(crate) struct RouteCache {
    hasher: FixedState,
    /// Hash of the subject seen last in each slot, whether or not it is the entry's.
    seen: Box<[u64]>,
    entries: Box<[Option<Box<Entry>>]>,
    swept: usize,
    cache_use: CacheUse,
}

impl RouteCache {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            seen: vec![0; SLOTS].into(),
            entries: std::iter::repeat_with(|| None).take(SLOTS).collect(),
            swept: 0,
            cache_use: CacheUse::default(),
        }
    }

    /// Looks up the receivers of `subject`; `None` if they are `current`.
    pub(crate) fn route(
        &mut self,
        account: &Arc<Account>,
        subject: &[u8],
        current: &Receivers,
    ) -> Option<Receivers> {
        let hash = self.hasher.hash_one(subject);
        let slot = hash as usize & (SLOTS - 1);
        if self.seen[slot] != hash || subject.len() > SUBJECT_BYTES_MAX {
            self.seen[slot] = hash;
            let epoch = account.passages.epoch();
            let found = account.index().matches(subject);
            let peers = account.remote().matches(subject);
            self.cache_use.missed(fanout(&found) + fanout(&peers));
            let is_current = current.are(&found, &peers, epoch);
            return (!is_current).then(|| Receivers::new(found, peers, epoch));
        }
        if let Some(entry) = &self.entries[slot]
            && entry.subject == subject
            && Arc::ptr_eq(&entry.account, account)
            && entry.is_current()
        {
            self.cache_use.hits += 1;
            return (!entry.receivers.same_as(current)).then(|| entry.receivers.clone());
        }
        let epoch = account.passages.epoch();
        let (stamp, found) = account.index().look_up(subject);
        let (peers_stamp, peers) = account.remote().look_up(subject);
        self.cache_use.missed(fanout(&found) + fanout(&peers));
        let found = if current.are(&found, &peers, epoch) {
            current.clone()
        } else {
            Receivers::new(found, peers, epoch)
        };
        match &mut self.entries[slot] {
            Some(entry) => {
                if !Arc::ptr_eq(&entry.account, account) {
                    entry.account.counters.cached_less();
                    account.counters.cached_more();
                    entry.account = Arc::clone(account);
                }
                entry.subject.clear();
                entry.subject.extend_from_slice(subject);
                entry.stamp = stamp;
                entry.peers_stamp = peers_stamp;
                entry.receivers = found.clone();
            }
            none => {
                account.counters.cached_more();
                *none = Some(Box::new(Entry {
                    account: Arc::clone(account),
                    subject: subject.to_vec(),
                    stamp,
                    peers_stamp,
                    receivers: found.clone(),
                }));
            }
        }
        (!found.same_as(current)).then_some(found)
    }

    /// The receivers of `subject`.
    pub(crate) fn find(&mut self, account: &Arc<Account>, subject: &[u8]) -> Receivers {
        self.route(account, subject, &Receivers::default())
            .unwrap_or_default()
    }

    /// Forgets some of the entries that are out of date; a call after each batch gets round to all.
    pub(crate) fn sweep(&mut self) {
        for _ in 0..SWEPT_PER_BATCH {
            self.swept = (self.swept + 1) % SLOTS;
            let entry = &mut self.entries[self.swept];
            if let Some(outdated) = entry.take_if(|entry| !entry.is_current()) {
                outdated.account.counters.cached_less();
            }
        }
    }

    /// How it was used since the last call.
    pub(crate) fn take_use(&mut self) -> CacheUse {
        std::mem::take(&mut self.cache_use)
    }
}

impl Drop for RouteCache {
    fn drop(&mut self) {
        for entry in self.entries.iter().flatten() {
            entry.account.counters.cached_less();
        }
    }
}

/// Subscriptions that are found, every member of a queue group counted.
fn fanout<S>(found: &MatchSet<S>) -> usize {
    let members: usize = found.groups().iter().map(QueueGroup::len).sum();
    found.plain_len() + members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::outbox::{Outbox, OutboxLimits};
    use crate::delivery::subscription::{Subscriber, Subscription};
    use crate::delivery::transport::Transport;

    struct Nowhere;

    impl Transport for Nowhere {
        fn try_write(&self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::WouldBlock.into())
        }

        fn wake(&self) {}
    }

    fn subscriber(subject: &[u8]) -> Subscriber {
        let limits = OutboxLimits {
            pending_bytes_max: 1,
            congested_bytes: 1,
            drop_bytes: usize::MAX,
            must_finish: false,
        };
        let outbox = Arc::new(Outbox::new(1, limits, Arc::new(Nowhere)));
        Subscriber(Arc::new(Subscription::new(outbox, b"1", subject, None)))
    }

    fn receivers(cache: &mut RouteCache, account: &Arc<Account>, subject: &[u8]) -> usize {
        let none = Receivers::default();
        cache
            .route(account, subject, &none)
            .map_or(0, |found| found.plain_len())
    }

    #[test]
    fn answers_follow_the_index_and_accounts_do_not_mix() {
        let (mine, other) = (Arc::new(Account::new("A")), Arc::new(Account::new("B")));
        let mut cache = RouteCache::new(1);
        let one = subscriber(b"a");
        for _ in 0..3 {
            assert_eq!(receivers(&mut cache, &mine, b"a"), 0);
        }
        mine.index()
            .insert(b"a", None, one.clone())
            .expect("a valid subject");
        for _ in 0..3 {
            assert_eq!(receivers(&mut cache, &mine, b"a"), 1);
            assert_eq!(receivers(&mut cache, &other, b"a"), 0);
        }
        mine.index().remove(b"a", None, &one);
        assert_eq!(receivers(&mut cache, &mine, b"a"), 0);
    }

    #[test]
    fn what_is_gone_is_forgotten_in_time() {
        let account = Arc::new(Account::new("A"));
        let mut cache = RouteCache::new(1);
        let one = subscriber(b"a");
        account
            .index()
            .insert(b"a", None, one.clone())
            .expect("a valid subject");
        for _ in 0..3 {
            assert_eq!(receivers(&mut cache, &account, b"a"), 1);
        }
        account.index().remove(b"a", None, &one);
        assert!(
            Arc::strong_count(&one.0) > 1,
            "the cache still refers to it"
        );
        for _ in 0..SLOTS / SWEPT_PER_BATCH {
            cache.sweep();
        }
        assert_eq!(Arc::strong_count(&one.0), 1);
    }
}
