//! What a node has seen, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since a node's start, in MCollective's terms as far as it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Messages that came.
    pub total: u64,
    /// Those that were proven to come from somebody who may ask.
    pub validated: u64,
    /// Those that were not: strangers', forged, repeated, damaged, or such as ask for answers to somebody else.
    pub unvalidated: u64,
    /// Proven ones that were too old, or from the future.
    pub out_of_date: u64,
    /// Proven ones for this node.
    pub passed: u64,
    /// Proven ones for other nodes.
    pub filtered: u64,
    /// Those for this node that could not be carried out at the time, since too many others were.
    pub refused_busy: u64,
    /// Answers given.
    pub replies: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) total: Counter,
    pub(super) validated: Counter,
    pub(super) unvalidated: Counter,
    pub(super) out_of_date: Counter,
    pub(super) passed: Counter,
    pub(super) filtered: Counter,
    pub(super) refused_busy: Counter,
    pub(super) replies: Counter,
}

/// A number that only grows. Nothing else is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> Statistics {
        Statistics {
            total: self.total.value(),
            validated: self.validated.value(),
            unvalidated: self.unvalidated.value(),
            out_of_date: self.out_of_date.value(),
            passed: self.passed.value(),
            filtered: self.filtered.value(),
            refused_busy: self.refused_busy.value(),
            replies: self.replies.value(),
        }
    }
}
