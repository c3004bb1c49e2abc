//! Private keys: which kinds are made, how they are written, and in which forms an authority's key may come.

use anyhow::Context as _;
use data_encoding::BASE64;
use rcgen::{KeyPair, SignatureAlgorithm};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Not RSA: nothing here can make such keys. Whoever needs them makes them with OpenSSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum KeyKind {
    /// EC P-256, which everybody knows and which is fast
    P256,
    /// EC P-384
    P384,
    /// Ed25519, as fast, but old programs and some browsers do not know it
    Ed25519,
}

impl KeyKind {
    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }

    pub(super) fn generate(self) -> anyhow::Result<KeyPair> {
        KeyPair::generate_for(self.algorithm()).context("cannot make a key")
    }
}

/// A key as PEM that every program can read.
pub(super) fn pem(key: &KeyPair) -> String {
    let der = key.serialized_der();
    let Some(seed) = ed25519_seed(der) else {
        return key.serialize_pem();
    };
    // The library writes version 2 of PKCS#8, with the public key, which OpenSSL before 3.2 cannot read.
    let octets = element(OCTET_STRING, &[seed]);
    let plain = pkcs8(ED25519, &octets);
    let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
    text.push_str(&BASE64.encode(&plain));
    text.push_str("\n-----END PRIVATE KEY-----\n");
    text
}

/// A private key in PEM: PKCS#8, or what some programs write for EC keys (SEC1) and RSA keys (PKCS#1). `None`: it is none
/// of them, encrypted, or of a kind that cannot be used.
pub(super) fn read(text: &str) -> Option<KeyPair> {
    match PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(key) => KeyPair::try_from(&key).ok(),
        PrivateKeyDer::Pkcs1(key) => wrapped(RSA, key.secret_pkcs1_der()),
        // Which curve it is shows when it is tried.
        PrivateKeyDer::Sec1(key) => [EC_P256, EC_P384]
            .into_iter()
            .find_map(|algorithm| wrapped(algorithm, key.secret_sec1_der())),
        _ => None,
    }
}

fn wrapped(algorithm: &[u8], key: &[u8]) -> Option<KeyPair> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8(algorithm, key))).ok()
}

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// Version 1 of PKCS#8, an INTEGER (RFC 5208, section 5).
const VERSION_1: &[u8] = &[0x02, 0x01, 0x00];

/// What stands in the AlgorithmIdentifier: `id-ecPublicKey` and the curve (RFC 5480, section 2.1.1), `rsaEncryption` and NULL
/// (RFC 8017, appendix A.1), `id-Ed25519` (RFC 8410, section 3).
const EC_P256: &[u8] =
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const EC_P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// A key of whatever form in PKCS#8.
fn pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[algorithm]);
    let key = element(OCTET_STRING, &[key]);
    element(SEQUENCE, &[VERSION_1, &algorithm, &key])
}

/// A DER element of less than 64 KiB, which keys are.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let [.., high, low] = length;
    let mut der = vec![tag];
    match content.len() {
        0..=0x7f => der.push(low),
        0x80..=0xff => der.extend([0x81, low]),
        _ => der.extend([0x82, high, low]),
    }
    der.extend(content);
    der
}

/// The secret part of an Ed25519 key in PKCS#8, of either version: 32 bytes behind a beginning that never differs but in
/// its own length and the version.
fn ed25519_seed(der: &[u8]) -> Option<&[u8]> {
    let (_, rest) = der.split_at_checked(2)?;
    let rest = rest
        .strip_prefix(b"\x02\x01\x00")
        .or_else(|| rest.strip_prefix(b"\x02\x01\x01"))?;
    let rest = rest.strip_prefix(b"\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20")?;
    rest.get(..32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
            let key = kind.generate().expect("a key");
            let again = read(&pem(&key)).expect("a key");
            assert_eq!(again.public_key_pem(), key.public_key_pem(), "{kind:?}");
        }
        assert!(read("no key").is_none());
    }

    #[test]
    fn lengths_are_written_as_short_as_they_can_be() {
        for (length, begins) in [
            (0x7f, &[0x04, 0x7f][..]),
            (0x80, &[0x04, 0x81, 0x80]),
            (0x100, &[0x04, 0x82, 0x01, 0x00]),
        ] {
            let der = element(OCTET_STRING, &[&vec![0; length]]);
            assert!(der.starts_with(begins), "{length}");
            assert_eq!(der.len(), begins.len() + length);
        }
    }
}
