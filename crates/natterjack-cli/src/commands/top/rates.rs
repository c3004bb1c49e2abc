//! From counters to rates: what something did a second since it was last seen.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::words::between;

/// What has gone in and out of something, from the server's side: in is what the server received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Traffic {
    pub(super) in_msgs: u64,
    pub(super) out_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_bytes: u64,
}

/// The same a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    pub(super) in_msgs: f64,
    pub(super) out_msgs: f64,
    pub(super) in_bytes: f64,
    pub(super) out_bytes: f64,
}

/// When a page was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// By the server's clock, which knows nothing of how long the page was on its way, but may be set.
    pub(super) there: Option<Timestamp>,
    /// By ours, when it arrived.
    pub(super) here: Instant,
}

/// Counters as they were last seen, by whom they are of.
#[derive(Debug)]
pub(super) struct Meter<K> {
    readings: HashMap<K, Reading>,
    /// When all of them were last read.
    last: Option<Stamp>,
}

#[derive(Debug)]
struct Reading {
    at: Stamp,
    traffic: Traffic,
    rates: Option<Rates>,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.in_msgs = self.in_msgs.saturating_add(other.in_msgs);
        self.out_msgs = self.out_msgs.saturating_add(other.out_msgs);
        self.in_bytes = self.in_bytes.saturating_add(other.in_bytes);
        self.out_bytes = self.out_bytes.saturating_add(other.out_bytes);
    }
}

impl std::ops::AddAssign for Rates {
    fn add_assign(&mut self, other: Self) {
        self.in_msgs += other.in_msgs;
        self.out_msgs += other.out_msgs;
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
    }
}

impl Traffic {
    /// None if a counter went back: then it is another one.
    fn since(self, before: Self, time: Duration) -> Option<Rates> {
        let seconds = time.as_secs_f64();
        let rate = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / seconds);
        Some(Rates {
            in_msgs: rate(self.in_msgs, before.in_msgs)?,
            out_msgs: rate(self.out_msgs, before.out_msgs)?,
            in_bytes: rate(self.in_bytes, before.in_bytes)?,
            out_bytes: rate(self.out_bytes, before.out_bytes)?,
        })
    }
}

impl Stamp {
    /// The server's clock says how long it was, unless it was set meanwhile.
    fn since(self, before: Self) -> Duration {
        let here = self.here.saturating_duration_since(before.here);
        let (Some(now), Some(then)) = (self.there, before.there) else {
            return here;
        };
        let there = between(then, now);
        let slack = here / 2 + Duration::from_secs(1);
        if there.abs_diff(here) <= slack && !there.is_zero() {
            there
        } else {
            here
        }
    }
}

impl<K> Default for Meter<K> {
    fn default() -> Self {
        Self {
            readings: HashMap::new(),
            last: None,
        }
    }
}

impl<K: Eq + Hash + Clone> Meter<K> {
    /// Reads all counters there are, each with when it began to count, if that is known, and tells what each did a second;
    /// nothing of those seen for the first time, unless they began since the last time.
    pub(super) fn read(
        &mut self,
        at: Stamp,
        counters: impl IntoIterator<Item = (K, Traffic, Option<Timestamp>)>,
    ) -> HashMap<K, Rates> {
        let mut rates = HashMap::new();
        let mut seen = HashSet::new();
        for (key, traffic, began) in counters {
            if let Some(rate) = self.one(key.clone(), at, traffic, began) {
                rates.insert(key.clone(), rate);
            }
            seen.insert(key);
        }
        self.readings.retain(|key, _| seen.contains(key));
        self.last = Some(at);
        rates
    }

    fn one(
        &mut self,
        key: K,
        at: Stamp,
        traffic: Traffic,
        began: Option<Timestamp>,
    ) -> Option<Rates> {
        let rates = match self.readings.get(&key) {
            Some(before) => {
                let time = at.since(before.at);
                if time.is_zero() {
                    return before.rates;
                }
                traffic.since(before.traffic, time)
            }
            None => self.last.and_then(|last| {
                let is_new = began? > last.there?;
                let time = at.since(last);
                (is_new && !time.is_zero()).then(|| traffic.since(Traffic::default(), time))?
            }),
        };
        self.readings.insert(key, Reading { at, traffic, rates });
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(in_msgs: u64) -> Traffic {
        Traffic {
            in_msgs,
            ..Traffic::default()
        }
    }

    /// After so many milliseconds by our clock and by the server's.
    fn stamps() -> impl Fn(u64, i64) -> Stamp {
        #[expect(clippy::disallowed_methods, reason = "times have to start somewhere")]
        let begin = Instant::now();
        move |here, there| Stamp {
            there: Timestamp::from_millisecond(1_700_000_000_000 + there).ok(),
            here: begin + Duration::from_millis(here),
        }
    }

    fn one(meter: &mut Meter<u64>, at: Stamp, count: u64, began: Option<Timestamp>) -> Option<f64> {
        let rates = meter.read(at, [(1, traffic(count), began)]);
        rates.get(&1).map(|rates| rates.in_msgs)
    }

    #[test]
    fn the_servers_clock_counts_unless_it_was_set() {
        let at = stamps();
        let mut meter = Meter::default();
        assert_eq!(one(&mut meter, at(0, 0), 100, None), None);
        // The second page was 500 ms on its way.
        assert_eq!(one(&mut meter, at(1500, 1000), 200, None), Some(100.0));
        assert_eq!(one(&mut meter, at(2500, 3_600_000), 300, None), Some(100.0));
        assert_eq!(one(&mut meter, at(3500, 0), 500, None), Some(200.0));
        // The same page again.
        assert_eq!(one(&mut meter, at(3500, 0), 500, None), Some(200.0));
    }

    #[test]
    fn what_starts_anew_has_no_rate_at_first() {
        let at = stamps();
        let mut meter = Meter::default();
        one(&mut meter, at(0, 0), 100, None);
        assert_eq!(one(&mut meter, at(1000, 1000), 10, None), None);
        assert_eq!(one(&mut meter, at(2000, 2000), 30, None), Some(20.0));
    }

    #[test]
    fn what_began_since_has_one_at_once() {
        let at = stamps();
        let mut meter = Meter::default();
        meter.read(at(0, 0), [(2, traffic(5), None)]);
        let began = at(0, 500).there;
        assert_eq!(one(&mut meter, at(2000, 2000), 30, began), Some(15.0));
        let mut meter = Meter::default();
        meter.read(at(1000, 1000), [(2, traffic(5), None)]);
        assert_eq!(
            one(&mut meter, at(2000, 2000), 30, began),
            None,
            "was there"
        );
    }

    #[test]
    fn who_left_is_forgotten() {
        let at = stamps();
        let mut meter = Meter::default();
        one(&mut meter, at(0, 0), 100, None);
        assert!(meter.read(at(1000, 1000), []).is_empty());
        assert_eq!(one(&mut meter, at(2000, 2000), 200, None), None);
    }
}
