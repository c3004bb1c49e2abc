//! The private key and the request that is made with it.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::OctetStringRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::fingerprint::Fingerprint;
use crate::pem;
use crate::wire::SigningKey;

/// What MCollective's own plugins write into requests. Puppet's authority drops it.
const UNIT: &str = "mcollective";

/// As long as Puppet's own keys.
const KEY_SIZE: KeySize = KeySize::Rsa4096;

/// A new private key in PEM, PKCS#1 as Puppet writes it and as every plugin of old reads it. Takes a second or some.
///
/// `None`: the system has no randomness.
pub(super) fn generate_key() -> Option<Zeroizing<String>> {
    let pair = KeyPair::generate(KEY_SIZE).ok()?;
    let document = pair.as_der().ok()?;
    let key = pkcs1(document.as_ref())?;
    Some(Zeroizing::new(pem::encode("RSA PRIVATE KEY", key)))
}

/// The key within PKCS#8: RFC 5208 section 5, the third element, after a version and an algorithm.
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(pkcs8).ok()?;
    let key = reader.sequence(|inner| {
        inner.decode::<u8>()?;
        inner.decode::<AlgorithmIdentifierRef<'_>>()?;
        let key = inner.decode::<&OctetStringRef>()?;
        inner.read_slice(inner.remaining_len())?;
        Ok::<_, x509_cert::der::Error>(key.as_bytes())
    });
    key.ok()
}

/// A request for a certificate, which the same key makes the same every time.
pub(super) struct SigningRequest {
    der: Vec<u8>,
}

impl SigningRequest {
    /// `None`: the name cannot be in a certificate, or the system has no randomness.
    pub(super) fn new(certname: &str, key: &SigningKey) -> Option<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, certname);
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, UNIT);
        let request = params.serialize_request(&Signer::new(key)).ok()?;
        Some(Self {
            der: request.der().to_vec(),
        })
    }

    pub(super) fn pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.der)
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

/// Whether the certificate is for this key.
pub(super) fn is_for_key(certificate: &CertificateDer<'_>, key: &SigningKey) -> bool {
    Certificate::from_der(certificate).is_ok_and(|certificate| {
        let found = certificate.tbs_certificate().subject_public_key_info();
        found.subject_public_key.as_bytes() == Some(key.public_key())
    })
}

/// Our key as rcgen wants it.
struct Signer<'a> {
    key: &'a SigningKey,
}

impl<'a> Signer<'a> {
    const fn new(key: &'a SigningKey) -> Self {
        Self { key }
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message))
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject as _;
    use x509_cert::request::CertReq;

    use super::super::tests::{KEY, OTHER_KEY};
    use super::*;

    #[test]
    fn keys_are_made() {
        let made = generate_key().unwrap();
        assert!(made.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        let key = SigningKey::from_pem(made.as_bytes()).unwrap();
        assert_eq!(key.sign(b"").len(), 512, "4096 bits");
        assert_ne!(*made, *generate_key().unwrap());
    }

    #[test]
    fn requests() {
        let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
        let request = SigningRequest::new("rip.mcollective", &key).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(request.pem().as_bytes()).unwrap();
        assert_eq!(request.fingerprint(), Fingerprint::of(&der));
        let read = CertReq::from_der(&der).unwrap();
        assert_eq!(
            read.info.subject.to_string(),
            "OU=mcollective,CN=rip.mcollective"
        );
        assert_eq!(read.info.version as u8, 0);
        assert!(read.info.attributes.is_empty());
        // sha256WithRSAEncryption, RFC 4055.
        assert_eq!(read.algorithm.oid.to_string(), "1.2.840.113549.1.1.11");
        assert_eq!(
            read.info.public_key.subject_public_key.as_bytes(),
            Some(key.public_key())
        );
        let again = SigningRequest::new("rip.mcollective", &key).unwrap();
        assert_eq!(again.fingerprint(), request.fingerprint());
        let other = SigningKey::from_pem(OTHER_KEY.as_bytes()).unwrap();
        let other = SigningRequest::new("rip.mcollective", &other).unwrap();
        assert_ne!(other.fingerprint(), request.fingerprint());
    }
}
