//! The keys and certificates of this machine or user: what they are called, where they are, whether they are good.
//!
//! Everything is checked before anything is connected, so that a person hears what to do, and not what a handshake says.
//! Files that are written anew later are taken if they are as good, and else the old ones stay.

mod renewal;

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::configuration::{Configuration, Role, SecurityProvider, Surroundings};
use crate::files;
use crate::identity::{CallerId, NameError};
use crate::revocation::{Depth, FETCH, Revocations, without_list};
use crate::trust::{Authorities, CertificateNames, TrustError};
use crate::wire::{KeyError, SigningKey};
use renewal::Watched;

pub use renewal::Renewal;

/// Puppet's own program, where its packages put it.
const PUPPET: &str = "/opt/puppetlabs/bin/puppet";

/// Where Puppet has its keys and certificates if it cannot be asked: its own packages, and Debian's.
const FOLDERS_OF_PUPPET: [&str; 2] = ["etc/puppetlabs/puppet/ssl", "var/lib/puppet/ssl"];

/// The same for users, below the home.
const FOLDER_OF_USER: &str = ".puppetlabs/etc/puppet/ssl";

/// What a key's mode must not have: anything for all, and writing for the group.
const KEY_MODE_EXCESS: u32 = 0o027;

/// Where the files are, whether they are there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SslFiles {
    /// What the certificate is called.
    pub certname: String,
    /// The folder, if they are all in one.
    pub folder: Option<PathBuf>,
    /// The certificate, perhaps with those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities.
    pub ca: PathBuf,
    /// What they have revoked: counts if it is there.
    pub crl: Option<PathBuf>,
    /// The request for the certificate, if this library may make one.
    pub request: Option<PathBuf>,
}

/// Why the files cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The user's name would not do.
    #[error("a certificate cannot be called after this user: {0}; set MCOLLECTIVE_CERTNAME")]
    Certname(#[from] NameError),
    /// A user without a home.
    #[error(
        "HOME is not set, so nobody knows where certificates are; set it, or plugin.choria.ssldir"
    )]
    NoHome,
}

impl SslFiles {
    /// Where they are for this machine, if root asks, and else for this user. May run Puppet, which takes a second.
    ///
    /// # Errors
    /// If nobody can tell.
    pub fn find(
        configuration: &Configuration,
        surroundings: &Surroundings,
    ) -> Result<Self, PlaceError> {
        let certname = certname(configuration, surroundings)?;
        let ssldir = match &configuration.security {
            SecurityProvider::File {
                certificate,
                key,
                ca,
                crl,
            } => {
                return Ok(Self {
                    certname,
                    folder: None,
                    certificate: certificate.clone(),
                    key: key.clone(),
                    ca: ca.clone(),
                    crl: crl.clone(),
                    request: None,
                });
            }
            SecurityProvider::Puppet { ssldir } => ssldir,
        };
        let folder = match (ssldir, &surroundings.home) {
            (Some(ssldir), _) => ssldir.clone(),
            (None, _) if surroundings.is_root => folder_of_puppet(surroundings),
            (None, Some(home)) => home.join(FOLDER_OF_USER),
            (None, None) => return Err(PlaceError::NoHome),
        };
        let file = format!("{certname}.pem");
        Ok(Self {
            certificate: folder.join("certs").join(&file),
            key: folder.join("private_keys").join(&file),
            ca: folder.join("certs/ca.pem"),
            crl: Some(folder.join("crl.pem")),
            request: Some(folder.join("certificate_requests").join(&file)),
            folder: Some(folder),
            certname,
        })
    }

    /// Those that are not there, but should be. Puppet's revocation list need not be; one that a setting names must.
    #[must_use]
    pub fn missing(&self) -> Vec<&Path> {
        let named_crl = self.crl.as_ref().filter(|_| self.folder.is_none());
        [&self.certificate, &self.key, &self.ca]
            .into_iter()
            .chain(named_crl)
            .map(PathBuf::as_path)
            // One that cannot be looked for is there, and somebody hears why it cannot be read.
            .filter(|path| path.try_exists().is_ok_and(|exists| !exists))
            .collect()
    }
}

