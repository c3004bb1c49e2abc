//! What Puppet's authority is asked, and what its answers mean. Facts: Puppet's HTTP API, `puppet-ca/v1`, and Puppet Server
//! 7.9, whose texts decide where its status does not.

use std::fmt;
use std::sync::{Arc, Mutex};

use hyper::Method;
use natterjack_link::{KeyHolders, ServerJudge};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::bundle::Bundle;
use super::http::{ANSWER_BYTES_MAX, Answer, AskError, LISTS_BYTES_MAX, Question, ask};
use crate::handshake::words;
use crate::server::ServerAddress;
use crate::trust::{Authorities, TrustError};

/// Where its interface begins, and what every question ends with; the environment plays no part for certificates.
const BASE: &str = "/puppet-ca/v1";
const ENVIRONMENT: &str = "environment=production";

/// The name under which the authorities' own certificates are kept.
const OWN: &str = "ca";

/// What lists of revoked certificates are called.
const REVOCATIONS: &str = "certificate_revocation_list";

/// Parts of its answers to a request for a name that it knows.
const PENDING: &str = "already has a requested certificate";
const SIGNED: &str = "already has a signed certificate";

/// Longest part of an answer that is shown to people.
const SAID_CHARACTERS_MAX: usize = 200;

/// Why the authority is of no help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// There was no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It does not want to.
    #[error("it answers {status}: {said}")]
    Refused {
        /// HTTP's.
        status: u16,
        /// What it said to that, shortened.
        said: String,
    },
    /// It sends us elsewhere, where nobody has said that the authority is.
    #[error(
        "it answers {status} and points to {location}, where nobody goes unasked; if the authority is there, name it with --ca"
    )]
    Elsewhere {
        /// HTTP's.
        status: u16,
        /// Where to, shortened.
        location: String,
    },
    /// It knows nothing of authorities, so it is probably something else.
    #[error("it has no authorities to show; is it Puppet's server, with the authority on it?")]
    NoAuthorities,
    /// It says who the authorities are, but they cannot be used.
    #[error("the authorities that it shows cannot be used: {0}")]
    Authorities(TrustError),
    /// Whoever answered is none of those whom its own authorities vouch for.
    #[error(
        "it shows authorities that do not vouch for it as {host}: {}. Otherwise somebody may be in between",
        words(reason)
    )]
    Stranger {
        /// The name that was asked for.
        host: String,
        /// What is wrong.
        reason: rustls::Error,
    },
}

impl AuthorityError {
    /// Whether nobody was there at all, so that another one may be tried.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Ask(AskError::Connect(_) | AskError::TimedOut(_))
        )
    }

    /// Whether its certificate is of other authorities than those that are known.
    pub(super) fn is_of_others(&self) -> bool {
        let Some(rustls::Error::InvalidCertificate(reason)) = self.tls() else {
            return false;
        };
        // New authorities may have the old name, and another key.
        matches!(
            reason,
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        )
    }

    /// Whether nothing is wrong but that the lists which are there do not tell of it any more, or not at all.
    pub(super) fn is_unknown_to_lists(&self) -> bool {
        let reason = self.tls().cloned().map(TrustError::from);
        matches!(
            reason,
            Some(TrustError::RevocationUnknown | TrustError::RevocationsExpired)
        )
    }

    fn tls(&self) -> Option<&rustls::Error> {
        let Self::Ask(AskError::Tls(error)) = self else {
            return None;
        };
        error.get_ref().and_then(|error| error.downcast_ref())
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submission {
    Taken,
    /// One for this name waits already, perhaps this one.
    Pending,
    /// There is a certificate of this name already.
    Signed,
}

/// The authority at an address, once it is known.
#[derive(Clone)]
pub(super) struct Authority {
    address: ServerAddress,
    tls: Arc<ClientConfig>,
}

/// Asks for the authorities. As long as nothing is known of them, nobody can vouch for the answer, so all that can be said in
/// the end is that the answer agrees with itself: that the authorities vouch for the server that named them.
pub(super) async fn introduction(address: &ServerAddress) -> Result<Bundle, AuthorityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let onlooker = Onlooker::default();
    let verifier = KeyHolders {
        judge: onlooker.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what its own protocol versions need")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let authority = Authority {
        address: address.clone(),
        tls: Arc::new(tls),
    };
    let pem = authority.get("certificate", OWN).await?;
    let pem = pem.ok_or(AuthorityError::NoAuthorities)?;
    let bundle = Bundle::from_pem(pem).map_err(AuthorityError::Authorities)?;
    let seen = onlooker.0.lock().expect("nothing panics with it").take();
    let seen = seen.expect("there is no answer without a handshake");
    let verifier = bundle.authorities.server_verifier();
    let verified =
        verifier.verify_server_cert(&seen.chain[0], &seen.chain[1..], &seen.name, &[], seen.now);
    verified.map_err(|reason| AuthorityError::Stranger {
        host: address.host.clone(),
        reason,
    })?;
    Ok(bundle)
}

