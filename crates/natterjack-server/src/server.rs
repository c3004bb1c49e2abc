//! The server's handle: start, addresses, in-process clients, lame duck, shutdown.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use natterjack_engine::{CloseReason, Engine, Mesh, MeshSnapshot, Peer, Settings, Totals, Trust};
use parking_lot::RwLock;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::clock::now;
use crate::cluster::{self, Cluster};
use crate::identity::{nonce, server_id, server_info};
use crate::in_process::{ClientError, InProcessClient, InProcessConnection};
use crate::lifecycle::{Lifecycle, Phase};
use crate::long_work::LongWork;
use crate::monitoring::{self, Monitor};
use crate::net::secured::Scratch;
use crate::net::{connection, listener, pipe};
use crate::options::{InvalidOption, Options};
use crate::system::{self, System};
use crate::tls;
use crate::workers::Workers;

/// How long a server that stops waits for its connections to finish the batch they are at.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long it then waits for their last bytes to be taken.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Connections in lame duck mode are closed at most this far apart.
const LAME_DUCK_STEP_MAX: Duration = Duration::from_secs(1);

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Options that cannot work; all of them.
    #[error("invalid options: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Options(Vec<InvalidOption>),
    /// The client listener's address is not to be had.
    #[error("cannot listen for clients on {host}:{port}: {source}")]
    Bind {
        /// Option `host`.
        host: String,
        /// Option `port`.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// TLS cannot work with these options and files; all that is wrong with them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Tls(Vec<tls::TlsProblem>),
    /// The same for routes.
    #[error("TLS of routes: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ClusterTls(Vec<tls::TlsProblem>),
    /// The address to listen on for routes is not to be had.
    #[error("cannot listen for routes on {host}:{port}: {source}")]
    BindCluster {
        /// Host that the cluster listens on.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A monitoring listener's address is not to be had.
    #[error("cannot listen for monitoring on {host}:{port}: {source}")]
    BindMonitoring {
        /// Host of the option `http` or `https`.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// Sockets that listen already, for instance because a service manager opened them before it started the process.
/// What is empty is opened by the server as its options say.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients.
    pub clients: Vec<std::net::TcpListener>,
    /// For the monitoring pages in clear text.
    pub monitoring: Option<std::net::TcpListener>,
}

/// What all tasks of a server share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) workers: Workers,
    pub(crate) lifecycle: Lifecycle,
    /// Comparing passwords with hashes.
    pub(crate) password_checks: LongWork,
    /// What new connections are encrypted with.
    pub(crate) tls: Arc<tls::Acceptor>,
    /// What connections with other servers share, if there is a cluster.
    pub(crate) cluster: Option<Cluster>,
    /// Buffers for what comes in encrypted.
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) monitor: Monitor,
    /// The server's part in the system account, unless there is to be none.
    pub(crate) system: Option<Arc<System>>,
    /// Those in force.
    options: RwLock<Arc<Options>>,
}

impl Shared {
    pub(crate) fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read())
    }

    /// How long the socket of a connection with another server may take no byte.
    pub(crate) fn write_deadline_of_routes(&self) -> Duration {
        let options = self.options();
        let cluster = options.cluster.as_ref();
        cluster.map_or(options.write_deadline, |cluster| cluster.write_deadline)
    }

    pub(crate) fn set_options(&self, options: Arc<Options>) {
        *self.options.write() = options;
        self.monitor.reloaded();
    }
}

/// A running server. Dropping it stops the server, without waiting for what is under way;
/// [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    /// One reload after another.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    addresses: Vec<SocketAddr>,
    server_id: String,
    runtime: Handle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("connections", &self.engine.connections())
            .finish()
    }
}