fn certname(
    configuration: &Configuration,
    surroundings: &Surroundings,
) -> Result<String, PlaceError> {
    let certname = match (&configuration.certname, surroundings.variable("USER")) {
        (Some(certname), _) => certname.clone(),
        (None, _) if surroundings.is_root => configuration.identity.to_string(),
        (None, Some(user)) => format!("{user}.mcollective"),
        (None, None) => format!("{}.mcollective", configuration.identity),
    };
    crate::identity::check(&certname)?;
    Ok(certname)
}

/// What Puppet says, or if it is not there or says nothing, where its packages put it.
fn folder_of_puppet(surroundings: &Surroundings) -> PathBuf {
    let asked = surroundings.program(PUPPET, "puppet").and_then(|puppet| {
        let said =
            crate::facter::said(Command::new(puppet).args(["config", "print", "ssldir"])).ok()?;
        let folder = PathBuf::from(said.trim());
        folder.is_absolute().then_some(folder)
    });
    if let Some(folder) = asked {
        return folder;
    }
    let folders = FOLDERS_OF_PUPPET.map(|folder| surroundings.root.join(folder));
    let there = folders.iter().find(|folder| folder.is_dir());
    there.unwrap_or(&folders[0]).clone()
}

/// Why keys and certificates cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SslError {
    /// A person who asks must have a certificate of his own.
    #[error(
        "The Choria client cannot be run as root: requests are signed by persons, and not by machines; run it as a user"
    )]
    Root,
    /// Nobody knows where they are.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Some are not there.
    #[error("{}Not all required SSL files exist; {remedy}", lines(missing))]
    Missing {
        /// Which ones.
        missing: Vec<PathBuf>,
        /// What can be done.
        remedy: MissingRemedy,
    },
    /// Nobody can look into the folder that they are in.
    #[error("cannot look into the folder {}: {source}; it must be readable for the user who runs this", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One cannot be read.
    #[error("cannot read {}: {source}; it must be readable for the user who runs this", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authorities cannot be used.
    #[error("Cannot find or read the CA in {}, cannot verify public certificate: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: TrustError,
    },
    /// What they have revoked cannot be used.
    #[error("cannot use the revocation list {}: {reason}; {FETCH}", path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: TrustError,
    },
    /// It is there, or somebody has said that it is, and cannot be read.
    #[error(
        "cannot read the revocation list {}: {source}; make it readable for the user who runs this, or {FETCH}",
        path.display()
    )]
    RevocationsUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They do not vouch for our own certificate.
    #[error(
        "{}: {} is not good by {}: {reason}{}{}",
        headline(reason),
        certificate.display(),
        ca.display(),
        without_list(lacking),
        advice(reason)
    )]
    NotVouchedFor {
        /// The certificate.
        certificate: PathBuf,
        /// The authorities.
        ca: PathBuf,
        /// Why not.
        reason: TrustError,
        /// Authorities whose revocation list is missing, if that is the reason.
        lacking: Vec<String>,
    },
    /// It is somebody else's.
    #[error(
        "The certname {found} found in {} does not match the configured certname of {expected}; set \
         MCOLLECTIVE_CERTNAME to the name in it if that is meant, or request a certificate for {expected}",
        path.display()
    )]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The key does not belong to the certificate, or cannot be used.
    #[error("the private key {} cannot be used with {}: {reason}", key.display(), certificate.display())]
    Key {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn lines(missing: &[PathBuf]) -> String {
    missing
        .iter()
        .map(|path| format!("Cannot find SSL file {}\n", path.display()))
        .collect()
}

/// What can be done about files that are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MissingRemedy {
    /// Puppet's authority can be asked for them.
    #[error("request a certificate with: natterjack choria request-cert")]
    Request,
    /// Settings say where they are.
    #[error("copy them there, or correct plugin.security.file.certificate, .key and .ca")]
    Correct,
    /// A node that is not run as root is taken for its user; to request that one's certificate would make no node of it.
    #[error(
        "whoever is not root is called after the user, also as a node; run it as root, or set \
         MCOLLECTIVE_CERTNAME={identity} and have plugin.choria.ssldir name a folder with the certificate of that name"
    )]
    NodeOfUser {
        /// What the node calls itself.
        identity: String,
    },
}

