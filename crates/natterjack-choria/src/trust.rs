//! Whom a certificate names, and whether Puppet's authority vouches for it.
//!
//! The same rules hold for servers that are connected to and for those who sign requests: a chain to the configured
//! authorities alone, never to the system's, and nothing in it that an authority has revoked; and names without wildcards
//! or guesses, except that certificates from former times, which have no alternative names at all, are known by their
//! common name.

use std::sync::Arc;
use std::time::SystemTime;

use natterjack_link::{KeyHolders, ServerJudge};
use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, OtherError, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::revocation::{Depth, Expiry, RevocationProblem, Revocations};

/// Attribute of subjects, RFC 4519.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Why a certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not a certificate, or none is there.
    #[error("there is no certificate in it that can be read")]
    Unreadable,
    /// An authority that cannot be one.
    #[error("a certificate in it cannot be an authority: {0}")]
    Authority(String),
    /// Nobody of the authorities signed it.
    #[error("it was not signed by the configured authorities")]
    UnknownAuthority,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not begun; a clock may be wrong.
    #[error("it is not valid yet; are the clocks right?")]
    NotYetValid,
    /// It is for something else.
    #[error("it was not made for this (extended key usage)")]
    Purpose,
    /// It is of a former version of X.509, in which a certificate cannot say whom it is for.
    #[error(
        "it is of version 1 of X.509, and only those of version 3 can be used, which Puppet's authority makes; openssl x509 \
         -req makes one when it is given a file of extensions (-extfile)"
    )]
    OldVersion,
    /// It is signed in a way that proves nothing any more, or that is not known.
    #[error(
        "it, or one of the authorities between, is signed in a way that is not trusted, such as with SHA-1"
    )]
    Algorithm,
    /// It is one that vouches for others, or one that was signed by itself.
    #[error(
        "it is an authority's own, or was signed by itself, and not one that an authority has given"
    )]
    OfAuthority,
    /// Its authority has taken it back.
    #[error("its authority has revoked it")]
    Revoked,
    /// Nobody can tell whether it was revoked.
    #[error("whether it was revoked is not known: no revocation list is its authority's")]
    RevocationUnknown,
    /// What is known of revocations is too old.
    #[error(
        "whether it was revoked is not known: the revocation list of its authority has expired"
    )]
    RevocationsExpired,
    /// The list cannot be read.
    #[error("it is no revocation list that can be read")]
    Revocations,
    /// Something else is wrong.
    #[error("{0}")]
    Other(String),
}

impl TrustError {
    /// Whether it will not be trusted later either, as long as the authorities are the same.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Unreadable
                | Self::OldVersion
                | Self::UnknownAuthority
                | Self::Expired
                | Self::Revoked
        )
    }

    /// Whether lists of what was revoked are the reason.
    pub(crate) const fn is_of_lists(&self) -> bool {
        matches!(
            self,
            Self::Revoked | Self::RevocationUnknown | Self::RevocationsExpired
        )
    }
}

impl From<rustls::Error> for TrustError {
    fn from(error: rustls::Error) -> Self {
        if let rustls::Error::Other(OtherError(inner)) = &error
            && let Some(problem) = inner.downcast_ref::<RevocationProblem>()
        {
            return problem.reason.clone();
        }
        let rustls::Error::InvalidCertificate(error) = error else {
            return Self::Other(error.to_string());
        };
        if is_of_old_version(&error) {
            return Self::OldVersion;
        }
        if is_of_authority(&error) {
            return Self::OfAuthority;
        }
        match error {
            CertificateError::BadEncoding => Self::Unreadable,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            error if is_about_algorithm(&error) => Self::Algorithm,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationsExpired,
            error => Self::Other(error.to_string()),
        }
    }
}

/// Whether a certificate was refused because it is not of version 3 of X.509.
pub(crate) fn is_of_old_version(error: &CertificateError) -> bool {
    is_called(error, "UnsupportedCertVersion")
}

/// Whether a certificate was refused because it is an authority's.
pub(crate) fn is_of_authority(error: &CertificateError) -> bool {
    is_called(error, "CaUsedAsEndEntity")
}

