//! Counters of change, and stamps that say which of them a subject depends on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters in a table, a power of two. A change makes the cached answers of about 3 in 1,024 unrelated subjects
/// stale (each subject reads three counters of the table), and a stale answer costs one look-up.
const COUNTERS: usize = 1024;

/// What [`Index::stamp`](crate::Index::stamp) remembers: which counters a subject depends on, and their sum.
///
/// Counters only grow, so the sum is the same exactly as long as each of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    places: [u16; 3],
    sum: u64,
}

impl Stamp {
    /// A stamp of counters that all stand at zero.
    pub(crate) fn of_nothing(places: [u16; 3]) -> Self {
        Self { places, sum: 0 }
    }

    /// Whether no counter has moved since zero.
    pub(crate) fn is_of_nothing(&self) -> bool {
        self.sum == 0
    }
}

/// The counters of one index.
#[derive(Debug)]
pub(crate) struct Counters {
    /// For patterns that begin with a wildcard: they concern every subject.
    everywhere: AtomicU64,
    table: Box<[AtomicU64; COUNTERS]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            everywhere: AtomicU64::new(0),
            table: Box::new([const { AtomicU64::new(0) }; COUNTERS]),
        }
    }

    /// The counter for a literal subject or prefix of this hash.
    #[inline]
    pub(crate) fn place(hash: u64) -> u16 {
        // Neither the bits hash tables use (lowest and highest) nor those that choose a shard.
        (hash >> 44) as u16 % COUNTERS as u16
    }

    #[inline]
    pub(crate) fn stamp(&self, places: [u16; 3]) -> Stamp {
        Stamp {
            places,
            sum: self.sum(places),
        }
    }

    #[inline]
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        self.sum(stamp.places) == stamp.sum
    }

    /// To be called after a change in the subscriptions to one literal subject or literal prefix.
    #[inline]
    pub(crate) fn changed(&self, place: u16) {
        self.table[usize::from(place)].fetch_add(1, Ordering::Release);
    }

    /// To be called after a change that concerns every subject.
    #[inline]
    pub(crate) fn changed_everywhere(&self) {
        self.everywhere.fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn sum(&self, places: [u16; 3]) -> u64 {
        let [one, two, three] =
            places.map(|place| self.table[usize::from(place) % COUNTERS].load(Ordering::Acquire));
        self.everywhere
            .load(Ordering::Acquire)
            .wrapping_add(one)
            .wrapping_add(two)
            .wrapping_add(three)
    }
}

const _: () = assert!(COUNTERS.is_power_of_two() && COUNTERS <= 1 << 16);
