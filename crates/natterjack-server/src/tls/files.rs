//! Certificates and keys from PEM files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::problem::TlsProblem;
use super::verifier::is_of_old_version;

/// Larger files are a slip, or an attempt to fill memory.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A certificate chain with its key, from two files that may be one.
pub(super) fn key_pair(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsProblem> {
    let chain = certificates("cert_file", cert_file)?;
    let key = private_key(key_file)?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsProblem::KeyMismatch {
                cert_file: cert_file.to_owned(),
                key_file: key_file.to_owned(),
            },
            error if is_of_old_version(&error) => TlsProblem::OldVersion(cert_file.to_owned()),
            Error::InvalidCertificate(_) => damaged("cert_file", cert_file, 1),
            _ => TlsProblem::UnusableKey(key_file.to_owned()),
        })
}

/// All certificates in a file, in its order; at least one.
pub(super) fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let text = read(option, path)?;
    let mut found = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
        found.push(certificate.map_err(|_| damaged(option, path, index + 1))?);
    }
    if found.is_empty() {
        return Err(TlsProblem::NoCertificateInside {
            option,
            path: path.to_owned(),
            holds_key: holds(&text, "PRIVATE KEY-----"),
        });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let text = read("key_file", path)?;
    // PKCS#8 has a label of its own for it, the older forms say it in a header.
    if holds(&text, "BEGIN ENCRYPTED PRIVATE KEY") || holds(&text, "Proc-Type: 4,ENCRYPTED") {
        return Err(TlsProblem::EncryptedKey(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsProblem::NoKeyInside {
            path: path.to_owned(),
            holds_certificate: holds(&text, "BEGIN CERTIFICATE"),
        },
        _ => damaged("key_file", path, 1),
    })
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsProblem> {
    let unreadable = |kind| TlsProblem::Unreadable {
        option,
        path: path.to_owned(),
        kind,
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(error.kind()))?;
    // Opening a pipe waits for somebody who writes to it, perhaps for ever.
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(unreadable(std::io::ErrorKind::NotSeekable));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge));
    }
    fs::read(path).map_err(|error| unreadable(error.kind()))
}

fn damaged(option: &'static str, path: &Path, number: usize) -> TlsProblem {
    TlsProblem::Damaged {
        option,
        path: path.to_owned(),
        number,
    }
}

fn holds(text: &[u8], marker: &str) -> bool {
    text.windows(marker.len())
        .any(|window| window == marker.as_bytes())
}