/// Whether a certificate was refused because of how it is signed.
pub(crate) const fn is_about_algorithm(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// The type of what is in there is that of a library which is not used here, so only its name can be compared.
fn is_called(error: &CertificateError, name: &str) -> bool {
    matches!(error, CertificateError::Other(OtherError(other)) if other.to_string() == name)
}

/// Those who vouch. Clones are the same ones: when they are replaced, they are for all who have them.
#[derive(Clone, Debug)]
pub struct Authorities {
    known: Arc<RwLock<Arc<Known>>>,
    provider: Arc<CryptoProvider>,
}

/// The authorities at one moment.
#[derive(Debug)]
struct Known {
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    /// Those of them whom another of them signed. They may be revoked, or expire, as what they signed.
    between: Vec<CertificateDer<'static>>,
    /// The names of all, as they are written.
    subjects: Vec<Vec<u8>>,
    revocations: Revocations,
}

impl Authorities {
    /// Takes all certificates of a text in PEM: Puppet's `ca.pem` has an intermediate one and a root. What they revoke is
    /// not known.
    ///
    /// # Errors
    /// If there is none, or one cannot be an authority.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        Self::with_revocations(pem, &Revocations::none())
    }

    /// The same, with what they have revoked. Where that is known at all, it must be for each certificate that is vouched
    /// for, and be up to date, as it must for Puppet.
    ///
    /// # Errors
    /// If there is no certificate, or one cannot be an authority, or a list cannot be used.
    pub fn with_revocations(pem: &[u8], revocations: &Revocations) -> Result<Self, TrustError> {
        let mut authorities = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            authorities.push(certificate.map_err(|_| TrustError::Unreadable)?);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let known = Known::new(authorities, revocations, &provider)?;
        Ok(Self {
            known: Arc::new(RwLock::new(Arc::new(known))),
            provider,
        })
    }

    /// Takes those of somebody else, for all who have these.
    pub(crate) fn replace(&self, other: &Self) {
        let known = other.known();
        *self.known.write() = known;
    }

    /// Whether what they have revoked is known.
    pub(crate) fn knows_revocations(&self) -> bool {
        self.known().revocations.count() > 0
    }

    /// What they have revoked.
    pub(crate) fn revocations(&self) -> Revocations {
        self.known().revocations.clone()
    }

    /// Whether one of them has this name.
    pub(crate) fn have(&self, name: &Name) -> bool {
        let name = name.to_der();
        name.is_ok_and(|name| self.known().subjects.contains(&name))
    }

    /// When what they have revoked will not be known any more.
    pub(crate) fn revocations_expiry(&self) -> Option<Expiry> {
        self.known().revocations.expiry()
    }

    /// The same reason with what to do, if lists are it.
    pub(crate) fn explain(&self, reason: TrustError) -> Result<RevocationProblem, TrustError> {
        if !reason.is_of_lists() {
            return Err(reason);
        }
        Ok(RevocationProblem {
            lacking: self.lacking_lists(&reason),
            reason,
            path: self.known().revocations.path().cloned(),
        })
    }

    /// Those of whom there is no list of what was revoked, if that is the reason.
    pub(crate) fn lacking_lists(&self, reason: &TrustError) -> Vec<String> {
        if *reason != TrustError::RevocationUnknown {
            return Vec::new();
        }
        let known = self.known();
        let names = known.subjects.iter().flat_map(|name| Name::from_der(name));
        let lacking = names.filter(|name| !known.revocations.have(name));
        lacking.map(|name| name.to_string()).collect()
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read())
    }

    /// Whether they vouch, now, for the first certificate as that of somebody who connects or asks; the others may be
    /// between it and an authority.
    ///
    /// # Errors
    /// If they do not.
    pub fn vouch_for(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), TrustError> {
        let (first, others) = chain.split_first().ok_or(TrustError::Unreadable)?;
        let known = self.known();
        (known.clients).verify_client_cert(first, &known.all_between(others), unix_time(now))?;
        Ok(())
    }

    /// What checks servers in handshakes.
    pub(crate) fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(KeyHolders {
            judge: PuppetServers {
                authorities: self.clone(),
            },
            algorithms: self.provider.signature_verification_algorithms,
        })
    }

    pub(crate) const fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

