//! Operations that a client is not permitted: how many of them are logged, and how they slow the client down.
//!
//! Refusing costs the server more than serving: a log line, and a reply for every operation. A client that does nothing
//! else must not fill the disk, nor keep the others of its thread waiting.

use std::time::Instant;

use parking_lot::Mutex;

use crate::log_limit::LogLimit;

/// Refused operations in one batch above which a client is read from in small pieces.
const TOLERATED_PER_BATCH: u32 = 64;

/// The size of those pieces.
pub(super) const SLOWED_READ_BYTES: usize = 4 * 1024;

/// What a client was refused. Owns no memory for a client that behaves.
#[derive(Default)]
pub(super) struct Violations(Mutex<Option<Box<State>>>);

#[derive(Default)]
struct State {
    log: LogLimit,
    in_batch: u32,
}

impl Violations {
    /// Counts one. If it is to be logged, returns how many before it were not.
    pub(super) fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        let state = state.get_or_insert_default();
        state.in_batch = state.in_batch.saturating_add(1);
        state.log.note(now)
    }

    /// Whether there were many in the batch that ends.
    pub(super) fn end_batch(&self) -> bool {
        let mut state = self.0.lock();
        let in_batch = state
            .as_mut()
            .map_or(0, |state| std::mem::take(&mut state.in_batch));
        in_batch > TOLERATED_PER_BATCH
    }

    /// How many were not logged, for a last word.
    pub(super) fn take_unlogged(&self) -> u64 {
        let state = self.0.lock().take();
        state.map_or(0, |state| state.log.unlogged())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn some_are_logged_and_the_others_counted() {
        let violations = Violations::default();
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let logged = |now| {
            let noted = std::iter::repeat_with(|| violations.note(now));
            noted.take(100).flatten().collect::<Vec<_>>()
        };
        assert_eq!(logged(start), [0; 10]);
        assert!(logged(start + Duration::from_millis(999)).is_empty());
        assert_eq!(logged(start + Duration::from_secs(1))[..2], [190, 0]);
        assert!(violations.end_batch());
        assert!(!violations.end_batch());
        assert_eq!(violations.take_unlogged(), 90);
        assert_eq!(violations.take_unlogged(), 0);
    }
}
