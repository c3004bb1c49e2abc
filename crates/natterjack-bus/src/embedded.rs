//! The embedded server: what its settings mean in the server's own options, and its life. The only place that knows
//! the server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use natterjack_server::monitoring::{Exposition, MonitoringSource};
use natterjack_server::{
    Cluster, Endpoint, InProcessClient, InProcessConnection, Monitoring, Options, ReloadError,
    RouteUrl, SeedState, Server, Tls,
};

use crate::client::lapse;
use crate::error::StartError;
use crate::health::{ServerHealth, Watch};
use crate::settings::{self, Listen, is_loopback, unbracketed};
use crate::survey::{Surveyed, survey, survey_by, tag};
use crate::transport::{Channel, channel_subject};

/// How long nodes that are clients of a server which stops may take to go elsewhere. They take about as long as words do
/// between the servers, and some have nowhere to go.
const RETIREMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often is looked whether they have gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs until shut down or dropped.
pub(crate) struct Embedded {
    server: Arc<Server>,
    is_stopped: AtomicBool,
    /// What every node of the bus subscribes to.
    nodes_subject: String,
}

impl Embedded {
    pub(crate) async fn start(settings: &settings::Nats) -> Result<Self, StartError> {
        match Server::start(options(settings)).await {
            Ok(server) => Ok(Self {
                server: Arc::new(server),
                is_stopped: AtomicBool::new(false),
                nodes_subject: nodes_subject(settings),
            }),
            Err(error) => Err(start_error(error)),
        }
    }

    pub(crate) fn client_url(&self) -> String {
        self.server.client_url()
    }

    pub(crate) fn client_port(&self) -> u16 {
        self.server.client_addr().port()
    }

    pub(crate) fn cluster_url(&self) -> Option<String> {
        let address = dialled(self.server.cluster_addr()?);
        Some(format!("nats://{address}"))
    }

    pub(crate) fn monitoring_url(&self) -> Option<String> {
        if let Some(address) = self.server.monitoring_tls_addr() {
            return Some(format!("https://{}", dialled(address)));
        }
        let address = dialled(self.server.monitoring_addr()?);
        Some(format!("http://{address}"))
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Makes connections to it without a socket, as long as it runs.
    pub(crate) fn connector(&self) -> Box<dyn Fn() -> Option<InProcessConnection> + Send> {
        let server = Arc::downgrade(&self.server);
        Box::new(move || server.upgrade()?.in_process_connection().ok())
    }

    pub(crate) fn health(&self) -> ServerHealth {
        let [dropped_clients, dropped_servers] = self.dropped_connections();
        ServerHealth {
            url: self.client_url(),
            is_running: !self.is_stopped.load(Relaxed),
            peers: self.peers().into_iter().map(|peer| peer.name).collect(),
            routes: self.routes(),
            dropped_clients,
            dropped_servers,
        }
    }

    /// How many servers it is told to connect to.
    fn routes(&self) -> usize {
        let options = self.server.options();
        options
            .cluster
            .as_ref()
            .map_or(0, |cluster| cluster.routes.len())
    }

    /// Has it go by other settings. Clients stay connected.
    pub(crate) async fn reload(&self, settings: &settings::Nats) -> Result<(), ReloadError> {
        self.server.reload(options(settings)).await.map(drop)
    }

    /// Whether it is known of every route whether somebody is there: connected, this very server, or dialled in vain.
    pub(crate) fn has_settled_routes(&self) -> bool {
        let mesh = self.server.mesh();
        mesh.is_none_or(|mesh| !mesh.seeds.contains(&SeedState::Underway))
    }

    /// Connections closed because they did not keep up: those of clients, and those to other servers.
    pub(crate) fn dropped_connections(&self) -> [u64; 2] {
        let dropped = self.server.totals().slow_consumers_by_kind;
        [dropped.clients, dropped.routes]
    }

    /// The servers it is connected with.
    pub(crate) fn peers(&self) -> Vec<natterjack_server::PeerSnapshot> {
        self.server
            .mesh()
            .map(|mesh| mesh.peers)
            .unwrap_or_default()
    }

    /// Has the server's monitoring show the bus as well, as long as there is one.
    pub(crate) fn show(&self, watch: &Arc<Watch>) {
        let shown = Shown(Arc::downgrade(watch));
        self.server.add_monitoring(Arc::new(shown));
    }

    /// What the servers of the cluster say of their nodes, as far as they do in time.
    pub(crate) async fn survey(&self, patience: Duration) -> Vec<Surveyed> {
        survey(&self.server, &self.nodes_subject, patience).await
    }

    /// Stops it. Nodes elsewhere that are its clients are asked to go to another server first, and may take their time for
    /// that, as long as there is `patience`.
    pub(crate) async fn retire(&self, patience: impl Future<Output = ()>) {
        self.is_stopped.store(true, Relaxed);
        let leaving = async {
            // It takes no clients later.
            let Ok(client) = self.server.in_process_client() else {
                return;
            };
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            let mut is_asked = false;
            while !self.peers().is_empty() && self.has_clients(&client).await {
                if !is_asked {
                    is_asked = true;
                    // Until it is stopped, below at the latest: this ends when it is.
                    let server = Arc::clone(&self.server);
                    tokio::spawn(async move { server.lame_duck().await });
                }
                looks.tick().await;
            }
        };
        tokio::select! {
            () = leaving => {}
            () = patience => {}
            () = lapse(RETIREMENT_TIMEOUT) => {}
        }
        self.server.shutdown().await;
    }

    /// Whether nodes are its clients.
    async fn has_clients(&self, client: &InProcessClient) -> bool {
        let surveyed = survey_by(client, &self.nodes_subject, LOOK_INTERVAL).await;
        let own = surveyed
            .iter()
            .find(|surveyed| surveyed.id == self.server.server_id());
        // It has not answered in time.
        own.is_none_or(|own| own.has_clients)
    }
}

/// The bus, in the monitoring of its server.
struct Shown(Weak<Watch>);

impl MonitoringSource for Shown {
    fn write_metrics(&self, exposition: &mut Exposition) {
        if let Some(watch) = self.0.upgrade() {
            watch.metrics().write(exposition);
        }
    }

