//! The facts of each connection with another server, shared between its session, which writes them, and whoever wants to
//! know.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use natterjack_wire::client::ServerInfo;
use natterjack_wire::route::{Compression, SubjectPermission};
use parking_lot::Mutex;

use super::record::Noted;
use crate::engine::Engine;
use crate::mesh::roster::RouteConnection;

/// One connection with another server that takes part in the cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteSnapshot {
    /// The connection's number, unique in its server; later ones are higher.
    pub id: u64,
    /// Who is there, what was agreed on.
    pub facts: Arc<RouteFacts>,
    /// Whether this server keeps trying to be connected with that one, because it is configured so.
    pub is_explicit: bool,
    /// Where it comes from or goes to; `None` if there is no socket.
    pub address: Option<SocketAddr>,
    /// When either side last sent a message, or the peer changed its interest.
    pub last_activity: Instant,
    /// How long its last answer to a PING took, once there was one.
    pub round_trip: Option<Duration>,
    /// Bytes that wait to be written to it.
    pub pending_bytes: usize,
    /// Messages it sent.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages sent to it.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
    /// Interest that the peer has announced on it.
    pub interest: usize,
}

/// What is known of a connection from the moment it takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteFacts {
    /// The peer's id.
    pub peer_id: Arc<str>,
    /// What its operator calls it.
    pub peer_name: Box<str>,
    /// Whether this server dialled.
    pub is_dialled: bool,
    /// The one account it is for.
    pub account: Option<Arc<str>>,
    /// What the peer asks for of other servers' messages.
    pub import: Option<SubjectPermission>,
    /// What the peer lets other servers ask it for.
    pub export: Option<SubjectPermission>,
    /// How what is sent is compressed.
    pub compression: Compression,
    /// When the connection was made.
    pub started: Instant,
}

/// What a session writes. Only it stores to the atomics; readers may see the numbers of two different batches.
#[derive(Default)]
pub(crate) struct RouteRecord {
    /// `None` as long as the connection takes no part.
    facts: Mutex<Option<Arc<RouteFacts>>>,
    /// Of the last activity, in nanoseconds since it was made.
    active_after: AtomicU64,
    /// In nanoseconds; 0 is not known.
    round_trip: AtomicU64,
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    interest: AtomicU64,
}

impl RouteRecord {
    /// The connection takes part from now on, or something of this is different.
    pub(crate) fn describe(&self, facts: RouteFacts) {
        *self.facts.lock() = Some(Arc::new(facts));
    }

    /// It takes no part any more.
    pub(crate) fn end(&self) {
        *self.facts.lock() = None;
    }

    /// For the owning session alone. `started` is when the connection was made.
    pub(crate) fn note(&self, noted: Noted, started: Instant) {
        let store = |place: &AtomicU64, value: u64| place.store(value, Ordering::Relaxed);
        let active_after = noted.active.saturating_duration_since(started);
        store(&self.active_after, nanoseconds(active_after));
        let round_trip = noted.round_trip;
        store(
            &self.round_trip,
            round_trip.map_or(0, |time| nanoseconds(time).max(1)),
        );
        store(&self.messages_in, noted.messages_in);
        store(&self.bytes_in, noted.bytes_in);
        store(&self.interest, noted.subscriptions as u64);
    }
}

impl RouteConnection {
    /// Copies everything, if it takes part. Holds the outbox's lock for a few loads.
    fn snapshot(&self) -> Option<RouteSnapshot> {
        let record = self.record();
        let facts = record.facts.lock().clone()?;
        let load = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let outbound = self.outbox().facts();
        let active = facts.started + Duration::from_nanos(load(&record.active_after));
        Some(RouteSnapshot {
            id: self.id(),
            is_explicit: false,
            address: self.address(),
            last_activity: outbound.delivered_at.map_or(active, |at| at.max(active)),
            round_trip: Some(load(&record.round_trip))
                .filter(|&nanoseconds| nanoseconds > 0)
                .map(Duration::from_nanos),
            pending_bytes: outbound.pending_bytes,
            messages_in: load(&record.messages_in),
            bytes_in: load(&record.bytes_in),
            messages_out: outbound.messages_out,
            bytes_out: outbound.bytes_out,
            interest: usize::try_from(load(&record.interest)).unwrap_or(usize::MAX),
            facts,
        })
    }
}

impl Engine {
    /// What clients are told, all in all: with other servers' addresses, and the name that the cluster goes by.
    #[must_use]
    pub fn server_info(&self) -> ServerInfo {
        let info = self.config().info.clone();
        match self.cluster_name() {
            Some(name) => ServerInfo {
                cluster: name.to_string(),
                ..info
            },
            None => info,
        }
    }

    /// The name that the cluster goes by, if the server is in one. It may have been made up, and may change.
    #[must_use]
    pub fn cluster_name(&self) -> Option<Arc<str>> {
        self.mesh().map(|mesh| mesh.name().0)
    }

    /// The connections with other servers that take part in the cluster, by number. Linear in them.
    #[must_use]
    pub fn route_snapshots(&self) -> Vec<RouteSnapshot> {
        let Some(mesh) = self.mesh() else {
            return Vec::new();
        };
        let connections = mesh.connections();
        let mut routes: Vec<_> = connections
            .iter()
            .filter_map(|connection| connection.snapshot())
            .collect();
        for route in &mut routes {
            route.is_explicit = mesh.is_explicit(&route.facts.peer_id);
        }
        routes
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
