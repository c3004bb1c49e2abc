//! One attempt to connect to one server: as whom, how securely, and for how long. How it is done is `natterjack-link`'s.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::credentials::{Credentials, CredentialsError};
use super::renewal::Shown;
use crate::handshake::HandshakeProblem;
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

/// One that hung up without ending TLS has hung up.
pub(super) fn broken(error: io::Error) -> DialError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        DialError::Closed
    } else {
        DialError::Broken(error)
    }
}

/// Whether a server wants somebody else, or somebody at all (nats-server's `ErrAuthentication`).
fn is_about_login(said: &str) -> bool {
    said.to_ascii_lowercase()
        .contains("authorization violation")
}

/// Who we are to servers.
#[derive(Debug)]
pub(super) struct Caller {
    name: String,
    credentials: Credentials,
    security: Security,
    pub(super) ssl: Ssl,
    /// How many connections were made.
    dialled: AtomicU64,
}

/// A connection that has just been made.
pub(super) struct Connection {
    pub(super) server: ServerAddress,
    pub(super) dialled: Dialled,
    /// Our certificate that the server has seen.
    pub(super) shown: Shown,
    /// Tells it from others of this connector.
    pub(super) number: u64,
    /// The subscriptions that it has, if it takes the place of one with an older certificate.
    pub(super) subscribed: Option<BTreeSet<u64>>,
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
            dialled: AtomicU64::new(0),
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
        let dialled = natterjack_link::dial(&address, &self.security, &deadlines, &hello).await;
        let dialled = dialled.map_err(|error| match error {
            DialError::Tls(error) => DialError::Tls(HandshakeProblem::explain(error)),
            DialError::Broken(error) => broken(error),
            error => error,
        })?;
        Ok(Connection {
            server: server.clone(),
            dialled,
            shown,
            number: self.dialled.fetch_add(1, Ordering::Relaxed),
            subscribed: None,
        })
    }

    /// What to do about a server that does not let us in, as far as somebody can know here; empty if nothing is known.
    pub(super) fn advice(&self, error: &DialError) -> String {
        match error {
            DialError::Refused(said) if is_about_login(said) => {
                self.credentials.advice(self.ssl.caller.certname())
            }
            _ => String::new(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_are_about_who_we_are() {
        assert!(is_about_login("Authorization Violation"));
        assert!(!is_about_login("maximum connections exceeded"));
    }
}
