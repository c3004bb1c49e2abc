//! Literal subjects and their subscribers: one step from a subject to whoever subscribed to exactly it.

use std::hash::Hash;

use foldhash::quality::RandomState;

use crate::key::{Key, hash_of};
use crate::slot::Slot;
use crate::split_table::SplitTable;

/// The subscribers of literal subjects.
#[derive(Debug)]
pub(crate) struct Literals<S>(SplitTable<Literal<S>>);

/// An old-style inbox, `_INBOX.` with 22 and 8 bytes, just fits in place, and the whole just fills a cache line.
#[derive(Debug)]
struct Literal<S> {
    subject: Key<38>,
    slot: Slot<S>,
}

const _: () = assert!(size_of::<Literal<usize>>() == 64);

impl<S> Literal<S> {
    fn hash(&self, hasher: &RandomState) -> u64 {
        self.subject.hash(|subject| hash_of(hasher, subject))
    }

    #[inline]
    fn is(&self, subject: &[u8]) -> bool {
        self.subject.as_bytes() == subject
    }
}

impl<S> Default for Literals<S> {
    fn default() -> Self {
        Self(SplitTable::default())
    }
}

impl<S> Literals<S> {
    /// The number of subjects with subscribers.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The subscribers of `subject`, whose `hash_of` is `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, subject: &[u8]) -> Option<&Slot<S>> {
        self.0
            .find(hash, |literal| literal.is(subject))
            .map(|literal| &literal.slot)
    }

    /// A bounded part of a walk over all subjects: see [`SplitTable::visit_part`].
    pub(crate) fn visit_part(
        &self,
        cursor: u32,
        hasher: &RandomState,
        mut visit: impl FnMut(&[u8], &Slot<S>),
    ) -> Option<u32> {
        self.0.visit_part(
            cursor,
            |literal| literal.hash(hasher),
            |literal| visit(literal.subject.as_bytes(), &literal.slot),
        )
    }
}

impl<S: Clone + Eq + Hash> Literals<S> {
    /// Returns whether the subscriber was added, which it is unless it was there already.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        subject: &[u8],
        queue: Option<&[u8]>,
        subscriber: S,
        hasher: &RandomState,
    ) -> bool {
        if let Some(literal) = self.0.find_mut(hash, |literal| literal.is(subject)) {
            return literal.slot.insert(queue, subscriber, hasher);
        }
        let mut literal = Literal {
            subject: Key::new(subject, hash),
            slot: Slot::default(),
        };
        literal.slot.insert(queue, subscriber, hasher);
        self.0
            .insert_unique(hash, literal, |literal| literal.hash(hasher));
        true
    }

    /// Returns whether the subscriber was there.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        subject: &[u8],
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &RandomState,
    ) -> bool {
        let Some(literal) = self.0.find_mut(hash, |literal| literal.is(subject)) else {
            return false;
        };
        let removed = literal.slot.remove(queue, subscriber, hasher);
        if literal.slot.is_empty() {
            let is_it = |literal: &Literal<S>| literal.is(subject);
            self.0.remove(hash, is_it, |literal| literal.hash(hasher));
        }
        removed
    }
}
