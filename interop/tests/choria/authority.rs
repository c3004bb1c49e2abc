//! An authority like Puppet's, made up for a test: certificates of servers, nodes and people, and connectors with them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::time::{Duration, SystemTime};

use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::connector::{Connector, ConnectorOptions, Servers};
use natterjack_choria::server::ServerAddress;
use natterjack_choria::ssl::Ssl;
use testkit::ServerUnderTest;
use tokio::time::timeout;

/// No wait takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain waited for {what}"),
    }
}

/// An authority, and settings for what it signs.
pub(super) struct Authority(testkit::Authority);

impl Deref for Authority {
    type Target = testkit::Authority;

    fn deref(&self) -> &testkit::Authority {
        &self.0
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        Self(testkit::Authority::new())
    }

    /// The block of a server's configuration file, for a certificate of this common name and these alternatives.
    pub(super) fn tls(&self, name: &str, alternatives: &[&str]) -> String {
        self.pair(name, alternatives);
        format!(
            "tls {{\n  cert_file: \"{0}/{name}.pem\"\n  key_file: \"{0}/{name}-key.pem\"\n  ca_file: \"{0}/ca.pem\"\n  \
             verify: true\n  timeout: 20\n}}\n",
            self.folder().display()
        )
    }

    /// Settings of somebody whose certificate is called so, for a file.
    pub(super) fn settings(&self, name: &str) -> String {
        self.pair(name, &[name]);
        format!(
            "connector = nats\nidentity = {name}\nplugin.security.provider = file\n\
             plugin.security.file.certificate = {0}/{name}.pem\nplugin.security.file.key = {0}/{name}-key.pem\n\
             plugin.security.file.ca = {0}/ca.pem\n",
            self.folder().display()
        )
    }

    /// A connector of somebody, with more settings than it needs.
    pub(super) fn connector(
        &self,
        role: Role,
        name: &str,
        servers: impl Into<Servers>,
        settings: &str,
    ) -> Connector {
        let file = self.folder().join(format!("{name}.conf"));
        fs::write(&file, self.settings(name) + settings).expect("written");
        let surroundings = Surroundings {
            environment: BTreeMap::from([("MCOLLECTIVE_CERTNAME".into(), name.into())]),
            ..Surroundings::bare(name, self.folder().join("root"))
        };
        let loaded = Configuration::load(role, Some(&file), &surroundings).expect("good settings");
        let configuration = loaded.configuration;
        let ssl = Ssl::load(&configuration, &surroundings, now()).expect("good certificates");
        let options = ConnectorOptions::of(&configuration, &ssl);
        Connector::start(options, &ssl, servers)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a certificate is valid is a matter of the calendar"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The server, by the name that its certificate has.
pub(super) fn by_name(server: &ServerUnderTest) -> ServerAddress {
    ServerAddress::new("localhost", server.address().port())
}

/// Where nobody listens: a port that was just given back.
pub(super) fn nowhere() -> ServerAddress {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    ServerAddress::new("localhost", address.port())
}
