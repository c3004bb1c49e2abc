//! How a session waits for the consumers of what its peer sends.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::delivery::outbox::Outbox;
use crate::limits::READ_BUFFER_BYTES;

/// Consumers that are behind, and how much is read at once because of it.
pub(super) struct Stall {
    waiting: Option<Box<Waiting>>,
    /// Bytes to read at once: fewer while consumers are behind, so that each wait for them counts for more.
    read_bytes_max: usize,
}

struct Waiting {
    on: Vec<Arc<Outbox>>,
    until: Instant,
}

impl Default for Stall {
    fn default() -> Self {
        Self {
            waiting: None,
            read_bytes_max: READ_BUFFER_BYTES,
        }
    }
}

impl Stall {
    pub(super) fn read_bytes_max(&self) -> usize {
        self.read_bytes_max
    }

    /// When the wait ends in any case.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        (self.waiting.as_ref()).map(|waiting| waiting.until)
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
    }

    /// A batch is over that left these consumers behind. They are waited for no longer than `wait_max`.
    pub(super) fn end_batch(
        &mut self,
        congested: Vec<Arc<Outbox>>,
        wait_max: Duration,
        now: Instant,
    ) {
        if congested.is_empty() {
            self.read_bytes_max = (self.read_bytes_max * 2).min(READ_BUFFER_BYTES);
            return;
        }
        congested.iter().for_each(|outbox| outbox.count_stall());
        self.waiting = Some(Box::new(Waiting {
            on: congested,
            until: now + wait_max,
        }));
    }

    /// No more than this is read at once next time.
    pub(super) fn slow_down(&mut self, read_bytes: usize) {
        self.read_bytes_max = read_bytes;
    }

    /// Whether reading must wait. If so, `waker` is called when that changes. Once it has waited long enough, no less
    /// than `slowed_read_bytes` are read at once.
    pub(super) fn is_stalled(
        &mut self,
        slowed_read_bytes: usize,
        waker: &Waker,
        now: Instant,
    ) -> bool {
        let Some(waiting) = &mut self.waiting else {
            return false;
        };
        if now >= waiting.until {
            (waiting.on.iter()).for_each(|outbox| outbox.give_up_waiting(now));
            waiting.on.clear();
            self.read_bytes_max =
                (self.read_bytes_max / 4).max(slowed_read_bytes.min(READ_BUFFER_BYTES));
        }
        waiting.on.retain(|outbox| outbox.wait_congested(waker));
        if waiting.on.is_empty() {
            self.waiting = None;
        }
        self.waiting.is_some()
    }
}
