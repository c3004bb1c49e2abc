//! What a running server accepts with, exchanged while it runs: on a reload, and when certificate files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use super::context::Context;
use super::problem::TlsProblem;
use super::rate::Rate;
use crate::clock::{calendar_now, now};
use crate::options::Tls;

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
    /// Whether clients may also connect in clear text.
    is_optional: bool,
    rate: Rate,
    /// Places for handshakes' asymmetric cryptography.
    work: Arc<Semaphore>,
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
        // Half of the cores: a storm of clients that come back must not keep the connected ones waiting.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let acceptor = Self {
            current: RwLock::new(None),
            is_optional,
            rate: Rate::new(now()),
            work: Arc::new(Semaphore::new((cores / 2).max(1))),
            files: Mutex::default(),
        };
        acceptor.reload(options)?;
        Ok(acceptor)
    }

    /// What to accept the next connection with; `None` for clear text.
    pub(crate) fn current(&self) -> Option<Arc<Context>> {
        self.current.read().clone()
    }

    /// Exchanges everything, `None` for clear text, and logs warnings.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included; then nothing has changed.
    pub(crate) fn reload(&self, options: Option<&Tls>) -> Result<(), Vec<TlsProblem>> {
        let Some(options) = options else {
            *self.current.write() = None;
            return Ok(());
        };
        let mut files = self.files.lock();
        // Before they are read: what changes meanwhile is then seen as changed.
        let fingerprints = fingerprints(options);
        let (context, problems) = Context::load(options, calendar_now());
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

    /// Whether clients may also connect in clear text.
    pub(crate) fn is_optional(&self) -> bool {
        self.is_optional
    }

    pub(crate) fn rate(&self) -> &Rate {
        &self.rate
    }

    pub(crate) fn work(&self) -> &Arc<Semaphore> {
        &self.work
    }

    /// Looks after the files until it is dropped: loads them when they have changed, and warns every day of
    /// certificates that end soon.
    pub(crate) async fn watch(&self) {
        self.watch_every(WATCH_INTERVAL).await;
    }

    async fn watch_every(&self, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first was when they were loaded.
        let mut warn_at = ticks.tick().await + EXPIRY_INTERVAL;
        loop {
            let tick = ticks.tick().await;
            if self.refresh() || tick >= warn_at {
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
        let (context, mut problems) = Context::load(options, now);
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
