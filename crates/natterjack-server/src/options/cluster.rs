//! The cluster a server is a member of, and how it meets its peers.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use natterjack_engine::ClusterLimits;
use natterjack_engine::access::{Permissions, Secret};
use serde::{Deserialize, Serialize};

use super::{Endpoint, Tls, WriteTimeout};

/// Membership in a cluster, as the block `cluster { … }` of a configuration file says it.
///
/// A server with it listens for others at [`listen`](Self::listen), and connects to those in [`routes`](Self::routes);
/// whoever knows one server of a cluster learns of the others from it. Messages then reach subscribers of all of them, in the
/// account of the same name. Whether a server is in a cluster is settled at its start; most of the rest may change
/// while it runs, with [`Server::reload`](crate::Server::reload).
///
/// `docs/cluster.md` tells what an operator has to know.
///
/// # Examples
///
/// Two servers in one process that act as one:
/// ```
/// use std::time::Duration;
///
/// use natterjack_server::{Cluster, Endpoint, Options, RouteUrl, Server};
/// use tokio::time::timeout;
///
/// /// Listens on free ports of this machine.
/// fn member(routes: Vec<RouteUrl>) -> Options {
///     let host = "127.0.0.1".to_owned();
///     Options {
///         host: host.clone(),
///         port: 0,
///         cluster: Some(Cluster {
///             name: Some("pair".to_owned()),
///             listen: Some(Endpoint { host, port: 0 }),
///             routes,
///             ..Cluster::default()
///         }),
///         ..Options::default()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let first = Server::start(member(Vec::new())).await?;
/// let address = first.cluster_addr().expect("it is in a cluster");
/// let second = Server::start(member(vec![address.into()])).await?;
///
/// let mut greetings = second.in_process_client()?.subscribe("greet.*").await?;
/// let client = first.in_process_client()?;
/// let greeting = loop {
///     // They need a moment to find each other, and nothing is kept for those who are not there.
///     client.publish("greet.joe", "hello").await?;
///     if let Ok(greeting) = timeout(Duration::from_millis(20), greetings.next()).await {
///         break greeting.expect("the servers are running");
///     }
/// };
/// assert_eq!(&greeting.payload[..], b"hello");
/// assert_eq!(first.mesh().expect("it is in a cluster").peers.len(), 1);
///
/// second.shutdown().await;
/// first.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster, without blanks; made up if there is none.
    pub name: Option<String>,
    /// Where routes are listened for; `None`: nowhere, and then this server is in no cluster.
    pub listen: Option<Endpoint>,
    /// Peers to connect to.
    pub routes: Vec<RouteUrl>,
    /// The user name that peers must give.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Which interest is exchanged with peers: what is imported (`publish`) and exported (`subscribe`); `None`: all.
    pub permissions: Option<Permissions>,
    /// How long a peer may take to log in.
    pub auth_timeout: Duration,
    /// TLS of routes, in both directions. With `verify_and_map` peers log in by a certificate that names `user`.
    pub tls: Option<Tls>,
    /// `host:port` that peers are told to connect to, where it differs from what is listened on.
    pub advertise: Option<String>,
    /// Whether clients are not told of the cluster's other servers.
    pub no_advertise: bool,
    /// Further attempts, a second apart, to reach a peer that was learnt of from another. After them it is tried more
    /// and more slowly, every 30 seconds in the end, for a day.
    pub connect_retries: u32,
    /// Whether the pause between attempts doubles, from one second to thirty.
    pub connect_backoff: bool,
    /// Connections per peer; `None`: one, without pooling.
    pub pool_size: Option<u16>,
    /// Accounts that get a connection of their own.
    pub accounts: Vec<String>,
    /// Compression of what goes over routes.
    pub compression: Compression,
    /// How often a quiet peer is asked for a sign of life.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which a peer counts as gone.
    pub ping_max: u32,
    /// How long a peer's socket may take nothing.
    pub write_deadline: Duration,
    /// What becomes of a route whose socket took nothing for `write_deadline`.
    pub write_timeout: WriteTimeout,
    /// Memory, in bytes, that what a peer subscribes to may take for each connection with it. A peer that announces more
    /// is disconnected.
    pub max_interest: usize,
}

/// Where peers listen for routes, and how to log in there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteUrl {
    /// Host name or address; each address that a name has is a peer's. Without a port: the name of a service,
    /// `_nats-route._tcp.example.net`.
    pub host: String,
    /// Port; `None`: the hosts and their ports are those in the SRV records of the service (RFC 2782).
    pub port: Option<u16>,
    /// User name to log in with.
    pub user: Option<String>,
    /// Password to log in with.
    pub password: Option<Secret>,
    /// Whether its URL begins with `tls://`. All routes are encrypted if the cluster has `tls`, and none if not, whatever
    /// this says.
    pub tls: bool,
}

/// Compression of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    Off,
    /// If the peer wants it.
    #[default]
    Accept,
    /// The fastest.
    S2Fast,
    /// Between the two.
    S2Better,
    /// The densest.
    S2Best,
    /// By the round-trip time: none, fast, better, best above these times.
    S2Auto(Vec<Duration>),
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: None,
            listen: None,
            routes: Vec::new(),
            user: None,
            password: None,
            permissions: None,
            auth_timeout: Duration::from_secs(2),
            tls: None,
            advertise: None,
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            pool_size: Some(3),
            accounts: Vec::new(),
            compression: Compression::Accept,
            ping_interval: Duration::from_secs(30),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            write_timeout: WriteTimeout::Default,
            max_interest: ClusterLimits::default().interest_bytes_max,
        }
    }
}

/// Without a login.
impl From<SocketAddr> for RouteUrl {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: Some(address.port()),
            user: None,
            password: None,
            tls: false,
        }
    }
}

impl RouteUrl {
    /// Before the scheme of a URL that names a service.
    pub(crate) const SERVICE_PREFIX: &str = "srv+";

    /// `host:port`, or the name of the service.
    pub(crate) fn address(&self) -> String {
        let host = self.host.clone();
        match self.port {
            Some(port) => Endpoint { host, port }.to_string(),
            None => host,
        }
    }
}

impl fmt::Debug for RouteUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Without the password.
impl fmt::Display for RouteUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_none() {
            formatter.write_str(Self::SERVICE_PREFIX)?;
        }
        let scheme = if self.tls { "tls" } else { "nats-route" };
        write!(formatter, "{scheme}://")?;
        if let Some(user) = &self.user {
            write!(formatter, "{user}")?;
            if self.password.is_some() {
                formatter.write_str(":***")?;
            }
            formatter.write_str("@")?;
        }
        formatter.write_str(&self.address())
    }
}
