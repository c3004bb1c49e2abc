//! How a session waits for the consumers of what its peer sends.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::delivery::outbox::Outbox;
use crate::limits::{LARGE_MESSAGE_BYTES, LARGE_MESSAGES_READ_BYTES_MAX, READ_BYTES_MAX};

/// Consumers that are behind, and how much is read at once because of it.
pub(super) struct Stall {
    waiting: Option<Box<Waiting>>,
    /// Bytes to read at once: fewer while consumers are behind, so that each wait for them counts for more.
    read_bytes_max: u32,
    /// Bytes to read at once while nobody is behind.
    unhindered_read_bytes: u32,
}

struct Waiting {
    on: Vec<Arc<Outbox>>,
    until: Instant,
}

impl Default for Stall {
    fn default() -> Self {
        Self {
            waiting: None,
            read_bytes_max: in_u32(READ_BYTES_MAX),
            unhindered_read_bytes: in_u32(READ_BYTES_MAX),
        }
    }
}

impl Stall {
    pub(super) fn read_bytes_max(&self) -> usize {
        self.read_bytes_max as usize
    }

    /// When the wait ends in any case.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        (self.waiting.as_ref()).map(|waiting| waiting.until)
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
    }

    /// Judges how much is worth reading at once by what came in the batch that is over. `large_read_bytes` are for
    /// large messages.
    pub(super) fn size_up(&mut self, messages: u64, bytes: u64, large_read_bytes: usize) {
        let Some(average) = bytes.checked_div(messages) else {
            return;
        };
        self.unhindered_read_bytes = in_u32(if average >= LARGE_MESSAGE_BYTES {
            large_read_bytes
        } else {
            READ_BYTES_MAX
        });
    }

    /// A batch is over that left these consumers behind. They are waited for no longer than `wait_max`.
    pub(super) fn end_batch(
        &mut self,
        congested: Vec<Arc<Outbox>>,
        wait_max: Duration,
        now: Instant,
    ) {
        if congested.is_empty() {
            self.read_bytes_max = (self.read_bytes_max * 2).min(self.unhindered_read_bytes);
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
        self.read_bytes_max = in_u32(read_bytes);
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
                (self.read_bytes_max / 4).max(in_u32(slowed_read_bytes.min(READ_BYTES_MAX)));
        }
        waiting.on.retain(|outbox| outbox.wait_congested(waker));
        if waiting.on.is_empty() {
            self.waiting = None;
        }
        self.waiting.is_some()
    }
}

/// A session keeps these numbers for as long as it lives, so they are small ones.
const fn in_u32(read_bytes: usize) -> u32 {
    assert!(read_bytes <= LARGE_MESSAGES_READ_BYTES_MAX);
    read_bytes as u32
}

#[cfg(test)]
mod tests {
    use super::{READ_BYTES_MAX, Stall};
    use crate::limits::Limits;
    use std::time::{Duration, Instant};

    /// How much is read at once after each of these batches of messages and bytes.
    fn read_bytes_after(batches: &[(u64, u64)], large_read_bytes: usize) -> Vec<usize> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        let mut stall = Stall::default();
        (batches.iter())
            .map(|&(messages, bytes)| {
                stall.size_up(messages, bytes, large_read_bytes);
                stall.end_batch(Vec::new(), Duration::ZERO, now);
                stall.read_bytes_max()
            })
            .collect()
    }

    #[test]
    fn more_is_read_at_once_of_large_messages() {
        let mut limits = Limits::default();
        let (usual, large) = (READ_BYTES_MAX, limits.large_messages_read_bytes());
        assert!(large > usual);
        let batches = [
            (16, 16 * 1023),
            (16, 16 * 1024),
            // The rest of a subscription's line says nothing about messages.
            (0, 0),
            (1, 300_000),
            (10_000, 160_000),
            (1, 0),
        ];
        assert_eq!(
            read_bytes_after(&batches, large),
            [usual, large, large, large, usual, usual]
        );
        // Where a consumer may be behind by a megabyte, two such batches would be too much.
        limits.pending_bytes_max = 1024 * 1024;
        assert_eq!(limits.large_messages_read_bytes(), usual);
    }
}
