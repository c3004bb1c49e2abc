//! `/varz`: the server as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use natterjack_engine::{ByKind, RouteSnapshot};
use serde::Serialize;

use super::absent::Absent;
use super::facts::{Load, ServerFacts};
use super::format::{Time, Uptime, is_default, nanoseconds};
use crate::options::{Cluster, Endpoint, Options, RouteUrl, Tls, WriteTimeout};

/// The server: identity, options, load. Field by field what nats-server 2.15.1 shows; what belongs to features
/// that are not there is empty or 0, as it is there without them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Varz {
    /// The server's id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// The nats-server version it behaves like.
    pub version: String,
    /// Protocol level.
    pub proto: i64,
    /// Source revision it was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// What it is: where nats-server tells its version of Go.
    pub go: String,
    /// Host clients connect to.
    pub host: String,
    /// Port clients connect to.
    pub port: u16,
    /// Whether clients must log in.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_required: bool,
    /// Whether clients must use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether clients must show a certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Addresses that clients are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Option of this name.
    pub max_connections: usize,
    /// Option of this name; 0 for no bound.
    #[serde(skip_serializing_if = "is_default")]
    pub max_subscriptions: usize,
    /// Option of this name.
    #[serde(serialize_with = "nanoseconds")]
    pub ping_interval: Duration,
    /// Option of this name.
    pub ping_max: u32,
    /// Host of the monitoring pages.
    pub http_host: String,
    /// Their port as configured: -1 for any free one, 0 for none.
    pub http_port: i32,
    /// Option of this name.
    pub http_base_path: String,
    /// Port of the encrypted monitoring pages, as configured.
    pub https_port: i32,
    /// Option of this name, in seconds.
    pub auth_timeout: f64,
    /// Option of this name, in bytes.
    pub max_control_line: usize,
    /// Option of this name, in bytes.
    pub max_payload: usize,
    /// Option of this name, in bytes.
    pub max_pending: usize,
    /// How the server is a member of a cluster.
    pub cluster: ClusterVarz,
    /// Not there.
    pub gateway: Absent,
    /// Not there.
    pub leaf: Absent,
    /// Not there.
    pub mqtt: Absent,
    /// Not there.
    pub websocket: Absent,
    /// Not there.
    pub jetstream: Absent,
    /// How long a handshake may take, in seconds.
    pub tls_timeout: f64,
    /// Option of this name.
    #[serde(serialize_with = "nanoseconds")]
    pub write_deadline: Duration,
    /// Option of this name, if it is not the default.
    #[serde(skip_serializing_if = "is_default")]
    pub write_timeout: &'static str,
    /// When the server started.
    pub start: Time,
    /// When this was written.
    pub now: Time,
    /// How long the server runs.
    pub uptime: Uptime,
    /// Memory of the process, in bytes.
    pub mem: u64,
    /// Processors the process may use.
    pub cores: usize,
    /// The same number.
    pub gomaxprocs: usize,
    /// Processor time, in percent of one core.
    pub cpu: f64,
    /// Connections that are open.
    pub connections: usize,
    /// Connections ever accepted.
    pub total_connections: u64,
    /// Connections to other servers.
    pub routes: usize,
    /// Other servers.
    pub remotes: usize,
    /// Leaf nodes.
    pub leafnodes: usize,
    /// Messages received.
    pub in_msgs: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Messages received from clients.
    pub in_client_msgs: u64,
    /// Their bytes.
    pub in_client_bytes: u64,
    /// Messages delivered.
    pub out_msgs: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Messages delivered to clients.
    pub out_client_msgs: u64,
    /// Their bytes.
    pub out_client_bytes: u64,
    /// Connections closed because they could not keep up.
    pub slow_consumers: u64,
    /// Connections closed because they did not answer.
    pub stale_connections: u64,
    /// Times a producer was held back for a consumer.
    pub stalled_clients: u64,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Requests for each page.
    pub http_req_stats: BTreeMap<&'static str, u64>,
    /// When the configuration was read.
    pub config_load_time: Time,
    /// Digest of its files, if it comes from files.
    pub config_digest: String,
    /// Option `server_tags`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Option `server_metadata`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Flags; all that nats-server has are about JetStream.
    pub feature_flags: BTreeMap<&'static str, bool>,
    /// Name of the system account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// `slow_consumers` by kind of connection.
    pub slow_consumer_stats: KindCounts,
    /// `stale_connections` by kind of connection.
    pub stale_connection_stats: KindCounts,
    /// JetStream's waiting for disks.
    pub disk_io_wait_stats: DiskWaits,
    /// When the certificate that clients are shown ends to be valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Time>,
}

