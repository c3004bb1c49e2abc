//! The log of the two binaries: which events are written, and the handle to change that while the program runs.
//!
//! What a line looks like is in `layout`, that writing stops nobody in `writer`, and where lines go in `sink`, `file`
//! and `syslog`. What is logged is up to the others.

mod file;
mod layout;
mod sink;
mod syslog;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::layout::{Content, Layout, Severity};
pub use self::layout::{Format, program};
use self::sink::Sink;
pub use self::syslog::AddressError;
use self::writer::{Bounds, Writer};

/// An error event with this target is a reason to end, `[FTL]`.
pub const FATAL: &str = "fatal";

/// Trace events with this target are about the server's own clients, and written with `trace_verbose` only.
pub const SYSTEM: &str = "system";

/// The client library logs, at every attempt, what the bus reports once in its own words: only for debugging. What it
/// traces is not the protocol, and may hold payloads.
const CLIENT_LIBRARY: &str = "async_nats";

/// The DNS library logs every step, at levels of its own choice; what matters of it the server says in its own words.
const DNS_LIBRARY: &str = "hickory_";

/// How long the end of a program waits for its last lines to be written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// A line whose making takes so long that the layout changes so often is written as it is.
const LAYOUTS_MAX: usize = 4;

/// What to log, how and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether `[INF]` lines are written.
    pub info: bool,
    /// Whether `[DBG]` lines are written.
    pub debug: bool,
    /// Whether `[TRC]` lines are written.
    pub trace: bool,
    /// Whether the server's own clients are traced too.
    pub trace_verbose: bool,
    /// Whether lines carry the time. Those for syslog always do.
    pub time: bool,
    /// Whether that is UTC instead of local time.
    pub utc: bool,
    /// What a line looks like.
    pub format: Format,
    /// Where lines go.
    pub target: Target,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    #[default]
    Stderr,
    /// A file, which is appended to.
    File {
        /// Its name.
        path: PathBuf,
        /// Size in bytes above which it is renamed and begun anew; 0: never.
        bytes_max: u64,
        /// Files to keep, the current one included; 0: all.
        files_max: u64,
    },
    /// The syslog of this machine.
    Syslog,
    /// Another syslog: `udp://host:port`, `tcp://host:port` or `unix:///path`.
    RemoteSyslog(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            info: true,
            debug: false,
            trace: false,
            trace_verbose: false,
            time: true,
            utc: false,
            format: Format::Text,
            target: Target::Stderr,
        }
    }
}

