//! What all sessions of one server share: identity, configuration, accounts, the list of connections, counters.

use core::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use natterjack_wire::client::{self, ServerInfo};
use natterjack_wire::error::ErrorReply;
use natterjack_wire::route::{self, RouteInfo};
use parking_lot::{Mutex, RwLock};

use crate::access::Access;
use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::close_reason::CloseReason;
use crate::config::{Adaptation, ClusterNews, Config, Reconfiguration};
use crate::delivery::outbox::Outbox;
use crate::delivery::segments::Segments;
use crate::delivery::transport::Transport;
use crate::delivery::worker::Worker;
use crate::exchange::RemoteMeasure;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::mesh::Mesh;
use crate::mesh::dial::DialId;
use crate::mesh::roster::RouteConnection;
use crate::mesh::settings::ClusterSettings;
use crate::monitor::EndedSubscription;
use crate::monitor::closed::ClosedConnections;
use crate::monitor::connections::Connections;
use crate::monitor::counters::{AllTraffic, ServerCounters, add, load};
use crate::monitor::departed::DepartedAccounts;
use crate::monitor::record::Record;
use crate::monitor::{
    AccountSnapshot, ClientFacts, ConnectionSnapshot, IndexCounters, Stop, Totals,
};
use crate::session::client::ClientSession;
use crate::session::complaints::Complaints;
use crate::session::route::{RouteSession, public_info};
use crate::system::{Report, Reports};

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What clients are told of the server; the fields that differ by client are filled in for each.
    pub info: ServerInfo,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect.
    pub access: Access,
    /// Where all chance comes from: queue groups' choices, timers' jitter, hash seeds.
    pub seed: u64,
    /// The cluster the server is in. With it go [`Engine::open_route`] and [`Engine::mesh`].
    pub cluster: Option<ClusterSettings>,
}

/// What the shell knows of a new connection with another server.
#[derive(Clone, Copy, Debug)]
pub struct RoutePeer {
    /// Where it comes from or goes to; `None` if there is no socket.
    pub address: Option<SocketAddr>,
    /// For INFO. Nobody signs it.
    pub nonce: Nonce,
    /// Who dialled.
    pub direction: Direction,
}

/// Who dialled a connection with another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The other one.
    Accepted,
    /// This one, because [`Mesh::poll_dials`] said so.
    Dialled(DialId),
}

/// What the shell knows of a new connection.
///
/// [`Default`] is a connection inside the process that has to log in like any other.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where it comes from; `None` inside the process.
    pub address: Option<SocketAddr>,
    /// What a user with a key has to sign. Without, no such user can come in.
    pub nonce: Nonce,
    /// Whether it has to log in.
    pub trust: Trust,
}

/// A text to be signed: new for each connection and not to be foreseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// Bytes of chance in it, as in nats-server's.
    pub const RANDOM_BYTES: usize = 11;
    const LEN: usize = 15;

    /// From bytes that nobody can foresee: the operating system's, never a seeded generator's.
    #[must_use]
    pub fn new(random: [u8; Self::RANDOM_BYTES]) -> Self {
        let mut text = [0; Self::LEN];
        data_encoding::BASE64URL_NOPAD.encode_mut(&random, &mut text);
        Self(text)
    }

    /// The text; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        let has_text = self.0[0] != 0;
        let text = if has_text { &self.0[..] } else { &[] };
        core::str::from_utf8(text).unwrap_or_default()
    }
}

/// Whether a connection has to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Like any other.
    #[default]
    None,
    /// It is the embedder's own, inside the process: it is this user without having to prove it, or somebody in the
    /// account `$G` who may do everything. What its CONNECT says does not count.
    Embedder(Option<Arc<str>>),
}

impl Trust {
    pub(crate) fn is_trusted(&self) -> bool {
        *self != Self::None
    }
}

