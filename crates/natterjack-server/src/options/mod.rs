//! What an embedder can set, and the checks before anything starts.

mod cluster;
mod monitoring;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use natterjack_dns::{BadServiceName, check_name};
use natterjack_engine::access::{AccessProblem, Permissions};
use natterjack_engine::{Access, Limits};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::cluster::{Cluster, Compression, RouteUrl};
pub use self::monitoring::{Endpoint, Monitoring, TokenProblem};
pub use self::tls::{HandshakeFirst, KeyPairFiles, Tls, TlsVersion};

/// Options of a server. Plain data; defaults are those of nats-server 2.15.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Name shown to clients and in monitoring; by default the server's id. No blanks.
    pub server_name: Option<String>,
    /// Free labels, shown in monitoring and in server events.
    pub server_tags: Vec<String>,
    /// Free keys and values, shown in monitoring and in server events.
    pub server_metadata: BTreeMap<String, String>,
    /// Host name or address to listen on for clients.
    pub host: String,
    /// Port to listen on for clients; 0 takes any free one.
    pub port: u16,
    /// `host:port` or host that clients are told to connect to, where it differs from what is listened on.
    pub client_advertise: Option<String>,
    /// TLS for clients; `None` serves them in clear text.
    pub tls: Option<Tls>,
    /// With `tls`: whether clients may also connect in clear text.
    pub allow_non_tls: bool,
    /// Who may connect.
    pub authorization: Access,
    /// Without a `system_account` of its own: whether the server keeps silent in `$SYS`, publishes no events there and
    /// answers no requests.
    pub no_system_account: bool,
    /// Largest message, header included, in bytes.
    pub max_payload: usize,
    /// Longest argument list of one operation, in bytes.
    pub max_control_line: usize,
    /// Connections open at one time; 0 sets no bound.
    pub max_connections: usize,
    /// Subscriptions one connection may hold; 0 sets no bound.
    pub max_subscriptions: usize,
    /// Tokens in a subscription's subject; 0 sets no bound.
    pub max_subscription_tokens: usize,
    /// Bytes that may wait for one connection before it is dropped as a slow consumer.
    pub max_pending: usize,
    /// Closed connections that monitoring remembers.
    pub max_closed_clients: usize,
    /// Of failed tries to reach a peer that never was reached, the first is logged and then one in so many.
    pub connect_error_reports: u32,
    /// The same of tries to reach a peer again.
    pub reconnect_error_reports: u32,
    /// Whether a message for a consumer that is behind is dropped instead of slowing its producer.
    pub no_fast_producer_stall: bool,
    /// Whether messages with headers are refused.
    pub no_header_support: bool,
    /// How long a client's socket may take nothing before it is dropped as a slow consumer.
    pub write_deadline: Duration,
    /// What becomes of a client whose socket took nothing for `write_deadline`.
    pub write_timeout: WriteTimeout,
    /// How long a client that must log in may take.
    pub auth_timeout: Duration,
    /// How often a quiet client is asked for a sign of life.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which a client counts as gone.
    pub ping_max: u32,
    /// Over which time a server in lame duck mode closes its connections, grace period included.
    pub lame_duck_duration: Duration,
    /// How long a server in lame duck mode waits before it closes the first connection.
    pub lame_duck_grace_period: Duration,
    /// The monitoring pages.
    pub monitoring: Monitoring,
    /// The cluster this server is a member of.
    pub cluster: Option<Cluster>,
}

/// What happens when a peer's socket took nothing for the write deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteTimeout {
    /// What is usual for the kind of connection: clients are closed, routes get another try.
    #[default]
    Default,
    /// The connection is closed as a slow consumer.
    Close,
    /// It is counted as a slow consumer, and writing goes on.
    Retry,
}

