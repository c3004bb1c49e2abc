//! The server's part in a cluster: where other servers come in, how they are dialled, and what names of them stand for.
//! Whom to dial and whom to let in is decided in the engine's mesh.

mod dialler;
pub(crate) mod discovery;
mod listener;
mod route;
mod seeds;
mod settings;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use natterjack_dns::Resolver;
use natterjack_engine::{CloseReason, Engine, MeshSnapshot, Outbox};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use self::discovery::Discovery;
pub(crate) use self::settings::settings;
use crate::lifecycle::Phase;
use crate::net::compressed::Kits;
use crate::net::listener::bind;
use crate::net::newcomers::Newcomers;
use crate::options::{Options, RouteUrl};
use crate::server::{Shared, StartError};
use crate::tls;

/// Sockets for routes that listen already, and what connections to them are encrypted with.
pub(crate) struct Bound {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    tls: tls::Acceptor,
}

/// What the connections of a server with others share.
pub(crate) struct Cluster {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Arc<tls::Acceptor>,
    kits: Arc<Kits>,
    newcomers: Arc<Newcomers>,
    discovery: Discovery,
    /// Encrypted routes by their number, with the fingerprints that they may be pinned by.
    encrypted: Mutex<BTreeMap<u64, Encrypted>>,
}

struct Encrypted {
    fingerprint: Option<String>,
    outbox: Arc<Outbox>,
}

impl Bound {
    /// `None` if the server is in no cluster.
    ///
    /// # Errors
    /// If TLS cannot work as configured, or the address is not to be had.
    pub(crate) async fn new(options: &Options) -> Result<Option<Self>, StartError> {
        let Some(cluster) = &options.cluster else {
            return Ok(None);
        };
        let Some(listen) = &cluster.listen else {
            tracing::warn!("The cluster has no port to listen on: this server stays alone");
            return Ok(None);
        };
        let tls =
            tls::Acceptor::for_servers(cluster.tls.as_ref()).map_err(StartError::ClusterTls)?;
        let bind_error = |source| StartError::BindCluster {
            host: listen.host.clone(),
            port: listen.port,
            source,
        };
        let listeners = bind(&listen.host, listen.port).await.map_err(bind_error)?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()
            .map_err(bind_error)?;
        Ok(Some(Self {
            listeners,
            addresses,
            tls,
        }))
    }

    /// The port that was really bound.
    pub(crate) fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Takes it apart into what is shared, and the sockets.
    pub(crate) fn open(self, engine: &Arc<Engine>) -> (Cluster, Vec<TcpListener>) {
        let told = Arc::clone(engine);
        let discovery = Discovery::new(
            Resolver::system(),
            fastrand::u64(..),
            Box::new(move |route, targets, now| {
                if let Some(mesh) = told.mesh() {
                    mesh.set_seed_targets(route, targets, now);
                }
            }),
        );
        let cluster = Cluster {
            addresses: self.addresses,
            tls: Arc::new(self.tls),
            kits: Arc::default(),
            newcomers: Arc::default(),
            discovery,
            encrypted: Mutex::default(),
        };
        (cluster, self.listeners)
    }
}

impl Cluster {
    /// Takes over the routes of a configuration; `apply` lets the mesh do so.
    pub(crate) fn replace<R>(&self, routes: &[RouteUrl], apply: impl FnOnce() -> R) -> R {
        self.discovery.replace(routes, apply)
    }

    /// Closes the routes whose peers' certificates are pinned no more, as nats-server does after a reload.
    pub(crate) fn close_unpinned(&self) {
        let Some(context) = self.tls.current() else {
            return;
        };
        let encrypted = self.encrypted.lock();
        let unpinned =
            (encrypted.values()).filter(|route| !context.is_pinned(route.fingerprint.as_deref()));
        let mut closed = 0;
        for route in unpinned {
            route.outbox.close(CloseReason::TlsHandshakeFailure);
            closed += 1;
        }
        if closed > 0 {
            tracing::info!("Disconnect {closed} routes due to pinned certs reload");
        }
    }

    /// Says in the log what may be dangerous.
    pub(crate) fn announce(&self) {
        if (self.tls.current()).is_some_and(|context| context.options().insecure) {
            tracing::warn!(
                "TLS certificate chain and hostname of solicited routes will not be verified. DO NOT USE IN PRODUCTION!"
            );
        }
    }
}

/// Begins to accept and to dial.
pub(crate) fn start(shared: &Arc<Shared>, listeners: Vec<TcpListener>) {
    let (Some(cluster), Some(mesh)) = (&shared.cluster, shared.engine.mesh()) else {
        return;
    };
    let MeshSnapshot {
        name, is_dynamic, ..
    } = mesh.snapshot();
    tracing::info!("Cluster name is {name}");
    if is_dynamic {
        tracing::warn!("Cluster name was dynamically generated, consider setting one");
    }
    for (listener, address) in listeners.into_iter().zip(&cluster.addresses) {
        tracing::info!("Listening for route connections on {address}");
        let accepting = shared.lifecycle.route_listeners.own_pass();
        tokio::spawn(listener::accept(Arc::clone(shared), listener, accepting));
    }
    cluster.announce();
    let options = shared.options();
    let routes = options.cluster.as_ref().map(|it| it.routes.as_slice());
    cluster.replace(routes.unwrap_or_default(), || {});
    tokio::spawn(dialler::run(Arc::clone(shared)));
    let watched = Arc::clone(shared);
    tokio::spawn(async move {
        let Some(cluster) = &watched.cluster else {
            return;
        };
        tokio::select! {
            () = cluster.discovery.run() => {}
            () = cluster.tls.watch() => {}
            () = watched.lifecycle.reached(Phase::Closing) => {}
        }
    });
}
