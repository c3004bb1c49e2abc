//! Files of keys and certificates that change while they are in use.
//!
//! Puppet's agent renews its certificate, and fetches what was revoked, on its own; nobody starts nodes anew for it. What is
//! new is taken if it is good. What is not, such as a certificate whose key has not been written yet, changes nothing, and
//! is told once; it is looked at again each time, for it may become good without being written again, when the clock is set.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Ssl, SslError, SslFiles};
use crate::revocation::FETCH;
use crate::trust::{Authorities, TrustError};

/// From when on before its end the log hears of a certificate. Puppet's agent renews its own earlier.
const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// So often it hears of that.
const NOTICE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What came of looking at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// They are as they were.
    Unchanged,
    /// What is in them now is in use.
    Taken,
    /// They have changed, and at least our own certificate and key cannot be used. The old ones stay. That is told once, and
    /// from then on, as long as they cannot be used, they are `Unchanged`.
    Refused,
}

/// What was seen of the files.
pub(super) struct Watched {
    /// When what is in use was read.
    used: Stamps,
    /// What was found unusable, and what has been told of it.
    refused: Option<(Stamps, String)>,
    /// When the log heard of the certificate's end.
    noticed: Option<SystemTime>,
    /// When it heard of that of revocation lists.
    noticed_lists: Option<SystemTime>,
}

/// By which changes are noticed, for each file. `None`: it is not there.
type Stamps = [Option<Stamp>; 4];

/// When a file was changed in any way, which nobody can set (unlike when it was written), how long it is, and which one it is.
type Stamp = (i64, i64, u64, u64, u64);

impl Watched {
    /// Must be made before the files are read: what changes meanwhile is noticed the next time.
    pub(super) fn new(files: &SslFiles) -> Self {
        Self {
            used: stamps(files),
            refused: None,
            noticed: None,
            noticed_lists: None,
        }
    }
}

impl Ssl {
    /// Looks whether files have changed, and takes what is in them if it is good. Connections that are there stay; those
    /// that are made next, requests that are signed next and certificates that are judged next go by the new ones.
    ///
    /// Some microseconds as long as nothing changes.
    pub fn refresh(&self, now: SystemTime) -> Renewal {
        let mut watched = self.watched.lock();
        let found = stamps(&self.files);
        if found == watched.used {
            watched.refused = None;
            return Renewal::Unchanged;
        }
        match self.take(now) {
            Ok(older) => {
                if let (Some(issuer), Some(crl)) = (older, &self.files.crl) {
                    tracing::warn!(
                        "the list of {issuer} in {} is older than the one in use, or is missing: the newer one stays in use until the next start; {FETCH}",
                        crl.display()
                    );
                }
                watched.used = found;
                watched.refused = None;
                watched.noticed = None;
                watched.noticed_lists = None;
                tracing::info!(
                    certificate = %self.files.certificate.display(),
                    "keys and certificates have changed, and the new ones are used from now on"
                );
                Renewal::Taken
            }
            Err(error) => {
                let refused = Some((found, error.to_string()));
                if watched.refused == refused {
                    return Renewal::Unchanged;
                }
                watched.refused = refused;
                tracing::warn!(
                    "files of keys and certificates have changed, but the old ones stay in use: {error}"
                );
                Renewal::Refused
            }
        }
    }