/// An option whose value cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidOption {
    /// `server_name` has a blank in it or is empty.
    #[error("server_name {0:?} must not be empty or contain blanks")]
    ServerName(String),
    /// `max_payload` cannot be delivered within `max_pending`.
    #[error("max_payload ({max_payload}) must not be larger than max_pending ({max_pending})")]
    PayloadOverPending {
        /// The payload bound.
        max_payload: usize,
        /// The bound on waiting bytes.
        max_pending: usize,
    },
    /// `max_payload` is more than nine digits can say, which is all the protocol has.
    #[error("max_payload ({0}) must be below 1,000,000,000")]
    PayloadTooLarge(usize),
    /// `ping_interval`, `write_deadline` or `auth_timeout` is zero, of clients or of the cluster.
    #[error("{0} must be longer than zero")]
    ZeroDuration(&'static str),
    /// A duration is longer than ten years.
    #[error("{0} must not be longer than ten years")]
    EndlessDuration(&'static str),
    /// The grace period leaves no time to close connections.
    #[error(
        "lame_duck_grace_period ({grace:?}) must be shorter than lame_duck_duration ({duration:?})"
    )]
    GraceOverDuration {
        /// The grace period.
        grace: Duration,
        /// The whole time.
        duration: Duration,
    },
    /// What is exchanged with peers is about something that is no subject; queue groups are not among them.
    #[error("{0:?} in permissions of the cluster is not a valid subject")]
    ClusterSubject(String),
    /// A route has no port, and its host is no name of a service.
    #[error("a route without a port must name a service: {0}")]
    RouteService(#[from] BadServiceName),
    /// The token for monitoring helps nobody.
    #[error("http_token {0}")]
    MonitoringToken(#[from] TokenProblem),
    /// Who may come in contradicts itself.
    #[error(transparent)]
    Access(#[from] AccessProblem),
}

/// Longer ones are slips, and would overflow the clock.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Default for Options {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            server_name: None,
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            host: "0.0.0.0".to_owned(),
            port: 4222,
            client_advertise: None,
            tls: None,
            allow_non_tls: false,
            authorization: Access::open(),
            no_system_account: false,
            max_payload: limits.payload_bytes_max,
            max_control_line: limits.control_line_bytes_max,
            max_connections: limits.connections_max,
            max_subscriptions: 0,
            max_subscription_tokens: 0,
            max_pending: limits.pending_bytes_max,
            max_closed_clients: limits.closed_connections_max,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            no_fast_producer_stall: false,
            no_header_support: false,
            write_deadline: limits.write_deadline,
            write_timeout: WriteTimeout::Default,
            auth_timeout: limits.auth_timeout,
            ping_interval: limits.ping_interval,
            ping_max: limits.pings_outstanding_max,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            monitoring: Monitoring::default(),
            cluster: None,
        }
    }
}

impl InvalidOption {
    /// The options it is about, the one to change first, by their names in configuration files.
    #[must_use]
    pub fn options(&self) -> &'static [&'static str] {
        match self {
            Self::ServerName(_) => &["server_name"],
            Self::PayloadOverPending { .. } => &["max_payload", "max_pending"],
            Self::PayloadTooLarge(_) => &["max_payload"],
            Self::ZeroDuration("auth_timeout") | Self::EndlessDuration("auth_timeout") => {
                &["authorization.timeout"]
            }
            Self::ZeroDuration("write_deadline") | Self::EndlessDuration("write_deadline") => {
                &["write_deadline"]
            }
            Self::ZeroDuration("ping_interval") | Self::EndlessDuration("ping_interval") => {
                &["ping_interval"]
            }
            Self::ZeroDuration("cluster.write_deadline")
            | Self::EndlessDuration("cluster.write_deadline") => &["cluster.write_deadline"],
            Self::ZeroDuration("cluster.auth_timeout")
            | Self::EndlessDuration("cluster.auth_timeout") => &["cluster.authorization.timeout"],
            Self::ZeroDuration("cluster.ping_interval")
            | Self::EndlessDuration("cluster.ping_interval") => &["cluster.ping_interval"],
            Self::ZeroDuration(_) | Self::EndlessDuration(_) => &["lame_duck_duration"],
            Self::GraceOverDuration { .. } => &["lame_duck_grace_period", "lame_duck_duration"],
            Self::ClusterSubject(_) => &["cluster.permissions"],
            Self::RouteService(_) => &["cluster.routes"],
            Self::MonitoringToken(_) => &["http_token"],
            Self::Access(_) => &["authorization", "accounts"],
        }
    }
}

