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

/// Lets so many events at once be logged, and in the long run one each so often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    at_once: u32,
    each: Duration,
    /// With what was logged until now, as much is used as there is until then.
    used_until: Option<Instant>,
    unlogged: u64,
}

impl Allowance {
    pub(crate) const fn new(at_once: u32, each: Duration) -> Self {
        Self {
            at_once,
            each,
            used_until: None,
            unlogged: 0,
        }
    }

    /// Counts one; if it is to be logged, returns how many were not since the last one.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        let used_until = self.used_until.map_or(now, |until| until.max(now));
        if used_until > now + self.each * self.at_once.saturating_sub(1) {
            self.unlogged += 1;
            return None;
        }
        self.used_until = Some(used_until + self.each);
        Some(std::mem::take(&mut self.unlogged))
    }

    /// From when on there is as much to be had as ever.
    pub(crate) fn used_until(&self) -> Option<Instant> {
        self.used_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_each_so_often() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let start = Instant::now();
        let mut allowance = Allowance::new(3, Duration::from_secs(5));
        let mut note = |millisecond| allowance.note(start + Duration::from_millis(millisecond));
        assert_eq!([(); 3].map(|()| note(0)), [Some(0); 3]);
        assert_eq!([0, 1, 4999].map(&mut note), [None; 3]);
        assert_eq!([5000, 5000].map(&mut note), [Some(3), None]);
        assert_eq!([11_000, 15_000].map(&mut note), [Some(1), Some(0)]);
        assert_eq!([15_000, 60_000].map(&mut note), [None, Some(1)]);
        assert_eq!([60_000; 3].map(&mut note), [Some(0), Some(0), None]);
    }

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