const fn headline(reason: &TrustError) -> &'static str {
    match reason {
        TrustError::UnknownAuthority => {
            "The public certificate was not signed by the configured CA"
        }
        _ => "The public certificate cannot be used",
    }
}

const fn advice(reason: &TrustError) -> &'static str {
    match reason {
        TrustError::Expired
        | TrustError::Unreadable
        | TrustError::OldVersion
        | TrustError::Algorithm => "; remove it and request a new one",
        TrustError::OfAuthority => {
            "; name the certificate that the authority has given to this one"
        }
        TrustError::Revoked => "; remove it and its key, and request new ones",
        TrustError::RevocationUnknown | TrustError::RevocationsExpired => {
            "; fetch crl.pem anew with natterjack choria request-cert --crl-only, or set \
             plugin.choria.security.certificate_revocation = false to do without"
        }
        TrustError::UnknownAuthority => {
            "; was the authority made anew? Then remove both and request them again"
        }
        _ => "",
    }
}

/// Keys and certificates that were read and found good. Clones are the same ones: what was written anew is taken by all.
#[derive(Clone)]
pub struct Ssl {
    /// Where they are.
    pub files: SslFiles,
    /// Who vouches for peers.
    pub authorities: Authorities,
    /// Who we are to others.
    pub caller: CallerId,
    depth: Depth,
    own: Arc<RwLock<Arc<Own>>>,
    watched: Arc<Mutex<Watched>>,
}

/// A certificate and its key.
struct Own {
    certified: Arc<CertifiedKey>,
    /// None, if the key is none of RSA.
    signer: Option<Signer>,
    certificate_pem: Arc<str>,
    key_pem: Zeroizing<Vec<u8>>,
    ends: SystemTime,
}

/// Signs requests, and shows whose signatures those are.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The key.
    pub key: Arc<SigningKey>,
    /// Its certificate as it goes with requests.
    pub certificate_pem: Arc<str>,
}

