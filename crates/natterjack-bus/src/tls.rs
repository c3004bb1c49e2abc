//! TLS of this node as a client: what it shows, whom it believes, and why it does not, in words.
//!
//! The files are read again for each connection, so that a renewed certificate is shown, and a renewed authority
//! believed, without a restart. While they cannot be read, what was read before counts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natterjack_link::{KeyHolders, ServerJudge};
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificates::{Certificate, ReadError, Role, flaws};
use crate::settings::Tls;

/// What a client connects with, and what it remembers of its failures.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: ClientConfig,
    is_required: bool,
    refusal: Refusal,
}

/// Why the certificate of a server was refused last.
type Refusal = Arc<Mutex<Option<String>>>;

/// Why there is nothing to connect with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientTlsError {
    /// A file of certificates.
    #[error("{}: {source}", path.display())]
    Certificates {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The file of the private key.
    #[error("{}: no private key can be read from it: {source}", path.display())]
    Key {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// One of the three is not named.
    #[error("eventBus.nats.tls: tlsCert, tlsKey and tlsCA are all required with TLS")]
    Incomplete,
    /// They do not work together.
    #[error("eventBus.nats.tls: {0}")]
    Refused(#[from] Error),
}

impl ClientTls {
    /// Reads the files, if TLS is enabled. If it is not, servers that demand it are refused.
    pub(crate) fn load(settings: &Tls) -> Result<Self, ClientTlsError> {
        let provider = Arc::new(ring::default_provider());
        let refusal = Refusal::default();
        let key_holders = |judge| {
            let algorithms = provider.signature_verification_algorithms;
            Arc::new(KeyHolders { judge, algorithms })
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous();
        if settings.enable && settings.skip_verify {
            tracing::warn!(
                "eventBus.nats.tls.tlsSkipVerify is on: whoever answers is believed, whatever certificate it shows; for \
                 tests only"
            );
        }
        let mut config = if settings.enable {
            let files = Arc::new(Files {
                last: Mutex::new(Arc::new(Material::read(settings, &provider)?)),
                settings: settings.clone(),
                provider: Arc::clone(&provider),
            });
            let judge = Judge {
                files: (!settings.skip_verify).then(|| Arc::clone(&files)),
                is_enabled: true,
                refusal: Arc::clone(&refusal),
            };
            builder
                .with_custom_certificate_verifier(key_holders(judge))
                .with_client_cert_resolver(files)
        } else {
            let judge = Judge {
                files: None,
                is_enabled: false,
                refusal: Arc::clone(&refusal),
            };
            builder
                .with_custom_certificate_verifier(key_holders(judge))
                .with_no_client_auth()
        };
        // Who it is with is looked at anew each time.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config,
            is_required: settings.enable,
            refusal,
        })
    }

    /// Whether servers without TLS are refused.
    pub(crate) fn is_required(&self) -> bool {
        self.is_required
    }

    /// For the client library.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// What the client library says of a failure, with what to do where that is about TLS; `None` where it is not.
    pub(crate) fn explain(&self, error: &str) -> Option<String> {
        if error.contains("peer certificate") {
            return self.refusal.lock().take();
        }
        if error.contains("InvalidContentType") {
            return Some(
                "the server does not speak TLS here: enable TLS there, with the same authority, or set \
                 eventBus.nats.tls.enableTLS to false"
                    .into(),
            );
        }
        let (_, alert) = error.split_once("received fatal alert: ")?;
        let alert = alert
            .split(|letter: char| !letter.is_alphanumeric())
            .next()?;
        let (what, remedy) = match alert {
            "UnknownCA" | "UnknownCa" => (
                "does not know the authority of this node's certificate",
                "give all nodes certificates of the same authority, or add this one's to tlsCA there",
            ),
            "CertificateExpired" => (
                "says that this node's certificate has expired or is not valid yet",
                "renew it, or set the clocks right",
            ),
            "UnsupportedCertificate" => (
                "does not take this node's certificate from a client",
                "make one with the extended key usages serverAuth and clientAuth, as `natterjack certs node` does",
            ),
            "CertificateRequired" | "HandshakeFailure" => {
                ("wants a certificate of this node", "set tlsCert and tlsKey")
            }
            "DecryptError" => (
                "knows the authority of this node's certificate, but with another key",
                "the authority was made anew: make this certificate anew, too, and give all nodes its ca.crt",
            ),
            "BadCertificate" | "CertificateUnknown" | "CertificateRevoked" | "AccessDenied" => (
                "refuses this node's certificate",
                "look into that server's log, and at `natterjack certs inspect`",
            ),
            "ProtocolVersion" => (
                "speaks no version of TLS that is safe",
                "let it speak TLS 1.2 or 1.3",
            ),
            _ => (
                "ends TLS",
                "look into that server's log, and at `natterjack certs inspect`",
            ),
        };
        Some(format!("the server {what} ({alert}): {remedy}"))
    }
}

/// What is in the files.
#[derive(Debug)]
struct Material {
    own: Arc<CertifiedKey>,
    authorities: Vec<Certificate>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Material {
    fn read(settings: &Tls, provider: &Arc<CryptoProvider>) -> Result<Self, ClientTlsError> {
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
            return Err(ClientTlsError::Incomplete);
        };
        let read = |path: &std::path::PathBuf| {
            Certificate::read(path).map_err(|source| ClientTlsError::Certificates {
                path: path.clone(),
                source,
            })
        };
        let chain = read(certificate)?
            .iter()
            .map(|link| link.der().clone())
            .collect();
        let private = PrivateKeyDer::from_pem_file(key).map_err(|source| ClientTlsError::Key {
            path: key.clone(),
            source,
        })?;
        let mut authorities = Vec::new();
        for path in &settings.authorities {
            authorities.extend(read(path)?);
        }
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.der().clone())?;
        }
        if roots.is_empty() {
            return Err(ClientTlsError::Incomplete);
        }
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(Self {
            own: Arc::new(CertifiedKey::from_der(chain, private, provider)?),
            authorities,
            verifier: builder
                .build()
                .map_err(|error| Error::General(error.to_string()))?,
        })
    }
}