    /// Answers of whom a list is older than before: that one stays in use.
    pub(super) fn take(&self, now: SystemTime) -> Result<Option<String>, SslError> {
        if let Some(gone) = self.files.missing().first() {
            return Err(unreadable(gone));
        }
        // Whoever can remove a list must not have brought back what is on it.
        if let (Some(crl), true) = (&self.files.crl, self.is_crl_used())
            && super::is_absent(crl)
        {
            return Err(unreadable(crl));
        }
        let (authorities, older) = self.authorities_as_new_as_before()?;
        let before = self.own();
        let own = match self.files.own(&authorities, now) {
            Ok(own) if own.signer.is_none() && before.signer.is_some() => Err(SslError::Key {
                key: self.files.key.clone(),
                certificate: self.files.certificate.clone(),
                reason: "requests cannot be signed with it, as they could with the old one".into(),
            }),
            own => own,
        };
        match own {
            Ok(own) => {
                self.authorities.replace(&authorities);
                *self.own.write() = Arc::new(own);
                Ok(older)
            }
            Err(error) => {
                // What others may do does not wait for our own certificate, unless that would be nobody's any more.
                let judged = authorities.vouch_for(&before.certified.cert, now);
                if matches!(
                    judged,
                    Ok(()) | Err(TrustError::Revoked | TrustError::Expired)
                ) {
                    self.authorities.replace(&authorities);
                }
                Err(error)
            }
        }
    }

    /// Who can put an older list there must not bring back what was revoked since either.
    fn authorities_as_new_as_before(&self) -> Result<(Authorities, Option<String>), SslError> {
        let found = self.files.revocations(self.depth)?.unwrap_or_default();
        let authorities = self.files.authorities_by(&found)?;
        let before = self.authorities.revocations();
        let is_authority = |name: &_| authorities.have(name);
        let Some(older) = found.behind(&before, is_authority) else {
            return Ok((authorities, None));
        };
        let newer = found.with_newer(&before, is_authority);
        Ok((self.files.authorities_by(&newer)?, Some(older)))
    }

    fn is_crl_used(&self) -> bool {
        self.authorities.knows_revocations()
    }

    /// Tells the log that our certificate ends soon, or has ended, or that what was revoked will not be known any longer: once
    /// a day each, and not before a month is left of a certificate, a week of a list, or a quarter of its life.
    pub fn notice_expiry(&self, now: SystemTime) {
        for notice in self.notices(now) {
            tracing::warn!("{notice}");
        }
    }

    pub(super) fn notices(&self, now: SystemTime) -> Vec<String> {
        let mut watched = self.watched.lock();
        let mut notices = Vec::new();
        let is_due = |noticed: &mut Option<SystemTime>| {
            let age = noticed.map(|noticed| now.duration_since(noticed));
            let is_due = !age.is_some_and(|age| age.is_ok_and(|age| age < NOTICE_INTERVAL));
            if is_due {
                *noticed = Some(now);
            }
            is_due
        };
        let days = |left: Duration| left.as_secs() / NOTICE_INTERVAL.as_secs();
        let ends = self.ends();
        if now + EXPIRY_NOTICE >= ends && is_due(&mut watched.noticed) {
            let certificate = self.files.certificate.display();
            notices.push(match ends.duration_since(now) {
                Ok(left) => format!(
                    "{certificate} expires in {} days; renew it, and the new one is taken without a restart",
                    days(left)
                ),
                Err(_) => format!(
                    "{certificate} has expired, and no server will take it; renew it, and the new one is taken without a restart"
                ),
            });
        }
        if let Some(expiry) = self.authorities.revocations_expiry()
            && let Some(crl) = &self.files.crl
            && now >= expiry.notice
            && is_due(&mut watched.noticed_lists)
        {
            let crl = crl.display();
            notices.push(match expiry.end.duration_since(now) {
                Ok(left) => format!(
                    "{crl} expires in {} days, and then nobody is trusted; {FETCH}",
                    days(left)
                ),
                Err(_) => format!("{crl} has expired, and nobody is trusted; {FETCH}"),
            });
        }
        notices
    }
}

fn unreadable(path: &Path) -> SslError {
    SslError::Unreadable {
        path: path.to_path_buf(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

fn stamps(files: &SslFiles) -> Stamps {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((
            metadata.ctime(),
            metadata.ctime_nsec(),
            metadata.len(),
            metadata.ino(),
            metadata.dev(),
        ))
    };
    [
        stamp(&files.certificate),
        stamp(&files.key),
        stamp(&files.ca),
        files.crl.as_deref().and_then(stamp),
    ]
}
