//! Log lines in nats-server's format: `[pid] 2026/11/21 23:50:15.123456 [INF] text`.
//!
//! Owns formatting and the file, which can be opened anew after it was moved. What is logged is up to the others.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// An error event with this target is a reason to end, `[FTL]`.
pub const FATAL: &str = "fatal";

/// The client library logs, at every attempt, what the bus reports once in its own words: only for debugging. What it
/// traces is not the protocol, and may hold payloads.
const CLIENT_LIBRARY: &str = "async_nats";

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether `[INF]` lines are written.
    pub info: bool,
    /// Whether `[DBG]` lines are written.
    pub debug: bool,
    /// Whether `[TRC]` lines are written.
    pub trace: bool,
    /// Whether lines carry the time.
    pub time: bool,
    /// Whether that is UTC instead of local time.
    pub utc: bool,
    /// File to append to; standard error if there is none.
    pub file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            info: true,
            debug: false,
            trace: false,
            time: true,
            utc: false,
            file: None,
        }
    }
}

/// The running log.
#[derive(Clone, Debug)]
pub struct Log {
    sink: Arc<Mutex<Sink>>,
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

/// Installs the log for this process.
///
/// # Errors
/// If the file cannot be opened.
///
/// # Panics
/// If a log is installed already.
pub fn start(settings: &Settings) -> io::Result<Log> {
    let sink = match &settings.file {
        None => Sink::Stderr,
        Some(path) => Sink::File {
            path: path.clone(),
            file: append_to(path)?,
        },
    };
    let log = Log {
        sink: Arc::new(Mutex::new(sink)),
    };
    let lines = Lines {
        log: log.clone(),
        settings: settings.clone(),
        pid: std::process::id(),
        zone: if settings.utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        },
    };
    tracing_subscriber::registry().with(lines).init();
    Ok(log)
}

impl Log {
    /// Opens the file anew, by its name. `false`: the log is not a file.
    ///
    /// # Errors
    /// If that fails; the old file stays in use.
    pub fn reopen(&self) -> io::Result<bool> {
        let mut sink = self.sink.lock();
        match &mut *sink {
            Sink::Stderr => Ok(false),
            Sink::File { path, file } => {
                *file = append_to(path)?;
                Ok(true)
            }
        }
    }

    /// A log that cannot be written has nowhere to say so, so failures are ignored.
    fn write(&self, line: &str) {
        let _ = match &mut *self.sink.lock() {
            Sink::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Sink::File { file, .. } => file.write_all(line.as_bytes()),
        };
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Lines {
    log: Log,
    settings: Settings,
    pid: u32,
    zone: TimeZone,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        let wanted = match *metadata.level() {
            Level::ERROR | Level::WARN => true,
            Level::INFO => self.settings.info,
            Level::DEBUG => self.settings.debug,
            Level::TRACE => self.settings.trace,
        };
        let is_client_library = metadata.target().starts_with(CLIENT_LIBRARY);
        wanted && (!is_client_library || (self.settings.debug && *metadata.level() <= Level::DEBUG))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let time = self
            .settings
            .time
            .then(|| Timestamp::now().to_zoned(self.zone.clone()));
        self.log
            .write(&line(self.pid, time, label(event.metadata()), &text));
    }
}

fn label(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => "FTL",
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

fn line(pid: u32, time: Option<jiff::Zoned>, label: &str, text: &Text) -> String {
    let mut line = format!("[{pid}] ");
    // Writing to a String cannot fail.
    if let Some(time) = time {
        let _ = write!(line, "{} ", time.strftime("%Y/%m/%d %H:%M:%S.%6f"));
    }
    let _ = writeln!(line, "[{label}] {}{}", text.message, text.fields);
    line
}

/// An event's message, then its fields. Line breaks and other control characters, which a client may have sent, are
/// written as escapes: one event is one line.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            push_escaped(&mut self.message, &value);
        } else {
            self.fields.push(' ');
            self.fields.push_str(field.name());
            self.fields.push('=');
            push_escaped(&mut self.fields, &value);
        }
    }
}

fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_those_of_nats_server() {
        let text = Text {
            message: "Server is ready".into(),
            fields: String::new(),
        };
        let time: Timestamp = "2026-11-21T23:50:15.1234567Z".parse().unwrap();
        assert_eq!(
            line(17, Some(time.to_zoned(TimeZone::UTC)), "INF", &text),
            "[17] 2026/11/21 23:50:15.123456 [INF] Server is ready\n"
        );
        assert_eq!(line(17, None, "FTL", &text), "[17] [FTL] Server is ready\n");
    }

    #[test]
    fn levels_choose_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let lines = |debug, trace| {
            let path = folder.path().join(format!("{debug}-{trace}"));
            let file = append_to(&path).unwrap();
            let settings = Settings {
                debug,
                trace,
                time: false,
                ..Settings::default()
            };
            let lines = Lines {
                log: Log {
                    sink: Arc::new(Mutex::new(Sink::File {
                        path: path.clone(),
                        file,
                    })),
                },
                settings,
                pid: 1,
                zone: TimeZone::UTC,
            };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                tracing::trace!("<<- [PING]");
                tracing::debug!("client created");
                tracing::info!("ready");
                tracing::trace!(target: "async_nats::connector", "a payload");
                tracing::error!(target: "async_nats", "again and again");
            });
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(lines(false, false), "[1] [INF] ready\n");
        assert_eq!(
            lines(false, true),
            "[1] [TRC] <<- [PING]\n[1] [INF] ready\n"
        );
        assert_eq!(
            lines(true, false),
            "[1] [DBG] client created\n[1] [INF] ready\n[1] [ERR] again and again\n"
        );
    }

    #[test]
    fn one_event_is_one_line() {
        let mut line = String::new();
        push_escaped(&mut line, "a\r\n[1] [INF] forged \u{1b}[31m é");
        assert_eq!(line, "a\\r\\n[1] [INF] forged \\u{1b}[31m é");
    }

    #[test]
    fn a_moved_file_is_left_behind_on_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sink = Sink::File {
            path: path.clone(),
            file: append_to(&path).unwrap(),
        };
        let log = Log {
            sink: Arc::new(Mutex::new(sink)),
        };
        log.write("one\n");
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        log.write("two\n");
        assert!(log.reopen().unwrap());
        log.write("three\n");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("old")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }
}
