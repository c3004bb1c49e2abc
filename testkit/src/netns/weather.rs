//! What becomes of a packet: a decision by weather and chance, without clock or device.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// How a network behaves in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// The share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// How long each packet takes at least.
    pub delay: Duration,
    /// How much longer it may take; packets keep their order.
    pub jitter: Duration,
    /// The share of packets that are held back so that others overtake them, 0 to 1.
    pub reordering: f64,
    /// The share of packets that arrive twice, 0 to 1.
    pub duplication: f64,
}

impl Weather {
    /// Everything arrives, at once.
    pub const FAIR: Self = Self {
        loss: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        reordering: 0.0,
        duplication: 0.0,
    };

    /// Nothing arrives, and nobody is told.
    pub const DARK: Self = Self {
        loss: 1.0,
        ..Self::FAIR
    };
}

/// What became of a packet. One that was held back or doubled has arrived, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the other side.
    Arrived,
    /// By weather, or because a queue was full or nobody was there.
    Lost,
    /// Later ones were let before it.
    HeldBack,
    /// It goes twice.
    Doubled,
}

/// A packet that is held back is so for this much longer, at most; others overtake it if there are any so soon.
const HELD_BACK_MAX: Duration = Duration::from_millis(15);

/// A direction from one machine to another.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) weather: Weather,
    chance: Rng,
    /// When the last packet arrives that kept its place.
    last: Option<Instant>,
}

impl Direction {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            weather: Weather::FAIR,
            chance: Rng::with_seed(seed),
            last: None,
        }
    }

    /// When a packet sent now arrives, and whether it was held back; twice if it is doubled, and not at all if it is lost.
    pub(super) fn arrivals(
        &mut self,
        now: Instant,
    ) -> impl Iterator<Item = (Instant, Fate)> + use<> {
        let weather = self.weather;
        let count = if self.happens(weather.loss) {
            0
        } else {
            1 + usize::from(self.happens(weather.duplication))
        };
        let mut arrivals = [None; 2];
        for (number, arrival) in arrivals.iter_mut().enumerate().take(count) {
            let soonest = now + weather.delay + weather.jitter.mul_f64(self.chance.f64());
            *arrival = Some(if self.happens(weather.reordering) {
                (
                    soonest + HELD_BACK_MAX.mul_f64(self.chance.f64()),
                    Fate::HeldBack,
                )
            } else {
                let due = self.last.map_or(soonest, |last| last.max(soonest));
                self.last = Some(due);
                (
                    due,
                    if number == 0 {
                        Fate::Arrived
                    } else {
                        Fate::Doubled
                    },
                )
            });
        }
        arrivals.into_iter().flatten()
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.chance.f64() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a moment to count from; there is no other way to have one"
    )]
    fn sent(weather: Weather, count: u32) -> Vec<(Duration, Fate)> {
        let start = Instant::now();
        let mut direction = Direction::new(7);
        direction.weather = weather;
        (0..count)
            .flat_map(|number| direction.arrivals(start + Duration::from_millis(1) * number))
            .map(|(due, fate)| (due - start, fate))
            .collect()
    }

    #[test]
    fn fair_and_dark() {
        let due: Vec<_> = (0..5)
            .map(|number| (Duration::from_millis(number), Fate::Arrived))
            .collect();
        assert_eq!(sent(Weather::FAIR, 5), due);
        assert_eq!(sent(Weather::DARK, 100), []);
    }

    #[test]
    fn jitter_keeps_the_order_and_is_bounded() {
        let (delay, jitter) = (Duration::from_millis(3), Duration::from_millis(20));
        let arrivals = sent(
            Weather {
                delay,
                jitter,
                ..Weather::FAIR
            },
            1000,
        );
        assert_eq!(arrivals.len(), 1000);
        assert!(arrivals.is_sorted_by_key(|(due, _)| *due));
        for (number, (due, _)) in (0..).zip(arrivals) {
            let sent = Duration::from_millis(number);
            assert!(due >= sent + delay && due <= sent + delay + jitter);
        }
    }

    #[test]
    fn shares_are_what_they_say() {
        let weather = Weather {
            loss: 0.2,
            reordering: 0.1,
            duplication: 0.05,
            ..Weather::FAIR
        };
        let arrivals = sent(weather, 10_000);
        let count = |fate| arrivals.iter().filter(|(_, met)| *met == fate).count();
        let (in_place, doubled, held) = (
            count(Fate::Arrived),
            count(Fate::Doubled),
            count(Fate::HeldBack),
        );
        // 8,000 are not lost, 400 of them go twice; a tenth of all is held back.
        assert!((7_000..7_400).contains(&in_place), "{in_place}");
        assert!((300..420).contains(&doubled), "{doubled}");
        assert!((750..930).contains(&held), "{held}");
    }

    #[test]
    fn chance_repeats() {
        let weather = Weather {
            loss: 0.5,
            reordering: 0.5,
            ..Weather::FAIR
        };
        assert_eq!(sent(weather, 200), sent(weather, 200));
    }
}
