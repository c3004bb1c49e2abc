//! The embedded server: what its settings mean in the server's own options, and its life. The only place that touches
//! the server crate.

use std::io;

use natterjack_server::{Cluster, Endpoint, Monitoring, Options, RouteUrl, Server, Tls};

use crate::bus::StartError;
use crate::settings::{self, Listen, is_loopback};

/// Runs until shut down or dropped.
pub(crate) struct Embedded {
    server: Server,
}

impl Embedded {
    pub(crate) async fn start(settings: &settings::Nats) -> Result<Self, StartError> {
        match Server::start(options(settings)).await {
            Ok(server) => Ok(Self { server }),
            Err(error) => Err(start_error(error)),
        }
    }

    pub(crate) fn client_url(&self) -> String {
        self.server.client_url()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) async fn shutdown(&self) {
        self.server.shutdown().await;
    }
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
        host: server.client.host.clone(),
        port: server.client.port,
        cluster: Some(cluster(server, tls.clone())),
        tls,
        monitoring,
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
fn tls(settings: &settings::Tls) -> Tls {
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

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
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
