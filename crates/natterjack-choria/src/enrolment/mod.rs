//! A certificate from Puppet's authority for who has none: the key, the request, the wait until somebody signs it.
//!
//! [`Enrolment::prepare`] says whether one can be requested at all, [`Enrolment::run`] does it and tells each [`Step`]. It may
//! be broken off at any time, also by dropping its future: what is in the folder then is whole, and the next run goes on from
//! there. No broker is connected to.
//!
//! As long as the authorities are unknown, nobody vouches for them. So their fingerprints are told, or compared with one that
//! is given; from then on nothing is sent to, or taken from, a server that they do not vouch for.

mod authority;
mod bundle;
mod fingerprint;
mod folder;
mod http;
mod request;
mod revocations;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use tokio::time::{MissedTickBehavior, interval, timeout_at};

pub use authority::AuthorityError;
pub use bundle::AuthorityShown;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use folder::FolderError;
pub use http::AskError;
pub use revocations::{FetchError, Fetched, fetch_revocations};

use crate::configuration::{Configuration, Surroundings};
use crate::revocation::{Depth, Revocations};
use crate::server::ServerAddress;
use crate::ssl::{PlaceError, SslFiles};
use crate::trust::{CertificateNames, TrustError};
use crate::wire::{KeyError, SigningKey};
use authority::{Authority, Submission};
use bundle::Bundle;
use folder::Readers;
use request::SigningRequest;

/// How often the authority is asked whether it has signed, unless something else is wanted.
pub const POLL_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

/// How long, unless something else is wanted.
pub const WAIT_MAX_DEFAULT: Duration = Duration::from_secs(240);

/// Nobody waits longer, whatever is wanted.
const WAIT_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How a certificate is requested.
#[derive(Clone, Debug)]
pub struct EnrolmentOptions {
    /// By which the authorities are known: the fingerprint of one of their certificates, or of their whole text.
    pub ca_fingerprint: Option<Fingerprint>,
    /// How often the authority is asked whether it has signed; more than nothing.
    pub poll_interval: Duration,
    /// How long it is asked.
    pub wait_max: Duration,
}

impl Default for EnrolmentOptions {
    fn default() -> Self {
        Self {
            ca_fingerprint: None,
            poll_interval: POLL_INTERVAL_DEFAULT,
            wait_max: WAIT_MAX_DEFAULT,
        }
    }
}

/// What has been done, for a person who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The authorities are known.
    Authorities {
        /// Their certificates, in the order of the file.
        certificates: Vec<AuthorityShown>,
        /// The file.
        path: PathBuf,
        /// Who vouches for them.
        known_by: KnownBy,
    },
    /// A private key is there.
    Key {
        /// The file.
        path: PathBuf,
        /// Whether it was made just now; otherwise it was there.
        is_new: bool,
    },
    /// A request is there.
    Request {
        /// The file.
        path: PathBuf,
        /// By which it is known in the authority's list.
        fingerprint: Fingerprint,
    },
    /// The authority has taken it.
    Submitted,
    /// The authority has it already.
    AlreadySubmitted,
    /// The authority has not signed it yet.
    Waiting {
        /// How long it was asked so far.
        waited: Duration,
        /// How long it will be asked.
        wait_max: Duration,
    },
    /// It could not be asked this time.
    Trouble {
        /// Why.
        reason: String,
    },
    /// What the authorities have revoked is there.
    Revocations {
        /// The file.
        path: PathBuf,
        /// How many certificates that are.
        revoked: usize,
    },
    /// It is not, and that was no reason to end.
    NoRevocations {
        /// Why.
        reason: String,
    },
    /// The certificate is there and good.
    Stored {
        /// The file.
        path: PathBuf,
    },
}

/// Why the authorities are taken for those of Puppet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// The fingerprint that was given.
    Fingerprint,
    /// They were in the folder already.
    Folder,
    /// Nothing but that they answered under the authority's name: somebody has to compare.
    Nothing,
}

