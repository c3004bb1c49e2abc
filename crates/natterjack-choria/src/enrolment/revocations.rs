//! The list of what the authorities have revoked, from Puppet's authority: beside a new certificate, and anew later. Puppet's
//! agent fetches it too, but up to Puppet 7 only once, unless it is told to (`crl_refresh_interval`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::advice;
use super::authority::{Authority, AuthorityError};
use super::bundle::Bundle;
use super::folder::{self, FolderError, Readers};
use crate::revocation::{Depth, Revocations};
use crate::server::ServerAddress;
use crate::ssl::SslFiles;
use crate::trust::{Authorities, TrustError};

/// Why there is no new list. The old one stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody knows where it would be.
    #[error("plugin.security.file.crl names no file for the revocation list")]
    NoPlace,
    /// No address was given.
    #[error("no address of Puppet's authority is known; name it with --ca")]
    NoAddress,
    /// Nobody vouches for the authority.
    #[error(
        "no authority is known yet ({} is not there); request a certificate first with natterjack choria request-cert", path.display()
    )]
    NoAuthorities {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authorities cannot be used.
    #[error("the authorities in {} cannot be used: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: TrustError,
    },
    /// The authority is of no help.
    #[error("Puppet's authority at {address}: {reason}{}", advice(reason))]
    Authority {
        /// Where it should be.
        address: ServerAddress,
        /// What is wrong.
        reason: AuthorityError,
    },
    /// The authorities that are known do not vouch for it.
    #[error(
        "Puppet's authority at {address}: its certificate is not of the authorities in {}; if Puppet's authority was made \
         anew, request a certificate of it. Otherwise somebody may be in between",
        path.display()
    )]
    OtherAuthority {
        /// Where it should be.
        address: ServerAddress,
        /// The file with the authorities.
        path: PathBuf,
    },
    /// It has none.
    #[error("Puppet's authority has no revocation list")]
    None,
    /// What it gave is of no use. It was not kept.
    #[error("the revocation list from Puppet's authority was not kept: {0}")]
    Unusable(TrustError),
    /// It would bring back what is revoked. It was not kept.
    #[error(
        "the revocation list from Puppet's authority was not kept: the list of {issuer} in it is older than the one in {}, \
         or is missing. If the authority was restored from a backup, remove that file and fetch again; otherwise somebody \
         may be in between",
        path.display()
    )]
    Older {
        /// Whose list it is.
        issuer: String,
        /// Where the newer one is.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// A list that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// From whom it is.
    pub address: ServerAddress,
    /// How many certificates are on it.
    pub revoked: usize,
}

