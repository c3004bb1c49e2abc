//! One attempt to connect to one server: as whom, how securely, and for how long. How it is done is `natterjack-link`'s.

use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Credentials, CredentialsError};
use super::renewal::Shown;
use crate::server::ServerAddress;
use crate::ssl::Ssl;
use natterjack_link::{Address, Candidate, Deadlines, Dialled, Security, TlsRule};
use natterjack_wire::client::{ConnectOptions, ServerInfo};

/// Of servers that are configured or were found.
const DEADLINES: Deadlines = Deadlines {
    resolve: Duration::from_secs(10),
    connect: Duration::from_secs(2),
    greeting: Duration::from_secs(15),
    whole: Duration::from_secs(60),
};

/// Of servers that another one has named: addresses, in most cases, which may long be nobody's.
const DEADLINES_LEARNT: Deadlines = Deadlines {
    resolve: Duration::from_secs(5),
    whole: Duration::from_secs(20),
    ..DEADLINES
};

/// Why there is no connection to a server.
pub type DialError = natterjack_link::DialError<CredentialsError>;

/// Who we are to servers.
#[derive(Debug)]
pub(super) struct Caller {
    name: String,
    credentials: Credentials,
    security: Security,
    pub(super) ssl: Ssl,
}

/// A connection that has just been made.
pub(super) struct Connection {
    pub(super) server: ServerAddress,
    pub(super) dialled: Dialled,
    /// Our certificate that the server has seen.
    pub(super) shown: Shown,
    /// It takes the place of one with an older certificate.
    pub(super) is_successor: bool,
}

impl Caller {
    /// There is no connection without TLS.
    pub(super) fn new(name: String, credentials: Credentials, ssl: Ssl) -> Self {
        Self {
            name,
            credentials,
            security: Security {
                config: Arc::new(ssl.client_config()),
                rule: TlsRule::Always,
            },
            ssl,
        }
    }

    /// Tries each address of this server once.
    pub(super) async fn dial(
        &self,
        candidate: &Candidate<ServerAddress>,
    ) -> Result<Connection, DialError> {
        let Candidate { server, is_learnt } = candidate;
        let deadlines = if *is_learnt {
            DEADLINES_LEARNT
        } else {
            DEADLINES
        };
        let address = Address::new(&server.host, server.port);
        let hello = |info: &ServerInfo| self.hello(info);
        // If it is renewed meanwhile, the connection counts as one with the old certificate.
        let shown = Shown::now(&self.ssl);
        let dialled = natterjack_link::dial(&address, &self.security, &deadlines, &hello).await?;
        Ok(Connection {
            server: server.clone(),
            dialled,
            shown,
            is_successor: false,
        })
    }

    fn hello(&self, server: &ServerInfo) -> Result<ConnectOptions, CredentialsError> {
        let mut options = ConnectOptions {
            verbose: false,
            pedantic: false,
            name: self.name.clone(),
            lang: "rust".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: 1,
            ..ConnectOptions::default()
        };
        self.credentials.show(server, &mut options)?;
        Ok(options)
    }
}