impl Target {
    /// Finds what is wrong with it in itself, without opening anything.
    ///
    /// # Errors
    /// If it can never be opened.
    pub fn check(&self) -> Result<(), AddressError> {
        match self {
            Self::RemoteSyslog(address) => address.parse::<syslog::Address>().map(|_| ()),
            Self::Stderr | Self::File { .. } | Self::Syslog => Ok(()),
        }
    }
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open the log file {path}: {source}", path = path.display())]
    File {
        /// Its name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no syslog at the usual places of this machine.
    #[error("cannot connect to this machine's syslog: {0}")]
    Syslog(io::Error),
    /// The other syslog does not answer.
    #[error("cannot connect to the syslog at {address}: {source}")]
    RemoteSyslog {
        /// The address as given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address of the other syslog is none.
    #[error("remote_syslog: {0}")]
    Address(#[from] AddressError),
    /// No thread to write it.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// The running log. Dropping it waits up to a second for what is not written yet; the log itself goes on.
#[derive(Debug)]
pub struct Log {
    running: Arc<RwLock<Running>>,
    /// Held by whoever changes it, who may have to wait for a connection; nobody who logs waits for that.
    changing: Mutex<()>,
}

/// Readers hold the lock while they hand a line to the writer, so that none of them has an old writer after a change.
#[derive(Debug)]
struct Running {
    settings: Settings,
    layout: Arc<Layout>,
    writer: Writer,
}

/// Installs the log for this process.
///
/// # Errors
/// If there is nothing to write to.
///
/// # Panics
/// If a log is installed already.
pub fn start(settings: &Settings) -> Result<Log, LogError> {
    let log = Log::open(settings)?;
    tracing_subscriber::registry().with(log.layer()).init();
    Ok(log)
}

impl Log {
    fn open(settings: &Settings) -> Result<Self, LogError> {
        let running = Running::start(sink::open(&settings.target)?, settings, None)?;
        Ok(Self {
            running: Arc::new(RwLock::new(running)),
            changing: Mutex::new(()),
        })
    }

    fn layer(&self) -> Events {
        Events {
            running: Arc::clone(&self.running),
        }
    }

    /// Goes on with other settings. What was logged before is written as before, and first.
    ///
    /// # Errors
    /// If there is nothing to write to; the log goes on unchanged then.
    pub fn reconfigure(&self, settings: &Settings) -> Result<(), LogError> {
        let changing = self.changing.lock();
        let has_same_output = {
            let before = &self.running.read().settings;
            before.time == settings.time
                && before.utc == settings.utc
                && before.format == settings.format
                && before.target == settings.target
        };
        if has_same_output {
            self.running.write().settings = settings.clone();
        } else {
            self.replace(settings)?;
        }
        drop(changing);
        // Each place that logs remembers whether anybody wants to know.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Opens the file anew, by its name. `false`: the log is not a file.
    ///
    /// # Errors
    /// If that fails; the old file stays in use.
    pub fn reopen(&self) -> Result<bool, LogError> {
        let _changing = self.changing.lock();
        let settings = self.running.read().settings.clone();
        if !matches!(settings.target, Target::File { .. }) {
            return Ok(false);
        }
        self.replace(&settings)?;
        Ok(true)
    }

    fn replace(&self, settings: &Settings) -> Result<(), LogError> {
        let sink = sink::open(&settings.target)?;
        let mut running = self.running.write();
        let next = Running::start(sink, settings, Some(&running.writer))?;
        let before = std::mem::replace(&mut *running, next);
        drop(running);
        before.writer.close();
        Ok(())
    }

    /// Waits until everything that was logged so far is written, but no longer than this. Whether it is.
    pub fn flush(&self, wait_max: Duration) -> bool {
        self.running.read().writer.flush(wait_max)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush(FLUSH_MAX);
    }
}

impl Running {
    fn start(
        sink: Box<dyn Sink>,
        settings: &Settings,
        before: Option<&Writer>,
    ) -> Result<Self, LogError> {
        let layout = Arc::new(Layout::new(settings));
        let writer = Writer::start(sink, Arc::clone(&layout), Bounds::default(), before)
            .map_err(LogError::Thread)?;
        Ok(Self {
            settings: settings.clone(),
            layout,
            writer,
        })
    }
}

/// Takes the events of `tracing`.
struct Events {
    running: Arc<RwLock<Running>>,
}

impl<S: Subscriber> Layer<S> for Events {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        let settings = &self.running.read().settings;
        let wanted = match *metadata.level() {
            Level::ERROR | Level::WARN => true,
            Level::INFO => settings.info,
            Level::DEBUG => settings.debug,
            Level::TRACE => {
                settings.trace && (metadata.target() != SYSTEM || settings.trace_verbose)
            }
        };
        if metadata.target().starts_with(DNS_LIBRARY) {
            return wanted && settings.debug && settings.trace;
        }
        let is_client_library = metadata.target().starts_with(CLIENT_LIBRARY);
        wanted && (!is_client_library || (settings.debug && *metadata.level() <= Level::DEBUG))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let settings = &self.running.read().settings;
        Some(match settings {
            Settings { trace: true, .. } => LevelFilter::TRACE,
            Settings { debug: true, .. } => LevelFilter::DEBUG,
            Settings { info: true, .. } => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        })
    }

    /// What is shown may itself log something while it is, a bug's last words for instance. So no lock is held then, and
    /// if the layout has changed meanwhile, the line is made anew.
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let severity = severity(event.metadata());
        for attempt in 1..=LAYOUTS_MAX {
            let layout = Arc::clone(&self.running.read().layout);
            let content = Content::of(event, layout.format());
            let line = layout.line(severity, &content, None);
            let running = self.running.read();
            if Arc::ptr_eq(&running.layout, &layout) || attempt == LAYOUTS_MAX {
                return running.writer.push(line.as_bytes());
            }
        }
    }
}

fn severity(metadata: &Metadata<'_>) -> Severity {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => Severity::Fatal,
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

#[cfg(test)]
mod tests;