/// Fetches the list from the first of these authorities that is there, and puts it in the place of the one that may be.
///
/// # Errors
/// If there is none that could be used; by which our own certificate, if there is one, was revoked can be.
pub async fn fetch_revocations(
    files: &SslFiles,
    depth: Depth,
    addresses: &[ServerAddress],
    now: SystemTime,
) -> Result<Fetched, FetchError> {
    let path = files.crl.clone().ok_or(FetchError::NoPlace)?;
    if crate::ssl::is_absent(&files.ca) {
        let path = files.ca.clone();
        return Err(FetchError::NoAuthorities { path });
    }
    let bundle = Bundle::from_pem(read(&files.ca)?).map_err(|reason| FetchError::Authorities {
        path: files.ca.clone(),
        reason,
    })?;
    let own = match read(&files.certificate) {
        Err(FetchError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Vec::new()
        }
        read => read?,
    };
    // One that cannot be read is as none: it is to be replaced.
    let present = std::fs::read(&path).ok();
    let present = present.and_then(|pem| Revocations::from_pem(&pem, depth).ok());
    let judge = match &present {
        Some(present) if depth != Depth::Off => {
            Authorities::with_revocations(&bundle.pem, present).ok()
        }
        _ => None,
    };
    let judge = judge.as_ref().unwrap_or(&bundle.authorities);
    let mut last = FetchError::NoAddress;
    for address in addresses {
        let mut fetched = fetch(&Authority::new(address, judge), &bundle, depth, &own, now).await;
        // By a list that is over nobody can be judged, and this is how it is replaced.
        if let Err(FetchError::Authority { reason, .. }) = &fetched
            && reason.is_unknown_to_lists()
        {
            let authority = Authority::new(address, &bundle.authorities);
            fetched = fetch(&authority, &bundle, depth, &own, now).await;
        }
        match fetched {
            Ok((pem, revocations)) => {
                check_age(&bundle, &revocations, present.as_ref(), &path)?;
                folder::replace(&path, &pem, Readers::Everybody)?;
                return Ok(Fetched {
                    path,
                    address: address.clone(),
                    revoked: revocations.revoked(),
                });
            }
            Err(FetchError::Authority { address, reason }) if reason.is_unreachable() => {
                last = FetchError::Authority { address, reason };
            }
            Err(FetchError::Authority { address, reason }) if reason.is_of_others() => {
                let path = files.ca.clone();
                return Err(FetchError::OtherAuthority { address, path });
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The list in PEM and what it says, if certificates of the authorities can be judged by it: that one, if there is one.
pub(super) async fn fetch(
    authority: &Authority,
    bundle: &Bundle,
    depth: Depth,
    certificate_pem: &[u8],
    now: SystemTime,
) -> Result<(Vec<u8>, Revocations), FetchError> {
    let fetched = authority.revocations().await;
    let pem = fetched.map_err(|reason| FetchError::Authority {
        address: authority.address().clone(),
        reason,
    })?;
    let pem = pem.ok_or(FetchError::None)?;
    let revocations = Revocations::from_pem(&pem, depth).map_err(FetchError::Unusable)?;
    let is_signed =
        |issuer: &_, list: &_, signature: &_| bundle.has_signed(issuer, list, signature);
    let checked = revocations.check(now, is_signed);
    checked.map_err(FetchError::Unusable)?;
    match judged(bundle, &revocations, certificate_pem, now) {
        // What else is wrong with the certificate is not the list's fault, and others must hear that it was revoked.
        Ok(()) | Err(TrustError::Revoked | TrustError::Expired | TrustError::NotYetValid) => {}
        Err(reason) => return Err(FetchError::Unusable(reason)),
    }
    Ok((pem, revocations))
}

/// Whether no list of one who is an authority now is older than the one that is there, or missing.
pub(super) fn check_age(
    bundle: &Bundle,
    revocations: &Revocations,
    present: Option<&Revocations>,
    path: &Path,
) -> Result<(), FetchError> {
    let is_authority = |name: &_| bundle.authorities.have(name);
    match present.and_then(|present| revocations.behind(present, is_authority)) {
        Some(issuer) => Err(FetchError::Older {
            issuer,
            path: path.to_path_buf(),
        }),
        None => Ok(()),
    }
}

/// Whether a list that is there says whether a good certificate was revoked.
pub(super) fn can_judge(
    bundle: &Bundle,
    revocations: &Revocations,
    certificate_pem: &[u8],
    now: SystemTime,
) -> bool {
    let judged = judged(bundle, revocations, certificate_pem, now);
    matches!(judged, Ok(()) | Err(TrustError::Revoked))
}

/// What becomes of a certificate by these lists; if there is none, whether anything can.
fn judged(
    bundle: &Bundle,
    revocations: &Revocations,
    certificate_pem: &[u8],
    now: SystemTime,
) -> Result<(), TrustError> {
    let judge = Authorities::with_revocations(&bundle.pem, revocations)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if chain.is_empty() {
        return Ok(());
    }
    judge.vouch_for(&chain, now)
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    std::fs::read(path).map_err(|source| FetchError::Read {
        path: path.to_path_buf(),
        source,
    })
}