/// How the server is a member of a cluster; `{}` if it is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClusterVarz {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Host routes are listened for on.
    #[serde(skip_serializing_if = "is_default")]
    pub addr: String,
    /// Port routes are listened for on.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_port: u16,
    /// How long a peer may take to log in, in seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_timeout: f64,
    /// `host:port` of configured peers.
    #[serde(skip_serializing_if = "is_default")]
    pub urls: Vec<String>,
    /// How long a handshake may take, in seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_timeout: f64,
    /// Whether routes use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether peers show certificates, which they do if routes use TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Connections per peer; -1 without pooling.
    #[serde(skip_serializing_if = "is_default")]
    pub pool_size: i32,
    /// How long a peer's socket may take nothing, if that is not the default.
    #[serde(skip_serializing_if = "is_default", serialize_with = "nanoseconds")]
    pub write_deadline: Duration,
    /// What becomes of it then, if that is not the default.
    #[serde(skip_serializing_if = "is_default")]
    pub write_timeout: &'static str,
    /// When the certificate that other servers are shown ends to be valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_not_after: Option<Time>,
}

/// A count for each kind of connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindCounts {
    /// Clients.
    pub clients: u64,
    /// Routes to other servers of the cluster.
    pub routes: u64,
    /// Gateways to other clusters.
    pub gateways: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

/// Waiting for disks, all 0: nothing is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskWaits {
    /// Who waits.
    pub waiters: u64,
    /// Who had to.
    pub waits: u64,
    /// How long, in nanoseconds.
    pub wait_time: u64,
    /// How long at most, in nanoseconds.
    pub max_wait_time: u64,
}

pub(crate) fn varz(facts: &ServerFacts, load: Load) -> Varz {
    let (info, options) = (&facts.info, &facts.options);
    let monitoring = &options.monitoring;
    let totals = &load.totals;
    Varz {
        server_id: info.server_id.clone(),
        server_name: info.server_name.clone(),
        version: info.version.clone(),
        proto: info.proto,
        git_commit: info.git_commit.clone(),
        go: info.go.clone(),
        host: info.host.clone(),
        port: info.port,
        // INFO does not ask for credentials then, and nats-server says true all the same.
        auth_required: info.auth_required || options.authorization.no_auth_user.is_some(),
        tls_required: info.tls_required,
        tls_verify: info.tls_verify,
        connect_urls: info.connect_urls.clone(),
        max_connections: options.max_connections,
        max_subscriptions: options.max_subscriptions,
        ping_interval: options.ping_interval,
        ping_max: options.ping_max,
        http_host: http_host(options),
        http_port: port(monitoring.http.as_ref()),
        http_base_path: monitoring.base_path.clone(),
        https_port: port(monitoring.https.as_ref()),
        auth_timeout: options.auth_timeout.as_secs_f64(),
        max_control_line: options.max_control_line,
        max_payload: options.max_payload,
        max_pending: options.max_pending,
        cluster: (options.cluster.as_ref())
            .map(|options| cluster(options, facts))
            .unwrap_or_default(),
        gateway: Absent {},
        leaf: Absent {},
        mqtt: Absent {},
        websocket: Absent {},
        jetstream: Absent {},
        tls_timeout: tls_timeout(options.tls.as_ref()),
        write_deadline: options.write_deadline,
        write_timeout: write_timeout(options.write_timeout),
        start: facts.time_of(facts.started),
        now: facts.time_of(facts.now),
        uptime: facts.since(facts.started),
        mem: load.memory_bytes,
        cores: load.cores,
        gomaxprocs: load.cores,
        cpu: load.cpu_percent,
        connections: load.connections,
        total_connections: totals.connections,
        routes: load.routes.len(),
        remotes: peers(&load.routes),
        leafnodes: 0,
        in_msgs: totals.messages_in,
        in_bytes: totals.bytes_in,
        in_client_msgs: totals.messages_in.saturating_sub(totals.routes.messages_in),
        in_client_bytes: totals.bytes_in.saturating_sub(totals.routes.bytes_in),
        out_msgs: totals.messages_out,
        out_bytes: totals.bytes_out,
        out_client_msgs: totals
            .messages_out
            .saturating_sub(totals.routes.messages_out),
        out_client_bytes: totals.bytes_out.saturating_sub(totals.routes.bytes_out),
        slow_consumers: totals.slow_consumers,
        stale_connections: totals.stale_connections,
        stalled_clients: totals.stalls,
        subscriptions: load.subscriptions,
        http_req_stats: load.requests,
        config_load_time: Time(facts.provenance.loaded),
        config_digest: facts.provenance.digest.clone(),
        tags: options.server_tags.clone(),
        metadata: options.server_metadata.clone(),
        feature_flags: BTreeMap::new(),
        system_account: facts.system_account.clone(),
        slow_consumer_stats: totals.slow_consumers_by_kind.into(),
        stale_connection_stats: totals.stale_connections_by_kind.into(),
        disk_io_wait_stats: DiskWaits::default(),
        tls_cert_not_after: facts.certificate_not_after.map(Time),
    }
}