/// Why there is no certificate. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// Certificates come from elsewhere.
    #[error(
        "certificates can be requested with plugin.security.provider = puppet only; here three files are configured, \
         which must be copied to where they belong"
    )]
    Provider,
    /// Its authority signs names without capitals only.
    #[error(
        "Puppet's authority signs no name with capitals, such as {0:?}; take another one with --certname or \
         MCOLLECTIVE_CERTNAME, and have MCOLLECTIVE_CERTNAME say the same wherever it is used"
    )]
    Capitals(String),
    /// There is one.
    #[error(
        "Already have a certificate '{}', cannot request a new one; remove it first if it is of no use any more",
        .0.display()
    )]
    Exists(PathBuf),
    /// Nobody knows where they are.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The folder cannot be written to.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authority is of no help.
    #[error("Puppet's authority at {address}: {reason}{}", advice(reason))]
    Authority {
        /// Where it should be.
        address: ServerAddress,
        /// What is wrong.
        reason: AuthorityError,
    },
    /// The authorities in the folder do not vouch for it.
    #[error(
        "Puppet's authority at {address}: its certificate is not of the authorities in {}; if Puppet's authority was made \
         anew, remove that file and compare the new ones. Otherwise somebody may be in between",
        path.display()
    )]
    OtherAuthority {
        /// Where it should be.
        address: ServerAddress,
        /// The file with the authorities.
        path: PathBuf,
    },
    /// No address was given.
    #[error("no address of Puppet's authority is known; name it with --ca")]
    NoAddress,
    /// The authorities are not those that are expected. Nothing of them was kept.
    #[error(
        "the authorities {origin} are not those with the fingerprint {expected}, and were not trusted:{}",
        list(found)
    )]
    Fingerprint {
        /// Where they come from.
        origin: String,
        /// What was given.
        expected: Fingerprint,
        /// Who they are.
        found: Vec<AuthorityShown>,
    },
    /// The authorities in the folder cannot be used.
    #[error(
        "the authorities in {} cannot be used: {reason}; remove that file to have them fetched again",
        path.display()
    )]
    KeptAuthorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: TrustError,
    },
    /// The key in the folder cannot be used.
    #[error(
        "the private key in {} cannot be used: {reason}; move it away to have a new one made",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: KeyError,
    },
    /// No key or request could be made.
    #[error(
        "no key or request can be made: the system gives no randomness, or {0:?} cannot be in a certificate"
    )]
    Make(String),
    /// Somebody else's request waits under this name.
    #[error(
        "another request for {certname} waits at the authority already, made with another key: {pending}. If nobody else \
         made it, remove it there with: puppetserver ca clean --certname {certname}. Then run this again; ours has {ours}"
    )]
    OtherPending {
        /// Of this name.
        certname: String,
        /// Theirs.
        pending: Fingerprint,
        /// Ours.
        ours: Fingerprint,
    },
    /// A certificate with this name is there, for another key.
    #[error(
        "the authority has signed a certificate of {certname} for another key than {}. Copy that key to there, with its \
         certificate to {}; or if it is lost, remove the certificate on the authority with: puppetserver ca clean \
         --certname {certname}, and run this again",
        key.display(),
        certificate.display()
    )]
    OtherSigned {
        /// Of this name.
        certname: String,
        /// Our key.
        key: PathBuf,
        /// Where the certificate should be.
        certificate: PathBuf,
    },
    /// What the authority gave is not good. It was not kept.
    #[error("the certificate from the authority is of no use and was not kept: {0}")]
    Certificate(TrustError),
    /// It is somebody else's. It was not kept.
    #[error("the authority gave a certificate of {found} instead of {expected}; it was not kept")]
    OtherName {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Nobody has signed it in this time.
    #[error(
        "not signed within {} seconds. On the authority: puppetserver ca sign --certname {certname}, after comparing the \
         fingerprint {fingerprint}. Then run this again: it goes on from here",
        waited.as_secs()
    )]
    NotSigned {
        /// Of this name.
        certname: String,
        /// By which it is known in the authority's list.
        fingerprint: Fingerprint,
        /// How long it was asked.
        waited: Duration,
    },
}

fn list(found: &[AuthorityShown]) -> String {
    found
        .iter()
        .map(|authority| format!("\n  {} {}", authority.fingerprint, authority.name))
        .collect()
}

const fn advice(reason: &AuthorityError) -> &'static str {
    if reason.is_unreachable() {
        "; name another one with --ca, or plugin.choria.puppetca_host"
    } else {
        ""
    }
}

/// A certificate that can be requested.
#[derive(Clone, Debug)]
pub struct Enrolment {
    files: SslFiles,
    folder: PathBuf,
    request: PathBuf,
    depth: Depth,
}

