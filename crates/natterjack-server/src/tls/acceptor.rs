//! What a running server accepts with, exchanged while it runs: on a reload, and when certificate files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::context::{Context, Peers};
use super::failures::Failures;
use super::problem::TlsProblem;
use super::rate::Rate;
use crate::clock::{calendar_now, now};
use crate::long_work::{LongWork, Turns};
use crate::options::{HandshakeFirst, Tls};

/// How often the files are looked at. One `stat` each; a notification service of the system would have to be
/// told of every directory on the way through symbolic links, which is how Kubernetes replaces secrets.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How often an end that comes near is logged.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What a running server accepts TLS connections with; nothing, if it serves clear text only.
///
/// Connections that are open keep what they were accepted with.
pub(crate) struct Acceptor {
    current: RwLock<Option<Arc<Context>>>,
    peers: Peers,
    /// Whether clients may also connect in clear text.
    is_optional: bool,
    rate: Rate,
    failures: Failures,
    /// Steps of handshakes, most of all their signatures.
    steps: Turns,
    /// The same, where the key makes them take long.
    slow_steps: LongWork,
    files: Mutex<Files>,
}

/// What is known of the files that the current context was made from, or should have been.
#[derive(Default)]
struct Files {
    loaded: Vec<Fingerprint>,
    /// What was wrong when it was last tried; told once.
    told: Vec<TlsProblem>,
}

