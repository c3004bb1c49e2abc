//! One connection's interest in a subject, as the index and the delivery see it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smallvec::SmallVec;

use super::outbox::Outbox;
use crate::access::CompiledPermissions;

/// Most clients number their subscriptions, so an id rarely needs the heap.
pub(crate) type Sid = SmallVec<[u8; 16]>;

/// One subscription. The counters change only under its outbox's lock, which orders them with the messages
/// and replies that go out; they are atomics because publishers glance at them without the lock first.
pub(crate) struct Subscription {
    outbox: Arc<Outbox>,
    sid: Sid,
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    delivered: AtomicU64,
    /// Messages after which the subscription ends; 0 sets no end.
    max: AtomicU64,
    closed: AtomicBool,
    /// Whether messages must be looked at before they are delivered.
    restricted: AtomicBool,
}

impl Subscription {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        sid: &[u8],
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Self {
        Self {
            outbox,
            sid: Sid::from_slice(sid),
            subject: subject.into(),
            queue: queue.map(Into::into),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            restricted: AtomicBool::new(false),
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn sid(&self) -> &[u8] {
        &self.sid
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether a message can be expected to get through, as far as this thread has heard.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed() && !self.outbox.is_closed()
    }

    /// Whether its outbox's [`Restrictions`](super::restrictions::Restrictions) must be asked about each message.
    #[inline]
    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// Goes by these permissions from now on.
    pub(crate) fn restrict(&self, permissions: Option<&CompiledPermissions>) {
        let is_restricted = permissions.is_some_and(|rules| {
            rules.responses().is_some() || rules.must_filter(&self.subject, self.queue())
        });
        self.restricted.store(is_restricted, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Messages delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Ends the subscription after `max` messages in all. Returns `false` if that many were delivered already.
    pub(crate) fn limit(&self, max: u64) -> bool {
        self.max.store(max, Ordering::Relaxed);
        max > self.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn add_delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts up to `wanted` messages and returns how many the maximum still allows.
    pub(crate) fn take_remaining(&self, wanted: usize) -> usize {
        let (max, delivered) = (self.max(), self.delivered.load(Ordering::Relaxed));
        let taken = if max == 0 {
            wanted
        } else {
            wanted.min(usize::try_from(max.saturating_sub(delivered)).unwrap_or(usize::MAX))
        };
        self.add_delivered(taken as u64);
        taken
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        let max = self.max();
        max != 0 && self.delivered.load(Ordering::Relaxed) >= max
    }
}

/// A subscription in the index: the same one only if it is the very same object.
#[derive(Clone)]
pub(crate) struct Subscriber(pub(crate) Arc<Subscription>);

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subscriber {}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
