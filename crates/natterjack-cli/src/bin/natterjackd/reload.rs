//! SIGHUP, or an operator's request in the system account: the configuration is read anew, and put in force as a whole or not at all.

use std::fs::{self, Metadata};
use std::path::PathBuf;

use natterjack_server::Server;
use natterjack_server::configuration::Change;
use tokio::sync::{mpsc, oneshot};

use crate::run::Daemon;
use crate::settings::{self, Settings};

/// Requests to reload that come in the system account.
pub(crate) struct Asked(mpsc::Receiver<Answer>);

/// To whoever asked: what came of it.
type Answer = oneshot::Sender<Result<(), String>>;

/// Requests that wait for the one before them; the server itself bounds them too.
const ASKED_MAX: usize = 4;

impl Asked {
    pub(crate) fn of(server: &Server) -> Self {
        let (sender, asked) = mpsc::channel::<Answer>(ASKED_MAX);
        server.on_reload_request(move || {
            let sender = sender.clone();
            async move {
                let leaving = || "the server is leaving".to_owned();
                let (answer, outcome) = oneshot::channel();
                sender.send(answer).await.map_err(|_| leaving())?;
                outcome.await.map_err(|_| leaving())?
            }
        });
        Self(asked)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        self.0.recv().await
    }
}

/// Why the configuration stays as it is.
#[derive(Debug, thiserror::Error)]
enum ReloadFailure {
    #[error("can only reload config when a file is provided using -c or --config")]
    NoFile,
    /// Whoever wrote to it at the start, such as a shell, need not be there any more; and opening it waits for that.
    #[error("{} is not a file but a pipe or a device, which cannot be read anew", .0.display())]
    NotAFile(PathBuf),
    /// All that is wrong has been logged.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
    #[error("config reload not supported for {}; the process must be restarted for that", list(.0))]
    Refused(Vec<Change>),
    #[error("{0}")]
    Log(#[from] natterjack_cli::log::LogError),
    #[error("{0}")]
    Server(#[from] natterjack_server::ReloadError),
}

fn list(changes: &[Change]) -> String {
    let one =
        |change: &Change| format!("{}: old={}, new={}", change.option, change.old, change.new);
    changes.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Daemon<'_> {
    /// Reads the configuration anew, and tells log and service manager what became of it.
    pub(crate) async fn reload(&mut self) -> Result<(), String> {
        self.notifier.reloading();
        let outcome = self.reload_unannounced().await;
        let status = if outcome.is_ok() {
            self.status()
        } else {
            format!("{}; the last reload failed, see the log", self.status())
        };
        self.notifier.ready(&status);
        outcome
    }

    /// The same for a server that is leaving: to the service manager it must not look as if it came back.
    pub(crate) async fn reload_unannounced(&mut self) -> Result<(), String> {
        let outcome = self.try_reload().await;
        outcome.map_err(|error| {
            tracing::error!("Failed to reload server configuration: {error}");
            error.to_string()
        })
    }

    async fn try_reload(&mut self) -> Result<(), ReloadFailure> {
        let Some(path) = &self.line.config else {
            return Err(ReloadFailure::NoFile);
        };
        let is_readable = |metadata: Metadata| metadata.is_file() || metadata.is_dir();
        // What is not there at all is told with everything else that is wrong.
        if !fs::metadata(path).map_or(true, is_readable) {
            return Err(ReloadFailure::NotAFile(path.into()));
        }
        let new = settings::load(&self.line).map_err(|problems| {
            for error in &problems.errors {
                tracing::error!("{error}");
            }
            ReloadFailure::Invalid(problems.summary)
        })?;
        let changes = self.settings.changes(&new);
        if !changes.refused.is_empty() {
            return Err(ReloadFailure::Refused(changes.refused));
        }
        if let Some(place) = new.moved_log(&self.settings) {
            tracing::info!("The log goes on in {place}");
        }
        // What can fail goes first: the log, which can be put back, then the server.
        self.log.reconfigure(&new.log())?;
        if let Err(error) = self.server.reload(new.options().clone()).await {
            if let Err(error) = self.log.reconfigure(&self.settings.log()) {
                tracing::error!("the log stays as the new configuration has it: {error}");
            }
            return Err(error.into());
        }
        self.change_files(&new);
        new.log_problems();
        for change in &changes.live {
            tracing::info!("Reloaded: {} = {}", change.option, change.new);
        }
        let digest = new.file().map_or("", |(_, digest)| digest);
        self.server.set_configuration_digest(digest);
        tracing::info!("Reloaded server configuration ({digest})");
        self.settings = new;
        Ok(())
    }

    /// As in nats-server, a file that cannot be written is logged and nothing more.
    fn change_files(&mut self, new: &Settings) {
        let pid_file = new.daemon().pid_file.as_deref();
        if let Err(error) = self.files.claim_pid_file(pid_file) {
            tracing::error!("{error}");
        }
        let folder = new.daemon().ports_file_dir.as_deref();
        self.files.write_ports(folder, &self.server);
    }
}