/// The files, and what was in them when they could be read last.
#[derive(Debug)]
struct Files {
    settings: Tls,
    provider: Arc<CryptoProvider>,
    last: Mutex<Arc<Material>>,
}

impl Files {
    /// Reads a few kilobytes and makes a key of them: less than a millisecond, for each connection.
    fn material(&self) -> Arc<Material> {
        let mut last = self.last.lock();
        match Material::read(&self.settings, &self.provider) {
            Ok(material) => *last = Arc::new(material),
            Err(error) => {
                tracing::warn!(%error, "files of TLS cannot be used; what was in them before still counts");
            }
        }
        Arc::clone(&last)
    }
}

impl ResolvesClientCert for Files {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Whatever authorities the server names: it will say why it minds.
        Some(Arc::clone(&self.last.lock().own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes servers as the settings say, and keeps the reasons if it does not.
#[derive(Debug)]
struct Judge {
    /// `None`: whoever answers is believed, if TLS is enabled at all.
    files: Option<Arc<Files>>,
    is_enabled: bool,
    refusal: Refusal,
}

impl Judge {
    fn refuse(&self, why: String) {
        *self.refusal.lock() = Some(why);
    }
}

impl ServerJudge for Judge {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.is_enabled {
            self.refuse(
                "the server demands TLS: set eventBus.nats.tls.enableTLS to true, and tlsCert, tlsKey and tlsCA to this \
                 node's files"
                    .into(),
            );
            return Err(Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ));
        }
        let Some(files) = &self.files else {
            return Ok(());
        };
        let material = files.material();
        let verified =
            material
                .verifier
                .verify_server_cert(end_entity, intermediates, server_name, &[], now);
        if let Err(error) = &verified {
            let host = server_name.to_str();
            let chain: Vec<Certificate> = std::iter::once(end_entity)
                .chain(intermediates)
                .filter_map(|der| Certificate::from_der(der.clone().into_owned()))
                .collect();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
            let role = Role::Server { host: Some(&host) };
            let found: Vec<String> = flaws(&chain, &material.authorities, role, now)
                .iter()
                .filter(|flaw| !flaw.is_warning())
                .map(|flaw| format!("{flaw} ({})", flaw.remedy()))
                .collect();
            self.refuse(if found.is_empty() {
                format!("the certificate of the server at {host} is refused: {error}")
            } else {
                format!(
                    "the certificate of the server at {host} is refused: {}",
                    found.join("; ")
                )
            });
        }
        verified.map(drop)
    }
}
