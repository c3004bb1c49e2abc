//! How much of the log a command writes to standard error.

use anyhow::Context as _;
use natterjack_cli::log;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum LogLevel {
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// If there is nothing to write to.
    pub(crate) fn start(self) -> anyhow::Result<log::Log> {
        let settings = log::Settings {
            info: self >= Self::Info,
            debug: self >= Self::Debug,
            trace: self >= Self::Trace,
            ..log::Settings::default()
        };
        log::start(&settings).context("cannot start the log")
    }
}
