//! TLS of one listener: files, versions, who must show a certificate.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// TLS of one listener, as the block `tls { … }` of a configuration file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain of this server, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM: PKCS#1, PKCS#8 or SEC1, not encrypted.
    pub key_file: Option<PathBuf>,
    /// Several certificates, chosen by the name the client asks for; instead of `cert_file` and `key_file`.
    pub certs: Vec<KeyPairFiles>,
    /// Certificates of the authorities that clients' certificates must come from, PEM. None: the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether clients must show a certificate.
    pub verify: bool,
    /// Whether clients must show a certificate, and the user is found by what it says. Implies `verify`.
    pub verify_and_map: bool,
    /// Whether whoever reads the monitoring pages must show a certificate; nobody need to by `verify`, as on nats-server.
    pub verify_monitoring: bool,
    /// On routes: whether a peer's certificate must name a host of the configured routes.
    pub verify_cert_and_check_known_urls: bool,
    /// Where this server connects to others: whether their certificates are not verified.
    pub insecure: bool,
    /// How long a handshake may take.
    pub timeout: Duration,
    /// Handshakes begun per second; 0 sets no bound. What is above is refused.
    pub connection_rate_limit: u64,
    /// SHA-256 of the public keys (SubjectPublicKeyInfo) that are let in, in hexadecimal; none: any.
    pub pinned_certs: Vec<String>,
    /// Cipher suites in the order of preference, by their standard names; none: the library's choice.
    pub cipher_suites: Vec<String>,
    /// Curves in the order of preference; none: the library's choice.
    pub curve_preferences: Vec<String>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// Whether certificates are loaded again when their files change.
    pub watch_files: bool,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPairFiles {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// When the handshake takes place (client protocol, section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeFirst {
    /// After INFO, which goes out in clear text.
    #[default]
    No,
    /// Before INFO.
    Yes,
    /// Before INFO for a client that begins within this time, after it for others.
    Within(Duration),
}

impl HandshakeFirst {
    /// `auto`: clients that begin within 50 ms.
    pub const AUTO: Self = Self::Within(Duration::from_millis(50));
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            certs: Vec::new(),
            ca_files: Vec::new(),
            verify: false,
            verify_and_map: false,
            verify_monitoring: false,
            verify_cert_and_check_known_urls: false,
            insecure: false,
            timeout: Duration::from_secs(2),
            connection_rate_limit: 0,
            pinned_certs: Vec::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: TlsVersion::V1_2,
            handshake_first: HandshakeFirst::No,
            watch_files: true,
        }
    }
}
