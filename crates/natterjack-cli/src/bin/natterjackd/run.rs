//! One server from start to end: log, files, sockets, signals, exit code.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use natterjack_cli::log::{self, Log};
use natterjack_cli::open_files;
use natterjack_cli::service_manager::Notifier;
use natterjack_server::configuration::flags::CommandLine;
use natterjack_server::{Server, StartError};

use crate::files::Files;
use crate::pid_file::PidFileError;
use crate::settings::Settings;
use crate::signals::{Request, Signals};
use crate::systemd::{self, ActivationError};
use crate::{check, complain, reload, settings, state, watchdog};

/// What nats-server's process ends with after SIGQUIT.
const QUIT: u8 = 2;

/// A server closes its connections within this time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

/// Why the daemon did not get to serving.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    #[error("{0}")]
    PidFile(#[from] PidFileError),
    #[error("{0}")]
    Activation(#[from] ActivationError),
    // As nats-server says it: there are alarms that look for this.
    #[error(
        "Error listening on port: {host}:{port}, \"listen tcp {host}:{port}: {}\"",
        bind_error(source)
    )]
    Port {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error(
        "Can't start monitoring: can't listen to the monitor port: listen tcp {host}:{port}: {}",
        bind_error(source)
    )]
    MonitoringPort {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error(
        "Error listening on router port: {port} - listen tcp {host}:{port}: {}",
        bind_error(source)
    )]
    RoutePort {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("{0}")]
    Server(StartError),
}

/// The usual reasons in nats-server's words.
fn bind_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Bind { host, port, source } => Self::Port { host, port, source },
            StartError::BindMonitoring { host, port, source } => {
                Self::MonitoringPort { host, port, source }
            }
            StartError::BindCluster { host, port, source } => {
                Self::RoutePort { host, port, source }
            }
            error => Self::Server(error),
        }
    }
}

/// Runs a server until a signal ends it. The exit code is nats-server's: 0 after an orderly end, 1 if it cannot start,
/// 2 after SIGQUIT.
pub(crate) fn run(line: CommandLine) -> ExitCode {
    let settings = match settings::load(&line) {
        Ok(settings) => settings,
        Err(problems) => return check::refuse(&line, &problems),
    };
    let log = match log::start(&settings.log()) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("natterjackd: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    log_panics();
    let outcome = serve(line, settings, &log);
    outcome.unwrap_or_else(|reason| {
        tracing::error!(target: log::FATAL, "{reason}");
        ExitCode::FAILURE
    })
}

/// A panic ends the task it happens in, not the server; its text belongs where everything else is.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("A bug in natterjackd, please report it: {panic}");
    }));
}

fn serve(line: CommandLine, settings: Settings, log: &Log) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async {
        // Before the first line of the log: whoever reads it may signal at once.
        let mut signals = Signals::watch().map_err(Failure::Signals)?;
        greet(&settings);
        let daemon = Daemon::start(line, settings, log).await?;
        Ok(daemon.obey(&mut signals).await)
    });
    // Tasks that are still there have had their time, or have come to a standstill.
    runtime.shutdown_background();
    outcome
}

/// The lines nats-server begins with, as far as the server does not log them itself.
fn greet(settings: &Settings) {
    tracing::info!("Starting natterjackd");
    tracing::info!("  Version:  {}", env!("CARGO_PKG_VERSION"));
    let revision = option_env!("NATTERJACK_GIT_COMMIT").unwrap_or("not set");
    tracing::info!("  Git:      [{revision}]");
    let cluster = settings.options().cluster.as_ref();
    if let Some(name) = cluster.and_then(|cluster| cluster.name.as_ref()) {
        tracing::info!("  Cluster:  {name}");
    }
    if let Some(limit) = open_files::raise_limit() {
        tracing::debug!("  Open files: at most {limit}");
    }
    if let Some((path, digest)) = settings.file() {
        tracing::info!("Using configuration file: {} ({digest})", path.display());
    }
    settings.log_problems();
}

/// A server and all that is around it.
pub(crate) struct Daemon<'a> {
    pub(crate) line: CommandLine,
    pub(crate) settings: Settings,
    pub(crate) log: &'a Log,
    pub(crate) files: Files,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) server: Arc<Server>,
    /// What operators ask for in the system account.
    pub(crate) asked: reload::Asked,
}

