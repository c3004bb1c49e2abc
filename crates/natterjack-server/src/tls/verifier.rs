//! Client certificates are verified by rustls; who was refused is remembered for the log, which rustls'
//! error does not tell.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::{describe, is_for_clients};

thread_local! {
    /// The certificate this thread refused last. A handshake's step runs on one thread from beginning to end,
    /// and takes it from here when it has failed.
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether a certificate was refused because it is an authority's. The error's type is not rustls' own, and so
/// only its name can be compared.
pub(crate) fn is_authority_shown(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.to_string() == "CaUsedAsEndEntity"
        }
        _ => false,
    }
}

/// The certificate that was refused in the step that this thread has just made.
pub(crate) fn take_refused() -> Option<String> {
    REFUSED.take()
}

/// Delegates, and remembers whom it refused.
///
/// It also lets in a certificate that is one of the configured authorities' itself. That is what a self-signed
/// client certificate is, which an operator trusts by naming it in `ca_file`; rustls takes no authority's
/// certificate for anybody's own, while nats-server does.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) authorities: HashSet<CertificateDer<'static>>,
}

impl Witness {
    fn is_authority(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.authorities.contains(certificate) && is_for_clients(certificate, now)
    }
}

impl ClientCertVerifier for Witness {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now);
        match verified {
            Err(error) if is_authority_shown(&error) && self.is_authority(end_entity, now) => {
                Ok(ClientCertVerified::assertion())
            }
            Err(error) => {
                REFUSED.set(describe(end_entity));
                Err(error)
            }
            Ok(verified) => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