impl Known {
    fn new(
        authorities: Vec<CertificateDer<'static>>,
        revocations: &Revocations,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let names: Vec<_> = authorities.iter().map(names_of_authority).collect();
        let has_issuer_here = |index: usize| {
            let Some((subject, issuer)) = &names[index] else {
                return false;
            };
            subject != issuer
                && (names.iter().flatten()).any(|(other_subject, _)| other_subject == issuer)
        };
        let subjects = names.iter().flatten().map(|(subject, _)| subject.clone());
        let subjects = subjects.collect();
        let mut roots = RootCertStore::empty();
        let mut between = Vec::new();
        for (index, certificate) in authorities.into_iter().enumerate() {
            if has_issuer_here(index) {
                between.push(certificate);
                continue;
            }
            roots
                .add(certificate)
                .map_err(|error| TrustError::Authority(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TrustError::Unreadable);
        }
        let roots = Arc::new(roots);
        let mut servers =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .with_crls(revocations.lists().cloned())
                .enforce_revocation_expiration();
        let mut clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .with_crls(revocations.lists().cloned())
            .enforce_revocation_expiration();
        if revocations.depth() == Depth::Leaf {
            servers = servers.only_check_end_entity_revocation();
            clients = clients.only_check_end_entity_revocation();
        }
        Ok(Self {
            servers: servers.build().map_err(unusable)?,
            clients: clients.build().map_err(unusable)?,
            between,
            subjects,
            revocations: revocations.clone(),
        })
    }

    fn all_between<'a>(&'a self, others: &'a [CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
        let ours = self.between.iter();
        let borrowed = |certificate: &'a CertificateDer<'a>| CertificateDer::from(&**certificate);
        others
            .iter()
            .map(borrowed)
            .chain(ours.map(borrowed))
            .collect()
    }
}

/// Subject and issuer, as they are written.
fn names_of_authority(certificate: &CertificateDer<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let body = certificate.tbs_certificate();
    Some((body.subject().to_der().ok()?, body.issuer().to_der().ok()?))
}

fn unusable(error: VerifierBuilderError) -> TrustError {
    match error {
        VerifierBuilderError::InvalidCrl(_) => TrustError::Revocations,
        error => TrustError::Authority(error.to_string()),
    }
}

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// When a certificate's time is over.
pub(crate) fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some(validity.not_after.to_system_time())
}

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The last common name of its subject.
    pub common_name: Option<String>,
    /// Names among its alternatives.
    pub alternatives: Vec<String>,
    /// Whether it has the extension for alternatives at all, be it empty or without names.
    pub has_alternatives: bool,
}

impl CertificateNames {
    /// Reads them from a certificate.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TrustError> {
        let unreadable = |_| TrustError::Unreadable;
        let certificate = Certificate::from_der(certificate).map_err(unreadable)?;
        let body = certificate.tbs_certificate();
        let common_name = body
            .subject()
            .iter()
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok())
            .last();
        let extension = body
            .get_extension::<SubjectAltName>()
            .map_err(unreadable)?
            .map(|(_, names)| names);
        let alternatives = extension.iter().flat_map(|names| &names.0);
        Ok(Self {
            common_name: common_name.map(str::to_owned),
            alternatives: alternatives
                .filter_map(|name| match name {
                    GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
                    _ => None,
                })
                .collect(),
            has_alternatives: extension.is_some(),
        })
    }

    /// Reads them from the first certificate in a file.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn of_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let certificate = CertificateDer::pem_slice_iter(pem).next();
        match certificate {
            Some(Ok(certificate)) => Self::of(&certificate),
            _ => Err(TrustError::Unreadable),
        }
    }

    /// Whether it is this one's certificate: one of its alternative names, or if it has no alternatives at all its common
    /// name, without regard to case.
    #[must_use]
    pub fn prove(&self, name: &str) -> bool {
        let is_name = |own: &String| own.eq_ignore_ascii_case(name);
        if self.has_alternatives {
            self.alternatives.iter().any(is_name)
        } else {
            self.common_name.as_ref().is_some_and(is_name)
        }
    }

    /// The name that people know it by.
    #[must_use]
    pub fn shown(&self) -> Option<&str> {
        let first = self.alternatives.first().map(String::as_str);
        self.common_name.as_deref().or(first)
    }
}

/// Puppet's servers. There is no way to have less of them checked.
#[derive(Debug)]
struct PuppetServers {
    authorities: Authorities,
}

impl ServerJudge for PuppetServers {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let known = self.authorities.known();
        let between = known.all_between(intermediates);
        let judged =
            (known.servers).verify_server_cert(end_entity, &between, server_name, &[], now);
        let Err(error) = judged else {
            return Ok(());
        };
        // It looks at the name last: all else about the certificate is good.
        if !is_about_name(&error) {
            let problem = self.authorities.explain(TrustError::from(error.clone()));
            return Err(problem.map_or(error, |problem| OtherError(Arc::new(problem)).into()));
        }
        let names = CertificateNames::of(end_entity);
        let names = names.map_err(|_| CertificateError::BadEncoding)?;
        if names.has_alternatives {
            return Err(error);
        }
        if !names.prove(&server_name.to_str()) {
            return Err(CertificateError::NotValidForNameContext {
                expected: server_name.to_owned(),
                presented: names.common_name.into_iter().collect(),
            }
            .into());
        }
        Ok(())
    }
}