fn http_host(options: &Options) -> String {
    let monitoring = &options.monitoring;
    let endpoint = monitoring.http.as_ref().or(monitoring.https.as_ref());
    // nats-server shows the host of the clients' listener where no other is configured.
    endpoint.map_or_else(|| options.host.clone(), |endpoint| endpoint.host.clone())
}

/// A port as nats-server has it in its options, where 0 is none and -1 any.
fn port(endpoint: Option<&Endpoint>) -> i32 {
    endpoint.map_or(0, |endpoint| match endpoint.port {
        0 => -1,
        port => port.into(),
    })
}

/// Servers that routes lead to.
fn peers(routes: &[RouteSnapshot]) -> usize {
    let ids: BTreeSet<&str> = routes.iter().map(|route| &*route.facts.peer_id).collect();
    ids.len()
}

fn cluster(cluster: &Cluster, facts: &ServerFacts) -> ClusterVarz {
    let listen = cluster.listen.as_ref();
    let default = Cluster::default();
    let pool_size = |cluster: &Cluster| cluster.pool_size.map_or(-1, i32::from);
    let mut shown = ClusterVarz {
        name: match (listen, &cluster.name) {
            (None, Some(name)) => name.clone(),
            _ => facts.info.cluster.clone(),
        },
        addr: listen.map(|listen| listen.host.clone()).unwrap_or_default(),
        cluster_port: facts.cluster_port,
        auth_timeout: cluster.auth_timeout.as_secs_f64(),
        urls: cluster.routes.iter().map(RouteUrl::address).collect(),
        tls_timeout: tls_timeout(cluster.tls.as_ref()),
        tls_required: cluster.tls.is_some(),
        tls_verify: cluster.tls.is_some(),
        pool_size: pool_size(cluster),
        write_deadline: unless_default(cluster.write_deadline, default.write_deadline),
        write_timeout: write_timeout(cluster.write_timeout),
        tls_cert_not_after: facts.route_certificate_not_after.map(Time),
    };
    if listen.is_none() {
        // nats-server fills in defaults only where it listens. With TLS a peer has a second more to log in.
        let auth_timeout = match &cluster.tls {
            Some(tls) => tls.timeout + Duration::from_secs(1),
            None => default.auth_timeout,
        };
        shown.auth_timeout = unless_default(shown.auth_timeout, auth_timeout.as_secs_f64());
        shown.tls_timeout = unless_default(shown.tls_timeout, tls_timeout(None));
        shown.pool_size = unless_default(shown.pool_size, pool_size(&default));
    }
    shown
}

/// The value, or nothing if it is the default.
fn unless_default<T: PartialEq + Default>(value: T, default: T) -> T {
    if value == default {
        T::default()
    } else {
        value
    }
}

fn write_timeout(what: WriteTimeout) -> &'static str {
    match what {
        WriteTimeout::Default => "",
        WriteTimeout::Close => "close",
        WriteTimeout::Retry => "retry",
    }
}

fn tls_timeout(tls: Option<&Tls>) -> f64 {
    let default = Tls::default;
    tls.map_or_else(|| default().timeout, |tls| tls.timeout)
        .as_secs_f64()
}

impl From<ByKind> for KindCounts {
    fn from(counts: ByKind) -> Self {
        Self {
            clients: counts.clients,
            routes: counts.routes,
            gateways: counts.gateways,
            leafs: counts.leaf_nodes,
        }
    }
}
