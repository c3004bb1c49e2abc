//! How long to wait before servers are tried once more.
//!
//! A fleet of thousands loses its server in the same moment. That they wait differently long is what keeps them from coming
//! back in the same moment as well.

use std::time::Duration;

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

/// How far the pauses have grown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    cause: Cause,
    round: u32,
}

impl Attempts {
    pub(super) const fn cause(&self) -> Cause {
        self.cause
    }

    /// The wait before the next attempt.
    pub(super) fn pause(&self, random: &mut fastrand::Rng) -> Duration {
        pause(self.cause, self.round, random)
    }

    /// A round over all servers was in vain.
    pub(super) const fn failed(&mut self) {
        self.round = self.round.saturating_add(1);
    }

    /// There was a connection for so long.
    pub(super) fn lost_after(&mut self, lasted: Duration) {
        self.round = match self.cause {
            Cause::Loss if lasted < LASTING_MIN => self.round.saturating_add(1),
            Cause::Loss | Cause::Start => 0,
        };
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

/// The wait before the next round, half to one and a half of what the table says. `round` counts from 0: it is the round
/// that failed, or after a loss the loss itself.
fn pause(cause: Cause, round: u32, random: &mut fastrand::Rng) -> Duration {
    step(cause, round).mul_f64(0.5 + random.f64())
}

fn step(cause: Cause, round: u32) -> Duration {
    match cause {
        Cause::Start => {
            let index = usize::try_from(round).unwrap_or(usize::MAX);
            FIRST[index.min(FIRST.len() - 1)]
        }
        Cause::Loss => {
            let steps = AGAIN_STEPS - 1;
            AGAIN_FIRST + (AGAIN_LAST - AGAIN_FIRST) * round.min(steps) / steps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_to_their_end() {
        let seconds = |cause, round| step(cause, round).as_secs_f64();
        let first: Vec<_> = (0..4).map(|round| seconds(Cause::Start, round)).collect();
        assert_eq!(first, [0.75, 1.0, 1.5, 2.0]);
        assert_eq!(seconds(Cause::Start, u32::MAX), 5.0);
        assert_eq!(seconds(Cause::Loss, 0), 0.5);
        assert_eq!(seconds(Cause::Loss, 43), 20.0);
        assert_eq!(seconds(Cause::Loss, u32::MAX), 20.0);
        for cause in [Cause::Start, Cause::Loss] {
            assert!((0..50).all(|round| step(cause, round) <= step(cause, round + 1)));
        }
    }

    #[test]
    fn short_connections_do_not_shorten_the_pauses() {
        let mut attempts = Attempts::default();
        attempts.failed();
        let short = LASTING_MIN - Duration::from_millis(1);
        attempts.lost_after(short);
        assert_eq!((attempts.cause, attempts.round), (Cause::Loss, 0));
        attempts.lost_after(short);
        attempts.failed();
        attempts.lost_after(short);
        assert_eq!(attempts.round, 3);
        attempts.lost_after(LASTING_MIN);
        assert_eq!(attempts.round, 0);
    }

    #[test]
    fn nobody_waits_as_long_as_the_others() {
        let mut random = fastrand::Rng::with_seed(7);
        let pauses: Vec<_> = (0..1_000)
            .map(|_| pause(Cause::Loss, 43, &mut random))
            .collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(10) && *least < Duration::from_secs(11));
        assert!(*most <= Duration::from_secs(30) && *most > Duration::from_secs(29));
    }
}
