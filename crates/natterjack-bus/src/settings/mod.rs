//! What an operator can configure about the bus, as plain data, and the one place that says what is wrong with it.
//!
//! `table` names every option once: its path in a document, its flag, its environment variable. `sources` gathers what
//! was given, `read` finds for each option the value that counts and where it comes from, `value` knows what kinds of
//! values there are, and `check` what fits together; `tls_files` looks into the files of TLS. All problems are found
//! at once. Embedders may fill in [`Settings`] directly.

mod check;
mod documentation;
mod explain;
mod origin;
mod problem;
mod read;
mod sources;
mod table;
mod tls_files;
mod value;
mod yaml;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use documentation::document;
pub use origin::{Origin, Origins, Place};
pub use problem::{Problem, Problems, Severity};
pub use sources::{DEFAULT_FILE, OptionFacts, PREFIX, Sources, options};

/// Everything an event bus needs to start. `Default` is the `local` transport.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which transport carries the events (`eventBus.type`).
    pub transport: TransportKind,
    /// How to reach, and perhaps run, a NATS server (`eventBus.nats`). Unused by `local` except for the client's name
    /// and subject.
    pub nats: Nats,
    /// When the bus counts as healthy (`eventBus.health`).
    pub health: Health,
    /// Bounds of queues and buffers; library only.
    pub limits: Limits,
}

/// `eventBus.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Inside this process only.
    #[default]
    Local,
    /// Through a NATS server.
    Nats,
}

/// `eventBus.nats`.
#[derive(Clone, Debug, Default)]
pub struct Nats {
    /// This node as a client.
    pub client: Client,
    /// The server this process runs, if enabled.
    pub server: Server,
    /// Mutual TLS for all links, from one certificate.
    pub tls: Tls,
}

/// `eventBus.nats.client`.
#[derive(Clone, Debug)]
pub struct Client {
    /// Unique among the clients; becomes the source of this node's events. Default: the host name.
    pub name: String,
    /// Where to connect. `None`: the embedded server wherever it listens, or else `nats://localhost:4222`.
    pub endpoint: Option<Endpoint>,
    /// Literal subject, the same on all nodes; published to and subscribed.
    pub subject: String,
    /// CloudEvents `type` of the events this node publishes; library only.
    pub event_type: String,
}

/// `eventBus.nats.server`: the embedded server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Whether to run one.
    pub enable: bool,
    /// Unique among the servers. Default: the host name.
    pub name: String,
    /// Where clients connect. Port 0 means any free one and is for embedders: a file may not say it.
    pub client: Listen,
    /// Where the monitoring pages are; with TLS they are HTTPS.
    pub http: Listen,
    /// How servers connect to each other.
    pub cluster: Cluster,
}

/// `eventBus.nats.server.cluster`.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The same on all nodes.
    pub name: String,
    /// Where peers connect. It is listened on also without routes: others may have this server in theirs.
    pub listen: Listen,
    /// `host:port` peers should use instead.
    pub advertise: Option<String>,
    /// Peers to dial, for ever. This server itself may be among them.
    pub routes: Vec<Endpoint>,
}

/// `eventBus.nats.tls`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `enableTLS`.
    pub enable: bool,
    /// `tlsCert`: PEM certificate chain, shown to everybody: as a server, as a client and to peers.
    pub certificate: Option<PathBuf>,
    /// `tlsKey`: PEM private key: PKCS#8, PKCS#1 or SEC1.
    pub key: Option<PathBuf>,
    /// `tlsCA`: PEM bundles of the authorities that everybody's certificate must come from; the system's do not count.
    pub authorities: Vec<PathBuf>,
    /// `tlsSkipVerify`: whoever answers is believed, whatever certificate it shows. For tests. Clients and peers must
    /// show theirs all the same.
    pub skip_verify: bool,
}

/// `eventBus.health`.
#[derive(Clone, Debug)]
pub struct Health {
    /// Hosts that must answer.
    pub required_hosts: u64,
    /// Time between two health events. Less than 20 ms counts as that; a file may not say less than 100 ms.
    pub interval: Duration,
}

/// A host or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Host name or address.
    pub host: String,
    /// Port, or 0 for any free one.
    pub port: u16,
}

/// Where a server is: scheme, host and port, all given, as in `nats://localhost:4222`; or [`Endpoint::in_process`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Such as `nats`.
    pub scheme: String,
    /// Host name or address; an IPv6 address keeps its brackets.
    pub host: String,
    /// Port, never 0 but in process.
    pub port: u16,
}

/// Bounds of the bus's queues and buffers. They are not in the settings file.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events waiting for one subscriber before its [`crate::Overflow`] policy decides.
    pub subscriber_events_max: usize,
    /// Bytes of those events, headers included.
    pub subscriber_bytes_max: usize,
    /// Events that have arrived and wait to be handed to the subscribers.
    pub inbound_events_max: usize,
    /// Bytes of those events, headers included.
    pub inbound_bytes_max: usize,
    /// Events published and not yet known to have reached the server. While connected, a publisher waits at this
    /// bound; while disconnected, publishing fails.
    pub outbound_events_max: usize,
    /// Bytes of those events, headers included.
    pub outbound_bytes_max: usize,
    /// Largest event, headers included, as long as no server has named its own limit.
    pub event_bytes_max: usize,
    /// Faults kept for one reader of [`crate::EventBus::faults`]; the oldest go first, and sooner where those with the messages
    /// in them come to 16 MiB.
    pub faults_max: usize,
    /// How long after its start a node is not [`crate::EventBus::ready`] as long as it is not known of one of its embedded
    /// server's routes whether somebody is there, or of one of its peers whether it has nodes. Known is that somebody
    /// answers there, or that a connection is refused.
    pub routes_patience: Duration,
    /// How long [`crate::EventBus::drain`] tries.
    pub drain_timeout: Duration,
}

