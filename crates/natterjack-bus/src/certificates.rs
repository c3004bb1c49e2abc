//! What certificates say, and why one would be refused: as a server's, as a client's, as a peer's.
//!
//! Verifying is rustls' business, and this asks it. But rustls says one word about the first thing it minds; whoever set
//! the certificates up wants all of it, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_cert::certificate::Version;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};

/// Larger files are a slip.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// From when on an end that comes near is told.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 3600;

/// A certificate, taken apart as far as an event bus cares.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificate {
    /// Whose it is, as in `CN=node-1`.
    pub subject: String,
    /// Who gave it.
    pub issuer: String,
    /// Host names among its alternative names.
    pub host_names: Vec<String>,
    /// Addresses among its alternative names.
    pub addresses: Vec<IpAddr>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Whether it may be shown by servers.
    pub is_for_servers: bool,
    /// Whether it may be shown by clients.
    pub is_for_clients: bool,
    /// Whether it is an authority's.
    pub is_authority: bool,
    is_of_version_3: bool,
    der: CertificateDer<'static>,
}

/// Why there are no certificates to be had from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// There is no certificate in it.
    #[error(
        "no certificate inside; it must hold PEM, beginning with `-----BEGIN CERTIFICATE-----`"
    )]
    Nothing,
    /// One is not what it should be.
    #[error("certificate {number} in it is damaged; copy the file again")]
    Damaged {
        /// Which, counted from 1.
        number: usize,
    },
}

/// What a certificate is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// A server's, dialled by this name, unless that does not matter.
    Server {
        /// Host name or address.
        host: Option<&'a str>,
    },
    /// A client's.
    Client,
}

/// Why a certificate would be refused, or soon be. The text says what is wrong; see also [`Flaw::remedy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Its time is over.
    Expired {
        /// Since when.
        not_after: SystemTime,
        /// How long that is.
        ago: Duration,
    },
    /// Its time is nearly over. No reason to refuse it yet.
    ExpiresSoon {
        /// When.
        not_after: SystemTime,
        /// How long that is from now.
        left: Duration,
    },
    /// Its time has not come.
    NotYetValid {
        /// When it will.
        not_before: SystemTime,
    },
    /// Servers may not show it.
    NotForServers,
    /// Clients may not show it.
    NotForClients,
    /// It does not name the host.
    NameMissing {
        /// The host that is dialled.
        host: String,
        /// Whom it names.
        names: Vec<String>,
    },
    /// It is an authority's own.
    IsAuthority,
    /// It is of a version of X.509 before 3, the first in which certificates say whom they are for.
    OldVersion,
    /// The authorities do not know who gave it.
    UnknownIssuer {
        /// Who gave it.
        issuer: String,
        /// The authorities.
        known: Vec<String>,
    },
    /// An authority has the name of who gave it, but another key.
    OtherKey {
        /// Who gave it.
        issuer: String,
    },
    /// The authority's own certificate is out of its time.
    AuthorityOutOfTime {
        /// Whose it is.
        subject: String,
        /// Whether it is over, or has not come.
        is_over: bool,
        /// The nearer end of that time.
        at: SystemTime,
    },
    /// What is named as an authority is none.
    NoAuthority {
        /// Whose certificate it is.
        subject: String,
    },
    /// Anything else, in the TLS library's words.
    Refused(Box<str>),
}

