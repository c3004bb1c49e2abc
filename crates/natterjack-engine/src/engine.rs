//! What all sessions of one server share: identity, limits, accounts, the list of connections, counters.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use natterjack_wire::client::{self, ServerInfo};
use parking_lot::Mutex;

use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::auth::Authorization;
use crate::close_reason::CloseReason;
use crate::delivery::outbox::{Outbox, OutboxLimits};
use crate::delivery::transport::Transport;
use crate::delivery::worker::Worker;
use crate::limits::Limits;
use crate::session::client::ClientSession;

/// What an engine is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What clients are told of the server; the fields that differ by client are filled in for each.
    pub info: ServerInfo,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect.
    pub authorization: Authorization,
    /// Where all chance comes from: queue groups' choices, timers' jitter, hash seeds.
    pub seed: u64,
}

/// What the shell knows of a new connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Where it comes from; `None` inside the process.
    pub address: Option<SocketAddr>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages clients published.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages delivered to clients.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections closed because they could not keep up.
    pub slow_consumers: u64,
    /// Times a producer was held back because a consumer was behind.
    pub stalls: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) messages_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) slow_consumers: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        if count > 0 {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

struct Connection {
    outbox: Arc<Outbox>,
    peer: Peer,
}

/// One server's core.
pub struct Engine {
    pub(crate) limits: Limits,
    pub(crate) authorization: Authorization,
    pub(crate) counters: Counters,
    info: ServerInfo,
    global: Arc<Account>,
    connections: Mutex<HashMap<u64, Connection>>,
    connection_count: AtomicUsize,
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    lame_duck: AtomicBool,
}

impl Engine {
    /// A new engine without connections.
    #[must_use]
    pub fn new(mut settings: Settings) -> Arc<Self> {
        settings.info.max_payload = settings.limits.payload_bytes_max as i64;
        settings.info.auth_required = settings.authorization.is_required();
        Arc::new(Self {
            limits: settings.limits,
            authorization: settings.authorization,
            counters: Counters::default(),
            info: settings.info,
            global: Arc::new(Account::new(GLOBAL_ACCOUNT)),
            connections: Mutex::new(HashMap::new()),
            connection_count: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            lame_duck: AtomicBool::new(false),
        })
    }

    /// Buffers and caches for one thread.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker::new(self.seed())
    }

    /// Begins the session of a new connection; its INFO is written before this returns. A connection beyond
    /// the limit gets a session too, which tells it so and is closed already.
    #[must_use]
    pub fn open_client(
        self: &Arc<Self>,
        peer: Peer,
        transport: Arc<dyn Transport>,
        now: Instant,
    ) -> ClientSession {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let limits = OutboxLimits {
            pending_bytes_max: self.limits.pending_bytes_max,
            congested_bytes: self.limits.congested_bytes(),
        };
        let outbox = Arc::new(Outbox::new(id, limits, transport));
        Counters::add(&self.counters.connections, 1);
        let session = ClientSession::new(Arc::clone(self), Arc::clone(&outbox), peer, now);
        let is_full =
            self.connection_count.fetch_add(1, Ordering::Relaxed) >= self.limits.connections_max;
        self.connections
            .lock()
            .insert(id, Connection { outbox, peer });
        session.greet(is_full, now);
        session
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connection_count.load(Ordering::Relaxed)
    }

    /// How long a socket may take no byte.
    #[must_use]
    pub fn write_deadline(&self) -> Duration {
        self.limits.write_deadline
    }

    /// The account of clients that were not put into another.
    #[must_use]
    pub fn global_account(&self) -> &Arc<Account> {
        &self.global
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            messages_in: load(&self.counters.messages_in),
            bytes_in: load(&self.counters.bytes_in),
            messages_out: load(&self.counters.messages_out),
            bytes_out: load(&self.counters.bytes_out),
            connections: load(&self.counters.connections),
            slow_consumers: load(&self.counters.slow_consumers),
            stalls: load(&self.counters.stalls),
        }
    }

    /// Tells every client that listens that this server is about to go (client protocol, section 10), and
    /// from now on every new one.
    pub fn announce_lame_duck(&self, now: Instant) {
        if self.lame_duck.swap(true, Ordering::Relaxed) {
            return;
        }
        let told: Vec<(Arc<Outbox>, Peer)> = {
            let connections = self.connections.lock();
            let listening = connections
                .values()
                .filter(|open| open.outbox.accepts_info());
            listening
                .map(|open| (Arc::clone(&open.outbox), open.peer))
                .collect()
        };
        for (outbox, peer) in told {
            let mut text = Vec::new();
            client::info(&mut text, &self.info(outbox.id(), peer));
            outbox.append(&text);
            outbox.flush(now);
        }
    }

    /// Connections that are open, by number; for a shell that closes them one by one.
    #[must_use]
    pub fn open_outboxes(&self) -> Vec<Arc<Outbox>> {
        let mut outboxes = self.outboxes();
        outboxes.retain(|outbox| outbox.status().closed.is_none());
        outboxes.sort_unstable_by_key(|outbox| outbox.id());
        outboxes
    }

    /// Has every connection's task look at its session again.
    pub fn wake_all(&self) {
        self.outboxes().iter().for_each(|outbox| outbox.wake());
    }

    /// Closes all connections.
    pub fn close_all(&self, reason: CloseReason) {
        for outbox in self.outboxes() {
            outbox.close(reason);
        }
    }

    /// INFO for one client.
    pub(crate) fn info(&self, client_id: u64, peer: Peer) -> ServerInfo {
        ServerInfo {
            client_id,
            client_ip: peer
                .address
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
            ldm: self.lame_duck.load(Ordering::Relaxed),
            ..self.info.clone()
        }
    }

    pub(crate) fn forget(&self, outbox: &Outbox) {
        if self.connections.lock().remove(&outbox.id()).is_some() {
            self.connection_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seeds.lock().u64(..)
    }

    fn outboxes(&self) -> Vec<Arc<Outbox>> {
        let connections = self.connections.lock();
        connections
            .values()
            .map(|open| Arc::clone(&open.outbox))
            .collect()
    }
}