impl Settings {
    /// Reads settings from wherever they are given. Of a document the section `eventBus` is ours; other top-level
    /// sections are ignored.
    ///
    /// # Errors
    /// All problems found, warnings included, if at least one of them is an error.
    pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
        read::read(sources)
    }

    /// Reads settings from the text of a YAML document alone. `origin` names the text in messages, usually a path.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn from_yaml(text: &str, origin: &str) -> Result<Loaded, Problems> {
        Self::load(&Sources::new().text(origin, text))
    }

    /// Reads settings from a file alone.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn from_file(path: &Path) -> Result<Loaded, Problems> {
        Self::load(&Sources::new().file(path))
    }

    /// What is wrong with settings that were filled in by code, as far as that is about several of them together; the
    /// files of TLS are read. Loading has done this already.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut findings = problem::Findings::default();
        let gaps = check::Gaps::default();
        check::check(self, &Origins::defaults(), &gaps, &mut findings);
        findings.sorted()
    }

    /// The options that have another value in `other`, by their full paths. What only embedders can set is not among them.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differ =
            |row: &&table::Row| value::show(row.slot, self) != value::show(row.slot, other);
        table::ROWS
            .iter()
            .filter(differ)
            .map(|row| row.path)
            .collect()
    }
}

/// Settings that may be used, and what the operator should still hear about them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each comes from.
    pub origins: Origins,
    /// Problems that do not prevent a start.
    pub warnings: Vec<Problem>,
}

impl Nats {
    /// Where programs on this host reach the embedded server: by the name that certificates have, where that is any name.
    pub(crate) fn own_server(&self) -> Endpoint {
        let Listen { host, port } = &self.server.client;
        let address = unbracketed(host).parse::<std::net::IpAddr>();
        let host = match address {
            Ok(address) if address.is_unspecified() => "localhost".into(),
            Ok(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.clone(),
        };
        Endpoint {
            scheme: "nats".into(),
            host,
            port: *port,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            name: host_name(),
            endpoint: None,
            subject: "bindplane-event-bus".into(),
            event_type: "natterjack.event".into(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            enable: false,
            name: host_name(),
            client: Listen::local(4222),
            http: Listen::local(8222),
            cluster: Cluster::default(),
        }
    }
}

impl Server {
    /// One that is enabled and listens at loopback addresses, each on any free port: for tests, and for embedders whose
    /// own client is the only one.
    #[must_use]
    pub fn on_free_ports() -> Self {
        let listen = || Listen {
            host: "127.0.0.1".into(),
            port: 0,
        };
        Self {
            enable: true,
            client: listen(),
            http: listen(),
            cluster: Cluster {
                listen: listen(),
                ..Cluster::default()
            },
            ..Self::default()
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "bindplane".into(),
            listen: Listen::local(6222),
            advertise: None,
            routes: Vec::new(),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            required_hosts: 1,
            interval: Duration::from_secs(15),
        }
    }
}

/// A route is dialled for one second, and whoever is up and was not reached at once answers within one more.
const ROUTES_PATIENCE: Duration = Duration::from_secs(3);

/// Well below the 30 s that Kubernetes, for one, grants a program between TERM and KILL.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

impl Default for Limits {
    fn default() -> Self {
        Self {
            subscriber_events_max: 1024,
            subscriber_bytes_max: 64 << 20,
            inbound_events_max: 16_384,
            inbound_bytes_max: 64 << 20,
            outbound_events_max: 4096,
            outbound_bytes_max: 16 << 20,
            event_bytes_max: 1 << 20,
            faults_max: 256,
            routes_patience: ROUTES_PATIENCE,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

impl Listen {
    fn local(port: u16) -> Self {
        Self {
            host: "localhost".into(),
            port,
        }
    }
}

/// A text that is no [`Endpoint`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}; {remedy}")]
pub struct InvalidEndpoint {
    message: String,
    remedy: String,
}

impl Endpoint {
    /// The server a client dials when nobody said otherwise.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            scheme: "nats".into(),
            host: "localhost".into(),
            port: 4222,
        }
    }

    /// `inproc:`, the embedded server of this very process, without a socket.
    #[must_use]
    pub fn in_process() -> Self {
        Self {
            scheme: IN_PROCESS.into(),
            host: String::new(),
            port: 0,
        }
    }

    /// Whether this is the embedded server of this process, reached without a socket.
    #[must_use]
    pub fn is_in_process(&self) -> bool {
        self.scheme == IN_PROCESS
    }

    /// Whether this is meant to be the server of this host that is reached at `own`.
    pub(crate) fn means(&self, own: &Self) -> bool {
        let is_localhost = self.host.eq_ignore_ascii_case("localhost") && is_loopback(&own.host);
        (is_localhost || self.host.eq_ignore_ascii_case(&own.host)) && self.port == own.port
    }
}

/// The scheme of the embedded server's own endpoint.
const IN_PROCESS: &str = "inproc";

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_in_process() {
            return write!(formatter, "{IN_PROCESS}:");
        }
        write!(formatter, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// An IPv6 address without the brackets that it has in URLs.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether a host, an IPv6 address with or without brackets, can only be reached from this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The system's host name, or `localhost` where it has none. Blanks, which no name may have, become dashes.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_whitespace() || c.is_control() {
                '-'
            } else {
                c
            }
        })
        .collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}