/// Tells nothing of the key.
impl fmt::Debug for Ssl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ssl")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Ssl {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, in an order that makes sense to a person.
    pub fn load(
        configuration: &Configuration,
        surroundings: &Surroundings,
        now: SystemTime,
    ) -> Result<Self, SslError> {
        if configuration.role == Role::Client && surroundings.is_root {
            return Err(SslError::Root);
        }
        let files = SslFiles::find(configuration, surroundings)?;
        files.check_folders()?;
        let missing: Vec<_> = files.missing().into_iter().map(Path::to_path_buf).collect();
        if !missing.is_empty() {
            let is_node_of_user = configuration.role == Role::Server
                && !surroundings.is_root
                && configuration.certname.is_none();
            let remedy = match &files.request {
                Some(_) if is_node_of_user => MissingRemedy::NodeOfUser {
                    identity: configuration.identity.to_string(),
                },
                Some(_) => MissingRemedy::Request,
                None => MissingRemedy::Correct,
            };
            return Err(SslError::Missing { missing, remedy });
        }
        files.notice_open_key();
        let watched = Watched::new(&files);
        let depth = configuration.certificate_revocation;
        let authorities = files.authorities(depth)?;
        let own = files.own(&authorities, now)?;
        let caller = CallerId::of_certificate(&files.certname).map_err(PlaceError::from)?;
        Ok(Self {
            files,
            authorities,
            caller,
            depth,
            own: Arc::new(RwLock::new(Arc::new(own))),
            watched: Arc::new(Mutex::new(watched)),
        })
    }

    /// Tells the log, if nobody knows who was revoked, though it was not said to do without. For who lets others ask.
    pub(crate) fn notice_lack_of_revocations(&self) {
        if self.depth != Depth::Off && !self.authorities.knows_revocations() {
            tracing::warn!("{}", self.files.lack_of_revocations());
        }
    }

    fn own(&self) -> Arc<Own> {
        Arc::clone(&self.own.read())
    }

    /// For connections: TLS 1.2 or 1.3, our certificate always shown, the server's always verified. Each connection goes by
    /// what files said last, and none is the continuation of an earlier one, which would be good without a certificate.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let provider = Arc::clone(self.authorities.provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has what its own protocol versions need")
            .dangerous()
            .with_custom_certificate_verifier(self.authorities.server_verifier())
            .with_client_cert_resolver(Arc::new(Always(Arc::clone(&self.own))));
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        config
    }

    /// For requests.
    ///
    /// # Errors
    /// If the key is none of RSA, with which requests cannot be signed. Connections work with others, too.
    pub fn signing_key(&self) -> Result<SigningKey, KeyError> {
        SigningKey::from_pem(&self.own().key_pem)
    }

    /// The same with its certificate, as files said last.
    ///
    /// # Errors
    /// If the key is none of RSA.
    pub fn signer(&self) -> Result<Signer, KeyError> {
        let own = self.own();
        match &own.signer {
            Some(signer) => Ok(signer.clone()),
            None => Err(SigningKey::from_pem(&own.key_pem)
                .err()
                .unwrap_or(KeyError::NotRsa)),
        }
    }

    /// Our certificate as it goes with requests.
    #[must_use]
    pub fn certificate_pem(&self) -> Arc<str> {
        Arc::clone(&self.own().certificate_pem)
    }

    /// When our certificate ends.
    #[must_use]
    pub fn ends(&self) -> SystemTime {
        self.own().ends
    }
}

