//! What connections to other servers are encrypted with: the same certificates that this server accepts with, shown to
//! whoever asks, and a check of who answers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::authorities::Authorities;
use super::certificate::{Purpose, is_for};
use super::verifier::{are_too_many, is_authority_shown, too_many};

/// What to dial with. Without anybody `trusted` whoever answers is believed.
pub(super) fn config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    trusted: Option<Arc<Authorities>>,
    own: Arc<dyn ResolvesClientCert>,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier: Arc<dyn ServerCertVerifier> = match trusted {
        None => Arc::new(Credulous(Arc::clone(provider))),
        Some(authorities) => Arc::new(Strict::new(authorities, Arc::clone(provider))),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(own);
    // A route lasts; and who it is with is looked at anew each time.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// As rustls, but an authority counts in its time only and if it may give out certificates for servers; and a
/// certificate that is one of the configured authorities' itself may be a server's. That is what a self-signed
/// certificate is, and nats-server takes it.
#[derive(Debug)]
struct Strict {
    authorities: Arc<Authorities>,
    provider: Arc<CryptoProvider>,
    present: Mutex<Period>,
}

/// A time in which the same authorities count.
#[derive(Debug)]
struct Period {
    /// In seconds since 1970.
    seconds: RangeInclusive<u64>,
    /// `None` if nobody counts.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Period {
    fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>, now: u64) -> Self {
        let (roots, seconds) = authorities.at(now, Purpose::Servers);
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Self {
            seconds,
            verifier: builder.build().ok(),
        }
    }
}

impl Strict {
    fn new(authorities: Arc<Authorities>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            present: Mutex::new(Period::new(&authorities, &provider, 0)),
            authorities,
            provider,
        }
    }

    fn verifier(&self, now: UnixTime) -> Option<Arc<WebPkiServerVerifier>> {
        let now = now.as_secs();
        let mut present = self.present.lock();
        if !present.seconds.contains(&now) {
            *present = Period::new(&self.authorities, &self.provider, now);
        }
        present.verifier.clone()
    }

    /// Whether a server of this name may show the certificate of an authority.
    fn is_authority(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.authorities.named().contains(certificate)
            && is_for(Purpose::Servers, certificate, now)
            && ParsedCertificate::try_from(certificate)
                .and_then(|parsed| verify_server_name(&parsed, name))
                .is_ok()
    }
}

impl ServerCertVerifier for Strict {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let nobodys = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let verified = match self.verifier(now) {
            _ if are_too_many(intermediates) => Err(too_many(intermediates.len())),
            Some(verifier) => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(nobodys.clone()),
        };
        match verified {
            Err(error)
                if (is_authority_shown(&error) || error == nobodys)
                    && self.is_authority(end_entity, server_name, now) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// `insecure`: whoever answers is believed to be who was dialled, if it has the key of what it shows.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair, date_time_ymd,
    };
    use rustls::crypto::ring;

    use super::*;

    fn second(year: i32) -> u64 {
        u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).expect("after 1970")
    }

    /// Whether the certificate of a server, valid long, is believed in 2025; and that of the authority itself.
    fn are_believed(change: impl FnOnce(&mut CertificateParams)) -> [bool; 2] {
        let names = || vec!["a.example".to_owned()];
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names()).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut issued = params.clone();
        issued.is_ca = IsCa::NoCa;
        change(&mut params);
        let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let issued = issued.signed_by(&key(), &authority).expect("a certificate");
        let mut authorities = Authorities::new();
        authorities
            .add_named(authority.der().clone())
            .expect("an authority");
        let strict = Strict::new(Arc::new(authorities), Arc::new(ring::default_provider()));
        let name = ServerName::try_from("a.example").expect("a name");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(second(2025)));
        [issued.der(), authority.der()].map(|shown| {
            strict
                .verify_server_cert(shown, &[], &name, &[], now)
                .is_ok()
        })
    }

    #[test]
    fn an_authority_counts_in_its_time_and_for_its_purpose() {
        assert_eq!(are_believed(|_| {}), [true, true]);
        let ended = |params: &mut CertificateParams| params.not_after = date_time_ymd(2024, 1, 1);
        assert_eq!(are_believed(ended), [false, false]);
        let begins = |params: &mut CertificateParams| params.not_before = date_time_ymd(2026, 1, 1);
        assert_eq!(are_believed(begins), [false, false]);
        let clients_alone = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        assert_eq!(are_believed(clients_alone), [false, false]);
        // What is no authority vouches for itself alone.
        let nobodys = |params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa;
        assert_eq!(are_believed(nobodys), [false, true]);
    }
}
