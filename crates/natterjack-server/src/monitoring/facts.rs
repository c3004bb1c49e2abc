//! What the pages are made from besides the engine's snapshots: who the server is, how it is configured, the time.
//! Plain data, collected anew for each page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use natterjack_engine::{RouteSnapshot, ServerInfo, Totals};
use parking_lot::Mutex;

use super::format::{Time, Uptime};
use crate::options::Options;

/// What a page needs to know of the server.
pub(crate) struct ServerFacts {
    /// What clients are told.
    pub(crate) info: ServerInfo,
    pub(crate) options: Arc<Options>,
    pub(crate) provenance: Provenance,
    /// When the certificate clients are shown ends to be valid.
    pub(crate) certificate_not_after: Option<SystemTime>,
    /// The same for the one that other servers are shown.
    pub(crate) route_certificate_not_after: Option<SystemTime>,
    /// Where routes are listened for; 0 if they are not.
    pub(crate) cluster_port: u16,
    /// Name of the system account.
    pub(crate) system_account: String,
    pub(crate) started: Instant,
    pub(crate) now: Instant,
    pub(crate) calendar: Calendar,
}

impl ServerFacts {
    pub(crate) fn time_of(&self, instant: Instant) -> Time {
        self.calendar.time_of(instant)
    }

    pub(super) fn since(&self, instant: Instant) -> Uptime {
        Uptime(self.now.saturating_duration_since(instant))
    }
}

/// Where the options come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// When they were read.
    pub(crate) loaded: SystemTime,
    /// Digest of the files; empty if they do not come from files.
    pub(crate) digest: String,
}

/// What a server is doing.
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Connections with other servers.
    pub(crate) routes: Vec<RouteSnapshot>,
    pub(crate) subscriptions: usize,
    pub(crate) totals: Totals,
    /// Requests by page.
    pub(crate) requests: BTreeMap<&'static str, u64>,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_percent: f64,
    pub(crate) cores: usize,
}

/// Tells what the calendar said at an [`Instant`].
///
/// A connection's beginning must look the same on every page, so both clocks are not compared each time; but they
/// are compared again, because the calendar may be set and a machine may sleep.
#[derive(Clone, Debug)]
pub(crate) struct Calendar(Vec<(Instant, SystemTime)>);

/// Differences up to this are the clocks' own.
const DRIFT_MAX: Duration = Duration::from_millis(100);

/// Changes of the calendar that are remembered.
const CHANGES_MAX: usize = 16;

impl Calendar {
    pub(super) fn new(now: Instant, time: SystemTime) -> Self {
        Self(vec![(now, time)])
    }

    /// Compares the clocks.
    pub(super) fn observe(&mut self, now: Instant, time: SystemTime) {
        let Time(expected) = self.time_of(now);
        let drift = time
            .duration_since(expected)
            .unwrap_or_else(|error| error.duration());
        if drift <= DRIFT_MAX {
            return;
        }
        if self.0.len() == CHANGES_MAX {
            self.0.remove(1);
        }
        self.0.push((now, time));
    }

    pub(crate) fn time_of(&self, instant: Instant) -> Time {
        let newest_first = self.0.iter().rev();
        let (known, time) = newest_first
            .copied()
            .find(|(known, _)| *known <= instant)
            .unwrap_or(self.0[0]);
        Time(match instant.checked_duration_since(known) {
            Some(later) => time + later,
            None => time - known.duration_since(instant),
        })
    }
}

/// A [`Calendar`] for all pages.
pub(super) struct SharedCalendar(Mutex<Calendar>);

impl SharedCalendar {
    pub(super) fn new(now: Instant, time: SystemTime) -> Self {
        Self(Mutex::new(Calendar::new(now, time)))
    }

    pub(super) fn observed(&self, now: Instant, time: SystemTime) -> Calendar {
        let mut calendar = self.0.lock();
        calendar.observe(now, time);
        calendar.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn times_stay_what_they_were() {
        let (start, epoch) = (now(), SystemTime::UNIX_EPOCH + 1_000_000 * SECOND);
        let mut calendar = Calendar::new(start, epoch);
        // The clocks were read one after the other, and drift.
        let later = start + 10 * SECOND;
        calendar.observe(later, epoch + 10 * SECOND + DRIFT_MAX / 2);
        assert_eq!(calendar.time_of(later), Time(epoch + 10 * SECOND));
        assert_eq!(calendar.time_of(start), Time(epoch));

        // The calendar is set, forwards and backwards.
        let forwards = start + 20 * SECOND;
        calendar.observe(forwards, epoch + 3600 * SECOND);
        assert_eq!(
            calendar.time_of(forwards + SECOND),
            Time(epoch + 3601 * SECOND)
        );
        let backwards = start + 30 * SECOND;
        calendar.observe(backwards, epoch);
        assert_eq!(calendar.time_of(backwards + SECOND), Time(epoch + SECOND));
        assert_eq!(calendar.time_of(later), Time(epoch + 10 * SECOND));
        assert_eq!(calendar.time_of(forwards), Time(epoch + 3600 * SECOND));
    }

    #[test]
    fn no_more_changes_are_kept_than_allowed() {
        let (start, epoch) = (now(), SystemTime::UNIX_EPOCH + 1_000_000 * SECOND);
        let mut calendar = Calendar::new(start, epoch);
        for change in 1..100 {
            calendar.observe(start + change * SECOND, epoch + change * 1000 * SECOND);
        }
        assert_eq!(calendar.0.len(), CHANGES_MAX);
        assert_eq!(calendar.time_of(start), Time(epoch));
        assert_eq!(
            calendar.time_of(start + 99 * SECOND),
            Time(epoch + 99_000 * SECOND)
        );
    }
}
