//! What is written beside a certificate that was seen first, for people: JSON with the names and forms that MCollective's
//! Choria plugins have (`create_time`, `senderid`, `requestid`, `certinfo`).

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use serde_json::json;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::name::Name;

use super::Sight;

/// Attributes of names, as OpenSSL abbreviates them.
const ATTRIBUTES: [(&str, &str); 6] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
];

/// Signatures, as OpenSSL calls them.
const SIGNATURES: [(&str, &str); 7] = [
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
];

/// `None`: the certificate cannot be read.
pub(super) fn of(certificate: &CertificateDer<'_>, sight: &Sight<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let body = certificate.tbs_certificate();
    let seconds = |since: Duration| since.as_secs();
    let created = sight.time.duration_since(SystemTime::UNIX_EPOCH);
    let algorithm = certificate.signature_algorithm().oid.to_string();
    let metadata = json!({
        "create_time": created.unwrap_or_default().as_secs(),
        "senderid": sight.sender,
        "requestid": sight.request_id,
        "certinfo": {
            "issuer": name(body.issuer()),
            "not_after": seconds(body.validity().not_after.to_unix_duration()),
            "not_before": seconds(body.validity().not_before.to_unix_duration()),
            "serial": decimal(body.serial_number().as_bytes()),
            "subject": name(body.subject()),
            "version": body.version() as u8,
            "signature_algorithm": known(&SIGNATURES, &algorithm),
        },
    });
    Some(metadata.to_string())
}

fn name(name: &Name) -> String {
    let part = |(oid, value): (String, &[u8])| {
        format!(
            "/{}={}",
            known(&ATTRIBUTES, &oid),
            String::from_utf8_lossy(value)
        )
    };
    name.iter()
        .map(|attribute| part((attribute.oid.to_string(), attribute.value.value())))
        .collect()
}

fn known<'a>(table: &[(&str, &'a str)], oid: &'a str) -> &'a str {
    let found = table.iter().find(|(known, _)| *known == oid);
    found.map_or(oid, |(_, name)| name)
}

/// A number of any size, from its bytes with the greatest first.
fn decimal(bytes: &[u8]) -> String {
    // The least digit first.
    let mut digits = vec![0_u16];
    for byte in bytes {
        let mut carry = u16::from(*byte);
        for digit in &mut digits {
            carry += *digit * 256;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().map(u16::to_string).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use testkit::Authority;

    use super::*;

    #[test]
    fn it_looks_as_that_of_choria() {
        let authority = Authority::new();
        let key = KeyPair::generate().unwrap();
        let certificate = authority.certificate("rip.mcollective", &[], &key, |params| {
            params.serial_number = Some(vec![0x01, 0, 0, 0, 0, 0, 0, 0, 0].into());
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        });
        let sight = Sight {
            sender: "client.example.net",
            request_id: "77",
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687),
        };
        let metadata = of(certificate.der(), &sight).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        assert_eq!(
            metadata,
            json!({
                "create_time": 1_795_289_687, "senderid": "client.example.net", "requestid": "77",
                "certinfo": {
                    "issuer": "/CN=Puppet CA: puppet", "subject": "/CN=rip.mcollective",
                    "not_before": 1_577_836_800, "not_after": 1_893_456_000,
                    "serial": "18446744073709551616", "version": 2,
                    "signature_algorithm": "ecdsa-with-SHA256",
                },
            })
        );
    }

    #[test]
    fn numbers_of_any_size() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0, 0x0a]), "10");
        assert_eq!(decimal(&[0x01, 0x00]), "256");
        assert_eq!(decimal(&[0xff; 4]), "4294967295");
    }
}
