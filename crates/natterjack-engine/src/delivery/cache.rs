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

use foldhash::fast::FixedState;
use natterjack_subject::{MatchSet, Stamp};
use std::hash::BuildHasher;

use super::subscription::Subscriber;
use crate::account::Account;

/// Slots of the table; a power of two.
const SLOTS: usize = 4096;

/// Receivers of one subject.
struct Entry {
    account: u64,
    subject: Vec<u8>,
    stamp: Stamp,
    receivers: MatchSet<Subscriber>,
}

#[derive(Default)]
struct Slot {
    /// Hash of the subject seen last in this slot, whether or not it is the entry's.
    seen: u64,
    entry: Option<Entry>,
}

pub(crate) struct RouteCache {
    hasher: FixedState,
    slots: Box<[Slot]>,
}

impl RouteCache {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        }
    }

    /// Looks up the receivers of `subject`; `None` if they are `current`.
    pub(crate) fn route(
        &mut self,
        account: &Account,
        subject: &[u8],
        current: &MatchSet<Subscriber>,
    ) -> Option<MatchSet<Subscriber>> {
        let hash = self.hasher.hash_one(subject);
        let slot = &mut self.slots[hash as usize & (SLOTS - 1)];
        if slot.seen != hash {
            slot.seen = hash;
            return unless_same(account.index().matches(subject), current);
        }
        if let Some(entry) = &slot.entry
            && entry.subject == subject
            && entry.account == account.id()
            && account.index().is_current(&entry.stamp)
        {
            return (!entry.receivers.same_as(current)).then(|| entry.receivers.clone());
        }
        let (stamp, found) = account.index().look_up(subject);
        let mut subject_buffer = slot
            .entry
            .take()
            .map(|entry| entry.subject)
            .unwrap_or_default();
        subject_buffer.clear();
        subject_buffer.extend_from_slice(subject);
        slot.entry = Some(Entry {
            account: account.id(),
            subject: subject_buffer,
            stamp,
            receivers: found.clone(),
        });
        unless_same(found, current)
    }
}

fn unless_same(
    found: MatchSet<Subscriber>,
    current: &MatchSet<Subscriber>,
) -> Option<MatchSet<Subscriber>> {
    (!found.same_as(current)).then_some(found)
}
