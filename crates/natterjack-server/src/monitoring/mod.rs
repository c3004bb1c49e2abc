//! Monitoring: what nats-server serves over HTTP, for HTTP and for the embedding program.
//!
//! A page is a function from facts and the engine's snapshots to plain data ([`Varz`], [`Connz`], …), which
//! [`Server`] hands out; HTTP only picks the page, reads its parameters and writes JSON. Here is what the pages
//! share, and the listeners' beginning. The names of pages and fields are nats-server's (monitoring, 2.15.1).

mod router;

mod absent;
mod accountz;
mod accstatz;
mod connz;
mod healthz;
mod innards;
mod metrics;
mod page;
mod routez;
mod subsz;
mod varz;

mod elsewhere;
mod facts;
mod format;
mod guard;
mod http;
mod pace;
mod places;
mod process;
mod query;
mod room;
mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use natterjack_engine::SYSTEM_ACCOUNT;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::absent::{Absent, Gatewayz, Jsz, JszApi, JszConfig, Leafz};
pub use self::accountz::{
    AccountDetail, Accountz, ExportDetail, ImportDetail, LatencyDetail, MappingDestination,
    UnknownAccount,
};
pub use self::accstatz::{AccountStats, Accstatz, Messages, Traffic};
pub use self::connz::{
    ConnectionInfo, ConnectionState, Connz, ConnzError, ConnzOptions, ConnzSort,
    PeerCertificateInfo, Subscriptions, UnknownSort, UnknownState,
};
use self::facts::{Load, Provenance, ServerFacts, SharedCalendar};
pub(crate) use self::format::compact_json;
pub use self::format::{RoundTrip, Time, Uptime};
use self::guard::Guard;
pub use self::healthz::{Healthz, HealthzFault, HealthzOptions};
use self::http::{Clear, Encrypted};
pub use self::innards::{Expvarz, Ipqueuesz, MemoryStats, Raftz};
pub use self::metrics::{Exposition, ExpositionFormat, MetricKind};
use self::pace::Paces;
use self::places::Places;
use self::process::ProcessorShare;
use self::room::Room;
use self::router::NAMES;
pub use self::routez::{Route, RouteSubscription, Routez, SubjectRules};
pub use self::sources::MonitoringSource;
use self::sources::Sources;
pub use self::subsz::{IndexStats, InvalidTestSubject, SubscriptionDetail, Subsz, SubszOptions};
pub use self::varz::{ClusterVarz, DiskWaits, KindCounts, Varz};
use crate::clock::{calendar_now, now};
use crate::lifecycle::{Gate, Phase};
use crate::net::listener::{self, Refused};
use crate::options::{self, Endpoint};
use crate::server::{Server, Shared, StartError};

/// The pages as functions, for whoever has another way to ask for them than HTTP.
pub(crate) mod pages {
    pub(crate) use super::absent::{gatewayz, jsz, leafz};
    pub(crate) use super::accountz::accountz;
    pub(crate) use super::accstatz::accstatz_of;
    pub(crate) use super::connz::connz;
    pub(crate) use super::healthz::healthz;
    pub(crate) use super::innards::{expvarz, ipqueuesz, profilez, raftz};
    pub(crate) use super::routez::routez;
    pub(crate) use super::subsz::subsz;
    pub(crate) use super::varz::varz;
}

/// Long pages that are written at the same time. Each holds itself in memory, so there are not to be many.
const TURNS: usize = 2;

/// The same of `/metrics` with a lot in them.
const METRICS_TURNS: usize = 1;

/// What long pages, and what long `/metrics`, take until they are read.
const PAGES_KIB_MAX: u32 = 64 * 1024;
const METRICS_KIB_MAX: u32 = 8 * 1024;

/// What monitoring itself keeps.
pub(crate) struct Monitor {
    started: Instant,
    calendar: SharedCalendar,
    processor: ProcessorShare,
    cores: usize,
    provenance: Mutex<Provenance>,
    /// What was said of them in the log: whoever may ask must not fill it.
    failed_checks: Mutex<Refused>,
    /// Requests for each page.
    requests: [AtomicU64; NAMES.len()],
    /// What paths begin with: a clean path, `/` for nothing.
    base_path: String,
    addresses: Addresses,
    /// Listeners that still accept.
    listeners: Arc<Gate>,
    /// What others add.
    sources: Sources,
    /// Places for connections.
    places: Arc<Places>,
    /// Who may read the pages.
    guard: Guard,
    /// How often there may be a page, and whatever else.
    paces: Paces,
    /// Within what long pages are made, and, apart from these, long `/metrics`.
    long_pages: Bounds,
    long_metrics: Bounds,
}

