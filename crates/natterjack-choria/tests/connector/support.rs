//! What these tests share: an authority like Puppet's, servers and connectors with its certificates, waiting with a deadline.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::connector::{
    Connector, ConnectorOptions, DialError, Event, Incoming, IncomingStream, OutgoingRequest,
    Recipients, Servers,
};
use natterjack_choria::identity::Identity;
use natterjack_choria::server::ServerAddress;
use natterjack_choria::ssl::Ssl;
use natterjack_server::{Options, Server, Tls};
use rcgen::KeyPair;
use testkit::Pair;
use tokio::sync::broadcast;
use tokio::time::timeout;

/// No wait takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain waited for {what}"),
    }
}

/// An authority, and servers and connectors with what it signs.
pub(crate) struct Authority(testkit::Authority);

impl Deref for Authority {
    type Target = testkit::Authority;

    fn deref(&self) -> &testkit::Authority {
        &self.0
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self(testkit::Authority::new())
    }

    /// Where a certificate is, or with `-key` its key.
    pub(crate) fn file(&self, name: &str, end: &str) -> PathBuf {
        self.folder().join(format!("{name}{end}.pem"))
    }

    /// Options of a server for `localhost`, which wants certificates of this authority.
    pub(crate) fn options(&self) -> Options {
        self.options_for("server", &["localhost"])
    }

    pub(crate) fn options_for(&self, name: &str, alternatives: &[&str]) -> Options {
        self.options_with(self.pair(name, alternatives))
    }

    /// The same, with a certificate of this serial number.
    pub(crate) fn options_of(&self, name: &str, alternatives: &[&str], serial: u64) -> Options {
        let key = KeyPair::generate().unwrap();
        self.options_with(self.pair_with(name, alternatives, &key, |params| {
            params.serial_number = Some(serial.into());
        }))
    }

    fn options_with(&self, pair: Pair) -> Options {
        let tls = Tls {
            cert_file: Some(pair.certificate),
            key_file: Some(pair.key),
            ca_files: vec![self.ca()],
            verify: true,
            // Others use the machine, too.
            timeout: PATIENCE,
            ..Tls::default()
        };
        Options {
            host: "127.0.0.1".into(),
            port: 0,
            tls: Some(tls),
            ..Options::default()
        }
    }

    pub(crate) async fn server(&self) -> Server {
        start(self.options()).await
    }

    fn configured(&self, name: &str, settings: &str) -> (Configuration, Ssl) {
        let pair = self.pair(name, &[name]);
        let text = format!(
            "connector = nats\nidentity = {name}\nplugin.security.provider = file\n\
             plugin.security.file.certificate = {}\nplugin.security.file.key = {}\n\
             plugin.security.file.ca = {}\n{settings}",
            pair.certificate.display(),
            pair.key.display(),
            self.ca().display()
        );
        let file = self.folder().join(format!("{name}.conf"));
        fs::write(&file, text).unwrap();
        let surroundings = Surroundings {
            environment: BTreeMap::from([("MCOLLECTIVE_CERTNAME".into(), name.into())]),
            ..Surroundings::bare(name, self.folder().join("root"))
        };
        let loaded = Configuration::load(Role::Client, Some(&file), &surroundings).unwrap();
        let ssl = Ssl::load(&loaded.configuration, &surroundings, now()).unwrap();
        (loaded.configuration, ssl)
    }

    /// A connector of somebody to these servers.
    pub(crate) fn connector(&self, name: &str, servers: impl Into<Servers>) -> Connector {
        self.connector_with(name, servers, "", |_| ())
    }

    pub(crate) fn connector_with(
        &self,
        name: &str,
        servers: impl Into<Servers>,
        settings: &str,
        change: impl FnOnce(&mut ConnectorOptions),
    ) -> Connector {
        let (configuration, ssl) = self.configured(name, settings);
        let mut options = ConnectorOptions::of(&configuration, &ssl);
        change(&mut options);
        Connector::start(options, &ssl, servers)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates of tests are made now"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) async fn start(options: Options) -> Server {
    Server::start(options).await.expect("a server")
}

/// A server that listens where one did before.
pub(crate) async fn start_at(address: SocketAddr, mut options: Options) -> Server {
    options.port = address.port();
    start(options).await
}

/// The server's address by the name that its certificate has.
pub(crate) fn by_name(server: &Server) -> ServerAddress {
    at("localhost", server.client_addr())
}

pub(crate) fn at(host: &str, address: SocketAddr) -> ServerAddress {
    ServerAddress::new(host, address.port())
}

/// Where nobody listens: a port that was just given back.
pub(crate) fn nowhere() -> ServerAddress {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    at("localhost", listener.local_addr().unwrap())
}

/// The first event that is of interest.
pub(crate) async fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    what: &str,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            let event = events.recv().await.expect("no events are missed");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    })
    .await
}

/// Why the first attempt fails.
pub(crate) async fn failure(connector: &Connector) -> String {
    let mut events = connector.events();
    let connecting = connector.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await.map(drop) });
    let reason = event(&mut events, "a failure", |event| match event {
        Event::Failed { reason, .. } => Some(reason),
        Event::Connected { .. } => panic!("connected"),
        _ => None,
    })
    .await;
    connecting.abort();
    assert_eq!(connector.connected_server(), None);
    let kind = match &*reason {
        DialError::Plaintext => "Plaintext",
        DialError::Tls(_) => "Tls",
        DialError::Refused(_) => "Refused",
        DialError::Unexpected => "Unexpected",
        DialError::NotNats(_) => "NotNats",
        DialError::Info(_) => "Info",
        DialError::Connect(_) => "Connect",
        DialError::Closed => "Closed",
        DialError::Credentials(_) => "Credentials",
        _ => "",
    };
    format!("{kind}: {reason}")
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

pub(crate) fn request(content: &str, recipients: Recipients, reply_to: String) -> OutgoingRequest {
    OutgoingRequest {
        content: content.as_bytes().to_vec(),
        request_id: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
        collective: "mcollective".into(),
        agent: "discovery".into(),
        recipients,
        reply_to,
        is_traced: false,
    }
}

/// A broadcast of this content.
pub(crate) async fn broadcast_to_all(connector: &Connector, content: &str) {
    let reply_to = connector.reply_subject("mcollective").unwrap();
    let outgoing = request(content, Recipients::Everyone, reply_to);
    connector.publish(outgoing).await.expect("published");
}

pub(crate) async fn next(incoming: &mut IncomingStream) -> Incoming {
    let next = within("a message", incoming.next()).await;
    next.expect("the stream goes on")
}

pub(crate) async fn next_content(incoming: &mut IncomingStream) -> String {
    String::from_utf8(next(incoming).await.transport.content).unwrap()
}
