//! The authorities as Puppet hands them out: an intermediate one and a root, or one alone, in one text; and whether they are
//! those whose fingerprint somebody was told.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::name::Name;

use super::fingerprint::Fingerprint;
use crate::trust::{Authorities, CertificateNames, TrustError};

/// More than any chain has.
const CERTIFICATES_MAX: usize = 16;

/// One of the authorities, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityShown {
    /// Its common name; without control characters, because it may come from anybody.
    pub name: String,
    /// That of its certificate.
    pub fingerprint: Fingerprint,
}

/// The text and what it says.
pub(super) struct Bundle {
    pub(super) pem: Vec<u8>,
    pub(super) authorities: Authorities,
    certificates: Vec<CertificateDer<'static>>,
}

impl Bundle {
    pub(super) fn from_pem(pem: Vec<u8>) -> Result<Self, TrustError> {
        let authorities = Authorities::from_pem(&pem)?;
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TrustError::Unreadable)?;
        if certificates.len() > CERTIFICATES_MAX {
            return Err(TrustError::Unreadable);
        }
        Ok(Self {
            pem,
            authorities,
            certificates,
        })
    }

    pub(super) fn show(&self) -> Vec<AuthorityShown> {
        let show = |certificate: &CertificateDer<'_>| {
            let names = CertificateNames::of(certificate).unwrap_or_default();
            let name = names.shown().unwrap_or("(no name)");
            AuthorityShown {
                name: super::printable(name),
                fingerprint: Fingerprint::of(certificate),
            }
        };
        self.certificates.iter().map(show).collect()
    }

    /// Whether a fingerprint vouches for all of it. It may be that of the text, as Puppet's own setting `ca_fingerprint`
    /// means it, or that of one certificate. Then the others must be tied to that one by signatures, or else anybody could
    /// put an authority of his own beside it.
    pub(super) fn is_known_by(&self, expected: &Fingerprint) -> bool {
        if Fingerprint::of(&self.pem) == *expected {
            return true;
        }
        let mut known: Vec<bool> = self
            .certificates
            .iter()
            .map(|certificate| Fingerprint::of(certificate) == *expected)
            .collect();
        // Each round finds one more at least, or is the last.
        for _ in 0..self.certificates.len() {
            let is_tied = |index: usize| {
                let mut others = (0..known.len()).filter(|other| known[*other]);
                others.any(|other| {
                    let (one, other) = (&self.certificates[index], &self.certificates[other]);
                    self.is_signed_by(one, other) || self.is_signed_by(other, one)
                })
            };
            known = (0..known.len())
                .map(|index| known[index] || is_tied(index))
                .collect();
        }
        known.iter().all(|is_known| *is_known)
    }

    fn is_signed_by(&self, certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
        let Ok(signed) = Certificate::from_der(certificate) else {
            return false;
        };
        let signature = signed.signature().as_bytes();
        signature.is_some_and(|signature| self.is_signature_of(issuer, certificate, signature))
    }

    /// Whether one of the authorities, of this name, has signed a list.
    pub(super) fn has_signed(&self, name: &Name, list: &[u8], signature: &[u8]) -> bool {
        self.certificates.iter().any(|issuer| {
            let read = Certificate::from_der(issuer);
            read.is_ok_and(|read| read.tbs_certificate().subject() == name)
                && self.is_signature_of(issuer, list, signature)
        })
    }

    fn is_signature_of(
        &self,
        issuer: &CertificateDer<'_>,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        let (Some(body), Ok(issuer)) = (signed_bytes(signed), Certificate::from_der(issuer)) else {
            return false;
        };
        let key = issuer.tbs_certificate().subject_public_key_info();
        let Some(key) = key.subject_public_key.as_bytes() else {
            return false;
        };
        // One that was made in another way than the certificate says is proof all the same.
        let ways = self
            .authorities
            .provider()
            .signature_verification_algorithms
            .all;
        ways.iter()
            .any(|way| way.verify_signature(key, body, signature).is_ok())
    }
}

/// The part of a certificate or list that its signature is over: RFC 5280 sections 4.1 and 5.1, the first element.
fn signed_bytes(signed: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(signed).ok()?;
    let body = reader.sequence(|inner| {
        let body = inner.tlv_bytes()?;
        inner.read_slice(inner.remaining_len())?;
        Ok::<_, x509_cert::der::Error>(body)
    });
    body.ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::authority::{root, under};
    use super::*;

    fn bundle(pems: &[&str]) -> Bundle {
        Bundle::from_pem(pems.concat().into_bytes()).unwrap()
    }

    #[test]
    fn a_fingerprint_vouches_for_what_is_tied_to_it() {
        let own = root("Root");
        let middle = under("Puppet CA", &own);
        let stranger = root("Stranger");
        let of =
            |pem: &str| Fingerprint::of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        let both = [middle.pem(), own.pem()].map(|pem| pem.replace('\r', ""));
        let real = bundle(&[&both[0], &both[1]]);
        assert!(real.is_known_by(&of(&both[0])));
        assert!(real.is_known_by(&of(&both[1])));
        assert!(real.is_known_by(&Fingerprint::of(both.concat().as_bytes())));
        assert!(!real.is_known_by(&of(&stranger.pem())));
        assert_eq!(real.show()[0].name, "Puppet CA");
        assert_eq!(real.show()[1].fingerprint, of(&both[1]));

        let mixed = bundle(&[&both[0], &stranger.pem(), &both[1]]);
        for known in [&both[0], &both[1], &stranger.pem()] {
            assert!(!mixed.is_known_by(&of(known)));
        }
        // Who takes the same name is not tied by it.
        let namesake = root("Root");
        assert!(!bundle(&[&both[0], &namesake.pem()]).is_known_by(&of(&both[0])));
        assert!(bundle(&[&both[0]]).is_known_by(&of(&both[0])));
    }

    #[test]
    fn what_is_no_authority() {
        assert!(Bundle::from_pem(b"".to_vec()).is_err());
        assert!(Bundle::from_pem(b"<html>".to_vec()).is_err());
        let many = root("Root").pem().repeat(CERTIFICATES_MAX + 1);
        assert!(Bundle::from_pem(many.into_bytes()).is_err());
    }
}
