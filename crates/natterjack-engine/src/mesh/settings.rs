//! What a server of a cluster is configured with.

use std::time::Duration;

use natterjack_wire::route::Compression;

use crate::access::{Secret, SubjectRules};
use crate::delivery::outbox::OutboxLimits;
use crate::limits::{Limits, WriteTimeout};

/// What a server in a cluster is told about it. Whether it is in one is settled at its start; the rest may change.
///
/// [`Default`] is a cluster without a name, without seeds and without a login, with nats-server's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster's name; if it is empty, one is made up, and given up for that of another server.
    pub name: String,
    /// Where this server listens for peers, as they are told.
    pub host: String,
    /// The port of it; never 0.
    pub port: u16,
    /// Where peers reach it instead.
    pub advertise: Option<(String, u16)>,
    /// Peers are not told where clients reach this server, nor are its clients told of other servers.
    pub no_advertise: bool,
    /// Servers to connect to, again and again.
    pub seeds: Vec<Seed>,
    /// What peers must show to come in, and what is shown to peers that were learnt of from others.
    pub login: Option<ClusterLogin>,
    /// The shell has seen by their certificates who those are that come in: they need no login.
    pub is_known_by_certificate: bool,
    /// Interest in which subjects is announced to peers; `None`: all.
    pub import: Option<SubjectRules>,
    /// Interest of peers in which subjects is accepted; `None`: all.
    pub export: Option<SubjectRules>,
    /// Connections to a peer that share the accounts; 0: one for everything, also for the system account.
    pub pool_size: u32,
    /// Accounts with a connection of their own to each peer. Without a pool there are none.
    pub accounts: Vec<String>,
    /// Whether and how what is sent to peers is compressed.
    pub compression: Compression,
    /// Round trips up to which [`Compression::S2Auto`] compresses not, fast, and better.
    pub round_trips: Vec<Duration>,
    /// How often a peer that was learnt of from another is tried again.
    pub connect_retries: u32,
    /// Whether the wait between two tries doubles, up to 30 s.
    pub connect_backoff: bool,
    /// Of failed tries to reach a peer that never was reached, the first is logged and then one in so many.
    pub connect_error_reports: u32,
    /// The same of tries to reach a peer again.
    pub reconnect_error_reports: u32,
    /// Whether connections with peers are encrypted, from the first byte on.
    pub is_tls: bool,
    /// Bounds on each connection with a peer.
    pub limits: ClusterLimits,
}

/// A server to connect to, or a name that stands for several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its address or name.
    pub host: String,
    /// The port for peers there.
    pub port: u16,
    /// What to show there.
    pub login: Option<ClusterLogin>,
    /// It stands for nothing until [`Mesh::set_seed_targets`](super::Mesh::set_seed_targets) says what for.
    pub is_resolved: bool,
}

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLogin {
    /// Who.
    pub user: String,
    /// The proof; of those who come in a clear text or a bcrypt hash.
    pub password: Secret,
}

/// Bounds on a connection with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLimits {
    /// How often a peer is asked for a sign of life, whatever it sends. More than 30 s counts as 30 s.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which a connection counts as stale.
    pub pings_outstanding_max: u32,
    /// How long a connection's socket may refuse every byte before it is dropped.
    pub write_deadline: Duration,
    /// Bytes that may wait for one connection before it is dropped.
    pub pending_bytes_max: usize,
    /// What becomes of a connection whose socket is slow.
    pub write_timeout: WriteTimeout,
    /// Memory that a peer's interest may take, in bytes, for each connection with it.
    pub interest_bytes_max: usize,
    /// How long a peer that has to log in may take.
    pub auth_timeout: Duration,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            host: "0.0.0.0".to_owned(),
            port: 6222,
            advertise: None,
            no_advertise: false,
            seeds: Vec::new(),
            login: None,
            is_known_by_certificate: false,
            import: None,
            export: None,
            pool_size: POOL_SIZE_DEFAULT,
            accounts: Vec::new(),
            compression: Compression::Accept,
            round_trips: Compression::ROUND_TRIPS_DEFAULT.to_vec(),
            connect_retries: 0,
            connect_backoff: false,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            is_tls: false,
            limits: ClusterLimits::default(),
        }
    }
}

impl ClusterSettings {
    /// Peers take part in slowing producers down, as any consumer does.
    pub(crate) fn outbox_limits(&self) -> OutboxLimits {
        let limits = Limits {
            pending_bytes_max: self.limits.pending_bytes_max,
            ..Limits::default()
        };
        OutboxLimits {
            pending_bytes_max: limits.pending_bytes_max,
            congested_bytes: limits.congested_bytes(),
            drop_bytes: limits.drop_bytes(),
            must_finish: self.limits.write_timeout == WriteTimeout::Close,
        }
    }
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            ping_interval: PING_INTERVAL_MAX,
            pings_outstanding_max: 2,
            write_deadline: Duration::from_secs(10),
            pending_bytes_max: 64 * 1024 * 1024,
            write_timeout: WriteTimeout::Default,
            interest_bytes_max: 1024 * 1024 * 1024,
            auth_timeout: Duration::from_secs(2),
        }
    }
}

impl ClusterLimits {
    /// How often a peer is asked for a sign of life (route protocol, section 9).
    pub(crate) fn ping_interval(&self) -> Duration {
        self.ping_interval.min(PING_INTERVAL_MAX)
    }
}

/// nats-server's default.
const POOL_SIZE_DEFAULT: u32 = 3;

/// The round trip decides about compression, so that it must not be too old (route protocol, section 9).
const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);
