//! Counters over the hashes of subjects and prefixes: how often something changed there, and whether anything is there.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Places in a table of counters, a power of two. A change makes the cached answers of about 3 in 512 unrelated
/// subjects stale (each subject reads three counters of the table). A stale answer costs one look-up, so more places
/// would buy nothing that can be measured, and every account pays for them.
const PLACES: usize = 512;

/// What [`Index::stamp`](crate::Index::stamp) remembers: which counters a subject depends on, and their sum.
///
/// Counters only grow, so the sum is the same exactly as long as each of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    places: [u16; 3],
    sum: u64,
}

impl Stamp {
    /// The stamp of a subject by the hashes of what concerns it, before anything ever changed.
    #[inline]
    pub(crate) fn of_nothing(hashes: [u64; 3]) -> Self {
        Self {
            places: hashes.map(|hash| place(hash) as u16),
            sum: 0,
        }
    }

    /// Whether this is a stamp from before anything ever changed.
    pub(crate) fn is_of_nothing(&self) -> bool {
        self.sum == 0
    }
}

/// How often something changed.
#[derive(Debug)]
pub(crate) struct Changes {
    /// For patterns that begin with a wildcard: they concern every subject.
    everywhere: AtomicU64,
    places: [AtomicU64; PLACES],
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            everywhere: AtomicU64::new(0),
            places: [const { AtomicU64::new(0) }; PLACES],
        }
    }

    #[inline]
    pub(crate) fn stamp(&self, hashes: [u64; 3]) -> Stamp {
        let Stamp { places, .. } = Stamp::of_nothing(hashes);
        Stamp {
            places,
            sum: self.sum(places),
        }
    }

    #[inline]
    pub(crate) fn is_current(&self, stamp: &Stamp) -> bool {
        self.sum(stamp.places) == stamp.sum
    }

    /// Makes the stamps stale that depend on the literal subject or prefix of this hash.
    #[inline]
    pub(crate) fn changed(&self, hash: u64) {
        self.places[place(hash)].fetch_add(1, Ordering::Release);
    }

    /// Makes every stamp stale.
    #[inline]
    pub(crate) fn changed_everywhere(&self) {
        self.everywhere.fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn sum(&self, places: [u16; 3]) -> u64 {
        places
            .iter()
            .fold(self.everywhere.load(Ordering::Acquire), |sum, &place| {
                let count = self.places[usize::from(place) % PLACES].load(Ordering::Acquire);
                sum.wrapping_add(count)
            })
    }
}

/// How many subscriptions there are, by hash: a look-up takes no lock where there are none.
#[derive(Debug)]
pub(crate) struct Presence([AtomicU32; PLACES]);

impl Presence {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU32::new(0) }; PLACES])
    }

    /// Whether there may be a subscription of this hash. If not, there is none.
    #[inline]
    pub(crate) fn is_possible(&self, hash: u64) -> bool {
        self.0[place(hash)].load(Ordering::Acquire) != 0
    }

    #[inline]
    pub(crate) fn added(&self, hash: u64) {
        self.0[place(hash)].fetch_add(1, Ordering::Release);
    }

    #[inline]
    pub(crate) fn removed(&self, hash: u64) {
        self.0[place(hash)].fetch_sub(1, Ordering::Release);
    }
}

#[inline]
fn place(hash: u64) -> usize {
    (hash >> 44) as usize % PLACES
}

const _: () = assert!(PLACES.is_power_of_two() && PLACES <= 1 << 13);