impl Server {
    /// Starts a server on the current tokio runtime, and returns once it accepts connections.
    ///
    /// # Errors
    /// If options cannot work or the address is not to be had. Nothing is left behind then.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_with(options, Listeners::default()).await
    }

    /// Like [`start`](Self::start), with sockets that listen already.
    ///
    /// # Errors
    /// If options cannot work, an address is not to be had, or a socket cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn start_with(options: Options, open: Listeners) -> Result<Self, StartError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(StartError::Options(problems));
        }
        let tls = tls::Acceptor::new(options.tls.as_ref(), options.allow_non_tls)
            .map_err(StartError::Tls)?;
        let bind_error = |source| StartError::Bind {
            host: options.host.clone(),
            port: options.port,
            source,
        };
        let listeners = if open.clients.is_empty() {
            listener::bind(&options.host, options.port).await
        } else {
            listener::adopt(open.clients)
        }
        .map_err(bind_error)?;
        let addresses = listeners
            .iter()
            .map(tokio::net::TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()
            .map_err(bind_error)?;
        let monitoring = monitoring::Bound::new(&options.monitoring, open.monitoring).await?;
        let routes = cluster::Bound::new(&options).await?;
        let server_id = server_id();
        let info = server_info(&options, &server_id, addresses[0].port());
        tracing::info!("  Name:     {}", info.server_name);
        tracing::info!("  ID:       {server_id}");
        let server_name = info.server_name.clone();
        let engine = Engine::new(Settings {
            info,
            limits: options.limits(),
            access: options.access(),
            seed: fastrand::u64(..),
            cluster: (routes.as_ref())
                .and_then(|routes| cluster::settings(&options, routes.port())),
        });
        let has_system =
            !options.no_system_account || options.authorization.system_account.is_some();
        let system = has_system.then(|| Arc::new(System::new(&engine, &server_id, &server_name)));
        let (cluster, route_listeners) = routes.map(|routes| routes.open(&engine)).unzip();
        let shared = Arc::new(Shared {
            system,
            cluster,
            workers: Workers::new(Arc::clone(&engine)),
            engine,
            lifecycle: Lifecycle::new(),
            password_checks: LongWork::new(),
            tls: Arc::new(tls),
            scratch: Arc::default(),
            monitor: Monitor::new(&options.monitoring, monitoring.addresses()),
            options: RwLock::new(Arc::new(options)),
        });
        monitoring.serve(&shared);
        tokio::spawn(system::run(Arc::clone(&shared)));
        let watched = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = watched.tls.watch() => {}
                () = watched.lifecycle.reached(Phase::Closing) => {}
            }
        });
        for (listener, address) in listeners.into_iter().zip(&addresses) {
            tracing::info!("Listening for client connections on {address}");
            let accepting = shared.lifecycle.listeners.own_pass();
            tokio::spawn(listener::accept(Arc::clone(&shared), listener, accepting));
        }
        shared.tls.announce();
        // In the order of nats-server, which lets clients come before it begins with routes.
        tracing::info!("Server is ready");
        cluster::start(&shared, route_listeners.unwrap_or_default());
        Ok(Self {
            shared,
            reloading: tokio::sync::Mutex::default(),
            addresses,
            server_id,
            runtime: Handle::current(),
        })
    }

    /// The address clients connect to, with the port that was really bound. The first, if the host has several.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses clients connect to.
    #[must_use]
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address other servers connect to, with the port that was really bound; `None` if this server is in no cluster.
    /// The first, if the host has several.
    #[must_use]
    pub fn cluster_addr(&self) -> Option<SocketAddr> {
        self.cluster_addrs().first().copied()
    }

    /// All addresses other servers connect to.
    #[must_use]
    pub fn cluster_addrs(&self) -> &[SocketAddr] {
        let cluster = self.shared.cluster.as_ref();
        cluster.map_or(&[], |cluster| &cluster.addresses)
    }

    /// How this server is connected with others; `None` if it is in no cluster.
    #[must_use]
    pub fn mesh(&self) -> Option<MeshSnapshot> {
        self.shared.engine.mesh().map(Mesh::snapshot)
    }

    /// A URL for a client on this machine.
    #[must_use]
    pub fn client_url(&self) -> String {
        let mut address = self.client_addr();
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let scheme = if self.shared.tls.is_required() {
            "tls"
        } else {
            "nats"
        };
        format!("{scheme}://{address}")
    }

    /// The server's id: a public key made at its start.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The options in force: those of the start, or of the last [`reload`](Self::reload).
    #[must_use]
    pub fn options(&self) -> Arc<Options> {
        self.shared.options()
    }

    /// Connections that are open, in-process ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.engine.connections()
    }

    /// Subscriptions of all clients. Those the server itself holds in the system account are not counted here; the
    /// monitoring pages count them, as nats-server's do.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        let engine = &self.shared.engine;
        let accounts = engine.accounts();
        let held = accounts.iter().map(|account| account.subscriptions());
        held.sum::<usize>()
            .saturating_sub(engine.own_subscriptions())
    }

    /// Messages, bytes and incidents since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.engine.totals()
    }

    /// A client of this server without a socket, in the account `$G`. It is the embedder's own and trusted: whoever
    /// may log in and whatever they may do, it needs no credentials and may publish and subscribe everywhere in its
    /// account. All other rules hold for it as for any other client.
    ///
    /// # Errors
    /// If the server has stopped.
    pub fn in_process_client(&self) -> Result<InProcessClient, ClientError> {
        self.trusted_client(None)
    }

    /// The same, but as a user of the server's: in this user's account and with this user's permissions. It needs no
    /// credentials.
    ///
    /// # Errors
    /// If there is no such user, or the server has stopped.
    pub fn in_process_client_as(&self, user: &str) -> Result<InProcessClient, ClientError> {
        if !self.shared.engine.has_user(user) {
            return Err(ClientError::UnknownUser(user.to_owned()));
        }
        self.trusted_client(Some(user.into()))
    }

    fn trusted_client(&self, user: Option<Arc<str>>) -> Result<InProcessClient, ClientError> {
        let payload_bytes_max = self.shared.engine.payload_bytes_max(user.as_deref());
        let connection = self.connect_inside(Trust::Embedder(user))?;
        Ok(InProcessClient::new(
            connection,
            &self.options(),
            payload_bytes_max,
            &self.runtime,
        ))
    }

    /// A raw connection to this server without a socket, for a client library that brings its own protocol.
    /// The server sends INFO first, as on a socket, and the client has to log in as on a socket.
    ///
    /// # Errors
    /// If the server has stopped.
    pub fn in_process_connection(&self) -> Result<InProcessConnection, ClientError> {
        self.connect_inside(Trust::None)
    }

    fn connect_inside(&self, trust: Trust) -> Result<InProcessConnection, ClientError> {
        if self.shared.lifecycle.phase() != Phase::Running {
            return Err(ClientError::ServerStopped);
        }
        let (server, client) = pipe::pipe();
        let peer = Peer {
            address: None,
            nonce: nonce(),
            trust,
        };
        self.runtime.spawn(connection::serve(
            Arc::clone(&self.shared),
            server,
            peer,
            None,
        ));
        Ok(InProcessConnection(client))
    }

    /// Lame duck mode: accepts no more connections, tells clients that can hear it, and after the grace period
    /// closes the connections one by one over `lame_duck_duration`, so that they do not all come to the next
    /// server at once. Returns when the server has stopped.
    pub async fn lame_duck(&self) {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        self.shared.lifecycle.enter(Phase::LameDuck);
        self.shared.lifecycle.listeners.empty().await;
        if let Some(system) = &self.shared.system {
            system.announce_lame_duck(&self.shared);
        }
        let engine = &self.shared.engine;
        if engine.connections() > 0 {
            engine.announce_lame_duck(now());
            let leaving = self.close_one_by_one();
            // Whatever they do, the time is bounded; and if all leave by themselves, nobody waits.
            tokio::select! {
                () = leaving => {}
                () = self.shared.lifecycle.connections.empty() => {}
                () = self.shared.lifecycle.reached(Phase::Draining) => {}
            }
        }
        self.shutdown().await;
    }

    async fn close_one_by_one(&self) {
        let options = self.options();
        let grace = options.lame_duck_grace_period;
        pause(grace).await;
        let open = self.shared.engine.open_outboxes();
        let step = (options.lame_duck_duration - grace) / open.len().max(1) as u32;
        for outbox in open {
            outbox.close(CloseReason::ServerShutdown);
            pause(step.min(LAME_DUCK_STEP_MAX)).await;
        }
        self.shared.lifecycle.connections.empty().await;
    }

    /// Stops the server: no more connections, no more reading, then everything that was read is delivered, and
    /// the connections are closed. Calling it again, also at the same time, does no harm.
    pub async fn shutdown(&self) {
        let Shared {
            engine, lifecycle, ..
        } = &*self.shared;
        if lifecycle.phase() < Phase::Draining {
            tracing::info!("Initiating Shutdown...");
            if let Some(system) = &self.shared.system {
                system.announce_shutdown(&self.shared);
            }
        }
        lifecycle.enter(Phase::Draining);
        lifecycle.listeners.empty().await;
        lifecycle.route_listeners.empty().await;
        engine.wake_all();
        if timeout(DRAIN_MAX, lifecycle.readers.empty()).await.is_err() {
            tracing::warn!("connections still busy after {DRAIN_MAX:?}");
        }
        lifecycle.enter(Phase::Closing);
        engine.wake_all();
        let closed = async {
            lifecycle.connections.empty().await;
            lifecycle.routes.empty().await;
        };
        if timeout(CLOSE_MAX, closed).await.is_err() {
            tracing::warn!("connections still open after {CLOSE_MAX:?}");
        }
        self.shared.monitor.closed().await;
        tracing::info!("Server Exiting..");
    }

    /// Waits until the server has been stopped by [`shutdown`](Self::shutdown) or
    /// [`lame_duck`](Self::lame_duck).
    pub async fn stopped(&self) {
        self.shared.lifecycle.reached(Phase::Closing).await;
        self.shared.lifecycle.connections.empty().await;
        self.shared.lifecycle.routes.empty().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lifecycle.enter(Phase::Closing);
        self.shared.engine.wake_all();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "lame duck mode is a matter of pauses"
)]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
