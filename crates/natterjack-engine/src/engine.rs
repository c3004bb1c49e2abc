//! What all sessions of one server share: identity, configuration, accounts, the list of connections, counters.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use natterjack_wire::client::{self, ServerInfo};
use natterjack_wire::error::ErrorReply;
use parking_lot::{Mutex, RwLock};

use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::auth::Authorization;
use crate::close_reason::CloseReason;
use crate::config::{Adaptation, Config, Reconfiguration};
use crate::delivery::outbox::Outbox;
use crate::delivery::transport::Transport;
use crate::delivery::worker::Worker;
use crate::limits::Limits;
use crate::monitor::closed::ClosedConnections;
use crate::monitor::connections::Connections;
use crate::monitor::counters::{ServerCounters, add, load};
use crate::monitor::record::Record;
use crate::monitor::{
    AccountSnapshot, ByKind, ClientFacts, ConnectionSnapshot, IndexCounters, Stop, Totals,
};
use crate::session::client::ClientSession;

/// What an engine is told at its start.
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

/// One server's core.
pub struct Engine {
    pub(crate) counters: ServerCounters,
    config: RwLock<Arc<Config>>,
    /// Of `config`, to be compared without its lock.
    generation: AtomicU64,
    /// Reconfigurations come one after another.
    reconfiguring: Mutex<()>,
    global: Arc<Account>,
    connections: Connections,
    closed: ClosedConnections,
    /// Of a client that has not said anything; shared by all of them.
    unknown_client: Arc<ClientFacts>,
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    lame_duck: AtomicBool,
}

