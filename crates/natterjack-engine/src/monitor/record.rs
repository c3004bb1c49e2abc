//! One connection's facts, shared between its session, which writes them, and whoever wants to know.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::snapshot::{ClientFacts, ConnectionKind, ConnectionSnapshot, Stop};
use crate::delivery::outbox::Outbox;

/// The facts of one open connection.
///
/// Only its session stores to the atomics, so they need no read-modify-write; readers may see the numbers of two
/// different batches.
pub(crate) struct Record {
    outbox: Arc<Outbox>,
    address: Option<SocketAddr>,
    started: Instant,
    /// Changed at CONNECT and when the server is reconfigured; shared with the snapshots.
    client: Mutex<Arc<ClientFacts>>,
    /// Of the last activity, in nanoseconds since `started`.
    active_after: AtomicU64,
    /// In nanoseconds; 0 is not known.
    round_trip: AtomicU64,
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    subscriptions: AtomicU32,
}

/// What a session notes at the end of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) active: Instant,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) subscriptions: usize,
}

impl Record {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        address: Option<SocketAddr>,
        client: Arc<ClientFacts>,
        now: Instant,
    ) -> Self {
        Self {
            outbox,
            address,
            started: now,
            client: Mutex::new(client),
            active_after: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            subscriptions: AtomicU32::new(0),
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn client(&self) -> Arc<ClientFacts> {
        Arc::clone(&self.client.lock())
    }

    pub(crate) fn change_client(&self, change: impl FnOnce(&ClientFacts) -> ClientFacts) {
        let mut client = self.client.lock();
        *client = Arc::new(change(&client));
    }

    /// For the owning session alone.
    pub(crate) fn note(&self, noted: Noted) {
        let active_after = noted.active.saturating_duration_since(self.started);
        let store = |place: &AtomicU64, value: u64| place.store(value, Ordering::Relaxed);
        store(&self.active_after, nanoseconds(active_after));
        store(
            &self.round_trip,
            noted.round_trip.map_or(0, |time| nanoseconds(time).max(1)),
        );
        store(&self.messages_in, noted.messages_in);
        store(&self.bytes_in, noted.bytes_in);
        let subscriptions = u32::try_from(noted.subscriptions).unwrap_or(u32::MAX);
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
    }

    /// Copies everything. Holds the outbox's lock for a few loads.
    pub(crate) fn snapshot(&self, stop: Option<Stop>) -> ConnectionSnapshot {
        let load = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let subscriptions = self.subscriptions.load(Ordering::Relaxed) as usize;
        let outbound = self.outbox.facts();
        let active = self.started + Duration::from_nanos(load(&self.active_after));
        ConnectionSnapshot {
            id: self.outbox.id(),
            kind: match self.address {
                Some(_) => ConnectionKind::Client,
                None => ConnectionKind::InProcess,
            },
            address: self.address,
            client: self.client(),
            started: self.started,
            last_activity: outbound.delivered_at.map_or(active, |at| at.max(active)),
            stop,
            round_trip: Some(load(&self.round_trip))
                .filter(|&nanoseconds| nanoseconds > 0)
                .map(Duration::from_nanos),
            pending_bytes: outbound.pending_bytes,
            messages_in: load(&self.messages_in),
            bytes_in: load(&self.bytes_in),
            messages_out: outbound.messages_out,
            bytes_out: outbound.bytes_out,
            stalls: outbound.stalls,
            // Those that got all they wanted are gone, even if their session has not run since.
            subscriptions: subscriptions.saturating_sub(outbound.finished),
            ended: None,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // Part of the 4 KiB an idle connection may take in all.
        assert!(size_of::<Record>() <= 128, "{}", size_of::<Record>());
    }
}
