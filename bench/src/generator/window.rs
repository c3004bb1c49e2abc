//! How far publishers may run ahead of receivers.
//!
//! Without it a fast publisher would have a server drop the receivers as slow consumers, and servers
//! would be compared by how much they lose. The limit is shared by all publishers and counts delivered
//! bytes, so one rule serves one receiver and five hundred.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::peer::PATIENCE;

#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    room: Condvar,
    ahead_bytes_max: u64,
}

#[derive(Debug, Default)]
struct State {
    sent_bytes: u64,
    received_bytes: u64,
    waiting: u32,
    /// When something arrived last, and the longest time in which nothing did.
    last: Option<Instant>,
    gap: Duration,
}

impl State {
    fn ahead_bytes(&self) -> u64 {
        self.sent_bytes.saturating_sub(self.received_bytes)
    }
}

impl Window {
    pub(super) fn new(ahead_bytes_max: u64) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            ahead_bytes_max,
        }
    }

    /// Waits until `bytes` more may be under way. A receiver that gets nothing for too long is an
    /// error: the server has lost messages, or is stuck.
    pub(super) fn reserve(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received_before = state.received_bytes;
        // A batch larger than the whole window goes out when nothing else is under way.
        while state.ahead_bytes() > 0 && state.ahead_bytes() + bytes > self.ahead_bytes_max {
            state.waiting += 1;
            let (woken, timeout) = self
                .room
                .wait_timeout(state, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.waiting -= 1;
            if timeout.timed_out() && state.received_bytes == received_before {
                bail!(
                    "the receivers have had nothing for {PATIENCE:?}: {} of {} bytes received",
                    state.received_bytes,
                    state.sent_bytes
                );
            }
            received_before = state.received_bytes;
        }
        state.sent_bytes += bytes;
        Ok(())
    }

    /// Bytes that have arrived so far.
    pub(super) fn received_bytes(&self) -> u64 {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .received_bytes
    }

    /// From now on the time counts in which nothing arrives.
    pub(super) fn restart(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Some(now);
        state.gap = Duration::ZERO;
    }

    /// The longest time in which nothing arrived.
    pub(super) fn gap(&self) -> Duration {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .gap
    }

    /// Notes what arrived. Publishers are woken when half the window is free, not for every read.
    pub(super) fn received(&self, bytes: u64, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = state.last.replace(now) {
            state.gap = state.gap.max(now.saturating_duration_since(last));
        }
        state.received_bytes += bytes;
        if state.waiting > 0 && state.ahead_bytes() <= self.ahead_bytes_max / 2 {
            self.room.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Window;
    use crate::clock;

    #[test]
    fn a_publisher_waits_for_room_and_no_longer() {
        let window = Window::new(100);
        window.reserve(60).unwrap();
        window.reserve(40).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| window.reserve(50));
            while window.state.lock().unwrap().waiting == 0 {
                std::thread::yield_now();
            }
            window.received(10, clock::now());
            assert!(!waiter.is_finished());
            window.received(40, clock::now());
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(window.state.lock().unwrap().ahead_bytes(), 100);
    }

    #[test]
    fn a_batch_larger_than_the_window_goes_alone() {
        let window = Window::new(10);
        window.reserve(1000).unwrap();
        window.received(1000, clock::now());
        window.reserve(1000).unwrap();
    }

    #[test]
    fn the_longest_time_without_an_arrival_is_told() {
        let window = Window::new(10);
        let start = clock::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        window.restart(start);
        for milliseconds in [5, 35, 40] {
            window.received(1, at(milliseconds));
        }
        assert_eq!(window.gap(), Duration::from_millis(30));
        window.restart(at(100));
        window.received(1, at(107));
        assert_eq!(window.gap(), Duration::from_millis(7));
    }
}