impl Engine {
    /// A new engine without connections.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let Settings {
            info,
            limits,
            authorization,
            seed,
        } = settings;
        let global = Arc::new(Account::new(GLOBAL_ACCOUNT));
        let closed = ClosedConnections::new(limits.closed_connections_max);
        let config = Config::new(
            1,
            Reconfiguration {
                info,
                limits,
                authorization,
            },
        );
        Arc::new(Self {
            counters: ServerCounters::default(),
            generation: AtomicU64::new(config.generation),
            config: RwLock::new(Arc::new(config)),
            reconfiguring: Mutex::new(()),
            unknown_client: Arc::new(ClientFacts {
                account: Arc::clone(global.shared_name()),
                ..ClientFacts::default()
            }),
            global,
            connections: Connections::new(),
            closed,
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(fastrand::Rng::with_seed(seed)),
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
        let outbox = Arc::new(Outbox::new(id, self.config().outbox_limits(), transport));
        add(&self.counters.connections, 1);
        let client = Arc::clone(&self.unknown_client);
        let record = Arc::new(Record::new(outbox, peer, client, now));
        // In the list first: whoever reconfigures after the session took its configuration finds it there.
        let open_before = self.connections.insert(Arc::clone(&record));
        let config = self.config();
        let is_full = open_before >= config.limits.connections_max;
        let session = ClientSession::new(Arc::clone(self), config, record, now);
        session.greet(is_full, now);
        session
    }

    /// Replaces the configuration.
    ///
    /// New connections go by it at once; each open one changes over in its own task, which is woken, before its next
    /// batch. Connections beyond a lower `connections_max` are told so and closed, the latest first. The result
    /// is a future that waits for all to have changed over; it need not be awaited.
    pub fn reconfigure(&self, reconfiguration: Reconfiguration, now: Instant) -> Adaptation {
        let _one_after_another = self.reconfiguring.lock();
        let config = Arc::new(Config::new(self.generation() + 1, reconfiguration));
        let (generation, connections_max) = (config.generation, config.limits.connections_max);
        self.closed.set_max(config.limits.closed_connections_max);
        *self.config.write() = config;
        self.generation.store(generation, Ordering::Relaxed);
        let mut outboxes = self.open_outboxes();
        let surplus = outboxes.split_off(connections_max.min(outboxes.len()));
        for outbox in surplus.iter().rev() {
            let mut text = Vec::new();
            client::error(&mut text, &ErrorReply::ConnectionsExceeded);
            outbox.append(&text);
            outbox.flush(now);
            outbox.close(CloseReason::ConnectionsExceeded);
        }
        outboxes.iter().for_each(|outbox| outbox.wake());
        Adaptation::new(generation, outboxes)
    }

    /// The configuration in force, to be changed and given to [`reconfigure`](Self::reconfigure).
    #[must_use]
    pub fn configuration(&self) -> Reconfiguration {
        let config = self.config();
        Reconfiguration {
            info: config.info.clone(),
            limits: config.limits.clone(),
            authorization: config.authorization.clone(),
        }
    }

    /// Whether every open session goes by this configuration or a later one. Linear in the connections; to
    /// wait for it, await the [`Adaptation`].
    #[must_use]
    pub fn is_adapted(&self, generation: u64) -> bool {
        self.connections
            .iter()
            .all(|open| open.outbox().is_adapted(generation))
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How long a socket may take no byte.
    #[must_use]
    pub fn write_deadline(&self) -> Duration {
        self.config().limits.write_deadline
    }

    /// The account of clients that were not put into another.
    #[must_use]
    pub fn global_account(&self) -> &Arc<Account> {
        &self.global
    }

    /// All accounts, the global one first.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        vec![Arc::clone(&self.global)]
    }

    /// What is known of each account.
    #[must_use]
    pub fn account_snapshots(&self) -> Vec<AccountSnapshot> {
        self.accounts()
            .iter()
            .map(|account| account.snapshot())
            .collect()
    }

    /// How the indexes of all accounts together are used.
    #[must_use]
    pub fn index_counters(&self) -> IndexCounters {
        self.account_snapshots()
            .iter()
            .fold(IndexCounters::default(), |sum, account| {
                sum.plus(&account.index)
            })
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let slow_consumers = load(&self.counters.slow_consumers);
        let stale_connections = load(&self.counters.stale_connections);
        let mut totals = Totals {
            connections: load(&self.counters.connections),
            slow_consumers,
            slow_consumers_by_kind: ByKind::of_clients(slow_consumers),
            stale_connections,
            stale_connections_by_kind: ByKind::of_clients(stale_connections),
            stalls: load(&self.counters.stalls),
            messages_dropped: load(&self.counters.messages_dropped),
            ..Totals::default()
        };
        for account in self.accounts() {
            totals.messages_in += load(&account.counters.messages_in);
            totals.bytes_in += load(&account.counters.bytes_in);
            totals.messages_out += load(&account.counters.messages_out);
            totals.bytes_out += load(&account.counters.bytes_out);
        }
        totals
    }

    /// The open connections one after another, in no particular order. Each is copied when the iterator comes to
    /// it; references to one part in 64 of them are taken at a time.
    pub fn connection_snapshots(&self) -> impl Iterator<Item = ConnectionSnapshot> {
        self.connections.iter().map(|open| open.snapshot(None))
    }

    /// One open connection.
    #[must_use]
    pub fn connection_snapshot(&self, id: u64) -> Option<ConnectionSnapshot> {
        self.connections.find(id).map(|open| open.snapshot(None))
    }

    /// The connections that ended last, as many as `closed_connections_max` says, the latest last.
    #[must_use]
    pub fn closed_connection_snapshots(&self) -> Vec<ConnectionSnapshot> {
        self.closed.list()
    }

    /// How many of them there are.
    #[must_use]
    pub fn closed_connections(&self) -> usize {
        self.closed.len()
    }

    /// Closes one connection. Returns whether it was there.
    pub fn close_connection(&self, id: u64, reason: CloseReason) -> bool {
        let found = self.connections.find(id);
        found.is_some_and(|open| {
            let was_open = open.outbox().status().closed.is_none();
            open.outbox().close(reason);
            was_open
        })
    }

    /// Tells every client that listens that this server is about to go (client protocol, section 10), and
    /// from now on every new one.
    pub fn announce_lame_duck(&self, now: Instant) {
        if self.lame_duck.swap(true, Ordering::Relaxed) {
            return;
        }
        let config = self.config();
        for open in self.connections.iter() {
            let outbox = open.outbox();
            if outbox.accepts_info() {
                let mut text = Vec::new();
                let peer = Peer {
                    address: open.address(),
                };
                client::info(&mut text, &self.info(&config, outbox.id(), peer));
                outbox.append(&text);
                outbox.flush(now);
            }
        }
    }

    /// Connections that are open, by number; for a shell that closes them one by one.
    #[must_use]
    pub fn open_outboxes(&self) -> Vec<Arc<Outbox>> {
        let outboxes = self
            .connections
            .iter()
            .map(|open| Arc::clone(open.outbox()));
        let mut outboxes: Vec<_> = outboxes
            .filter(|outbox| outbox.status().closed.is_none())
            .collect();
        outboxes.sort_unstable_by_key(|outbox| outbox.id());
        outboxes
    }

    /// Has every connection's task look at its session again.
    pub fn wake_all(&self) {
        self.connections
            .iter()
            .for_each(|open| open.outbox().wake());
    }

    /// Closes all connections.
    pub fn close_all(&self, reason: CloseReason) {
        self.connections
            .iter()
            .for_each(|open| open.outbox().close(reason));
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// The number of the configuration in force, as far as this thread has heard.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// INFO for one client.
    pub(crate) fn info(&self, config: &Config, client_id: u64, peer: Peer) -> ServerInfo {
        // There is no wire to be tapped within a process.
        let has_wire = peer.address.is_some();
        ServerInfo {
            client_id,
            tls_required: config.info.tls_required && has_wire,
            tls_available: config.info.tls_available && has_wire,
            tls_verify: config.info.tls_verify && has_wire,
            client_ip: peer
                .address
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
            ldm: self.lame_duck.load(Ordering::Relaxed),
            ..config.info.clone()
        }
    }

    /// A connection has ended.
    pub(crate) fn forget(&self, record: &Record, at: Instant) {
        let id = record.outbox().id();
        if self.connections.remove(id).is_none() {
            return;
        }
        let Some(reason) = record.outbox().status().closed else {
            return;
        };
        self.closed.push(record.snapshot(Some(Stop { at, reason })));
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seeds.lock().u64(..)
    }
}