impl Certificate {
    /// All certificates of a PEM file, in its order; at least one. Other things in it are passed over.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Vec<Self>, ReadError> {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        Self::from_pem(&std::fs::read(path)?)
    }

    /// The same from a text.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, ReadError> {
        let mut all = Vec::new();
        for der in CertificateDer::pem_slice_iter(text) {
            let number = all.len() + 1;
            let damaged = || ReadError::Damaged { number };
            let der = der.map_err(|_| damaged())?;
            all.push(Self::from_der(der).ok_or_else(damaged)?);
        }
        if all.is_empty() {
            return Err(ReadError::Nothing);
        }
        Ok(all)
    }

    pub(crate) fn from_der(der: CertificateDer<'static>) -> Option<Self> {
        const SERVERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
        const CLIENTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
        const ANYTHING: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
        let certificate = x509_cert::Certificate::from_der(&der).ok()?;
        let body = certificate.tbs_certificate();
        // Without the extension it is for everything (RFC 5280, section 4.2.1.12).
        let usages = body.get_extension::<ExtendedKeyUsage>().ok()?;
        let is_for = |usage| {
            usages
                .as_ref()
                .is_none_or(|(_, usages)| usages.0.contains(&usage) || usages.0.contains(&ANYTHING))
        };
        let constraints = body.get_extension::<BasicConstraints>().ok()?;
        let mut host_names = Vec::new();
        let mut addresses = Vec::new();
        let alternatives = body.get_extension::<SubjectAltName>().ok()?;
        for name in alternatives.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => host_names.push(name.as_str().to_owned()),
                GeneralName::IpAddress(octets) => addresses.extend(address(octets.as_bytes())),
                _ => {}
            }
        }
        Some(Self {
            subject: body.subject().to_string(),
            issuer: body.issuer().to_string(),
            host_names,
            addresses,
            not_before: body.validity().not_before.to_system_time(),
            not_after: body.validity().not_after.to_system_time(),
            is_of_version_3: body.version() == Version::V3,
            is_for_servers: is_for(SERVERS),
            is_for_clients: is_for(CLIENTS),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            der,
        })
    }

    /// Host names and addresses that it names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        self.host_names.iter().cloned().chain(addresses).collect()
    }

    /// Whether it is that of a server of this name or address.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        ParsedCertificate::try_from(&self.der)
            .and_then(|parsed| verify_server_name(&parsed, &name))
            .is_ok()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(octets).ok()?.into()),
        _ => None,
    }
}

/// Why a certificate would be refused at `now` by those who believe these authorities; empty if it would not be.
/// `chain` begins with the certificate, and what is between it and an authority follows.
#[must_use]
pub fn flaws(
    chain: &[Certificate],
    authorities: &[Certificate],
    role: Role<'_>,
    now: SystemTime,
) -> Vec<Flaw> {
    let Some((own, between)) = chain.split_first() else {
        return Vec::new();
    };
    let mut flaws = Vec::new();
    if now > own.not_after {
        flaws.push(Flaw::Expired {
            not_after: own.not_after,
            ago: now.duration_since(own.not_after).unwrap_or_default(),
        });
    } else if now < own.not_before {
        flaws.push(Flaw::NotYetValid {
            not_before: own.not_before,
        });
    } else if let Ok(left) = own.not_after.duration_since(now)
        && left < EXPIRES_SOON
        && own.lifetime() > EXPIRES_SOON
    {
        flaws.push(Flaw::ExpiresSoon {
            not_after: own.not_after,
            left,
        });
    }
    if !own.is_of_version_3 {
        // Whatever else is missing comes of that.
        flaws.push(Flaw::OldVersion);
        return flaws;
    }
    match role {
        Role::Server { .. } if !own.is_for_servers => flaws.push(Flaw::NotForServers),
        Role::Client if !own.is_for_clients => flaws.push(Flaw::NotForClients),
        _ => {}
    }
    if let Role::Server { host: Some(host) } = role
        && !own.covers(host)
    {
        flaws.push(Flaw::NameMissing {
            host: host.into(),
            names: own.names(),
        });
    }
    if own.is_authority {
        flaws.push(Flaw::IsAuthority);
    } else {
        flaws.extend(of_chain(own, between, authorities, now));
    }
    flaws
}

impl Certificate {
    fn lifetime(&self) -> Duration {
        self.not_after
            .duration_since(self.not_before)
            .unwrap_or_default()
    }
}

