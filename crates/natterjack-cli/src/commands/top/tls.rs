//! Whom monitoring over HTTPS is trusted to be, and the certificate that is shown to it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Reads authorities, those of the system and those in a file, and the own certificate with its key.
///
/// # Errors
/// If a file cannot be read, or is not what it should be.
pub(super) fn config(
    authorities: Option<&Path>,
    own: Option<(&Path, &Path)>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // Some of the system's may be of no use; without any, no server is trusted, which is told then.
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if let Some(path) = authorities {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .with_context(|| format!("cannot use an authority in {}", path.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot use TLS")?
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("cannot read the key in {}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, secret)
                .with_context(|| {
                    format!("cannot use the certificate in {}", certificate.display())
                })?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || format!("cannot read the certificates in {}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect();
    let found = found.with_context(read)?;
    if found.is_empty() {
        bail!("there is no certificate in {}", path.display());
    }
    Ok(found)
}
