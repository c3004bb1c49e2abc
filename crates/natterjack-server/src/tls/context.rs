//! What one set of options and files comes to: ready to accept connections with, never changed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ParsedCertificate, ProducesTickets,
    ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
    version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::authorities::Authorities;
use super::certificate::validity;
use super::dialling;
use super::files::{certificates, key_pair};
use super::names;
use super::problem::TlsProblem;
use super::verifier::Witness;
use crate::options::{HandshakeFirst, Tls, TlsVersion};

/// From when on an end that comes near is told.
pub(super) const EXPIRES_SOON: Duration = Duration::from_secs(30 * DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 3600;

/// Who is at the other end of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    Clients,
    /// They are dialled, too, and show a certificate in any case (route protocol, section 10).
    Servers,
}

/// Everything a listener accepts TLS connections with.
#[derive(Debug)]
pub(crate) struct Context {
    clients: Arc<ServerConfig>,
    monitoring: Arc<ServerConfig>,
    servers: Option<Arc<ClientConfig>>,
    verifier: Option<Arc<Witness>>,
    pinned: BTreeSet<String>,
    certificates: Vec<Validity>,
    is_slow: bool,
    options: Tls,
}

/// The time in which a configured certificate is valid.
#[derive(Debug)]
struct Validity {
    file: std::path::PathBuf,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Context {
    /// Reads the files and puts everything together. The problems are warnings if there is a context, and say
    /// why there is none otherwise.
    pub(crate) fn load(
        options: &Tls,
        peers: Peers,
        now: SystemTime,
    ) -> (Option<Self>, Vec<TlsProblem>) {
        let mut problems = Vec::new();
        let provider = Arc::new(names::provider(options, &mut problems));
        let pairs = pairs(options, &provider, &mut problems);
        let needs_certificate = needs_certificate(options) || peers == Peers::Servers;
        let roots = needs_certificate
            .then(|| roots(options, now, &mut problems))
            .flatten();
        let asks_peers = asks_clients(options) || peers == Peers::Servers;
        let pinned = pinned(options, asks_peers, &mut problems);
        if options.timeout.is_zero() {
            problems.push(TlsProblem::ZeroTimeout);
        }
        let certificates = pairs
            .iter()
            .filter_map(|(file, pair)| {
                let (not_before, not_after) = validity(pair.cert.first()?)?;
                Some(Validity {
                    file: file.to_path_buf(),
                    not_before,
                    not_after,
                })
            })
            .collect();
        if problems.iter().any(|problem| !problem.is_warning()) {
            return (None, problems);
        }
        let is_slow = pairs
            .iter()
            .any(|(_, pair)| pair.key.algorithm() == SignatureAlgorithm::RSA);
        let resolver = Arc::new(Certificates(
            pairs.into_iter().map(|(_, pair)| pair).collect(),
        ));
        let trusted = roots.clone();
        let assemble = || -> Result<Self, rustls::Error> {
            let witness = |roots| Arc::new(Witness::new(roots, Arc::clone(&provider)));
            let verifier = roots.map(witness);
            let asked = |is_asked: bool| match &verifier {
                Some(verifier) if is_asked => Arc::clone(verifier) as Arc<dyn ClientCertVerifier>,
                _ => Arc::new(NoClientAuth),
            };
            let servers = match peers {
                Peers::Clients => None,
                Peers::Servers => Some(dialling::config(
                    &provider,
                    versions(options, &provider),
                    trusted.filter(|_| !options.insecure),
                    Arc::clone(&resolver) as Arc<dyn ResolvesClientCert>,
                )?),
            };
            Ok(Self {
                servers,
                clients: Arc::new(config(options, &provider, asked(asks_peers), &resolver)?),
                monitoring: Arc::new(without_resumption(config(
                    options,
                    &provider,
                    asked(options.verify_monitoring),
                    &resolver,
                )?)),
                verifier,
                pinned,
                certificates,
                is_slow,
                options: options.clone(),
            })
        };
        match assemble() {
            Ok(context) => {
                problems.extend(context.expiring(now));
                (Some(context), problems)
            }
            Err(error) => {
                problems.push(TlsProblem::Refused(error.to_string().into()));
                (None, problems)
            }
        }
    }

    /// For connections of clients.
    pub(crate) fn clients(&self) -> &Arc<ServerConfig> {
        &self.clients
    }

    /// For connections to other servers.
    pub(crate) fn servers(&self) -> Option<&Arc<ClientConfig>> {
        self.servers.as_ref()
    }

    /// For the monitoring pages: the same certificates; who reads them is asked for one only if that is wanted in so many
    /// words.
    pub(crate) fn monitoring(&self) -> &Arc<ServerConfig> {
        &self.monitoring
    }

    /// When the first of the configured certificates ends.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        let ends = self.certificates.iter().map(|validity| validity.not_after);
        ends.min()
    }