impl<'a> Daemon<'a> {
    /// What has been done is undone if the rest fails: files are removed when they are dropped.
    async fn start(line: CommandLine, settings: Settings, log: &'a Log) -> Result<Self, Failure> {
        let notifier = Arc::new(Notifier::from_environment());
        let mut files = Files::default();
        files.claim_pid_file(settings.daemon().pid_file.as_deref())?;
        let listeners = systemd::sockets()?;
        let server = Server::start_with(settings.options().clone(), listeners).await?;
        // Monitoring shows which configuration is in force.
        if let Some((_, digest)) = settings.file() {
            server.set_configuration_digest(digest);
        }
        let server = Arc::new(server);
        files.write_ports(settings.daemon().ports_file_dir.as_deref(), &server);
        watchdog::start(Arc::clone(&notifier), Arc::clone(&server));
        let asked = reload::Asked::of(&server);
        let daemon = Self {
            line,
            settings,
            log,
            files,
            notifier,
            server,
            asked,
        };
        daemon.notifier.ready(&daemon.status());
        Ok(daemon)
    }

    pub(crate) fn status(&self) -> String {
        format!("Serving clients on {}", self.server.client_addr())
    }

    /// Returns when the server has stopped.
    async fn obey(mut self, signals: &mut Signals) -> ExitCode {
        loop {
            let request = tokio::select! {
                request = signals.next() => request,
                Some(answer) = self.asked.next() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.reload().await);
                    continue;
                }
            };
            match request {
                Request::Interrupt | Request::Terminate => {
                    self.notifier.stopping("Shutting down", SHUTDOWN_MAX);
                    return self.shut_down(signals).await;
                }
                Request::LameDuck => return self.lame_duck(signals).await,
                Request::Reload => {
                    // It has been logged.
                    let _ = self.reload().await;
                }
                Request::Reopen => self.reopen(),
                Request::Quit => return self.quit(),
            }
        }
    }

    /// Another interrupt hurries: what is still under way is cut off.
    async fn shut_down(&self, signals: &mut Signals) -> ExitCode {
        let stopping = self.server.shutdown();
        tokio::pin!(stopping);
        loop {
            let request = tokio::select! {
                () = &mut stopping => return ExitCode::SUCCESS,
                request = signals.next() => request,
            };
            match request {
                Request::Interrupt => {
                    tracing::warn!("Interrupted once more: ending at once");
                    return ExitCode::SUCCESS;
                }
                Request::Quit => return self.quit(),
                Request::Reopen => self.reopen(),
                Request::Terminate | Request::Reload | Request::LameDuck => {}
            }
        }
    }

    /// While clients are leaving, only an interrupt hurries; a service manager's second TERM must not (as in
    /// nats-server).
    async fn lame_duck(&mut self, signals: &mut Signals) -> ExitCode {
        let time_max = self.settings.options().lame_duck_duration + SHUTDOWN_MAX;
        self.notifier.stopping("Lame duck mode", time_max);
        let server = Arc::clone(&self.server);
        let leaving = server.lame_duck();
        tokio::pin!(leaving);
        loop {
            let request = tokio::select! {
                () = &mut leaving => return ExitCode::SUCCESS,
                request = signals.next() => request,
            };
            match request {
                Request::Interrupt => return self.shut_down(signals).await,
                Request::Quit => return self.quit(),
                Request::Reopen => self.reopen(),
                Request::Reload => {
                    let _ = self.reload_unannounced().await;
                }
                Request::Terminate | Request::LameDuck => {}
            }
        }
    }

    /// nats-server's runtime prints the stacks of all goroutines and ends the process; ours has what the server is doing
    /// to tell.
    fn quit(&self) -> ExitCode {
        state::log(&self.server);
        ExitCode::from(QUIT)
    }

    fn reopen(&self) {
        match self.log.reopen() {
            Ok(true) => tracing::info!("File log re-opened"),
            Ok(false) => tracing::info!("File log re-open ignored, not a file logger"),
            Err(error) => tracing::error!("{error}; going on with the one that is open"),
        }
    }
}
