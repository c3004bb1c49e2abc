//! How much of the processors pages may take, so that whoever asks for them in a loop cannot hurt delivery: what is over is
//! put off. What a page takes is measured and not guessed, since one of many connections takes a thousand times as long as
//! one of few.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::clock::now;

/// One part in so many of all processors' time goes to pages in the long run.
const SHARE: u32 = 20;

/// Before that, all pages together may take so much at once.
const BURST: Duration = Duration::from_millis(500);

/// What a request takes besides the making of its page, about.
pub(super) const REQUEST: Duration = Duration::from_micros(50);

pub(super) struct Pace {
    processors: u32,
    /// When all that was taken so far is paid for. The past if nothing is owed.
    paid_at: Mutex<Instant>,
    /// Who waits, one after another. There are no more than connections are served.
    waiting: tokio::sync::Mutex<()>,
}

impl Pace {
    pub(super) fn new(processors: usize, now: Instant) -> Self {
        Self {
            processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
            paid_at: Mutex::new(now),
            waiting: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until there may be another page.
    pub(super) async fn keep(&self) {
        let _turn = self.waiting.lock().await;
        let time = now();
        let wait = self.wait(time);
        if !wait.is_zero() {
            sleep_until((time + wait).into()).await;
        }
    }

    /// Something about pages took so much of a processor's time.
    pub(super) fn took(&self, time: Duration) {
        self.took_at(time, now());
    }

    fn wait(&self, now: Instant) -> Duration {
        let owed = self.paid_at.lock().saturating_duration_since(now);
        owed.saturating_sub(self.price(BURST))
    }

    fn took_at(&self, time: Duration, now: Instant) {
        let mut paid_at = self.paid_at.lock();
        *paid_at = (*paid_at).max(now) + self.price(time);
    }

    /// How long it takes until so much may be taken.
    fn price(&self, time: Duration) -> Duration {
        time * SHARE / self.processors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_take_their_share_and_no_more() {
        let begin = now();
        let pace = Pace::new(2, begin);
        let page = Duration::from_millis(20);
        let (mut at, mut pages) = (begin, 0_u32);
        while at < begin + Duration::from_secs(100) {
            at += pace.wait(at);
            pace.took_at(page, at);
            pages += 1;
        }
        // A twentieth of two processors for 100 seconds are 10 seconds of one, and what may be taken at once.
        let taken = Duration::from_millis(20) * pages;
        let share = Duration::from_secs(10) + BURST;
        assert!(
            taken >= share && taken < share + Duration::from_millis(50),
            "{taken:?}"
        );
    }

    #[test]
    fn a_pause_is_not_saved_up() {
        let begin = now();
        let pace = Pace::new(1, begin);
        let later = begin + Duration::from_secs(1000);
        for _ in 0..30 {
            assert_eq!(pace.wait(later), Duration::ZERO);
            pace.took_at(BURST / 30, later);
        }
        assert_eq!(pace.wait(later), Duration::ZERO);
        pace.took_at(Duration::from_millis(10), later);
        assert!(pace.wait(later) >= Duration::from_millis(190));
    }
}