impl Enrolment {
    /// Looks whether a certificate can be requested. Connects to nobody and changes nothing.
    ///
    /// # Errors
    /// If certificates come from elsewhere, there is one already, or nobody knows where it should be.
    pub fn prepare(
        configuration: &Configuration,
        surroundings: &Surroundings,
    ) -> Result<Self, EnrolmentError> {
        let files = SslFiles::find(configuration, surroundings)?;
        let (Some(folder), Some(request)) = (files.folder.clone(), files.request.clone()) else {
            return Err(EnrolmentError::Provider);
        };
        // Puppet Server 7.9: "Certificate names must be lower case."
        if files
            .certname
            .contains(|letter: char| letter.is_uppercase())
        {
            return Err(EnrolmentError::Capitals(files.certname));
        }
        if files.certificate.exists() {
            return Err(EnrolmentError::Exists(files.certificate));
        }
        Ok(Self {
            files,
            folder,
            request,
            depth: configuration.certificate_revocation,
        })
    }

    /// Where everything is, or will be.
    #[must_use]
    pub const fn files(&self) -> &SslFiles {
        &self.files
    }

    /// Requests it from the first of these authorities that is there, and waits until it is signed. `now` is when this
    /// begins.
    ///
    /// # Errors
    /// If there is no certificate in the end. It may be run again, and goes on from where it came to.
    pub async fn run(
        &self,
        addresses: &[ServerAddress],
        options: &EnrolmentOptions,
        now: SystemTime,
        report: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), EnrolmentError> {
        let mut last = EnrolmentError::NoAddress;
        for address in addresses {
            let run = Run {
                enrolment: self,
                address,
                options,
                now,
                report: &mut *report,
            };
            match run.run().await {
                Err(EnrolmentError::Authority { address, reason }) if reason.is_unreachable() => {
                    last = EnrolmentError::Authority { address, reason };
                }
                done => return done,
            }
        }
        Err(last)
    }
}

/// One run with one authority.
struct Run<'a> {
    enrolment: &'a Enrolment,
    address: &'a ServerAddress,
    options: &'a EnrolmentOptions,
    now: SystemTime,
    report: &'a mut (dyn FnMut(Step) + Send),
}

