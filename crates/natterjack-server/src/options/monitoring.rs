//! Where the monitoring pages are served.

use std::fmt;

use natterjack_engine::access::Secret;
use serde::{Deserialize, Serialize};

/// The monitoring pages' listeners; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitoring {
    /// In clear text.
    pub http: Option<Endpoint>,
    /// With the certificates of the clients' TLS.
    pub https: Option<Endpoint>,
    /// What all paths begin with; empty or `/` for nothing.
    pub base_path: String,
    /// What whoever asks for a page must know, in clear text or as a bcrypt hash: sent as a bearer token, or as the password
    /// of HTTP's basic authentication. `None`: nothing.
    pub token: Option<Secret>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port; 0 takes any free one.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}