    /// The options this was made from.
    pub(crate) fn options(&self) -> &Tls {
        &self.options
    }

    /// Whether a peer whose key has this fingerprint is let in.
    pub(crate) fn is_pinned(&self, public_key_sha256: Option<&str>) -> bool {
        self.pinned.is_empty()
            || public_key_sha256.is_some_and(|fingerprint| self.pinned.contains(fingerprint))
    }

    /// Verifies a chain that was in order when a session began, as that session is taken up again.
    ///
    /// # Errors
    /// What has become of it since.
    pub(crate) fn verify_again(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), rustls::Error> {
        let (Some(verifier), Some((own, others))) = (&self.verifier, chain.split_first()) else {
            return Ok(());
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(now.unwrap_or_default());
        verifier.verify_client_cert(own, others, now).map(drop)
    }

    /// Whether a handshake takes a processor for milliseconds: to sign with RSA takes ten times as long as with
    /// the other kinds of keys.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    pub(crate) fn handshake_first(&self) -> HandshakeFirst {
        self.options.handshake_first
    }

    /// What is to be told of the configured certificates' time at `now`; warnings all.
    pub(super) fn expiring(&self, now: SystemTime) -> Vec<TlsProblem> {
        let days = |duration: Duration| duration.as_secs() / DAY_SECONDS;
        let told = |validity: &Validity| {
            let path = validity.file.clone();
            if now < validity.not_before {
                return Some(TlsProblem::NotYetValid(path));
            }
            match validity.not_after.duration_since(now) {
                Ok(left) if left > EXPIRES_SOON => None,
                Ok(left) => Some(TlsProblem::ExpiresSoon {
                    path,
                    days: days(left),
                }),
                Err(over) => Some(TlsProblem::Expired {
                    path,
                    days: days(over.duration()),
                }),
            }
        };
        self.certificates.iter().filter_map(told).collect()
    }
}

fn needs_certificate(options: &Tls) -> bool {
    asks_clients(options) || options.verify_monitoring
}

fn asks_clients(options: &Tls) -> bool {
    options.verify || options.verify_and_map
}

/// The configured pairs that can be loaded, each with the name of its certificate's file.
fn pairs<'a>(
    options: &'a Tls,
    provider: &CryptoProvider,
    problems: &mut Vec<TlsProblem>,
) -> Vec<(&'a Path, Arc<CertifiedKey>)> {
    let mut files: Vec<(&Path, &Path)> = options
        .certs
        .iter()
        .map(|pair| (pair.cert_file.as_path(), pair.key_file.as_path()))
        .collect();
    match (&options.cert_file, &options.key_file) {
        (Some(_), _) if !files.is_empty() => problems.push(TlsProblem::CertFileAndCerts),
        (Some(cert_file), Some(key_file)) => files.push((cert_file, key_file)),
        (Some(cert_file), None) => problems.push(TlsProblem::KeyFileMissing(cert_file.clone())),
        (None, Some(key_file)) => problems.push(TlsProblem::CertFileMissing(key_file.clone())),
        (None, None) if files.is_empty() => problems.push(TlsProblem::NoCertificate),
        (None, None) => {}
    }
    let mut pairs = Vec::new();
    for (cert_file, key_file) in files {
        match key_pair(cert_file, key_file, provider) {
            Ok(pair) => pairs.push((cert_file, pair)),
            Err(problem) => problems.push(problem),
        }
    }
    pairs
}