impl Authority {
    /// One that is what these authorities vouch for, or is not talked to.
    pub(super) fn new(address: &ServerAddress, authorities: &Authorities) -> Self {
        let tls = ClientConfig::builder_with_provider(Arc::clone(authorities.provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what its own protocol versions need")
            .dangerous()
            .with_custom_certificate_verifier(authorities.server_verifier())
            .with_no_client_auth();
        Self {
            address: address.clone(),
            tls: Arc::new(tls),
        }
    }

    pub(super) const fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The certificate of this name, in PEM, if there is one.
    pub(super) async fn certificate(&self, name: &str) -> Result<Option<Vec<u8>>, AuthorityError> {
        self.get("certificate", name).await
    }

    /// The request for this name that waits, in PEM, if there is one.
    pub(super) async fn pending(&self, name: &str) -> Result<Option<Vec<u8>>, AuthorityError> {
        self.get("certificate_request", name).await
    }

    /// What the authorities have revoked, in PEM: a list of each, if there are any.
    pub(super) async fn revocations(&self) -> Result<Option<Vec<u8>>, AuthorityError> {
        self.get(REVOCATIONS, OWN).await
    }

    /// Hands in a request.
    pub(super) async fn submit(
        &self,
        name: &str,
        request_pem: &str,
    ) -> Result<Submission, AuthorityError> {
        let question = Question {
            method: Method::PUT,
            path: &path("certificate_request", name),
            body: Some(request_pem.to_owned()),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = ask(&self.address, Arc::clone(&self.tls), question).await?;
        let said = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200..=299 => Ok(Submission::Taken),
            400 if said.contains(PENDING) => Ok(Submission::Pending),
            400 if said.contains(SIGNED) => Ok(Submission::Signed),
            _ => Err(refused(&answer)),
        }
    }

    async fn get(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, AuthorityError> {
        let question = Question {
            method: Method::GET,
            path: &path(kind, name),
            body: None,
            answer_bytes_max: match kind {
                REVOCATIONS => LISTS_BYTES_MAX,
                _ => ANSWER_BYTES_MAX,
            },
        };
        let answer = ask(&self.address, Arc::clone(&self.tls), question).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            _ => Err(refused(&answer)),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Authority({})", self.address)
    }
}

/// Names are checked before, so nothing in them needs escaping.
fn path(kind: &str, name: &str) -> String {
    format!("{BASE}/{kind}/{name}?{ENVIRONMENT}")
}

fn refused(answer: &Answer) -> AuthorityError {
    let shown = |said: &str| {
        let said: String = said.trim().chars().take(SAID_CHARACTERS_MAX).collect();
        super::printable(&said)
    };
    let status = answer.status;
    match &answer.location {
        Some(location) if (300..=399).contains(&status) => AuthorityError::Elsewhere {
            status,
            location: shown(location),
        },
        _ => AuthorityError::Refused {
            status,
            said: shown(&String::from_utf8_lossy(&answer.body)),
        },
    }
}

/// Lets every server in, and remembers whom. That they have the keys of what they show is checked by whoever asks it.
#[derive(Clone, Debug, Default)]
struct Onlooker(Arc<Mutex<Option<Seen>>>);

#[derive(Debug)]
struct Seen {
    /// The server's own first.
    chain: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    now: UnixTime,
}

impl ServerJudge for Onlooker {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let seen = Seen {
            chain: chain.map(|one| one.clone().into_owned()).collect(),
            name: server_name.to_owned(),
            now,
        };
        *self.0.lock().expect("nothing panics with it") = Some(seen);
        Ok(())
    }
}
