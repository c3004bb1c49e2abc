//! Certificates of callers as they were seen first: a folder of theirs, as MCollective's Choria plugins keep it.
//!
//! An authority that can be talked into a second certificate of the same name does not get far with it, as long as the first
//! one is good. A certificate that was renewed for the same key is no second one.
//!
//! Beside each, a file tells people when it was seen and what is in it, as those plugins write it. Nothing reads that.

mod metadata;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::pem;

/// Why a certificate is not the one that was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// Another one was.
    #[error(
        "the certificate of {certname} is not the one that was seen first, in {}; if it was made anew, remove that file",
        path.display()
    )]
    Other {
        /// Whose.
        certname: String,
        /// Where the first one is kept.
        path: PathBuf,
    },
    /// It cannot be looked up or kept.
    #[error("cannot keep the certificate of {certname} in {}: {source}", path.display())]
    Io {
        /// Whose.
        certname: String,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// With what a certificate was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    /// The machine that the caller uses, by its own word.
    pub(crate) sender: &'a str,
    /// Which request it came with.
    pub(crate) request_id: &'a str,
    /// When.
    pub(crate) time: SystemTime,
}

/// The folder: `<ssldir>/choria_security/public_certs`.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Below the folder of keys and certificates.
    #[must_use]
    pub fn below(ssldir: &Path) -> Self {
        Self {
            folder: ssldir.join("choria_security/public_certs"),
        }
    }

    /// Keeps the first certificate of a name, which must be one that [`crate::identity::check`] takes, and takes no other
    /// after it as long as that one `is_good`, unless it is for the same key.
    pub(crate) fn hold(
        &self,
        certname: &str,
        certificate: &CertificateDer<'_>,
        sight: &Sight<'_>,
        is_good: impl FnOnce(&CertificateDer<'static>) -> bool,
    ) -> Result<(), PinError> {
        let path = self.folder.join(format!("{certname}.pem"));
        let failed = |source| PinError::Io {
            certname: certname.to_owned(),
            path: path.clone(),
            source,
        };
        match fs::read(&path) {
            Ok(pem) => match CertificateDer::from_pem_slice(&pem) {
                Ok(pinned) if pinned == *certificate => return Ok(()),
                Ok(pinned) if !is_same_key(&pinned, certificate) && is_good(&pinned) => {
                    return Err(PinError::Other {
                        certname: certname.to_owned(),
                        path,
                    });
                }
                // It was renewed, or its time is over, or the file is spoiled.
                _ => fs::remove_file(&path).map_err(failed)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        self.keep(&path, certificate).map_err(failed)?;
        if let Some(metadata) = metadata::of(certificate, sight)
            && let Err(error) = fs::write(self.folder.join(format!("{certname}.json")), metadata)
        {
            // It is for people; what counts is there.
            tracing::debug!(certname, %error, "cannot write when a certificate was seen");
        }
        Ok(())
    }

    fn keep(&self, path: &Path, certificate: &CertificateDer<'_>) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.folder)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path);
        match file {
            Ok(mut file) => file.write_all(pem::encode("CERTIFICATE", certificate).as_bytes()),
            // Somebody else keeps the same one at the same time; the next request will tell.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_same_key(left: &CertificateDer<'_>, right: &CertificateDer<'_>) -> bool {
    let key = |certificate: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        key.to_der().ok()
    };
    key(left).is_some_and(|left| key(right) == Some(left))
}
