//! A bound on lines of the log that strangers can cause: what a client does wrong again and again must not fill a disk.

use std::time::{Duration, Instant};

/// Lines that are logged in one second.
const LOGGED_PER_SECOND: u64 = 10;

/// Lets some events of a kind be logged each second, and counts the others.
#[derive(Default)]
pub(crate) struct LogLimit {
    second: Option<Instant>,
    logged: u64,
    /// Since the last one that was logged.
    unlogged: u64,
}

impl LogLimit {
    /// Counts one; if it is to be logged, returns how many were not since the last one.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        let is_new = self
            .second
            .is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1));
        if is_new {
            self.second = Some(now);
            self.logged = 0;
        }
        if self.logged == LOGGED_PER_SECOND {
            self.unlogged += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.unlogged))
    }

    /// How many were not logged since the last one that was.
    pub(crate) fn unlogged(&self) -> u64 {
        self.unlogged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_are_logged() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let start = Instant::now();
        let mut log = LogLimit::default();
        for _ in 0..10 {
            assert_eq!(log.note(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(log.note(start), None);
        }
        assert_eq!(log.unlogged(), 7);
        let later = start + Duration::from_secs(1);
        assert_eq!((log.note(later), log.note(later)), (Some(7), Some(0)));
    }
}
