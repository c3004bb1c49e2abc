//! How long to wait before servers are tried once more.
//!
//! Many clients lose their server in the same moment. That they wait differently long is what keeps them from coming back in
//! the same moment as well.

use std::ops::Range;
use std::time::Duration;

/// How far the pauses between rounds have grown.
#[derive(Clone, Debug)]
pub struct Backoff {
    step: fn(u32) -> Duration,
    jitter: Range<f64>,
    round: u32,
}

impl Backoff {
    /// `step` is the pause of a round, counted from 0; what is waited is that times a chance number out of `jitter`.
    #[must_use]
    pub const fn new(step: fn(u32) -> Duration, jitter: Range<f64>) -> Self {
        Self {
            step,
            jitter,
            round: 0,
        }
    }

    /// The wait that is due now.
    pub fn pause(&self, random: &mut fastrand::Rng) -> Duration {
        let Range { start, end } = self.jitter;
        (self.step)(self.round).mul_f64(start + random.f64() * (end - start))
    }

    /// A round over all servers was in vain.
    pub const fn failed(&mut self) {
        self.round = self.round.saturating_add(1);
    }

    /// There was a connection that was of use: pauses are as short as at first.
    pub const fn reset(&mut self) {
        self.round = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(round: u32) -> Duration {
        Duration::from_secs(u64::from(round.min(40)))
    }

    #[test]
    fn pauses_grow_with_failures_and_nobody_waits_as_long_as_the_others() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(step, 0.5..1.5);
        assert_eq!(backoff.pause(&mut random), Duration::ZERO);
        for _ in 0..40 {
            backoff.failed();
        }
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause(&mut random)).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(20) && *least < Duration::from_secs(21));
        assert!(*most < Duration::from_secs(60) && *most > Duration::from_secs(59));
        backoff.reset();
        assert_eq!(backoff.pause(&mut random), Duration::ZERO);
    }
}