/// What long pages of a kind may take together.
struct Bounds {
    /// Who has one written.
    turns: Semaphore,
    /// Room until they are read.
    room: Arc<Room>,
}

impl Bounds {
    fn new(turns: usize, kib_max: u32) -> Self {
        Self {
            turns: Semaphore::new(turns),
            room: Arc::new(Room::new(kib_max)),
        }
    }
}

/// Where the pages are served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    clear: Option<SocketAddr>,
    encrypted: Option<SocketAddr>,
}

impl Monitor {
    pub(crate) fn new(options: &options::Monitoring, addresses: Addresses) -> Self {
        let (started, time) = (now(), calendar_now());
        let base_path = router::cleaned(&options.base_path);
        let base_path = match base_path.strip_suffix('/') {
            Some(path) if !path.is_empty() => path.to_owned(),
            _ => base_path,
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self {
            started,
            calendar: SharedCalendar::new(started, time),
            processor: ProcessorShare::new(started),
            cores,
            provenance: Mutex::new(Provenance {
                loaded: time,
                digest: String::new(),
            }),
            failed_checks: Mutex::default(),
            requests: Default::default(),
            base_path,
            addresses,
            listeners: Arc::new(Gate::new()),
            sources: Sources::default(),
            places: Arc::new(Places::new()),
            guard: Guard::new(),
            paces: Paces::new(cores, started),
            long_pages: Bounds::new(TURNS, PAGES_KIB_MAX),
            long_metrics: Bounds::new(METRICS_TURNS, METRICS_KIB_MAX),
        }
    }

    /// The options in force were loaded just now.
    pub(crate) fn reloaded(&self) {
        self.provenance.lock().loaded = calendar_now();
    }

    fn set_configuration_digest(&self, digest: String) {
        *self.provenance.lock() = Provenance {
            loaded: calendar_now(),
            digest,
        };
    }

    /// Waits until no listener is left. The server must be closing.
    pub(crate) async fn closed(&self) {
        self.listeners.empty().await;
    }

    fn count(&self, page: usize) {
        self.requests[page].fetch_add(1, Ordering::Relaxed);
    }

    fn requests(&self) -> BTreeMap<&'static str, u64> {
        let counts = self
            .requests
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        NAMES
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Listeners that are bound and not yet served.
#[derive(Default)]
pub(crate) struct Bound {
    clear: Option<Bind>,
    encrypted: Option<Bind>,
}

struct Bind {
    host: String,
    listeners: Vec<TcpListener>,
}

impl Bound {
    /// Listens where the options say; for clear text on a socket that listens already, if there is one.
    ///
    /// # Errors
    /// If an address is not to be had.
    pub(crate) async fn new(
        options: &options::Monitoring,
        open: Option<std::net::TcpListener>,
    ) -> Result<Self, StartError> {
        let clear = match (open, &options.http) {
            (Some(open), _) => Some(Bind::adopt(open)?),
            (None, Some(endpoint)) => Some(Bind::new(endpoint).await?),
            (None, None) => None,
        };
        let encrypted = match &options.https {
            Some(endpoint) => Some(Bind::new(endpoint).await?),
            None => None,
        };
        Ok(Self { clear, encrypted })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        let address = |bind: &Option<Bind>| bind.as_ref().and_then(Bind::address);
        Addresses {
            clear: address(&self.clear),
            encrypted: address(&self.encrypted),
        }
    }

    /// Serves the pages until the server closes.
    pub(crate) fn serve(self, shared: &Arc<Shared>) {
        if let Some(bind) = self.clear {
            tracing::info!("Starting http monitor on {}", bind.shown());
            for listener in bind.listeners {
                let listening = shared.monitor.listeners.own_pass();
                tokio::spawn(http::accept(Arc::clone(shared), listener, Clear, listening));
            }
        }
        if let Some(bind) = self.encrypted {
            tracing::info!("Starting https monitor on {}", bind.shown());
            for listener in bind.listeners {
                let wrap = Encrypted(Arc::clone(shared));
                let listening = shared.monitor.listeners.own_pass();
                tokio::spawn(http::accept(Arc::clone(shared), listener, wrap, listening));
            }
        }
    }
}

impl Bind {
    async fn new(endpoint: &Endpoint) -> Result<Self, StartError> {
        let Endpoint { host, port } = endpoint.clone();
        match listener::bind(&host, port).await {
            Ok(listeners) => Ok(Self { host, listeners }),
            Err(source) => Err(StartError::BindMonitoring { host, port, source }),
        }
    }

    fn adopt(open: std::net::TcpListener) -> Result<Self, StartError> {
        let address = open.local_addr();
        let (host, port) = match &address {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => (String::new(), 0),
        };
        match address.and_then(|_| listener::adopt(vec![open])) {
            Ok(listeners) => Ok(Self { host, listeners }),
            Err(source) => Err(StartError::BindMonitoring { host, port, source }),
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listeners.first()?.local_addr().ok()
    }

    /// `host:port` as configured, with the port that was bound.
    fn shown(&self) -> String {
        let endpoint = Endpoint {
            host: self.host.clone(),
            port: self.address().map_or(0, |address| address.port()),
        };
        endpoint.to_string()
    }
}

impl Shared {
    /// What the calendar said then.
    pub(crate) fn time_of(&self, instant: Instant) -> Time {
        let calendar = self.monitor.calendar.observed(now(), calendar_now());
        calendar.time_of(instant)
    }

    pub(crate) fn facts(&self) -> ServerFacts {
        let (now, time) = (now(), calendar_now());
        let options = self.options();
        let system_account = options.authorization.system_account.as_deref();
        ServerFacts {
            info: self.engine.server_info(),
            system_account: system_account.unwrap_or(SYSTEM_ACCOUNT).to_owned(),
            options,
            provenance: self.monitor.provenance.lock().clone(),
            certificate_not_after: self.tls.current().and_then(|context| context.not_after()),
            route_certificate_not_after: (self.cluster.as_ref())
                .and_then(|cluster| cluster.tls.current()?.not_after()),
            cluster_port: (self.cluster.as_ref())
                .and_then(|cluster| cluster.addresses.first())
                .map_or(0, SocketAddr::port),
            started: self.monitor.started,
            now,
            calendar: self.monitor.calendar.observed(now, time),
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            connections: self.engine.connections(),
            routes: self.engine.route_snapshots(),
            subscriptions: self.subscriptions(),
            totals: self.engine.totals(),
            requests: self.monitor.requests(),
            memory_bytes: process::memory_bytes(),
            cpu_percent: self.monitor.processor.percent(now()),
            cores: self.monitor.cores,
        }
    }

    fn metrics(&self, format: ExpositionFormat) -> String {
        let sources = &self.monitor.sources;
        let (facts, load) = (self.facts(), self.load());
        metrics::metrics(
            &facts,
            &self.engine,
            load,
            self.is_accepting(),
            sources,
            format,
        )
    }

    /// Subscriptions, and interest of other servers.
    pub(crate) fn subscriptions(&self) -> usize {
        let accounts = self.engine.accounts();
        let entries = accounts
            .iter()
            .map(|account| account.subscriptions() + account.peer_interest());
        entries.sum()
    }

    pub(crate) fn is_accepting(&self) -> bool {
        self.lifecycle.phase() == Phase::Running
    }
}

/// What the monitoring pages show, without HTTP, and whether or not there is a port for it.
///
/// # Examples
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use natterjack_server::monitoring::{ConnzOptions, ConnzSort, HealthzOptions};
/// use natterjack_server::{Options, Server};
///
/// let server = Server::start(Options {
///     host: "127.0.0.1".to_owned(),
///     port: 0,
///     ..Options::default()
/// })
/// .await?;
/// assert_eq!(server.healthz().status, "ok");
/// assert_eq!(server.varz().connections, 0);
/// let slowest = server.connz(&ConnzOptions {
///     sort: ConnzSort::Pending,
///     limit: 10,
///     ..ConnzOptions::default()
/// })?;
/// assert!(slowest.connections.is_empty());
/// // Every page is plain data, and JSON as nats-server writes it.
/// let pages = [
///     serde_json::to_value(server.varz())?,
///     serde_json::to_value(server.gatewayz())?,
///     serde_json::to_value(server.leafz())?,
///     serde_json::to_value(server.jsz())?,
///     serde_json::to_value(server.raftz())?,
///     serde_json::to_value(server.ipqueuesz())?,
///     serde_json::to_value(server.expvarz())?,
/// ];
/// assert!(pages.iter().all(|page| page.is_object()));
/// let ready = server.healthz_with(&HealthzOptions {
///     js_server_only: true,
///     ..HealthzOptions::default()
/// });
/// assert_eq!(ready.status_code, 200);
/// server.shutdown().await;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
impl Server {
    /// Where the monitoring pages are served in clear text, with the port that was really bound.
    #[must_use]
    pub fn monitoring_addr(&self) -> Option<SocketAddr> {
        self.shared.monitor.addresses.clear
    }

    /// Where they are served with TLS.
    #[must_use]
    pub fn monitoring_tls_addr(&self) -> Option<SocketAddr> {
        self.shared.monitor.addresses.encrypted
    }

    /// Has monitoring show that the options came from files with this digest, just now. Without files it is empty.
    pub fn set_configuration_digest(&self, digest: impl Into<String>) {
        self.shared.monitor.set_configuration_digest(digest.into());
    }

    /// The server as a whole. Cheap.
    #[must_use]
    pub fn varz(&self) -> Varz {
        varz::varz(&self.shared.facts(), self.shared.load())
    }

    /// Connections. Linear in those there are, and with subscriptions in those too: with many, not for a thread
    /// that has other things to do.
    ///
    /// # Errors
    /// If options contradict each other.
    pub fn connz(&self, options: &ConnzOptions) -> Result<Connz, ConnzError> {
        connz::connz(&self.shared.facts(), &self.shared.engine, options)
    }

    /// Subscriptions. Linear in those there are, if they are to be listed.
    ///
    /// # Errors
    /// If `test` is no subject to publish to.
    pub fn subsz(&self, options: &SubszOptions) -> Result<Subsz, InvalidTestSubject> {
        subsz::subsz(&self.shared.facts(), &self.shared.engine, options)
    }

    /// Connections to other servers. Cheap; with what these are interested in, linear in that.
    #[must_use]
    pub fn routez(&self, subscriptions: Subscriptions) -> Routez {
        routez::routez(&self.shared.facts(), &self.shared.engine, subscriptions)
    }

    /// The accounts' names, or details of the account named. Linear in the number of accounts.
    ///
    /// # Errors
    /// If there is no account of that name.
    pub fn accountz(&self, account: Option<&str>) -> Result<Accountz, UnknownAccount> {
        accountz::accountz(&self.shared.facts(), &self.shared.engine, account)
    }

    /// What the accounts are doing: those that have connections, or all. Linear in their number.
    #[must_use]
    pub fn accstatz(&self, with_unused: bool) -> Accstatz {
        accstatz::accstatz(&self.shared.facts(), &self.shared.engine, with_unused)
    }

    /// Numbers of the server for Prometheus, and of what was [added](Self::add_monitoring). Linear in connections and accounts.
    #[must_use]
    pub fn metrics(&self, format: ExpositionFormat) -> String {
        self.shared.metrics(format)
    }

    /// Has monitoring show more: what else is in this process.
    pub fn add_monitoring(&self, source: Arc<dyn MonitoringSource>) {
        self.shared.monitor.sources.add(source);
    }

    /// Whether the server takes connections. Cheap.
    #[must_use]
    pub fn healthz(&self) -> Healthz {
        self.healthz_with(&HealthzOptions::default())
    }

    /// The same, with all that nats-server can be asked. Cheap.
    #[must_use]
    pub fn healthz_with(&self, options: &HealthzOptions) -> Healthz {
        healthz::healthz(self.shared.is_accepting(), options)
    }

    /// Connections with other clusters: none. Cheap.
    #[must_use]
    pub fn gatewayz(&self) -> Gatewayz {
        absent::gatewayz(&self.shared.facts())
    }

    /// Connections with leaf nodes: none. Cheap.
    #[must_use]
    pub fn leafz(&self) -> Leafz {
        absent::leafz(&self.shared.facts())
    }

    /// JetStream, which is not there. Cheap.
    #[must_use]
    pub fn jsz(&self) -> Jsz {
        absent::jsz(&self.shared.facts())
    }

    /// Groups that agree by Raft: none. Cheap.
    #[must_use]
    pub fn raftz(&self) -> Raftz {
        innards::raftz()
    }

    /// What nats-server calls queues inside the server: none. Cheap.
    #[must_use]
    pub fn ipqueuesz(&self) -> Ipqueuesz {
        innards::ipqueuesz()
    }

    /// Memory of the process, in the fields of a program in Go. Asks the system, as [`varz`](Self::varz) does.
    #[must_use]
    pub fn expvarz(&self) -> Expvarz {
        innards::expvarz()
    }

    /// The threads of the process by name, and what they are about; no stacks. Reads a file of the system for each: not for
    /// a thread that has other things to do.
    #[must_use]
    pub fn stacksz(&self) -> String {
        innards::threads()
    }
}