impl Options {
    /// Finds every option that cannot work.
    #[must_use]
    pub fn problems(&self) -> Vec<InvalidOption> {
        let mut problems = Vec::new();
        if let Some(name) = &self.server_name
            && (name.is_empty() || name.contains(char::is_whitespace))
        {
            problems.push(InvalidOption::ServerName(name.clone()));
        }
        if self.max_payload > self.max_pending {
            problems.push(InvalidOption::PayloadOverPending {
                max_payload: self.max_payload,
                max_pending: self.max_pending,
            });
        }
        if self.max_payload >= 1_000_000_000 {
            problems.push(InvalidOption::PayloadTooLarge(self.max_payload));
        }
        let durations = [
            ("write_deadline", self.write_deadline),
            ("auth_timeout", self.auth_timeout),
            ("ping_interval", self.ping_interval),
        ];
        let of_cluster = self.cluster.iter().flat_map(|cluster| {
            [
                ("cluster.write_deadline", cluster.write_deadline),
                ("cluster.auth_timeout", cluster.auth_timeout),
                ("cluster.ping_interval", cluster.ping_interval),
            ]
        });
        let durations: Vec<(&'static str, Duration)> =
            durations.into_iter().chain(of_cluster).collect();
        problems.extend(
            durations
                .iter()
                .copied()
                .filter(|(_, duration)| duration.is_zero())
                .map(|(name, _)| InvalidOption::ZeroDuration(name)),
        );
        problems.extend(
            durations
                .into_iter()
                .chain([("lame_duck_duration", self.lame_duck_duration)])
                .filter(|(_, duration)| *duration > DURATION_MAX)
                .map(|(name, _)| InvalidOption::EndlessDuration(name)),
        );
        if self.lame_duck_grace_period >= self.lame_duck_duration {
            problems.push(InvalidOption::GraceOverDuration {
                grace: self.lame_duck_grace_period,
                duration: self.lame_duck_duration,
            });
        }
        if let Some(permissions) = self.cluster.as_ref().and_then(|it| it.permissions.as_ref()) {
            problems.extend(cluster_subjects(permissions));
        }
        let routes = self.cluster.iter().flat_map(|cluster| &cluster.routes);
        problems.extend(
            routes
                .filter(|route| route.port.is_none())
                .filter_map(|route| check_name(&route.host).err())
                .map(InvalidOption::RouteService),
        );
        problems.extend(
            self.monitoring
                .token_problem()
                .map(InvalidOption::MonitoringToken),
        );
        problems.extend(
            self.access()
                .problems()
                .into_iter()
                .map(InvalidOption::Access),
        );
        problems
    }

    /// Who may come in, with what `tls` says of it.
    pub(crate) fn access(&self) -> Access {
        let maps = self.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
        Access {
            verify_and_map: self.authorization.verify_and_map || maps,
            ..self.authorization.clone()
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let some = |bound: usize| (bound > 0).then_some(bound);
        Limits {
            payload_bytes_max: self.max_payload,
            control_line_bytes_max: self.max_control_line,
            connections_max: some(self.max_connections).unwrap_or(usize::MAX),
            subscriptions_max: some(self.max_subscriptions),
            subscription_tokens_max: some(self.max_subscription_tokens),
            pending_bytes_max: self.max_pending,
            write_deadline: self.write_deadline,
            auth_timeout: self.auth_timeout,
            ping_interval: self.ping_interval,
            pings_outstanding_max: self.ping_max,
            write_timeout: match self.write_timeout {
                WriteTimeout::Default => natterjack_engine::WriteTimeout::Default,
                WriteTimeout::Close => natterjack_engine::WriteTimeout::Close,
                WriteTimeout::Retry => natterjack_engine::WriteTimeout::Retry,
            },
            stall_producers: !self.no_fast_producer_stall,
            closed_connections_max: self.max_closed_clients,
        }
    }
}

/// What is no subject in permissions of a cluster. The rules for publishing hold for both directions.
fn cluster_subjects(permissions: &Permissions) -> impl Iterator<Item = InvalidOption> {
    let rules = [&permissions.publish, &permissions.subscribe].map(|rules| Access {
        default_permissions: Some(Permissions {
            publish: rules.clone(),
            ..Permissions::default()
        }),
        ..Access::default()
    });
    rules
        .into_iter()
        .flat_map(|access| access.problems())
        .filter_map(|problem| match problem {
            AccessProblem::InvalidSubject { subject, .. } => {
                Some(InvalidOption::ClusterSubject(subject))
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_no_problems() {
        assert_eq!(Options::default().problems(), []);
    }

    #[test]
    fn routes_without_a_port_name_services() {
        let route = |host: &str| RouteUrl {
            host: host.to_owned(),
            port: None,
            user: None,
            password: None,
            tls: false,
        };
        let options = Options {
            cluster: Some(Cluster {
                routes: vec![route("_nats-route._tcp.example.net"), route("nats-1")],
                ..Cluster::default()
            }),
            ..Options::default()
        };
        let problem = InvalidOption::RouteService(BadServiceName::NoService);
        assert_eq!(options.problems(), [problem]);
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let options = Options {
            server_name: Some("two words".to_owned()),
            max_payload: 2_000_000_000,
            ping_interval: Duration::ZERO,
            lame_duck_grace_period: Duration::from_secs(300),
            ..Options::default()
        };
        let texts: Vec<String> = options.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "server_name \"two words\" must not be empty or contain blanks",
                "max_payload (2000000000) must not be larger than max_pending (67108864)",
                "max_payload (2000000000) must be below 1,000,000,000",
                "ping_interval must be longer than zero",
                "lame_duck_grace_period (300s) must be shorter than lame_duck_duration (120s)",
            ]
        );
    }

    #[test]
    fn durations_of_a_cluster_are_looked_at_too() {
        let options = Options {
            cluster: Some(Cluster {
                ping_interval: Duration::ZERO,
                auth_timeout: Duration::MAX,
                ..Cluster::default()
            }),
            ..Options::default()
        };
        let problems = options.problems();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "cluster.ping_interval must be longer than zero",
                "cluster.auth_timeout must not be longer than ten years",
            ]
        );
        let names: Vec<_> = problems.iter().map(InvalidOption::options).collect();
        assert_eq!(
            names,
            [["cluster.ping_interval"], ["cluster.authorization.timeout"]]
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let options = Options {
            authorization: Access::token("s3cret"),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