impl Run<'_> {
    async fn run(mut self) -> Result<(), EnrolmentError> {
        let bundle = self.authorities().await?;
        let authority = Authority::new(self.address, &bundle.authorities);
        // Before anything is made: if it cannot be reached as who it should be, there is no use in a key.
        let early = self.fetch(&authority).await?;
        if early.is_some() && !self.enrolment.files.key.exists() {
            return Err(self.other_signed());
        }
        let key = self.key().await?;
        let (pem, now) = self.certificate(&authority, &key, early).await?;
        self.check(&bundle, &key, &pem, now)?;
        // Before the certificate, with which all of this would be over.
        self.revocations(&authority, &bundle, &pem, now).await?;
        self.store(&pem)
    }

    /// The certificate, perhaps when it was signed at last, and when that was.
    async fn certificate(
        &mut self,
        authority: &Authority,
        key: &SigningKey,
        early: Option<Vec<u8>>,
    ) -> Result<(Vec<u8>, SystemTime), EnrolmentError> {
        if let Some(pem) = early {
            return Ok((pem, self.now));
        }
        let request = self.request(key)?;
        if let Some(pem) = self.submit(authority, &request).await? {
            return Ok((pem, self.now));
        }
        let (pem, waited) = self.wait(authority, &request).await?;
        Ok((pem, self.now + waited))
    }

    /// Fetches what was revoked, unless it is there, and of these authorities, or not wanted. A list with which the new certificate would be of no use is
    /// not kept.
    async fn revocations(
        &mut self,
        authority: &Authority,
        bundle: &Bundle,
        certificate_pem: &[u8],
        now: SystemTime,
    ) -> Result<(), EnrolmentError> {
        let Enrolment { files, depth, .. } = self.enrolment;
        let (Some(path), true) = (&files.crl, *depth != Depth::Off) else {
            return Ok(());
        };
        let mut present = None;
        if !crate::ssl::is_absent(path) {
            // One that cannot be read, whoever uses it hears of. One of former authorities would be in the way of all.
            let Ok(pem) = std::fs::read(path) else {
                return Ok(());
            };
            present = Revocations::from_pem(&pem, *depth).ok();
            let is_good = |list: &_| revocations::can_judge(bundle, list, certificate_pem, now);
            if present.as_ref().is_some_and(is_good) {
                return Ok(());
            }
        }
        let fetched = revocations::fetch(authority, bundle, *depth, certificate_pem, now).await;
        let fetched = fetched.and_then(|(pem, revocations)| {
            revocations::check_age(bundle, &revocations, present.as_ref(), path)?;
            Ok((pem, revocations))
        });
        match fetched {
            Ok((pem, revocations)) => {
                folder::replace(path, &pem, Readers::Everybody)?;
                (self.report)(Step::Revocations {
                    path: path.clone(),
                    revoked: revocations.revoked(),
                });
            }
            Err(error) => {
                let reason = error.to_string();
                (self.report)(Step::NoRevocations { reason });
            }
        }
        Ok(())
    }

    /// Those in the folder, or else those that the authority names.
    async fn authorities(&mut self) -> Result<Bundle, EnrolmentError> {
        let path = &self.enrolment.files.ca;
        let expected = self.options.ca_fingerprint;
        if let Some(pem) = read(path)? {
            let bundle = Bundle::from_pem(pem).map_err(|reason| {
                let path = path.clone();
                EnrolmentError::KeptAuthorities { path, reason }
            })?;
            check_fingerprint(&bundle, expected, || format!("in {}", path.display()))?;
            folder::create(&self.enrolment.folder)?;
            let known_by = match expected {
                Some(_) => KnownBy::Fingerprint,
                None => KnownBy::Folder,
            };
            self.report_authorities(&bundle, known_by);
            return Ok(bundle);
        }
        let bundle = authority::introduction(self.address)
            .await
            .map_err(|reason| self.failed(reason))?;
        check_fingerprint(&bundle, expected, || format!("at {}", self.address))?;
        folder::create(&self.enrolment.folder)?;
        folder::place(path, &bundle.pem, Readers::Everybody)?;
        let known_by = match expected {
            Some(_) => KnownBy::Fingerprint,
            None => KnownBy::Nothing,
        };
        self.report_authorities(&bundle, known_by);
        Ok(bundle)
    }

    fn report_authorities(&mut self, bundle: &Bundle, known_by: KnownBy) {
        (self.report)(Step::Authorities {
            certificates: bundle.show(),
            path: self.enrolment.files.ca.clone(),
            known_by,
        });
    }

    /// The key in the folder, or else a new one. One that is there is never replaced.
    async fn key(&mut self) -> Result<SigningKey, EnrolmentError> {
        let path = &self.enrolment.files.key;
        let mut is_new = false;
        if !path.exists() {
            // A second of arithmetic; dropping this leaves it to end by itself, and nothing of it is kept.
            let made = tokio::task::spawn_blocking(request::generate_key).await;
            let made = made.ok().flatten().ok_or_else(|| self.cannot_make())?;
            is_new = folder::place(path, made.as_bytes(), Readers::Owner)?;
        }
        let pem = read(path)?.map(zeroize::Zeroizing::new);
        let key = SigningKey::from_pem(pem.as_deref().map_or(&[][..], Vec::as_slice));
        let key = key.map_err(|reason| {
            let path = path.clone();
            EnrolmentError::Key { path, reason }
        })?;
        (self.report)(Step::Key {
            path: path.clone(),
            is_new,
        });
        Ok(key)
    }

    fn request(&mut self, key: &SigningKey) -> Result<SigningRequest, EnrolmentError> {
        let request =
            SigningRequest::new(self.certname(), key).ok_or_else(|| self.cannot_make())?;
        let path = &self.enrolment.request;
        // For people, and for Puppet's own programs; here nothing goes by it.
        folder::replace(path, request.pem().as_bytes(), Readers::Everybody)?;
        (self.report)(Step::Request {
            path: path.clone(),
            fingerprint: request.fingerprint(),
        });
        Ok(request)
    }

    /// Hands it in. Returns the certificate, if it was signed meanwhile.
    async fn submit(
        &mut self,
        authority: &Authority,
        request: &SigningRequest,
    ) -> Result<Option<Vec<u8>>, EnrolmentError> {
        let submitted = authority.submit(self.certname(), &request.pem()).await;
        match submitted.map_err(|reason| self.failed(reason))? {
            Submission::Taken => (self.report)(Step::Submitted),
            Submission::Pending => {
                let pending = authority.pending(self.certname()).await;
                // If it is not there any more, it has just been signed or removed, and asking for the certificate tells.
                if let Some(pem) = pending.map_err(|reason| self.failed(reason))? {
                    self.check_pending(&pem, request)?;
                }
                (self.report)(Step::AlreadySubmitted);
            }
            Submission::Signed => return self.fetch(authority).await,
        }
        Ok(None)
    }

    fn check_pending(&self, pem: &[u8], request: &SigningRequest) -> Result<(), EnrolmentError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem);
        let pending = Fingerprint::of(der.as_ref().map_or(pem, |der| der));
        if pending == request.fingerprint() {
            return Ok(());
        }
        Err(EnrolmentError::OtherPending {
            certname: self.certname().to_owned(),
            pending,
            ours: request.fingerprint(),
        })
    }

    /// Asks until it is signed. The authority may be away meanwhile.
    async fn wait(
        &mut self,
        authority: &Authority,
        request: &SigningRequest,
    ) -> Result<(Vec<u8>, Duration), EnrolmentError> {
        let wait_max = self.options.wait_max;
        let mut timer = interval(self.options.poll_interval.max(Duration::from_millis(1)));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = timer.tick().await;
        let end = start + wait_max.min(WAIT_LIMIT);
        let mut waited = Duration::ZERO;
        loop {
            match authority.certificate(self.certname()).await {
                Ok(Some(pem)) => return Ok((pem, waited)),
                Ok(None) => (self.report)(Step::Waiting { waited, wait_max }),
                Err(reason) => {
                    let reason = reason.to_string();
                    (self.report)(Step::Trouble { reason });
                }
            }
            if waited >= wait_max {
                return Err(EnrolmentError::NotSigned {
                    certname: self.certname().to_owned(),
                    fingerprint: request.fingerprint(),
                    waited,
                });
            }
            // Once more at the end, though the next time to ask would be later.
            waited = match timeout_at(end, timer.tick()).await {
                Ok(tick) => tick.duration_since(start),
                Err(_) => wait_max,
            };
        }
    }

    async fn fetch(&self, authority: &Authority) -> Result<Option<Vec<u8>>, EnrolmentError> {
        let fetched = authority.certificate(self.certname()).await;
        fetched.map_err(|reason| self.failed(reason))
    }

    /// Whether the certificate is for our key and our name, and good.
    fn check(
        &self,
        bundle: &Bundle,
        key: &SigningKey,
        pem: &[u8],
        now: SystemTime,
    ) -> Result<(), EnrolmentError> {
        let files = &self.enrolment.files;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        let first = chain.first().ok_or(TrustError::Unreadable);
        let first = first.map_err(EnrolmentError::Certificate)?;
        let names = CertificateNames::of(first).map_err(EnrolmentError::Certificate)?;
        if !request::is_for_key(first, key) {
            return Err(self.other_signed());
        }
        if !names.prove(&files.certname) {
            return Err(EnrolmentError::OtherName {
                found: printable(names.shown().unwrap_or("(none)")),
                expected: files.certname.clone(),
            });
        }
        let vouched = bundle.authorities.vouch_for(&chain, now);
        vouched.map_err(EnrolmentError::Certificate)
    }

    fn store(&mut self, pem: &[u8]) -> Result<(), EnrolmentError> {
        let path = &self.enrolment.files.certificate;
        if !folder::place(path, pem, Readers::Everybody)? {
            return Err(EnrolmentError::Exists(path.clone()));
        }
        (self.report)(Step::Stored { path: path.clone() });
        Ok(())
    }

    fn certname(&self) -> &str {
        &self.enrolment.files.certname
    }

    fn failed(&self, reason: AuthorityError) -> EnrolmentError {
        if reason.is_of_others() {
            return EnrolmentError::OtherAuthority {
                address: self.address.clone(),
                path: self.enrolment.files.ca.clone(),
            };
        }
        EnrolmentError::Authority {
            address: self.address.clone(),
            reason,
        }
    }

    fn other_signed(&self) -> EnrolmentError {
        let files = &self.enrolment.files;
        EnrolmentError::OtherSigned {
            certname: files.certname.clone(),
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        }
    }

    fn cannot_make(&self) -> EnrolmentError {
        EnrolmentError::Make(self.certname().to_owned())
    }
}

fn check_fingerprint(
    bundle: &Bundle,
    expected: Option<Fingerprint>,
    origin: impl FnOnce() -> String,
) -> Result<(), EnrolmentError> {
    match expected {
        Some(expected) if !bundle.is_known_by(&expected) => Err(EnrolmentError::Fingerprint {
            origin: origin(),
            expected,
            found: bundle.show(),
        }),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, EnrolmentError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EnrolmentError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// What others say, as it may be shown on a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests;