/// One server's core.
pub struct Engine {
    pub(crate) counters: ServerCounters,
    pub(crate) reports: Reports,
    config: RwLock<Arc<Config>>,
    /// Of `config`, to be compared without its lock.
    generation: AtomicU64,
    /// Reconfigurations come one after another.
    reconfiguring: Mutex<()>,
    global: Arc<Account>,
    departed: DepartedAccounts,
    connections: Connections,
    closed: ClosedConnections,
    /// Of a client that has not said anything; shared by all of them.
    unknown_client: Arc<ClientFacts>,
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    mesh: Option<Arc<Mesh>>,
    lame_duck: AtomicBool,
    /// Where what waits for connections is kept.
    spare: Arc<Segments>,
    refusals: Mutex<LogLimit>,
    /// Of clients that are too many.
    surplus: Mutex<LogLimit>,
    /// Of those who have missed their port.
    pub(crate) complaints: Mutex<Complaints>,
    calendar: OnceLock<Calendar>,
    /// By which other servers know this one where they tell it what they have measured.
    short_name: OnceLock<Box<str>>,
}

/// Spells a point in time as a date.
type Calendar = Box<dyn Fn(Instant) -> String + Send + Sync>;

impl Engine {
    /// A new engine without connections.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let Settings {
            info,
            limits,
            access,
            seed,
            cluster,
        } = settings;
        let closed = ClosedConnections::new(limits.closed_connections_max);
        let config = Config::new(
            1,
            Reconfiguration {
                info,
                limits,
                access,
                cluster,
            },
            None,
            None,
        );
        let global = Arc::clone(&config.accounts[0]);
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mesh = config.cluster.as_ref().map(|cluster| {
            let own_id = &config.info.server_id;
            let system_account = config.directory.system_account();
            Arc::new(Mesh::new(own_id, cluster, system_account, seeds.u64(..)))
        });
        Arc::new(Self {
            counters: ServerCounters::default(),
            reports: Reports::default(),
            generation: AtomicU64::new(config.generation),
            config: RwLock::new(Arc::new(config)),
            reconfiguring: Mutex::new(()),
            unknown_client: Arc::new(ClientFacts {
                account: Arc::clone(global.shared_name()),
                ..ClientFacts::default()
            }),
            global,
            departed: DepartedAccounts::default(),
            connections: Connections::new(),
            closed,
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(seeds),
            mesh,
            lame_duck: AtomicBool::new(false),
            spare: Arc::default(),
            refusals: Mutex::new(LogLimit::default()),
            surplus: Mutex::new(LogLimit::default()),
            complaints: Mutex::default(),
            calendar: OnceLock::new(),
            short_name: OnceLock::new(),
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
        let outbox = Arc::new(
            Outbox::new(id, self.config().outbox_limits(), transport).sharing(&self.spare),
        );
        add(&self.counters.connections, 1);
        let client = Arc::clone(&self.unknown_client);
        let record = Arc::new(Record::new(outbox, peer.address, client, now));
        // In the list first: whoever reconfigures after the session took its configuration finds it there.
        let open_before = self.connections.insert(Arc::clone(&record));
        let config = self.config();
        let is_full = open_before >= config.limits.connections_max;
        let session = ClientSession::new(Arc::clone(self), config, record, peer, now);
        session.greet(is_full, now);
        session
    }

    /// The other servers of the cluster, if this one is in any.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_deref()
    }

    /// Begins the session of a new connection with another server; its first words are written before this returns. If
    /// nobody wants it any more, it is closed already. Returns `None` if the server is in no cluster.
    #[must_use]
    pub fn open_route(
        self: &Arc<Self>,
        peer: RoutePeer,
        transport: Arc<dyn Transport>,
        now: Instant,
    ) -> Option<RouteSession> {
        let mesh = Arc::clone(self.mesh.as_ref()?);
        let cluster = Arc::clone(self.config().cluster.as_ref()?);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let outbox =
            Arc::new(Outbox::new(id, cluster.outbox_limits(), transport).sharing(&self.spare));
        let connection = Arc::new(RouteConnection::new(Arc::clone(&outbox), peer.address));
        let dial = match peer.direction {
            Direction::Accepted => None,
            Direction::Dialled(dial) => Some(dial),
        };
        // In the list first: whoever reconfigures after the session took its configuration finds it there.
        let opened = mesh.open(&connection, dial);
        let config = self.config();
        let (purpose, refused) = match opened {
            Ok(purpose) => (purpose, None),
            Err(reason) => (None, Some(reason)),
        };
        let session = RouteSession::new(
            Arc::clone(self),
            mesh,
            config,
            connection,
            &peer,
            purpose,
            now,
        )?;
        match refused {
            Some(reason) => outbox.close(reason),
            None => session.greet(now),
        }
        Some(session)
    }

    /// Tells clients what has changed in the cluster, if anything has: each session finds out by itself. Not to be called
    /// with the mesh locked.
    pub(crate) fn announce_mesh(&self, now: Instant) {
        if self.mesh.as_ref().is_some_and(|mesh| mesh.take_news()) {
            let _one_after_another = self.reconfiguring.lock();
            drop(self.put_in_force(self.config().reconfiguration(), now));
        }
    }

    /// Has every session look at everything anew. Whoever waits for the result knows that none goes by what was before.
    pub(crate) fn spread(&self, now: Instant) -> Adaptation {
        let _one_after_another = self.reconfiguring.lock();
        self.put_in_force(self.config().reconfiguration(), now)
    }

    /// Replaces the configuration.
    ///
    /// New connections go by it at once; each open one changes over in its own task, which is woken, before its next
    /// batch. Connections beyond a lower `connections_max` are told so and closed, the latest first (nats-server
    /// 2.15.1 closes any). The result is a future that waits for all to have changed over; it need not be awaited.
    ///
    /// Nothing that was accepted is lost or changes its order: what is queued stays queued, and an operation that is
    /// half there is finished under the bounds it began with. Linear in the connections.
    pub fn reconfigure(&self, reconfiguration: Reconfiguration, now: Instant) -> Adaptation {
        let _one_after_another = self.reconfiguring.lock();
        self.put_in_force(reconfiguration, now)
    }

    fn put_in_force(&self, reconfiguration: Reconfiguration, now: Instant) -> Adaptation {
        let former = self.config();
        if let (Some(mesh), Some(cluster)) = (&self.mesh, &reconfiguration.cluster)
            && former.cluster.as_deref() != Some(cluster)
        {
            mesh.adapt(cluster, former.directory.system_account(), now);
        }
        let news = self.mesh.as_ref().map(|mesh| {
            mesh.take_news();
            ClusterNews {
                name: mesh.name().0,
                urls: mesh.client_urls(),
            }
        });
        let config = Arc::new(Config::new(
            self.generation() + 1,
            reconfiguration,
            Some(&former),
            news,
        ));
        let (generation, connections_max) = (config.generation, config.limits.connections_max);
        self.closed.set_max(config.limits.closed_connections_max);
        let mut current = self.config.write();
        let former = std::mem::replace(&mut *current, Arc::clone(&config));
        let is_gone = |account: &&Arc<Account>| {
            !config
                .accounts
                .iter()
                .any(|kept| Arc::ptr_eq(kept, account))
        };
        // Under the lock, so that whoever adds everything up finds each account here or there.
        self.departed
            .add(former.accounts.iter().filter(is_gone).map(Arc::clone));
        self.generation.store(generation, Ordering::Relaxed);
        drop(current);
        let mut outboxes = self.open_outboxes();
        let surplus = outboxes.split_off(connections_max.min(outboxes.len()));
        for outbox in surplus.iter().rev() {
            let mut text = Vec::new();
            client::error(&mut text, &ErrorReply::ConnectionsExceeded);
            outbox.append(&text);
            outbox.flush(now);
            outbox.close(CloseReason::ConnectionsExceeded);
        }
        if !surplus.is_empty() {
            let count = surplus.len();
            tracing::info!("Closed {count} connections to fall within max_connections");
        }
        outboxes.extend(self.route_outboxes());
        outboxes.iter().for_each(|outbox| outbox.wake());
        Adaptation::new(generation, outboxes)
    }

    /// The configuration in force, to be changed and given to [`reconfigure`](Self::reconfigure).
    #[must_use]
    pub fn configuration(&self) -> Reconfiguration {
        self.config().reconfiguration()
    }

    /// Whether every open session goes by this configuration or a later one. Linear in the connections; to
    /// wait for it, await the [`Adaptation`].
    #[must_use]
    pub fn is_adapted(&self, generation: u64) -> bool {
        let is_adapted = |outbox: &Arc<Outbox>| outbox.is_adapted(generation);
        let mut clients = self.connections.iter();
        clients.all(|open| is_adapted(open.outbox()))
            && self.route_outboxes().iter().all(is_adapted)
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

    /// The account of this name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        let config = self.config();
        config.account(name).map(|(account, _)| Arc::clone(account))
    }

    /// Whether there is a user of this name, or with this public key.
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.config().directory.admit_trusted(Some(name)).is_some()
    }

    /// Bytes of the largest message that a user may publish, or without one whoever is in the global account.
    #[must_use]
    pub fn payload_bytes_max(&self, user: Option<&str>) -> usize {
        let config = self.config();
        let admission = config.directory.admit_trusted(user);
        let account = admission.and_then(|admission| admission.account);
        let found = config.account(account.as_deref().unwrap_or(GLOBAL_ACCOUNT));
        let of_account = found.and_then(|(_, limits)| limits.payload_bytes_max);
        let of_account = of_account.and_then(|max| usize::try_from(max).ok());
        let of_server = config.limits.payload_bytes_max;
        of_account.map_or(of_server, |of_account| of_account.min(of_server))
    }

    /// All accounts, the global one first.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.config().accounts.clone()
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
        let slow_consumers_overdue = self.counters.overdue.snapshot();
        let slow_consumers = (self.counters.overfull.snapshot()).plus(slow_consumers_overdue);
        let stale_connections = self.counters.stale.snapshot();
        let totals = Totals {
            connections: load(&self.counters.connections),
            slow_consumers: slow_consumers.sum(),
            slow_consumers_by_kind: slow_consumers,
            slow_consumers_overdue,
            stale_connections: stale_connections.sum(),
            stale_connections_by_kind: stale_connections,
            stalls: load(&self.counters.stalls),
            messages_dropped: load(&self.counters.messages_dropped),
            deliveries_denied: load(&self.counters.deliveries_denied),
            publishes_denied: load(&self.counters.publishes_denied),
            publishes_too_long: load(&self.counters.publishes_too_long),
            no_responders: load(&self.counters.no_responders),
            ..Totals::default()
        };
        let config = self.config.read();
        let of_accounts = config.accounts.iter();
        let of_accounts = of_accounts.map(|account| account.counters.all_traffic());
        let traffic = of_accounts.fold(self.departed.traffic(), AllTraffic::plus);
        drop(config);
        let AllTraffic { all, routes } = traffic.plus(self.counters.traffic_to_nowhere());
        Totals {
            messages_in: all.messages_in,
            bytes_in: all.bytes_in,
            messages_out: all.messages_out,
            bytes_out: all.bytes_out,
            routes,
            ..totals
        }
    }

    /// The open connections one after another, in no particular order. Each is copied when the iterator comes to
    /// it; references to one part in 64 of them are taken at a time.
    pub fn connection_snapshots(&self) -> impl Iterator<Item = ConnectionSnapshot> {
        self.connections.iter().map(|open| open.snapshot(None))
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Arc<Record>> {
        self.connections.iter()
    }

    /// One open connection.
    #[must_use]
    pub fn connection_snapshot(&self, id: u64) -> Option<ConnectionSnapshot> {
        self.connections.find(id).map(|open| open.snapshot(None))
    }

    /// Who is on one open connection.
    pub(crate) fn client_facts(&self, id: u64) -> Option<Arc<ClientFacts>> {
        self.connections.find(id).map(|open| open.client())
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
            self.announce_to(&config, &open, now);
        }
        if let (Some(mesh), Some(cluster)) = (&self.mesh, &config.cluster) {
            let mut text = Vec::new();
            let info = RouteInfo {
                ldm: true,
                ..public_info(&config, cluster, &mesh.name())
            };
            route::info(&mut text, &info);
            mesh.tell_peers(&text);
        }
    }

    /// Whether this server has said that it is about to go.
    pub(crate) fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed)
    }

    /// Tells one client that listens that it had better go. Returns whether it was there.
    pub fn announce_lame_duck_to(&self, id: u64, now: Instant) -> bool {
        let found = self.connections.find(id);
        found.is_some_and(|open| {
            self.announce_to(&self.config(), &open, now);
            true
        })
    }

    fn announce_to(&self, config: &Config, open: &Record, now: Instant) {
        let outbox = open.outbox();
        if outbox.accepts_info() {
            let info = ServerInfo {
                ldm: true,
                ..self.info(config, outbox.id(), open.address())
            };
            let mut text = Vec::new();
            client::info(&mut text, &info);
            outbox.append(&text);
            outbox.flush(now);
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
        (self.route_outboxes().iter()).for_each(|outbox| outbox.wake());
    }

    /// Closes all connections, also those with other servers; none of these is dialled again.
    pub fn close_all(&self, reason: CloseReason) {
        self.connections
            .iter()
            .for_each(|open| open.outbox().close(reason));
        if let Some(mesh) = &self.mesh {
            mesh.close(reason);
        }
    }

    fn route_outboxes(&self) -> Vec<Arc<Outbox>> {
        let connections = self.mesh.as_ref().map(|mesh| mesh.connections());
        let connections = connections.into_iter().flatten();
        connections
            .map(|connection| Arc::clone(connection.outbox()))
            .collect()
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
    pub(crate) fn info(
        &self,
        config: &Config,
        client_id: u64,
        address: Option<SocketAddr>,
    ) -> ServerInfo {
        // There is no wire to be tapped within a process.
        let has_wire = address.is_some();
        let is_leaving = self.is_lame_duck();
        // Whoever is to go does not come back here (nats-server `sendLDMToClients`).
        let urls = if is_leaving {
            &config.other_urls
        } else {
            &config.info.connect_urls
        };
        ServerInfo {
            connect_urls: urls.clone(),
            client_id,
            tls_required: config.info.tls_required && has_wire,
            tls_available: config.info.tls_available && has_wire,
            tls_verify: config.info.tls_verify && has_wire,
            client_ip: address
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
            ldm: is_leaving,
            ..config.info.clone()
        }
    }

    /// A connection has ended.
    pub(crate) fn forget(&self, record: &Record, at: Instant, ended: Vec<EndedSubscription>) {
        let id = record.outbox().id();
        if self.connections.remove(id).is_none() {
            return;
        }
        let Some(reason) = record.outbox().status().closed else {
            return;
        };
        let snapshot = record.snapshot(Some(Stop { at, reason }));
        self.report(|| Report::Disconnected(snapshot.clone()));
        self.closed.push(snapshot, ended);
    }

    /// Whether one more refused client is worth a line in the log, after how many that were not.
    pub(crate) fn may_log_refusal(&self, now: Instant) -> Option<u64> {
        self.refusals.lock().note(now)
    }

    /// The same of one client too many.
    pub(crate) fn may_log_surplus(&self, now: Instant) -> Option<u64> {
        self.surplus.lock().note(now)
    }

    /// Tells the engine how points in time are written, RFC 3339, where clients' requests are passed on with who asks;
    /// only the first call counts. Without, they are left out.
    pub fn set_calendar(&self, spell: impl Fn(Instant) -> String + Send + Sync + 'static) {
        let _ = self.calendar.set(Box::new(spell));
    }

    pub(crate) fn spell_time(&self, instant: Instant) -> Option<String> {
        self.calendar.get().map(|spell| spell(instant))
    }

    /// From now on servers of the cluster tell this one, by this name, what they have measured of requests that its clients
    /// make and theirs answer (`$SYS.LATENCY.M2.<name>` in the system account). Of use once.
    pub fn set_short_name(&self, name: &str) {
        let _ = self.short_name.set(name.into());
    }

    pub(crate) fn short_name(&self) -> Option<&str> {
        self.short_name.get().map(|name| &**name)
    }

    /// Another server has told what it has measured of a request: of the one whose answer goes to the subject `answer` in the
    /// account of this name. What is not waited for has no effect.
    pub fn note_measure(&self, account: &str, answer: &[u8], measure: RemoteMeasure) {
        if let Some(account) = self.account(account) {
            account.answers.measured(answer, measure);
        }
    }

    /// Reports requests to other accounts that are measured and were not answered in time. Returns when it is to be
    /// called again, if any are under way; for those to come there is [`Report::AwaitingAnswer`]. Linear in the
    /// accounts.
    pub fn expire_requests(&self, now: Instant) -> Option<Instant> {
        let accounts = self.accounts();
        let next = accounts
            .iter()
            .filter_map(|account| account.answers.expire(now));
        next.min()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seeds.lock().u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_text() {
        assert_eq!(Nonce::new([0xFF; 11]).text(), "______________8");
        assert_eq!(Nonce::new([0; 11]).text().len(), 15);
        assert_eq!(Nonce::default().text(), "");
    }
}