/// What is wrong with whoever stands behind a certificate.
fn of_chain(
    own: &Certificate,
    between: &[Certificate],
    authorities: &[Certificate],
    now: SystemTime,
) -> Option<Flaw> {
    // Its own time has been looked at; behind it counts what was right in that.
    let then = now.clamp(own.not_before, own.not_after.max(own.not_before));
    let unknown = || Flaw::UnknownIssuer {
        issuer: chain_end(own, between).issuer.clone(),
        known: authorities
            .iter()
            .map(|authority| authority.subject.clone())
            .collect(),
    };
    match verify(own, between, authorities, then) {
        Ok(()) => {}
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => return Some(unknown()),
        Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
            return Some(Flaw::OtherKey {
                issuer: chain_end(own, between).issuer.clone(),
            });
        }
        Err(error) => return Some(Flaw::Refused(error.to_string().into())),
    }
    // rustls takes an authority's word whatever that says of itself; others do not.
    let issuer = &chain_end(own, between).issuer;
    let behind: Vec<&Certificate> = authorities
        .iter()
        .filter(|authority| authority.subject == *issuer)
        .collect();
    let is_good = |authority: &&Certificate| {
        authority.is_authority && (authority.not_before..=authority.not_after).contains(&now)
    };
    if behind.iter().any(is_good) {
        return None;
    }
    authority_flaw(behind.first()?, now)
}

/// What is wrong with an authority itself.
#[must_use]
pub fn authority_flaw(authority: &Certificate, now: SystemTime) -> Option<Flaw> {
    let subject = authority.subject.clone();
    if !authority.is_authority {
        return Some(Flaw::NoAuthority { subject });
    }
    let is_over = now > authority.not_after;
    if !is_over && now >= authority.not_before {
        return None;
    }
    Some(Flaw::AuthorityOutOfTime {
        subject,
        is_over,
        at: if is_over {
            authority.not_after
        } else {
            authority.not_before
        },
    })
}

/// Whether a private key, in PEM and not encrypted, is that of a certificate.
#[must_use]
pub fn is_key_of(key: &[u8], certificate: &Certificate) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return false;
    };
    let chain = vec![certificate.der.clone()];
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .is_ok_and(|pair| pair.keys_match().is_ok())
}

/// The last link before an authority, as far as the chain goes.
fn chain_end<'a>(own: &'a Certificate, between: &'a [Certificate]) -> &'a Certificate {
    let mut end = own;
    // As many steps as there are links, whatever circles they make.
    for _ in between {
        match between
            .iter()
            .find(|next| next.subject == end.issuer && next.subject != end.subject)
        {
            Some(next) if next.subject != next.issuer => end = next,
            _ => break,
        }
    }
    end
}

/// Whether the authorities vouch for a certificate at a time. What it is for is not the question, as long as it is for
/// anything.
fn verify(
    own: &Certificate,
    between: &[Certificate],
    authorities: &[Certificate],
    at: SystemTime,
) -> Result<(), Error> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.der.clone())?;
    }
    let between: Vec<CertificateDer<'_>> = between.iter().map(|link| link.der.clone()).collect();
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let at = UnixTime::since_unix_epoch(seconds);
    if own.is_for_servers {
        verify_server(own, &between, &roots, at, &provider)
    } else if own.is_for_clients && !roots.is_empty() {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier
            .verify_client_cert(&own.der, &between, at)
            .map(|_| ())
    } else {
        Ok(())
    }
}

fn verify_server(
    own: &Certificate,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    at: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(&own.der)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, at, algorithms)
}

