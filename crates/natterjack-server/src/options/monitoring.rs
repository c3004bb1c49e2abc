//! Where the monitoring pages are served.

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
