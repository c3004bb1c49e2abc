//! Certificates of callers as they were seen first: a folder of theirs, as MCollective's Choria plugins keep it.
//!
//! An authority that can be talked into a second certificate of the same name does not get far with it, as long as the first
//! one is good. A certificate that was renewed for the same key is no second one. What came along between a certificate and
//! its authority is kept with it: whether it is good must not depend on what the next one brings.
//!
//! Several processes may share the folder: of several first certificates at once, one is the first. Where it cannot be
//! written, certificates are kept in memory, until the end.
//!
//! Beside each, a file tells people when it was seen and what is in it, as those plugins write it. Nothing reads that.

mod metadata;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::fs::Mode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::keeping::{Folder, Keeping};
use crate::pem;
use crate::ssl::is_absent;

/// Everybody may know certificates.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Longest file: the certificates that a request may bring, which have a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// So many certificates are kept in memory. There is one of each caller whom the authorities vouch for.
const MEMORY_MAX: usize = 10_000;

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
    /// It can be kept neither in the folder nor in memory.
    #[error(
        "the certificate of {certname} cannot be kept: {} cannot be written, and {MEMORY_MAX} are kept in memory already",
        path.display()
    )]
    Full {
        /// Whose.
        certname: String,
        /// Where it would be.
        path: PathBuf,
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
#[derive(Debug)]
pub struct Pins {
    keeping: Keeping,
    memory: Mutex<Memory>,
}

/// What could not be kept in the folder, by name.
#[derive(Debug, Default)]
struct Memory {
    chains: HashMap<String, Chain>,
    /// Whether the log has heard that there is need of it.
    is_told: bool,
    /// Of whom it has heard that there is a certificate which cannot be read; no more than are kept.
    unread: HashSet<String>,
}

/// A certificate, and what came along between it and the authority.
type Chain = Vec<CertificateDer<'static>>;

impl Pins {
    /// Below the folder of keys and certificates.
    #[must_use]
    pub fn below(ssldir: &Path) -> Self {
        Self {
            keeping: Keeping::new(ssldir, "public_certs"),
            memory: Mutex::default(),
        }
    }

    /// Keeps the first certificate of a name, which must be one that [`crate::identity::check`] takes, with those that came
    /// along, and takes no other after it until that one `is_over`, unless it is for the same key.
    pub(crate) fn hold(
        &self,
        certname: &str,
        chain: &[CertificateDer<'static>],
        sight: &Sight<'_>,
        is_over: impl Fn(&[CertificateDer<'static>]) -> bool,
    ) -> Result<(), PinError> {
        let name = format!("{certname}.pem");
        let judge = |pinned: &[CertificateDer<'static>]| judge(pinned, chain, &is_over);
        let other = || PinError::Other {
            certname: certname.to_owned(),
            path: self.keeping.path(&name),
        };
        // What is in memory is younger than what may be in the folder.
        let in_memory = self.memory.lock().chains.get(certname).cloned();
        if let Some(pinned) = in_memory {
            return match judge(&pinned) {
                Verdict::Same => Ok(()),
                Verdict::Other => Err(other()),
                Verdict::Successor => self.remember(certname, chain, None, judge),
            };
        }
        match self.judge_file(&name, judge) {
            Ok(Some(Verdict::Same)) => return Ok(()),
            Ok(Some(Verdict::Other)) => return Err(other()),
            Ok(Some(Verdict::Successor) | None) => {}
            Err(error) => {
                self.notice_unread(certname, &error);
                return self.remember(certname, chain, Some(&error), judge);
            }
        }
        match self.keep(certname, chain, sight, judge) {
            Ok(Verdict::Other) => Err(other()),
            Ok(Verdict::Same | Verdict::Successor) => Ok(()),
            Err(error) => self.remember(certname, chain, Some(&error), judge),
        }
    }

    /// `None`: there is none yet.
    fn judge_file(
        &self,
        name: &str,
        judge: impl Fn(&[CertificateDer<'static>]) -> Verdict,
    ) -> io::Result<Option<Verdict>> {
        match self.keeping.open()? {
            Some(folder) => judge_in(&folder, name, judge),
            None => Ok(None),
        }
    }

    /// Puts it there, unless somebody else has put another one there in this moment.
    fn keep(
        &self,
        certname: &str,
        chain: &[CertificateDer<'static>],
        sight: &Sight<'_>,
        judge: impl Fn(&[CertificateDer<'static>]) -> Verdict,
    ) -> io::Result<Verdict> {
        let folder = self.keeping.make()?;
        let name = format!("{certname}.pem");
        let each = chain.iter().map(|one| pem::encode("CERTIFICATE", one));
        let text = each.collect::<String>();
        if !folder.put_first(&name, text.as_bytes(), FILE_MODE)? {
            match judge_in(&folder, &name, judge)? {
                Some(Verdict::Successor) | None => {
                    // Of two successors at once, the later one counts: the authority vouches for both.
                    folder.put(&name, text.as_bytes(), FILE_MODE)?;
                }
                Some(verdict) => return Ok(verdict),
            }
        }
        if let Some(metadata) = metadata::of(&chain[0], sight) {
            let written = folder.put(&format!("{certname}.json"), metadata.as_bytes(), FILE_MODE);
            if let Err(error) = written {
                // It is for people; what counts is there.
                tracing::debug!(certname, %error, "cannot write when a certificate was seen");
            }
        }
        Ok(Verdict::Successor)
    }

    /// Tells the log, once of each, if a certificate was seen before and is not compared with. Answers whether it was told.
    fn notice_unread(&self, certname: &str, error: &io::Error) -> bool {
        let path = self.keeping.path(&format!("{certname}.pem"));
        if is_absent(&path) {
            return false;
        }
        let mut memory = self.memory.lock();
        if memory.unread.len() >= MEMORY_MAX || !memory.unread.insert(certname.to_owned()) {
            return false;
        }
        drop(memory);
        tracing::warn!(
            file = %path.display(), %error,
            "the certificate that was seen first of this caller cannot be read; the one that comes now counts instead, until the next start"
        );
        true
    }

    fn remember(
        &self,
        certname: &str,
        chain: &[CertificateDer<'static>],
        reason: Option<&io::Error>,
        judge: impl Fn(&[CertificateDer<'static>]) -> Verdict,
    ) -> Result<(), PinError> {
        let path = self.keeping.path(&format!("{certname}.pem"));
        let mut memory = self.memory.lock();
        // Another first one may have come since it was looked for.
        match memory.chains.get(certname).map(|pinned| judge(pinned)) {
            Some(Verdict::Same) => return Ok(()),
            Some(Verdict::Other) => {
                let certname = certname.to_owned();
                return Err(PinError::Other { certname, path });
            }
            None if memory.chains.len() >= MEMORY_MAX => {
                let certname = certname.to_owned();
                return Err(PinError::Full { certname, path });
            }
            Some(Verdict::Successor) | None => {}
        }
        memory.chains.insert(certname.to_owned(), chain.to_vec());
        if let Some(error) = reason
            && !std::mem::replace(&mut memory.is_told, true)
        {
            tracing::warn!(
                file = %path.display(), %error,
                "cannot keep certificates of callers there: until the next start, those count that are seen first from now on"
            );
        }
        Ok(())
    }
}

/// What a certificate is beside the one that was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// That one.
    Same,
    /// Another, while that one is good.
    Other,
    /// The one that counts from now on.
    Successor,
}

fn judge(
    pinned: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    is_over: impl Fn(&[CertificateDer<'static>]) -> bool,
) -> Verdict {
    let (Some(first), Some(new)) = (pinned.first(), chain.first()) else {
        // The file is spoiled.
        return Verdict::Successor;
    };
    if first == new {
        return Verdict::Same;
    }
    if is_same_key(first, new) || is_over(pinned) {
        return Verdict::Successor;
    }
    Verdict::Other
}

/// `None`: it is not there.
fn judge_in(
    folder: &Folder,
    name: &str,
    judge: impl Fn(&[CertificateDer<'static>]) -> Verdict,
) -> io::Result<Option<Verdict>> {
    let Some(text) = folder.read(name, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let pinned: Result<Chain, _> = CertificateDer::pem_slice_iter(&text).collect();
    Ok(Some(judge(&pinned.unwrap_or_default())))
}

fn is_same_key(left: &CertificateDer<'_>, right: &CertificateDer<'_>) -> bool {
    let key = |certificate: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        key.to_der().ok()
    };
    key(left).is_some_and(|left| key(right) == Some(left))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Barrier;

    use rcgen::KeyPair;
    use testkit::Authority;

    use super::*;

    fn chain(authority: &Authority) -> Chain {
        let key = KeyPair::generate().unwrap();
        let certificate = authority.certificate("rip", &[], &key, |_| ());
        vec![certificate.der().clone()]
    }

    fn hold(pins: &Pins, name: &str, chain: &[CertificateDer<'static>]) -> Result<(), PinError> {
        let sight = Sight {
            sender: "client.example.net",
            request_id: "77",
            time: SystemTime::UNIX_EPOCH,
        };
        pins.hold(name, chain, &sight, |_| false)
    }

    #[test]
    fn where_nothing_can_be_written_they_are_kept_in_memory() {
        let ssldir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (first, second) = (chain(&authority), chain(&authority));
        // Root could write to a folder of any mode.
        fs::write(ssldir.path().join("choria_security"), "no folder").unwrap();
        let pins = Pins::below(ssldir.path());
        for _ in 0..2 {
            hold(&pins, "rip", &first).unwrap();
            let refused = hold(&pins, "rip", &second).unwrap_err();
            assert!(matches!(refused, PinError::Other { .. }), "{refused}");
        }
        hold(&pins, "bob", &second).unwrap();
        // What was seen first is not forgotten when there is room again.
        fs::remove_file(ssldir.path().join("choria_security")).unwrap();
        assert!(hold(&pins, "rip", &second).is_err());
        hold(&pins, "ann", &first).unwrap();
        let kept = pins.keeping.path("ann.pem");
        assert!(fs::read_to_string(kept).unwrap().starts_with("-----BEGIN"));
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_told_of_once() {
        let ssldir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pins = Pins::below(ssldir.path());
        let first = chain(&authority);
        hold(&pins, "ann", &first).unwrap();
        // Root could read a file of any mode.
        fs::create_dir(pins.keeping.path("rip.pem")).unwrap();
        hold(&pins, "rip", &first).unwrap();
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        assert!(pins.memory.lock().unread.contains("rip"));
        assert!(!pins.notice_unread("rip", &error), "it has been told");
        assert!(pins.notice_unread("ann", &error), "of each");
        assert!(!pins.notice_unread("bob", &error), "there is none");
    }

    #[test]
    fn links_in_the_folder_are_not_written_to() {
        let ssldir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pins = Pins::below(ssldir.path());
        hold(&pins, "bob", &chain(&authority)).unwrap();
        let foreign = ssldir.path().join("foreign");
        fs::write(&foreign, "theirs").unwrap();
        for name in ["rip.pem", "ann.json"] {
            symlink(&foreign, pins.keeping.path(name)).unwrap();
        }
        let first = chain(&authority);
        hold(&pins, "rip", &first).unwrap();
        assert!(hold(&pins, "rip", &chain(&authority)).is_err());
        hold(&pins, "ann", &first).unwrap();
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "theirs");
    }

    #[test]
    fn of_several_at_once_one_is_the_first() {
        let ssldir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        for round in 0..20 {
            let name = format!("rip{round}");
            let chains: Vec<_> = (0..4).map(|_| chain(&authority)).collect();
            let taken: usize = std::thread::scope(|scope| {
                let each: Vec<_> = chains
                    .iter()
                    .map(|chain| {
                        let (folder, name) = (ssldir.path(), &name);
                        // As several processes, which share nothing but the folder.
                        scope.spawn(move || hold(&Pins::below(folder), name, chain).is_ok())
                    })
                    .collect();
                let each = each.into_iter().map(|one| one.join().unwrap());
                each.filter(|is_taken| *is_taken).count()
            });
            assert_eq!(taken, 1);
        }
    }
    #[test]
    fn of_several_first_ones_at_once_one_is_kept_in_memory() {
        let ssldir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        fs::write(ssldir.path().join("choria_security"), "no folder").unwrap();
        let pins = Pins::below(ssldir.path());
        let chains: Vec<_> = (0..4).map(|_| chain(&authority)).collect();
        for round in 0..200 {
            let name = format!("rip{round}");
            let begin = Barrier::new(chains.len());
            let taken: usize = std::thread::scope(|scope| {
                let (pins, name, begin) = (&pins, &name, &begin);
                let each: Vec<_> = chains
                    .iter()
                    .map(|chain| {
                        scope.spawn(move || {
                            begin.wait();
                            hold(pins, name, chain).is_ok()
                        })
                    })
                    .collect();
                let each = each.into_iter().map(|one| one.join().unwrap());
                each.filter(|is_taken| *is_taken).count()
            });
            assert_eq!(taken, 1);
        }
    }
}
