//! How many handshakes may begin per second.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts handshakes in windows of a second.
#[derive(Debug)]
pub(crate) struct Rate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window_end: Instant,
    begun: u64,
    refused: u64,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                window_end: now + WINDOW,
                begun: 0,
                refused: 0,
            }),
        }
    }

    /// Whether one more handshake may begin; `limit` 0 sets no bound. With the first of a new window comes the
    /// number refused in the windows before, for the log.
    pub(crate) fn admit(&self, limit: u64, now: Instant) -> (bool, Option<u64>) {
        if limit == 0 {
            return (true, None);
        }
        let mut state = self.state.lock();
        let mut refused_before = None;
        if now >= state.window_end {
            state.window_end = now + WINDOW;
            state.begun = 0;
            refused_before = Some(std::mem::take(&mut state.refused)).filter(|&count| count > 0);
        }
        let admitted = state.begun < limit;
        if admitted {
            state.begun += 1;
        } else {
            state.refused += 1;
        }
        (admitted, refused_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn each_window_admits_its_number_and_reports_the_refused_of_the_one_before() {
        let start = now();
        let rate = Rate::new(start);
        let admitted = |now| rate.admit(2, now).0;
        assert!(admitted(start) && admitted(start) && !admitted(start));
        assert_eq!(rate.admit(2, start + WINDOW), (true, Some(1)));
        assert_eq!(rate.admit(2, start + WINDOW), (true, None));
        assert_eq!(rate.admit(0, start + WINDOW), (true, None));
    }
}
