//! What a certificate says: whose it is, until when, and its fingerprints. Verifying it is rustls' business.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use natterjack_engine::{CertificateNames, SubjectAttribute};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::der::asn1::{BmpString, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;

/// What the server needs to know of a peer's certificates.
#[derive(Debug)]
pub(crate) struct PeerFacts {
    /// Its own certificate first.
    pub(crate) shown: Vec<Shown>,
    /// The names in its own certificate.
    pub(crate) names: CertificateNames,
    /// When its own certificate ends.
    pub(crate) not_after: SystemTime,
}

/// What is shown of a certificate.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) subject: String,
    pub(crate) public_key_sha256: String,
    pub(crate) sha256: String,
}

/// Takes a verified chain apart; `None` if it is empty or its first certificate cannot be understood.
pub(crate) fn peer_facts(chain: &[CertificateDer<'_>]) -> Option<PeerFacts> {
    let own = Certificate::from_der(chain.first()?).ok()?;
    let shown = chain
        .iter()
        .filter_map(|der| {
            let certificate = Certificate::from_der(der).ok()?;
            Some(Shown {
                subject: subject_text(certificate.tbs_certificate().subject()),
                public_key_sha256: public_key_sha256(&certificate)?,
                sha256: hex_sha256(der),
            })
        })
        .collect();
    Some(PeerFacts {
        shown,
        names: names(&own),
        not_after: own.tbs_certificate().validity().not_after.to_system_time(),
    })
}

/// When a certificate begins and ends to be valid.
pub(super) fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some((
        validity.not_before.to_system_time(),
        validity.not_after.to_system_time(),
    ))
}

/// The same in seconds since 1970, as much of it as is after that.
pub(super) fn validity_seconds(der: &[u8]) -> Option<RangeInclusive<u64>> {
    let (not_before, not_after) = validity(der)?;
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let begin = seconds(not_before).unwrap_or_default();
    Some(begin.as_secs()..=seconds(not_after)?.as_secs())
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Clients,
    Servers,
}

impl Purpose {
    /// What it is called in certificates (RFC 5280, section 4.2.1.12).
    const fn usage(self) -> ObjectIdentifier {
        match self {
            Self::Clients => oid("1.3.6.1.5.5.7.3.2"),
            Self::Servers => oid("1.3.6.1.5.5.7.3.1"),
        }
    }
}

/// Whether an authority of this certificate may give out certificates for a purpose: it says that it is one, unless its
/// version cannot say so, and if it says what for, the purpose is among that (Go `x509.Certificate.Verify`).
pub(super) fn gives_for(purpose: Purpose, der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    let body = certificate.tbs_certificate();
    let is_authority = match body.get_extension::<BasicConstraints>() {
        Ok(Some((_, constraints))) => constraints.ca,
        Ok(None) => body.version() != Version::V3,
        Err(_) => false,
    };
    is_authority && is_meant_for(purpose, body)
}

/// Whether a certificate may be shown for a purpose at `now`: it is within its time, and if it says what it is for,
/// that is one of the things.
pub(super) fn is_for(purpose: Purpose, der: &[u8], now: SystemTime) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    let body = certificate.tbs_certificate();
    let validity = body.validity();
    let is_in_time =
        (validity.not_before.to_system_time()..=validity.not_after.to_system_time()).contains(&now);
    is_in_time && is_meant_for(purpose, body)
}

/// Whether a certificate says that it is for something, or does not say what it is for.
fn is_meant_for(purpose: Purpose, body: &TbsCertificate) -> bool {
    const ANYTHING: ObjectIdentifier = oid("2.5.29.37.0");
    match body.get_extension::<ExtendedKeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, usage))) => usage.0.contains(&purpose.usage()) || usage.0.contains(&ANYTHING),
        Err(_) => false,
    }
}

