//! When a peer is asked for a sign of life, and when it counts as gone (route protocol, sections 1 and 9). Unlike a client
//! it is asked however active it is, since the answer is also what tells the round trip.

use std::time::{Duration, Instant};

use crate::mesh::settings::ClusterLimits;

/// The first PING comes this late after the handshake at most, before jitter of 20%.
const FIRST_PING: Duration = Duration::from_secs(1);

/// How long a peer has from the first byte until it is let in, if nothing else is configured. Servers take milliseconds,
/// and a second or two on a busy machine.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long a peer that is doubted has to answer.
const DOUBT: Duration = Duration::from_secs(5);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a PING.
    Ping,
    /// Nothing was heard for too long.
    Stale,
}

#[derive(Debug)]
pub(super) struct RouteHeartbeat {
    started: Instant,
    due: Instant,
    /// The handshake is over.
    is_beating: bool,
    pinged: Option<Instant>,
    pings_outstanding: u32,
    doubted_until: Option<Instant>,
    round_trip: Option<Duration>,
    active: Instant,
}

impl RouteHeartbeat {
    /// A peer has [`HANDSHAKE_MAX`] for the handshake, but no longer than it has for answers later, and at any rate as
    /// long as it has to log in. nats-server leaves it the time for answers, which are 90 seconds by default.
    pub(super) fn new(limits: &ClusterLimits, now: Instant) -> Self {
        let answers = limits.ping_interval() * limits.pings_outstanding_max.saturating_add(1);
        let handshake = HANDSHAKE_MAX.min(answers).max(limits.auth_timeout);
        Self {
            started: now,
            due: now + handshake,
            is_beating: false,
            pinged: None,
            pings_outstanding: 0,
            doubted_until: None,
            round_trip: None,
            active: now,
        }
    }

    /// The handshake is over; `jitter` is a fraction.
    pub(super) fn start(&mut self, limits: &ClusterLimits, jitter: f64, now: Instant) {
        let delay = limits.ping_interval().min(FIRST_PING);
        self.is_beating = true;
        self.due = now + delay + delay.mul_f64(0.2 * jitter);
    }

    pub(super) fn due(&self) -> Instant {
        let doubted = self.doubted_until.filter(|_| self.is_beating);
        doubted.map_or(self.due, |until| until.min(self.due))
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(super) fn last_active(&self) -> Instant {
        self.active
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// How long ago the connection was made: an upper bound of the round trip until one is known.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Other limits hold. A shorter interval does so at once.
    pub(super) fn adapt(&mut self, limits: &ClusterLimits, now: Instant) {
        if self.is_beating {
            self.due = self.due.min(now + limits.ping_interval());
        }
    }

    /// The peer sent something of interest.
    pub(super) fn active(&mut self, now: Instant) {
        self.active = now;
    }

    /// A PING is sent. Only those that are due count, so that who is asked for other reasons, too, has as much time to answer.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged.get_or_insert(now);
    }

    pub(super) fn answered(&mut self, now: Instant) {
        self.pings_outstanding = 0;
        self.doubted_until = None;
        if let Some(pinged) = self.pinged.take() {
            self.round_trip = Some(now.saturating_duration_since(pinged));
        }
    }

    /// Somebody else says to be the peer: it has little time to answer.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_until.get_or_insert(now + DOUBT);
    }

    pub(super) fn beat(&mut self, limits: &ClusterLimits, now: Instant) -> Beat {
        let is_silent = self.doubted_until.is_some_and(|until| now >= until);
        if !self.is_beating || is_silent || self.pings_outstanding >= limits.pings_outstanding_max {
            return Beat::Stale;
        }
        self.due = now + limits.ping_interval();
        self.pings_outstanding += 1;
        Beat::Ping
    }
}