impl SslFiles {
    /// Whether somebody can look into the folders at all. One that is not there is no fault here: its files are missing.
    fn check_folders(&self) -> Result<(), SslError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        for path in [
            folder.clone(),
            folder.join("certs"),
            folder.join("private_keys"),
        ] {
            match std::fs::metadata(path.join(".")) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SslError::Folder { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the log, if others may read the key, or change it.
    fn notice_open_key(&self) {
        let Ok(metadata) = std::fs::metadata(&self.key) else {
            return;
        };
        let mode = metadata.permissions().mode() & 0o7777;
        // Puppet's are readable for its group.
        if mode & KEY_MODE_EXCESS != 0 {
            let key = self.key.display();
            tracing::warn!(
                "others may read or change the private key {key} (mode {mode:04o}), and whoever has it can ask and answer in \
                 your name; chmod 600 {key}"
            );
        }
    }

    /// What the authorities have revoked; `None`: nobody says.
    ///
    /// # Errors
    /// If the list is there, and cannot be used.
    pub fn revocations(&self, depth: Depth) -> Result<Option<Revocations>, SslError> {
        let Some(path) = self.crl.as_ref().filter(|_| depth != Depth::Off) else {
            return Ok(None);
        };
        if self.folder.is_some() && is_absent(path) {
            return Ok(None);
        }
        let pem = files::read(path).map_err(|source| SslError::RevocationsUnreadable {
            path: path.clone(),
            source,
        })?;
        let revocations = Revocations::from_pem(&pem, depth);
        let revocations = revocations.map_err(|reason| SslError::Revocations {
            path: path.clone(),
            reason,
        })?;
        Ok(Some(revocations.kept_in(path)))
    }

    /// What to say of a node that does not know who was revoked, though it was not told to do without.
    fn lack_of_revocations(&self) -> String {
        let without = "so whoever was revoked is still heard";
        let meant = "or set plugin.choria.security.certificate_revocation = false if that is meant";
        match (&self.crl, &self.folder) {
            (Some(crl), Some(_)) => format!(
                "there is no revocation list {}, {without}; fetch it with natterjack choria request-cert --crl-only, {meant}",
                crl.display()
            ),
            _ => format!(
                "plugin.security.file.crl names no revocation list, {without}; name one, {meant}"
            ),
        }
    }

    fn authorities(&self, depth: Depth) -> Result<Authorities, SslError> {
        self.authorities_by(&self.revocations(depth)?.unwrap_or_default())
    }

    fn authorities_by(&self, revocations: &Revocations) -> Result<Authorities, SslError> {
        let pem = read(&self.ca)?;
        let unusable = |reason| SslError::Authorities {
            path: self.ca.clone(),
            reason,
        };
        Authorities::with_revocations(&pem, revocations).map_err(|reason| {
            match (&self.crl, reason) {
                (Some(path), TrustError::Revocations) => SslError::Revocations {
                    path: path.clone(),
                    reason: TrustError::Revocations,
                },
                (_, reason) => unusable(reason),
            }
        })
    }

    /// Our certificate and key, if they are good.
    fn own(&self, authorities: &Authorities, now: SystemTime) -> Result<Own, SslError> {
        let certificate_pem = read(&self.certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate_pem)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        let vouched = authorities.vouch_for(&chain, now);
        vouched.map_err(|reason| SslError::NotVouchedFor {
            certificate: self.certificate.clone(),
            ca: self.ca.clone(),
            lacking: authorities.lacking_lists(&reason),
            reason,
        })?;
        // They vouch for the first one, so there is one that can be read.
        let names = CertificateNames::of(&chain[0]).unwrap_or_default();
        if !names.prove(&self.certname) {
            return Err(SslError::OtherName {
                path: self.certificate.clone(),
                found: names.shown().unwrap_or("(none)").to_owned(),
                expected: self.certname.clone(),
            });
        }
        let ends = crate::trust::end(&chain[0]).unwrap_or(now);
        let key_pem = Zeroizing::new(read(&self.key)?);
        let certified = certified(chain, &key_pem, authorities);
        let certified = certified.map_err(|reason| SslError::Key {
            key: self.key.clone(),
            certificate: self.certificate.clone(),
            reason,
        })?;
        // It goes with every request, and what else may be in the file is nobody's business: perhaps the key.
        let certificate_pem: Arc<str> = crate::pem::certificates(&certificate_pem).into();
        let signer = SigningKey::from_pem(&key_pem).ok().map(|key| Signer {
            key: Arc::new(key),
            certificate_pem: Arc::clone(&certificate_pem),
        });
        Ok(Own {
            certified: Arc::new(certified),
            signer,
            certificate_pem,
            key_pem,
            ends,
        })
    }
}

/// Whether there is truly nothing: no file, nor a link to one that is gone, nor a place that nobody may look into.
pub(crate) fn is_absent(path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read(path: &Path) -> Result<Vec<u8>, SslError> {
    files::read(path).map_err(|source| SslError::Unreadable {
        path: path.to_path_buf(),
        source,
    })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key_pem: &[u8],
    authorities: &Authorities,
) -> Result<CertifiedKey, String> {
    if is_encrypted(key_pem) {
        return Err(
            "it has a passphrase, for which nobody can be asked; write it without one, such as with openssl pkey"
                .to_owned(),
        );
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| "there is no private key in PEM in it".to_owned())?;
    let certified = CertifiedKey::from_der(chain, key, authorities.provider());
    certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "it does not belong to the certificate; request a new one for both".to_owned()
        }
        rustls::Error::General(_) => {
            "it is of a kind or length that cannot be used; RSA of 2048 to 8192 bits can, and \
            for all but requests EC P-256 and P-384 and Ed25519"
                .to_owned()
        }
        error => error.to_string(),
    })
}

/// As PKCS#8 says it, and as OpenSSL did before that.
fn is_encrypted(key_pem: &[u8]) -> bool {
    let has = |mark: &[u8]| key_pem.windows(mark.len()).any(|window| window == mark);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Shows our certificate whatever authorities a server names.
struct Always(Arc<RwLock<Arc<Own>>>);

/// Tells nothing of the key.
impl fmt::Debug for Always {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Always")
    }
}

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