/// `subject SHA-256: fingerprint`, as nats-server shows a certificate it refused.
pub(crate) fn describe(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = subject_text(certificate.tbs_certificate().subject());
    Some(format!("{subject} SHA-256: {}", hex_sha256(der)))
}

fn public_key_sha256(certificate: &Certificate) -> Option<String> {
    let key = certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .ok()?;
    Some(hex_sha256(&key))
}

fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn names(certificate: &Certificate) -> CertificateNames {
    let body = certificate.tbs_certificate();
    let mut names = CertificateNames {
        subject: subject_text(body.subject()),
        subject_names: body
            .subject()
            .iter_rdn()
            .map(|relative| relative.iter().map(attribute).collect())
            .collect(),
        ..CertificateNames::default()
    };
    let Ok(Some((_, alternatives))) = body.get_extension::<SubjectAltName>() else {
        return names;
    };
    for name in alternatives.0 {
        match name {
            GeneralName::Rfc822Name(email) => names.emails.push(email.as_str().to_owned()),
            GeneralName::DnsName(name) => names.dns_names.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(uri) => {
                names.uris.push(uri.as_str().to_owned());
            }
            _ => {}
        }
    }
    names
}

fn attribute(attribute: &AttributeTypeAndValue) -> SubjectAttribute {
    let kind = SHORT_NAMES
        .iter()
        .find(|(oid, _)| *oid == attribute.oid)
        .map_or_else(|| attribute.oid.to_string(), |(_, name)| (*name).to_owned());
    SubjectAttribute {
        kind,
        value: text(attribute),
    }
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// Attributes with a name of their own, as RFC 4514 and nats-server's matching know them.
const SHORT_NAMES: &[(ObjectIdentifier, &str)] = &[
    (oid("2.5.4.3"), "CN"),
    (oid("2.5.4.5"), "SERIALNUMBER"),
    (oid("2.5.4.6"), "C"),
    (oid("2.5.4.7"), "L"),
    (oid("2.5.4.8"), "ST"),
    (oid("2.5.4.9"), "STREET"),
    (oid("2.5.4.10"), "O"),
    (oid("2.5.4.11"), "OU"),
    (oid("2.5.4.17"), "POSTALCODE"),
    (oid("0.9.2342.19200300.100.1.25"), "DC"),
];

/// The attributes that the text form of a subject gathers by kind, in the order from its end to its
/// beginning, with their short names. Of the last two there is one only, the last in the certificate.
const GATHERED: &[(ObjectIdentifier, &str)] = &[
    (oid("2.5.4.6"), "C"),
    (oid("2.5.4.10"), "O"),
    (oid("2.5.4.11"), "OU"),
    (oid("2.5.4.7"), "L"),
    (oid("2.5.4.8"), "ST"),
    (oid("2.5.4.9"), "STREET"),
    (oid("2.5.4.17"), "POSTALCODE"),
    (oid("2.5.4.3"), "CN"),
    (oid("2.5.4.5"), "SERIALNUMBER"),
];
const SINGLE: &[&str] = &["CN", "SERIALNUMBER"];

/// The subject as nats-server shows it, which is how Go prints names: known attributes in a fixed order and
/// several of a kind joined by `+`, and what Go does not know after them as `oid=#hex`.
fn subject_text(name: &Name) -> String {
    let attributes: Vec<&AttributeTypeAndValue> = name.iter().collect();
    let mut relative_names: Vec<String> = Vec::new();
    for attribute in &attributes {
        if !GATHERED.iter().any(|(oid, _)| *oid == attribute.oid) {
            relative_names.push(unknown_attribute(attribute));
        }
    }
    for (oid, short) in GATHERED {
        let mut values: Vec<String> = attributes
            .iter()
            .filter(|attribute| attribute.oid == *oid)
            .filter_map(|attribute| text(attribute))
            .collect();
        if SINGLE.contains(short) {
            values.drain(..values.len().saturating_sub(1));
            values.retain(|value| !value.is_empty());
        }
        if !values.is_empty() {
            let parts: Vec<String> = values
                .iter()
                .map(|value| format!("{short}={}", escaped(value)))
                .collect();
            relative_names.push(parts.join("+"));
        }
    }
    relative_names.reverse();
    relative_names.join(",")
}

fn unknown_attribute(attribute: &AttributeTypeAndValue) -> String {
    // Encoded anew as the plainest kind of string, not as it stood in the certificate.
    let der = match text(attribute) {
        Some(value) => {
            let tag = if value.bytes().all(is_printable) {
                0x13
            } else {
                0x0c
            };
            let mut der = vec![tag];
            der_length(value.len(), &mut der);
            der.extend_from_slice(value.as_bytes());
            der
        }
        None => attribute.value.to_der().unwrap_or_default(),
    };
    format!("{}=#{}", attribute.oid, hex(&der))
}

fn der_length(len: usize, der: &mut Vec<u8>) {
    if len < 0x80 {
        der.push(len as u8);
        return;
    }
    let bytes = len.to_be_bytes();
    let start = (len.leading_zeros() / 8) as usize;
    der.push(0x80 | (bytes.len() - start) as u8);
    der.extend_from_slice(&bytes[start..]);
}

/// Letters of ASN.1's PrintableString.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

/// RFC 2253, section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, letter) in value.chars().enumerate() {
        let is_special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            _ => false,
        };
        if is_special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(value.value()).ok().map(str::to_owned)
        }
        // Latin-1 in practice.
        Tag::TeletexString => Some(value.value().iter().copied().map(char::from).collect()),
        Tag::BmpString => value
            .decode_as::<BmpString>()
            .ok()
            .map(|string| string.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(params: CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone()
    }

    fn facts(params: CertificateParams) -> PeerFacts {
        peer_facts(&[certificate(params)]).expect("facts")
    }

    #[test]
    fn alternative_names_are_told_apart() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::Rfc822Name("joe@example.com".try_into().expect("ascii")),
            SanType::DnsName("agent.example.com".try_into().expect("ascii")),
            SanType::URI("spiffe://example.com/joe".try_into().expect("ascii")),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let names = facts(params).names;
        assert_eq!(names.emails, ["joe@example.com"]);
        assert_eq!(names.dns_names, ["agent.example.com"]);
        assert_eq!(names.uris, ["spiffe://example.com/joe"]);
    }

    #[test]
    fn the_subject_reads_as_nats_server_shows_it() {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CountryName, "DE");
        subject.push(DnType::OrganizationName, "Pond, Inc.");
        subject.push(DnType::CommonName, "#joe ");
        subject.push(
            DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]),
            "com",
        );
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        let names = facts(params).names;
        assert_eq!(
            names.subject,
            "CN=\\#joe\\ ,O=Pond\\, Inc.,C=DE,0.9.2342.19200300.100.1.25=#1303636f6d"
        );
        let kinds: Vec<&str> = names
            .subject_names
            .iter()
            .flatten()
            .map(|attribute| attribute.kind.as_str())
            .collect();
        assert_eq!(kinds, ["C", "O", "CN", "DC"]);
        assert_eq!(names.subject_names[3][0].value.as_deref(), Some("com"));
    }

    #[test]
    fn the_end_and_the_fingerprints_are_told() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 5, 17);
        let der = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        let facts = peer_facts(std::slice::from_ref(&der)).expect("facts");
        assert_eq!(
            facts.not_after,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_936_742_400)
        );
        use rcgen::PublicKeyData as _;
        assert_eq!(
            facts.shown[0].public_key_sha256,
            hex_sha256(&key.subject_public_key_info())
        );
        assert_eq!(facts.shown[0].sha256, hex_sha256(&der));
        assert!(peer_facts(&[]).is_none());
        assert!(peer_facts(&[CertificateDer::from(vec![1, 2, 3])]).is_none());
    }
}
