//! The configuration this process runs with, and how what is wrong with it is told.

use std::path::Path;

use natterjack_cli::log;
use natterjack_conf::{Diagnostic, ProcessEnvironment};
use natterjack_server::Options;
use natterjack_server::configuration::flags::CommandLine;
use natterjack_server::configuration::{Changes, Configuration, Daemon, Loaded, LogFormat};
use natterjack_server::tls;

/// A configuration without errors.
pub(crate) struct Settings {
    loaded: Loaded,
}

/// Reads the file, if the command line names one, and the flags.
///
/// # Errors
/// If it cannot be used; with all that is wrong.
pub(crate) fn load(line: &CommandLine) -> Result<Settings, Problems> {
    let path = line.config.as_deref();
    let loaded = Configuration::load(path, &line.flags, &ProcessEnvironment);
    if !loaded.is_valid() {
        return Err(Problems::of(&loaded));
    }
    let settings = Settings { loaded };
    match settings.log().target.check() {
        Ok(()) => Ok(settings),
        Err(error) => Err(Problems::of_log(&error)),
    }
}

impl Settings {
    pub(crate) fn options(&self) -> &Options {
        &self.loaded.configuration.options
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.loaded.configuration.daemon
    }

    /// The file and its digest.
    pub(crate) fn file(&self) -> Option<(&Path, &str)> {
        let configuration = &self.loaded.configuration;
        Some((
            configuration.path.as_deref()?,
            configuration.digest.as_deref()?,
        ))
    }

    pub(crate) fn changes(&self, new: &Self) -> Changes {
        self.loaded.configuration.changes(&new.loaded.configuration)
    }

    /// What does not keep the server from running.
    pub(crate) fn problems(&self) -> Problems {
        Problems::of(&self.loaded)
    }

    /// Logs what does not keep the server from running, but for what the server says itself: what it warns of when it
    /// loads its certificates.
    pub(crate) fn log_problems(&self) {
        let certificates = self.options().tls.as_ref().map(tls::problems);
        let told: Vec<String> = certificates
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        for found in self.loaded.warnings().chain(self.loaded.notes()) {
            if !told.iter().any(|told| found.message.starts_with(told)) {
                tracing::warn!("{}", short(&self.loaded, found));
            }
        }
    }

    /// Where the log goes, if it went elsewhere `before`.
    pub(crate) fn moved_log(&self, before: &Self) -> Option<String> {
        let place = |settings: &Self| match settings.log().target {
            log::Target::File { path, .. } => path.display().to_string(),
            log::Target::RemoteSyslog(address) => address,
            log::Target::Syslog => "the syslog of this machine".to_owned(),
            log::Target::Stderr => "standard error".to_owned(),
        };
        let now = place(self);
        (now != place(before)).then_some(now)
    }

    /// The log as it is configured. As in nats-server a file goes before another machine's syslog, and that before this
    /// one's.
    pub(crate) fn log(&self) -> log::Settings {
        let daemon = self.daemon();
        let target = if let Some(path) = &daemon.log_file {
            log::Target::File {
                path: path.clone(),
                bytes_max: daemon.log_size_limit,
                files_max: daemon.log_max_num as u64,
            }
        } else if let Some(address) = &daemon.remote_syslog {
            log::Target::RemoteSyslog(address.clone())
        } else if daemon.syslog {
            log::Target::Syslog
        } else {
            log::Target::Stderr
        };
        log::Settings {
            info: true,
            debug: daemon.debug,
            trace: daemon.trace,
            trace_verbose: daemon.trace_verbose,
            time: daemon.logtime,
            utc: daemon.logtime_utc,
            format: match daemon.log_format {
                LogFormat::Text => log::Format::Text,
                LogFormat::Json => log::Format::Json,
            },
            target,
        }
    }
}

/// What was found about a configuration.
pub(crate) struct Problems {
    /// For a terminal, over several lines each.
    pub(crate) text: String,
    /// A line each, for a log.
    pub(crate) errors: Vec<String>,
    /// Whether there are warnings, which `-t` does not let pass.
    pub(crate) has_warnings: bool,
    /// `2 errors, 1 warning`.
    pub(crate) summary: String,
}

impl Problems {
    fn of(loaded: &Loaded) -> Self {
        let count = |number: usize, name: &str| match number {
            0 => None,
            1 => Some(format!("1 {name}")),
            _ => Some(format!("{number} {name}s")),
        };
        let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
        let counts = [count(errors, "error"), count(warnings, "warning")];
        Self {
            text: loaded
                .diagnostics
                .iter()
                .map(|diagnostic| loaded.render(diagnostic))
                .collect(),
            errors: loaded.errors().map(|error| short(loaded, error)).collect(),
            has_warnings: warnings > 0,
            summary: counts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        }
    }
}

impl Problems {
    /// What the table of options leaves to the log.
    fn of_log(error: &log::AddressError) -> Self {
        let error = format!("remote_syslog: {error}");
        Self {
            text: format!("error: {error}\n"),
            errors: vec![error],
            has_warnings: false,
            summary: "1 error".into(),
        }
    }
}

/// `file:line:column: message`, and what to do about it.
fn short(loaded: &Loaded, diagnostic: &Diagnostic) -> String {
    let text = loaded.render_short(diagnostic);
    match &diagnostic.help {
        Some(help) => format!("{text} ({help})"),
        None => text,
    }
}
