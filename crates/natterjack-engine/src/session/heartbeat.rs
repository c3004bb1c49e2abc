//! When a quiet connection is asked for a sign of life, and when it counts as gone.
//!
//! Rules of client protocol, section 9: the first PING comes soon after CONNECT, to learn the round-trip time;
//! later ones only after an interval without messages, subscriptions or PINGs from the client.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// The first PING after CONNECT comes this late at most, before jitter.
const FIRST_PING: Duration = Duration::from_secs(2);

/// A round-trip time older than this is measured again.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(3600);

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The client was active; look again later.
    Rest,
    /// Send a PING.
    Ping,
    /// Too many PINGs went unanswered.
    Stale,
}

#[derive(Debug)]
pub(crate) struct Heartbeat {
    due: Instant,
    active: Instant,
    /// The last PING; before there was one, INFO.
    asked: Instant,
    has_pinged: bool,
    pings_outstanding: u32,
    round_trip: Option<Duration>,
}

impl Heartbeat {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            due: now + limits.ping_interval,
            active: now,
            asked: now,
            has_pinged: false,
            pings_outstanding: 0,
            round_trip: None,
        }
    }

    /// CONNECT came; `jitter` is a fraction of 20% by which the first PING is delayed, so that clients that
    /// come together are not pinged together.
    pub(crate) fn connected(&mut self, limits: &Limits, jitter: f64, now: Instant) {
        let delay = limits.ping_interval.min(FIRST_PING);
        self.due = now + delay + delay.mul_f64(0.2 * jitter);
    }

    /// CONNECT came, from whomever. How long it took is the first estimate of a round trip, since it answers INFO
    /// (nats-server `processConnect`).
    pub(crate) fn introduced(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.asked);
        self.round_trip.get_or_insert(since);
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn last_active(&self) -> Instant {
        self.active
    }

    /// Other limits hold. A shorter interval does so at once, a longer one from the next PING on.
    pub(crate) fn adapt(&mut self, limits: &Limits, now: Instant) {
        self.due = self.due.min(now + limits.ping_interval);
    }

    /// The client sent a message, a subscription or a PING.
    pub(crate) fn active(&mut self, now: Instant) {
        self.active = now;
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        self.pings_outstanding = 0;
        if self.has_pinged {
            self.round_trip = Some(now.saturating_duration_since(self.asked));
        }
    }

    /// Decides what to do at `now`, which is not before [`due`](Self::due).
    pub(crate) fn beat(&mut self, limits: &Limits, now: Instant) -> Beat {
        self.due = now + limits.ping_interval;
        let is_measured =
            self.has_pinged && self.round_trip.is_some() && now - self.asked <= ROUND_TRIP_AGE_MAX;
        if is_measured && now.saturating_duration_since(self.active) < limits.ping_interval {
            return Beat::Rest;
        }
        if self.pings_outstanding + 1 > limits.pings_outstanding_max {
            return Beat::Stale;
        }
        self.pings_outstanding += 1;
        self.asked = now;
        self.has_pinged = true;
        Beat::Ping
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            ping_interval: Duration::from_secs(1),
            ..Limits::default()
        }
    }

    #[test]
    fn a_silent_client_is_pinged_twice_and_then_stale() {
        let limits = limits();
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits, start);
        let mut beats = Vec::new();
        for second in 1..=3 {
            assert_eq!(heartbeat.due(), start + Duration::from_secs(second));
            beats.push(heartbeat.beat(&limits, heartbeat.due()));
        }
        assert_eq!(beats, [Beat::Ping, Beat::Ping, Beat::Stale]);
    }

    #[test]
    fn an_active_client_is_left_alone_once_its_round_trip_is_known() {
        let limits = limits();
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits, start);
        heartbeat.connected(&limits, 0.0, start);
        assert_eq!(
            heartbeat.beat(&limits, heartbeat.due()),
            Beat::Ping,
            "the round trip is an estimate"
        );
        heartbeat.answered(heartbeat.due());
        assert!(heartbeat.round_trip().is_some());
        heartbeat.active(heartbeat.due());
        let due = heartbeat.due();
        assert_eq!(heartbeat.beat(&limits, due), Beat::Rest);
        assert_eq!(
            heartbeat.beat(&limits, due + Duration::from_secs(2)),
            Beat::Ping
        );
        let later = due + Duration::from_secs(7200);
        heartbeat.answered(due);
        heartbeat.active(later);
        assert_eq!(
            heartbeat.beat(&limits, later),
            Beat::Ping,
            "round trip known but old"
        );
    }

    #[test]
    fn the_first_ping_is_early_and_jittered() {
        let limits = Limits::default();
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits, start);
        heartbeat.connected(&limits, 1.0, start);
        assert_eq!(heartbeat.due(), start + Duration::from_millis(2400));
    }

    #[test]
    fn the_time_until_connect_is_the_first_estimate_of_a_round_trip() {
        let limits = limits();
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits, start);
        assert_eq!(heartbeat.round_trip(), None);
        let came = start + Duration::from_millis(30);
        heartbeat.introduced(came);
        heartbeat.connected(&limits, 0.0, came);
        assert_eq!(heartbeat.round_trip(), Some(Duration::from_millis(30)));
        // Another CONNECT answers nothing.
        heartbeat.introduced(came + Duration::from_secs(9));
        assert_eq!(heartbeat.round_trip(), Some(Duration::from_millis(30)));
        let due = heartbeat.due();
        assert_eq!(heartbeat.beat(&limits, due), Beat::Ping);
        heartbeat.answered(due + Duration::from_millis(2));
        assert_eq!(heartbeat.round_trip(), Some(Duration::from_millis(2)));
    }
}
