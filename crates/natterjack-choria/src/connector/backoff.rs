//! How long a fleet's nodes wait before servers are tried once more, at first and after a loss.

use std::ops::Range;
use std::time::Duration;

use natterjack_link::Backoff;

/// Before a connection was there, from round to round (go-choria's steps).
const FIRST: [Duration; 10] = {
    let mut steps = [Duration::from_millis(750); 10];
    let mut index = 1;
    while index < steps.len() {
        steps[index] = Duration::from_millis(500 * (index as u64 + 1));
        index += 1;
    }
    steps
};

/// After one was lost: from half a second to twenty in this many steps.
const AGAIN_STEPS: u32 = 44;
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_LAST: Duration = Duration::from_secs(20);

/// A connection that lasted shorter was none: whoever takes us and lets us go at once must not be asked twice a second.
const LASTING_MIN: Duration = Duration::from_secs(30);

/// Half to one and a half of what the tables say.
const JITTER: Range<f64> = 0.5..1.5;

/// How far the pauses have grown.
#[derive(Clone, Debug)]
pub(super) struct Attempts {
    cause: Cause,
    /// A round is one that failed, or after a loss the loss itself.
    backoff: Backoff,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            cause: Cause::Start,
            backoff: Backoff::new(first_step, JITTER),
        }
    }
}

impl Attempts {
    pub(super) const fn cause(&self) -> Cause {
        self.cause
    }

    /// The wait before the next attempt.
    pub(super) fn pause(&self, random: &mut fastrand::Rng) -> Duration {
        self.backoff.pause(random)
    }

    /// A round over all servers was in vain.
    pub(super) const fn failed(&mut self) {
        self.backoff.failed();
    }

    /// There was a connection for so long.
    pub(super) fn lost_after(&mut self, lasted: Duration) {
        match self.cause {
            Cause::Loss if lasted < LASTING_MIN => self.backoff.failed(),
            Cause::Loss => self.backoff.reset(),
            Cause::Start => self.backoff = Backoff::new(again_step, JITTER),
        }
        self.cause = Cause::Loss;
    }
}

/// Why there are attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// There has been no connection yet.
    #[default]
    Start,
    /// There was one.
    Loss,
}

fn first_step(round: u32) -> Duration {
    let index = usize::try_from(round).unwrap_or(usize::MAX);
    FIRST[index.min(FIRST.len() - 1)]
}

fn again_step(round: u32) -> Duration {
    let steps = AGAIN_STEPS - 1;
    AGAIN_FIRST + (AGAIN_LAST - AGAIN_FIRST) * round.min(steps) / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_to_their_end() {
        let first: Vec<_> = (0..4)
            .map(|round| first_step(round).as_secs_f64())
            .collect();
        assert_eq!(first, [0.75, 1.0, 1.5, 2.0]);
        assert_eq!(first_step(u32::MAX).as_secs_f64(), 5.0);
        assert_eq!(again_step(0).as_secs_f64(), 0.5);
        assert_eq!(again_step(43).as_secs_f64(), 20.0);
        assert_eq!(again_step(u32::MAX).as_secs_f64(), 20.0);
        for step in [first_step, again_step] {
            assert!((0..50).all(|round| step(round) <= step(round + 1)));
        }
    }

    #[test]
    fn short_connections_do_not_shorten_the_pauses() {
        let check = |attempts: &Attempts, seconds: f64| {
            let mut random = fastrand::Rng::with_seed(7);
            let pauses: Vec<_> = (0..1_000)
                .map(|_| attempts.pause(&mut random).as_secs_f64() / seconds)
                .collect();
            assert!(pauses.iter().all(|part| JITTER.contains(part)), "{seconds}");
            assert!(
                pauses.iter().any(|part| *part > 1.49) && pauses.iter().any(|part| *part < 0.51)
            );
        };
        let mut attempts = Attempts::default();
        check(&attempts, 0.75);
        attempts.failed();
        check(&attempts, 1.0);
        let short = LASTING_MIN - Duration::from_millis(1);
        attempts.lost_after(short);
        assert_eq!(attempts.cause, Cause::Loss);
        check(&attempts, 0.5);
        attempts.lost_after(short);
        attempts.failed();
        attempts.lost_after(short);
        check(&attempts, again_step(3).as_secs_f64());
        attempts.lost_after(LASTING_MIN);
        check(&attempts, 0.5);
    }
}