/// Whom clients' certificates must come from.
fn roots(
    options: &Tls,
    now: SystemTime,
    problems: &mut Vec<TlsProblem>,
) -> Option<Arc<Authorities>> {
    let mut roots = Authorities::new();
    for path in &options.ca_files {
        match certificates("ca_file", path) {
            Ok(found) => {
                for (index, certificate) in found.into_iter().enumerate() {
                    let (path, number) = (path.clone(), index + 1);
                    let time = validity(&certificate);
                    if roots.add_named(certificate).is_err() {
                        problems.push(TlsProblem::NoAuthority { path, number });
                    } else if time.is_some_and(|(begin, end)| !(begin..=end).contains(&now)) {
                        problems.push(TlsProblem::AuthorityOutOfTime { path, number });
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if options.ca_files.is_empty() {
        // As nats-server, which then trusts whom the system trusts.
        for certificate in rustls_native_certs::load_native_certs().certs {
            // Among those there is always one that nobody understands.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            problems.push(TlsProblem::NoAuthorities);
        }
    }
    (!roots.is_empty()).then(|| Arc::new(roots))
}

fn pinned(options: &Tls, asks_peers: bool, problems: &mut Vec<TlsProblem>) -> BTreeSet<String> {
    let mut pinned = BTreeSet::new();
    for entry in &options.pinned_certs {
        let text = entry.to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            pinned.insert(text);
        } else {
            problems.push(TlsProblem::PinnedCert(entry.clone()));
        }
    }
    if !pinned.is_empty() && !asks_peers {
        problems.push(TlsProblem::PinnedWithoutVerify);
    }
    pinned
}

fn config(
    options: &Tls,
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    resolver: &Arc<Certificates>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions(options, provider))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(resolver) as Arc<dyn ResolvesServerCert>);
    // Tickets of keys that belong to this very configuration: a session cannot be taken up again where other
    // authorities are trusted, and a client that comes back after a storm costs no place in a table.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A client of a message server holds one connection.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// For connections on which nobody would verify a chain again.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.send_tls13_tickets = 0;
    config.ticketer = Arc::new(NoTickets);
    config
}

/// Makes none and takes none.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn versions(
    options: &Tls,
    provider: &CryptoProvider,
) -> &'static [&'static SupportedProtocolVersion] {
    const V1_3_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];
    const V1_2_ON: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match options.min_version {
        TlsVersion::V1_2 if has_suites_of_1_2(provider) => V1_2_ON,
        TlsVersion::V1_2 | TlsVersion::V1_3 => V1_3_ONLY,
    }
}

fn has_suites_of_1_2(provider: &CryptoProvider) -> bool {
    provider
        .cipher_suites
        .iter()
        .any(|suite| suite.tls13().is_none())
}

/// The configured certificates; the first that fits the name the client asks for is shown.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (first, others) = self.0.split_first()?;
        if others.is_empty() {
            return Some(Arc::clone(first));
        }
        let schemes = client_hello.signature_schemes();
        let usable = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(schemes).is_some();
        let named = client_hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let fitting = named.and_then(|name| {
            let mut pairs = self.0.iter().filter(usable);
            pairs.find(|pair| is_named(pair, &name))
        });
        let chosen = fitting.or_else(|| self.0.iter().find(usable));
        Some(Arc::clone(chosen.unwrap_or(first)))
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let mut pairs = self.0.iter();
        pairs
            .find(|pair| pair.key.choose_scheme(schemes).is_some())
            .map(Arc::clone)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn is_named(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    pair.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|certificate| verify_server_name(&certificate, name))
        .is_ok()
}