/// Enough to see that a file was written or replaced. Symbolic links are followed.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Acceptor {
    /// Loads everything, and logs warnings.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included.
    pub(crate) fn new(options: Option<&Tls>, is_optional: bool) -> Result<Self, Vec<TlsProblem>> {
        Self::with(options, Peers::Clients, is_optional)
    }

    /// The same for routes: other servers are accepted and dialled.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included.
    pub(crate) fn for_servers(options: Option<&Tls>) -> Result<Self, Vec<TlsProblem>> {
        Self::with(options, Peers::Servers, false)
    }

    fn with(
        options: Option<&Tls>,
        peers: Peers,
        is_optional: bool,
    ) -> Result<Self, Vec<TlsProblem>> {
        let acceptor = Self {
            current: RwLock::new(None),
            peers,
            is_optional,
            rate: Rate::new(now()),
            failures: Failures::default(),
            steps: Turns::new(),
            slow_steps: LongWork::new(),
            files: Mutex::default(),
        };
        acceptor.reload(options)?;
        Ok(acceptor)
    }

    /// What to accept the next connection with; `None` for clear text.
    pub(crate) fn current(&self) -> Option<Arc<Context>> {
        self.current.read().clone()
    }

    /// Whether [`reload`](Self::reload) would succeed now.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included.
    pub(crate) fn check(&self, options: Option<&Tls>) -> Result<(), Vec<TlsProblem>> {
        let loaded = options.map(|options| Context::load(options, self.peers, calendar_now()));
        match loaded {
            Some((None, problems)) => Err(problems),
            _ => Ok(()),
        }
    }

    /// Exchanges everything, `None` for clear text, and logs warnings. Reads files: not for a thread that moves messages.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included; then nothing has changed.
    pub(crate) fn reload(&self, options: Option<&Tls>) -> Result<(), Vec<TlsProblem>> {
        // Held throughout: files that are being loaded anew must not take the place of what comes now.
        let mut files = self.files.lock();
        let Some(options) = options else {
            *self.current.write() = None;
            return Ok(());
        };
        // Before they are read: what changes meanwhile is then seen as changed.
        let fingerprints = fingerprints(options);
        let (context, problems) = Context::load(options, self.peers, calendar_now());
        let Some(context) = context else {
            return Err(problems);
        };
        *self.current.write() = Some(Arc::new(context));
        files.loaded = fingerprints;
        files.told.clear();
        for problem in problems {
            tracing::warn!("{problem}");
        }
        Ok(())
    }

    /// Says in the log what clients have to expect, in nats-server's words.
    pub(crate) fn announce(&self) {
        let Some(context) = self.current() else {
            return;
        };
        if self.is_required() {
            tracing::info!("TLS required for client connections");
        } else {
            tracing::info!("TLS available for client connections");
        }
        if context.handshake_first() == HandshakeFirst::Yes {
            tracing::warn!(
                "Clients that are not using \"TLS Handshake First\" option will fail to connect"
            );
        }
    }

    /// Whether every client must use TLS. Where the handshake comes first none can do without, whatever else
    /// is allowed.
    pub(crate) fn is_required(&self) -> bool {
        self.current().is_some_and(|context| {
            !self.is_optional || context.handshake_first() == HandshakeFirst::Yes
        })
    }

    /// Whether clients may also connect in clear text.
    pub(crate) fn is_optional(&self) -> bool {
        self.is_optional
    }

    pub(crate) fn rate(&self) -> &Rate {
        &self.rate
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }

    pub(crate) fn steps(&self) -> &Turns {
        &self.steps
    }

    pub(crate) fn slow_steps(&self) -> &LongWork {
        &self.slow_steps
    }

    /// Looks after the files until it is dropped: loads them when they have changed, and warns every day of
    /// certificates that end soon.
    pub(crate) async fn watch(self: &Arc<Self>) {
        self.watch_every(WATCH_INTERVAL).await;
    }

    async fn watch_every(self: &Arc<Self>, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first was when they were loaded.
        let mut warn_at = ticks.tick().await + EXPIRY_INTERVAL;
        loop {
            let tick = ticks.tick().await;
            // Files may be on something that does not answer, and keys take their time.
            let acceptor = Arc::clone(self);
            let refreshed = spawn_blocking(move || acceptor.refresh()).await;
            if refreshed.unwrap_or(false) || tick >= warn_at {
                warn_at = tick + EXPIRY_INTERVAL;
                self.warn_of_expiry();
            }
        }
    }

    fn warn_of_expiry(&self) {
        let current = self.current();
        for problem in current
            .iter()
            .flat_map(|context| context.expiring(calendar_now()))
        {
            tracing::warn!("{problem}");
        }
    }

    /// Loads the files again if they have changed and are complete; returns whether it has.
    ///
    /// A certificate is rarely replaced together with its key in one moment. Until the two fit, the old pair
    /// stays, and each new problem is logged once.
    fn refresh(&self) -> bool {
        let mut files = self.files.lock();
        let Some(current) = self
            .current()
            .filter(|context| context.options().watch_files)
        else {
            return false;
        };
        let options = current.options();
        let found = fingerprints(options);
        if found == files.loaded {
            return false;
        }
        let now = calendar_now();
        let (context, mut problems) = Context::load(options, self.peers, now);
        let out_of_time = |problem: &TlsProblem| {
            matches!(
                problem,
                TlsProblem::Expired { .. } | TlsProblem::NotYetValid(_)
            )
        };
        // A pair that cannot be used today is no better than the one before, unless that one has ended too.
        let usable = context.filter(|_| {
            !problems.iter().any(out_of_time) || current.expiring(now).iter().any(out_of_time)
        });
        match usable {
            Some(context) => {
                *self.current.write() = Some(Arc::new(context));
                files.loaded = found;
                files.told.clear();
                tracing::info!("TLS certificates have changed and were loaded again");
                true
            }
            None => {
                problems.retain(|problem| !problem.is_warning() || out_of_time(problem));
                if files.told != problems {
                    for problem in &problems {
                        tracing::warn!(
                            "TLS files have changed but the old certificate stays in use: {problem}"
                        );
                    }
                    files.told = problems;
                }
                false
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Acceptor")
            .field("is_tls", &self.current.read().is_some())
            .field("is_optional", &self.is_optional)
            .finish_non_exhaustive()
    }
}

fn fingerprints(options: &Tls) -> Vec<Fingerprint> {
    let pair = options.cert_file.iter().chain(&options.key_file);
    let pairs = options
        .certs
        .iter()
        .flat_map(|pair| [&pair.cert_file, &pair.key_file]);
    pair.chain(pairs)
        .chain(&options.ca_files)
        .map(|path| fingerprint(path))
        .collect()
}

fn fingerprint(path: &Path) -> Fingerprint {
    let metadata = std::fs::metadata(path).ok();
    Fingerprint {
        path: path.to_owned(),
        modified: metadata.as_ref().and_then(|found| found.modified().ok()),
        bytes: metadata.as_ref().map_or(0, std::fs::Metadata::len),
        inode: metadata.as_ref().map_or(0, inode),
    }
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &std::fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    struct Files {
        folder: TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Self {
                folder: TempDir::new().expect("a folder"),
            };
            let (certificate, key) = Self::pair();
            files.write("cert.pem", &certificate);
            files.write("key.pem", &key);
            files
        }

        /// A certificate and its key.
        fn pair() -> (String, String) {
            Self::pair_until(4000)
        }

        fn pair_until(year: i32) -> (String, String) {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).expect("a certificate");
            (certificate.pem(), key.serialize_pem())
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("written");
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn options(&self) -> Tls {
            Tls {
                cert_file: Some(self.path("cert.pem")),
                key_file: Some(self.path("key.pem")),
                ..Tls::default()
            }
        }
    }

    fn acceptor(options: &Tls) -> Arc<Acceptor> {
        Arc::new(Acceptor::new(Some(options), false).expect("a pair that fits"))
    }

    /// Whether another context is in use than before `change`.
    fn is_exchanged(acceptor: &Acceptor, change: impl FnOnce()) -> bool {
        let before = acceptor.current().expect("a context");
        change();
        let told = acceptor.refresh();
        let after = acceptor.current().expect("a context");
        assert_eq!(told, !Arc::ptr_eq(&before, &after));
        told
    }

    #[test]
    fn a_new_pair_is_taken_once_it_is_complete() {
        let files = Files::new();
        let acceptor = acceptor(&files.options());
        assert!(!is_exchanged(&acceptor, || {}), "nothing has changed");
        let (certificate, key) = Files::pair();
        let write = |name, text: &str| files.write(name, text);
        assert!(!is_exchanged(&acceptor, || write(
            "cert.pem",
            &certificate[..99]
        )));
        assert!(!is_exchanged(&acceptor, || write("cert.pem", &certificate)));
        assert!(!is_exchanged(&acceptor, || fs::remove_file(
            files.path("key.pem")
        )
        .expect("removed")));
        assert!(is_exchanged(&acceptor, || write("key.pem", &key)));
        assert!(!is_exchanged(&acceptor, || {}), "nothing has changed");
    }

    #[test]
    fn each_problem_is_told_once() {
        let files = Files::new();
        let acceptor = acceptor(&files.options());
        files.write("cert.pem", "half");
        acceptor.refresh();
        let told = acceptor.files.lock().told.clone();
        assert!(
            matches!(told[..], [TlsProblem::NoCertificateInside { .. }]),
            "{told:?}"
        );
        acceptor.refresh();
        assert_eq!(acceptor.files.lock().told, told);
    }

    #[test]
    fn a_certificate_that_has_ended_replaces_none_that_is_valid() {
        let files = Files::new();
        let acceptor = acceptor(&files.options());
        let write = |(certificate, key): (String, String)| {
            files.write("cert.pem", &certificate);
            files.write("key.pem", &key);
        };
        assert!(!is_exchanged(&acceptor, || write(Files::pair_until(2020))));
        assert!(is_exchanged(&acceptor, || write(Files::pair())));
        // Asked for in so many words, it is taken.
        write(Files::pair_until(2020));
        acceptor
            .reload(Some(&files.options()))
            .expect("a warning only");
        assert!(is_exchanged(&acceptor, || write(Files::pair_until(2021))));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_are_turned_round_at_once_are_seen() {
        // As Kubernetes mounts secrets: files link into `..data`, which links to a folder for each version.
        use std::os::unix::fs::symlink;
        let files = Files::new();
        let folder = files.folder.path();
        let version = |name: &str| {
            let (certificate, key) = Files::pair();
            fs::create_dir(folder.join(name)).expect("a folder");
            files.write(&format!("{name}/tls.crt"), &certificate);
            files.write(&format!("{name}/tls.key"), &key);
            symlink(name, folder.join("..data_tmp")).expect("a link");
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("turned");
        };
        version("1");
        symlink("..data/tls.crt", folder.join("tls.crt")).expect("a link");
        symlink("..data/tls.key", folder.join("tls.key")).expect("a link");
        let acceptor = acceptor(&Tls {
            cert_file: Some(folder.join("tls.crt")),
            key_file: Some(folder.join("tls.key")),
            ..Tls::default()
        });
        assert!(is_exchanged(&acceptor, || version("2")));
    }

    #[test]
    fn files_that_are_not_watched_are_left_alone() {
        let files = Files::new();
        let acceptor = acceptor(&Tls {
            watch_files: false,
            ..files.options()
        });
        let (certificate, key) = Files::pair();
        let write = || {
            files.write("cert.pem", &certificate);
            files.write("key.pem", &key);
        };
        assert!(!is_exchanged(&acceptor, write));
    }

    #[test]
    fn a_reload_that_fails_leaves_everything_and_one_to_clear_text_ends_tls() {
        let files = Files::new();
        let acceptor = acceptor(&files.options());
        let before = acceptor.current().expect("a context");
        let broken = Tls {
            key_file: None,
            ..files.options()
        };
        acceptor.reload(Some(&broken)).expect_err("no key");
        assert!(Arc::ptr_eq(
            &before,
            &acceptor.current().expect("a context")
        ));
        acceptor.reload(None).expect("clear text");
        assert!(acceptor.current().is_none());
        assert!(!acceptor.refresh());
    }
}