    fn page_name(&self) -> Option<&'static str> {
        Some("busz")
    }

    fn page(&self) -> serde_json::Value {
        let watch = self.0.upgrade();
        watch.map_or(serde_json::Value::Null, |watch| watch.metrics().glance())
    }
}

fn nodes_subject(settings: &settings::Nats) -> String {
    channel_subject(&settings.client.subject, Channel::Health)
}

fn options(settings: &settings::Nats) -> Options {
    let server = &settings.server;
    let tls = settings.tls.enable.then(|| tls(&settings.tls));
    let pages = Some(endpoint(&server.http));
    // The pages turn to HTTPS with everything else. They ask nobody for a certificate, as those of nats-server.
    let monitoring = if tls.is_some() {
        Monitoring {
            https: pages,
            ..Monitoring::default()
        }
    } else {
        Monitoring {
            http: pages,
            ..Monitoring::default()
        }
    };
    Options {
        server_name: Some(server.name.clone()),
        server_tags: vec![tag(&nodes_subject(settings))],
        host: server.client.host.clone(),
        port: server.client.port,
        cluster: Some(cluster(server, tls.clone())),
        tls,
        monitoring,
        // One that is gone is tried every second, for ever; it is told of when that begins, and then each minute.
        reconnect_error_reports: 60,
        ..Options::default()
    }
}

fn cluster(server: &settings::Server, tls: Option<Tls>) -> Cluster {
    let cluster = &server.cluster;
    Cluster {
        name: Some(cluster.name.clone()),
        listen: Some(endpoint(&cluster.listen)),
        routes: cluster.routes.iter().map(route).collect(),
        advertise: cluster.advertise.clone(),
        // Nobody elsewhere can do anything with a loopback address, and whoever is here has no need of other servers.
        no_advertise: is_loopback(&server.client.host),
        tls,
        ..Cluster::default()
    }
}

/// One certificate for all listeners and for dialling. Peers and clients must always show theirs, also where what is
/// dialled is not verified.
pub(crate) fn tls(settings: &settings::Tls) -> Tls {
    Tls {
        cert_file: settings.certificate.clone(),
        key_file: settings.key.clone(),
        ca_files: settings.authorities.clone(),
        verify: true,
        insecure: settings.skip_verify,
        ..Tls::default()
    }
}

fn endpoint(listen: &Listen) -> Endpoint {
    Endpoint {
        host: unbracketed(&listen.host).into(),
        port: listen.port,
    }
}

fn route(route: &settings::Endpoint) -> RouteUrl {
    RouteUrl {
        host: unbracketed(&route.host).into(),
        port: Some(route.port),
        user: None,
        password: None,
        tls: route.scheme == "tls",
    }
}

/// An address that can be dialled on this host.
fn dialled(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn start_error(error: natterjack_server::StartError) -> StartError {
    use natterjack_server::StartError as Cause;
    let (section, host, port, source) = match error {
        Cause::Bind { host, port, source } => ("client", host, port, source),
        Cause::BindMonitoring { host, port, source } => ("http", host, port, source),
        Cause::BindCluster { host, port, source } => ("cluster", host, port, source),
        other => return StartError::Server(Box::new(other)),
    };
    if source.kind() == io::ErrorKind::AddrInUse {
        return StartError::PortInUse {
            section,
            host,
            port,
            source,
        };
    }
    StartError::CannotListen {
        section,
        host,
        port,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn servers_without_nodes_say_so() {
        let listen = Endpoint {
            host: "127.0.0.1".into(),
            port: 0,
        };
        let other = Server::start(Options {
            host: listen.host.clone(),
            port: 0,
            cluster: Some(Cluster {
                name: Some("bindplane".into()),
                listen: Some(listen),
                ..Cluster::default()
            }),
            ..Options::default()
        });
        let other = other.await.expect("it starts");
        let mut settings = settings::Nats {
            server: settings::Server::on_free_ports(),
            ..settings::Nats::default()
        };
        let address = other.cluster_addr().expect("it is in a cluster");
        settings.server.cluster.routes = vec![settings::Endpoint {
            scheme: "nats".into(),
            host: address.ip().to_string(),
            port: address.port(),
        }];
        let embedded = Embedded::start(&settings).await.expect("it starts");
        let told = async |server: &Server, is_without: bool| {
            let is_told = |surveyed: &Surveyed| {
                surveyed.id == server.server_id() && surveyed.is_without_nodes == is_without
            };
            let looking = async {
                let patience = Duration::from_millis(50);
                while !embedded.survey(patience).await.iter().any(is_told) {}
            };
            let told = tokio::time::timeout(DEADLINE, looking).await;
            told.unwrap_or_else(|_| panic!("it does not say {is_without}"));
        };
        told(&other, true).await;
        let node = other.in_process_client().expect("it runs");
        let subject = &settings.client.subject;
        let _events = node.subscribe(subject).await.expect("it runs");
        told(&other, true).await;
        let health = format!("{subject}.health");
        let _health = node.subscribe(&health).await.expect("it runs");
        told(&other, false).await;
        // Nobody has subscribed yet, but somebody will.
        told(embedded.server(), false).await;
    }
}