const fn is_about_name(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair,
    };

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Issuer {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for a common name and alternatives, changed by `change`.
    fn certificate(
        issuer: &Issuer,
        name: &str,
        alternatives: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let alternatives: Vec<String> = alternatives.iter().copied().map(String::from).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    fn plain(issuer: &Issuer, name: &str, alternatives: &[&str]) -> CertificateDer<'static> {
        certificate(issuer, name, alternatives, |_| ())
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    #[test]
    fn authorities_vouch_for_their_own() {
        let (ours, other) = (authority("ours"), authority("other"));
        let authorities = Authorities::from_pem(ours.pem().as_bytes()).unwrap();
        let vouch = |certificate| authorities.vouch_for(&[certificate], now());
        assert_eq!(vouch(plain(&ours, "rip.mcollective", &[])), Ok(()));
        assert_eq!(
            vouch(plain(&other, "rip.mcollective", &[])),
            Err(TrustError::UnknownAuthority)
        );
        let year = |year| rcgen::date_time_ymd(year, 1, 1);
        let old = certificate(&ours, "a", &[], |params| params.not_after = year(2020));
        assert_eq!(vouch(old), Err(TrustError::Expired));
        let young = certificate(&ours, "a", &[], |params| params.not_before = year(2100));
        assert_eq!(vouch(young), Err(TrustError::NotYetValid));
        let server = certificate(&ours, "a", &[], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert_eq!(vouch(server), Err(TrustError::Purpose));
        assert_eq!(
            vouch(CertificateDer::from(vec![1, 2])),
            Err(TrustError::Unreadable)
        );
        assert_eq!(
            authorities.vouch_for(&[], now()),
            Err(TrustError::Unreadable)
        );
        let both = format!("{}{}", ours.pem(), other.pem());
        let both = Authorities::from_pem(both.as_bytes()).unwrap();
        assert_eq!(both.vouch_for(&[plain(&other, "a", &[])], now()), Ok(()));
        assert!(Authorities::from_pem(b"").is_err());
    }

    #[test]
    fn names_of_certificates() {
        let ours = authority("ours");
        let names = |certificate| CertificateNames::of(&certificate).unwrap();
        let of_today = names(plain(&ours, "node1", &["node1.example.net", "puppet"]));
        assert!(of_today.prove("PUPPET") && of_today.prove("node1.example.net"));
        assert!(!of_today.prove("node1"), "the common name does not count");
        assert_eq!(of_today.shown(), Some("node1"));
        let former = names(plain(&ours, "node1.example.net", &[]));
        assert!(!former.has_alternatives && former.prove("Node1.Example.net"));
        assert!(!former.prove("node1") && !former.prove(""));
        let star = names(plain(&ours, "a", &["*.example.net"]));
        assert!(!star.prove("node1.example.net"), "who asks has one name");
    }

    #[test]
    fn servers_are_checked_for_their_names() {
        let (ours, other) = (authority("ours"), authority("other"));
        let verifier = Authorities::from_pem(ours.pem().as_bytes())
            .unwrap()
            .server_verifier();
        let check = |certificate: &CertificateDer<'_>, name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(certificate, &[], &name, &[], unix_time(now()))
        };
        let of_today = plain(&ours, "nats1", &["nats1.example.net", "127.0.0.1"]);
        assert!(check(&of_today, "nats1.example.net").is_ok());
        assert!(check(&of_today, "127.0.0.1").is_ok());
        assert!(check(&of_today, "nats1").is_err());
        let former = plain(&ours, "Nats1.example.net", &[]);
        assert!(check(&former, "nats1.example.net").is_ok());
        let error = check(&former, "nats2.example.net").unwrap_err().to_string();
        assert!(error.contains("Nats1.example.net"), "{error}");
        for alternatives in [&["nats1.example.net"][..], &[]] {
            let foreign = plain(&other, "nats1.example.net", alternatives);
            assert!(check(&foreign, "nats1.example.net").is_err());
        }
        let client = certificate(&ours, "a", &["nats1.example.net"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(check(&client, "nats1.example.net").is_err());
    }
}