impl Flaw {
    /// Whether it is no reason to refuse the certificate, yet.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::ExpiresSoon { .. })
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Expired { .. } | Self::ExpiresSoon { .. } => {
                "renew it, for example with `natterjack certs node`".into()
            }
            Self::NotYetValid { .. } => "check the clocks of this host and of the one it was made on".into(),
            Self::NotForServers | Self::NotForClients => {
                "make one with the extended key usages serverAuth and clientAuth, as `natterjack certs node` does"
                    .into()
            }
            Self::NameMissing { host, .. } => format!(
                "make one that names it, too: `natterjack certs node --host {host} ...`, or dial a name it has"
            ),
            Self::IsAuthority => {
                "name a certificate that this authority has given, such as `natterjack certs node` makes".into()
            }
            Self::OldVersion => {
                "make it anew, for example with `natterjack certs node`; `openssl x509 -req` makes one of version 3 when \
                 it is given a file of extensions (-extfile)"
                    .into()
            }
            Self::UnknownIssuer { .. } => {
                "give all nodes certificates of the same authority, or add this one's authority to tlsCA everywhere"
                    .into()
            }
            Self::OtherKey { .. } => {
                "the authority was made anew: make this certificate anew, too, or go back to the former authority"
                    .into()
            }
            Self::AuthorityOutOfTime { is_over: true, .. } => {
                "make a new authority, and certificates from it, for all nodes".into()
            }
            Self::AuthorityOutOfTime { .. } => "check the clock of this host".into(),
            Self::NoAuthority { .. } => {
                "name the authority's certificate, not one that it has given".into()
            }
            Self::Refused(_) => "make it anew, for example with `natterjack certs node`".into(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after, ago } => {
                write!(
                    formatter,
                    "it expired on {}, {} ago",
                    date(*not_after),
                    span(*ago)
                )
            }
            Self::ExpiresSoon { not_after, left } => {
                write!(
                    formatter,
                    "it expires on {}, in {}",
                    date(*not_after),
                    span(*left)
                )
            }
            Self::NotYetValid { not_before } => {
                write!(
                    formatter,
                    "it is valid from {} on, which is still to come",
                    date(*not_before)
                )
            }
            Self::NotForServers => formatter.write_str(
                "servers may not show it: its extended key usage does not have serverAuth",
            ),
            Self::NotForClients => formatter.write_str(
                "clients may not show it: its extended key usage does not have clientAuth",
            ),
            Self::NameMissing { host, names } if names.is_empty() => write!(
                formatter,
                "it does not name `{host}`: it has no subject alternative names, and its subject does not count"
            ),
            Self::NameMissing { host, names } => write!(
                formatter,
                "it does not name `{host}`, but only {}",
                names.join(", ")
            ),
            Self::IsAuthority => formatter.write_str("it is an authority's own certificate"),
            Self::OldVersion => formatter.write_str(
                "it is of version 1 of X.509, in which a certificate cannot name the hosts that it is for",
            ),
            Self::UnknownIssuer { issuer, known } => write!(
                formatter,
                "it comes from `{issuer}`, which is none of the authorities: {}",
                known.join(", ")
            ),
            Self::OtherKey { issuer } => write!(
                formatter,
                "it comes from another `{issuer}` than the authority of that name: their keys differ"
            ),
            Self::AuthorityOutOfTime {
                subject,
                is_over: true,
                at,
            } => write!(
                formatter,
                "the authority `{subject}` expired on {}",
                date(*at)
            ),
            Self::AuthorityOutOfTime { subject, at, .. } => {
                write!(
                    formatter,
                    "the authority `{subject}` is valid from {} on only",
                    date(*at)
                )
            }
            Self::NoAuthority { subject } => {
                write!(formatter, "`{subject}` is not an authority's certificate")
            }
            Self::Refused(words) => formatter.write_str(words),
        }
    }
}

/// A day, in UTC.
#[must_use]
pub fn date(time: SystemTime) -> String {
    let time = x509_cert::der::DateTime::from_system_time(time);
    time.map_or_else(
        |_| "a day beyond all calendars".into(),
        |time| format!("{:04}-{:02}-{:02}", time.year(), time.month(), time.day()),
    )
}

fn span(duration: Duration) -> String {
    match duration.as_secs() / DAY_SECONDS {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}
