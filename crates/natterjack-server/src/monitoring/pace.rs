//! How much of the processors monitoring may take, so that whoever asks in a loop cannot hurt delivery: what is over is
//! put off. What a page takes is measured and not guessed, since one of many connections takes a thousand times as long as
//! one of few.
//!
//! What is put off keeps its kind waiting and no other: pages do not wait for strangers' handshakes and wrong tokens, nor
//! `/metrics` and whoever asks whether the server is well for pages ([`Paces`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::clock::now;

/// One part in so many of all processors' time goes to pages in the long run.
const SHARE_OF_PAGES: u32 = 20;

/// The same of `/healthz`: it takes next to nothing, but somebody may ask for it as fast as they can.
const SHARE_OF_HEALTH: u32 = 100;

/// The same of `/metrics`, which must not wait for pages.
const SHARE_OF_METRICS: u32 = 50;

/// The same of connections for which another one has to leave.
const SHARE_OF_NEWCOMERS: u32 = 10;

/// The same of people who are not known, or not yet: of their handshakes, of comparing tokens with a hash, and of refusals.
const SHARE_OF_STRANGERS: u32 = 50;

/// Before that, all of a kind together may take so much at once.
const BURST: Duration = Duration::from_millis(500);

/// What a request takes besides the making of its page, about.
pub(super) const REQUEST: Duration = Duration::from_micros(50);

/// What it takes to have one connection leave for another, about.
pub(super) const NEWCOMER: Duration = Duration::from_micros(50);

/// Whoever owes more is let off: nobody waits for longer because of what others took.
const DEBT_MAX: Duration = Duration::from_secs(10);

/// What each kind of asking may take.
pub(super) struct Paces {
    pub(super) pages: Arc<Pace>,
    pub(super) metrics: Arc<Pace>,
    pub(super) health: Arc<Pace>,
    pub(super) newcomers: Arc<Pace>,
    pub(super) handshakes: Arc<Pace>,
    pub(super) refusals: Arc<Pace>,
    pub(super) token_checks: Arc<Pace>,
}

impl Paces {
    pub(super) fn new(processors: usize, now: Instant) -> Self {
        let pace = |share| Arc::new(Pace::new(share, processors, now));
        Self {
            pages: pace(SHARE_OF_PAGES),
            metrics: pace(SHARE_OF_METRICS),
            health: pace(SHARE_OF_HEALTH),
            newcomers: pace(SHARE_OF_NEWCOMERS),
            handshakes: pace(SHARE_OF_STRANGERS),
            // These cost little, and there is nothing that they have to be soon for.
            refusals: pace(SHARE_OF_HEALTH),
            token_checks: pace(SHARE_OF_STRANGERS),
        }
    }
}

pub(super) struct Pace {
    /// How long after each moment of a processor's time there is to be another.
    share: u32,
    processors: u32,
    /// When all that was taken so far is paid for. The past if nothing is owed, and never further than [`DEBT_MAX`] from
    /// where it makes nobody wait.
    paid_at: Mutex<Instant>,
    /// Who waits, one after another. There are no more than connections are served.
    waiting: tokio::sync::Mutex<()>,
}

impl Pace {
    fn new(share: u32, processors: usize, now: Instant) -> Self {
        Self {
            share,
            processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
            paid_at: Mutex::new(now),
            waiting: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until there may be more.
    pub(super) async fn keep(&self) {
        let _turn = self.waiting.lock().await;
        let time = now();
        let wait = self.wait(time);
        if !wait.is_zero() {
            sleep_until((time + wait).into()).await;
        }
    }

    /// Whoever comes has to wait until what this returns is dropped.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.waiting.lock().await
    }

    /// Whether nothing is owed.
    #[cfg(test)]
    pub(super) fn is_paid(&self) -> bool {
        *self.paid_at.lock() <= now()
    }

    /// Something took so much of a processor's time.
    pub(super) fn took(&self, time: Duration) {
        self.took_at(time, now());
    }

    fn wait(&self, now: Instant) -> Duration {
        let owed = self.paid_at.lock().saturating_duration_since(now);
        owed.saturating_sub(self.price(BURST))
    }

    fn took_at(&self, time: Duration, now: Instant) {
        let mut paid_at = self.paid_at.lock();
        let owed = (*paid_at).max(now) + self.price(time);
        *paid_at = owed.min(now + self.price(BURST) + DEBT_MAX);
    }

    /// How long it takes until so much may be taken.
    fn price(&self, time: Duration) -> Duration {
        time.saturating_mul(self.share) / self.processors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_take_their_share_and_no_more() {
        let begin = now();
        let pace = Pace::new(SHARE_OF_PAGES, 2, begin);
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
        let pace = Pace::new(SHARE_OF_PAGES, 1, begin);
        let later = begin + Duration::from_secs(1000);
        for _ in 0..30 {
            assert_eq!(pace.wait(later), Duration::ZERO);
            pace.took_at(BURST / 30, later);
        }
        assert_eq!(pace.wait(later), Duration::ZERO);
        pace.took_at(Duration::from_millis(10), later);
        assert!(pace.wait(later) >= Duration::from_millis(190));
    }

    #[test]
    fn nobody_waits_without_end() {
        let begin = now();
        let pace = Pace::new(SHARE_OF_STRANGERS, 1, begin);
        for _ in 0..1000 {
            pace.took_at(Duration::from_secs(3600), begin);
        }
        assert_eq!(pace.wait(begin), DEBT_MAX);
        assert_eq!(pace.wait(begin + DEBT_MAX), Duration::ZERO);
    }
}
