//! One server from start to end: log, process id file, signals, exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use natterjack_cli::{log, open_files};
use natterjack_server::{Access, Options, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::flags::Flags;
use crate::pid_file::PidFile;

/// Runs a server until a signal ends it. The exit code is nats-server's: 0 after an orderly end, 1 if it cannot start.
pub(crate) fn run(flags: Flags) -> ExitCode {
    let settings = log::Settings {
        debug: flags.debug,
        trace: flags.trace,
        time: flags.log_time.unwrap_or(true),
        utc: flags.log_utc,
        target: match flags.log_file.clone() {
            None => log::Target::Stderr,
            Some(path) => log::Target::File {
                path,
                bytes_max: 0,
                files_max: 0,
            },
        },
        ..log::Settings::default()
    };
    let log = match log::start(&settings) {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(io::stderr(), "natterjackd: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(&flags, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!(target: log::FATAL, "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Why the daemon did not get to serving.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    #[error("cannot write the process id to {path}: {error}", path = path.display())]
    PidFile {
        path: std::path::PathBuf,
        error: io::Error,
    },
    #[error("{0}")]
    Server(#[from] natterjack_server::StartError),
}

fn serve(flags: &Flags, log: &log::Log) -> Result<(), Failure> {
    tracing::info!("Starting natterjackd");
    tracing::info!("  Version:  {}", env!("CARGO_PKG_VERSION"));
    if let Some(limit) = open_files::raise_limit() {
        tracing::debug!("  Open files: at most {limit}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        // Before the server is ready: whoever reads that line may signal at once.
        let mut signals = Signals::watch().map_err(Failure::Signals)?;
        let _pid_file = match &flags.pid_file {
            None => None,
            Some(path) => Some(PidFile::write(path).map_err(|error| Failure::PidFile {
                path: path.clone(),
                error,
            })?),
        };
        let server = Server::start(options(flags)).await?;
        signals.obey(&server, log).await;
        Ok(())
    })
}

fn options(flags: &Flags) -> Options {
    let defaults = Options::default();
    let port = match flags.port {
        // As in nats-server, 0 means the default here, and -1 any free port.
        None | Some(0) => defaults.port,
        Some(port) => u16::try_from(port).unwrap_or(0),
    };
    Options {
        server_name: flags.server_name.clone(),
        host: flags.host.clone().unwrap_or_else(|| defaults.host.clone()),
        port,
        authorization: authorization(flags),
        ..defaults
    }
}

/// The flags are checked already: a user has a password, and excludes a token.
fn authorization(flags: &Flags) -> Access {
    match (&flags.user, &flags.password, &flags.token) {
        (Some(name), Some(password), _) => Access::user(name.clone(), password.as_str()),
        (_, _, Some(token)) => Access::token(token.as_str()),
        _ => Access::open(),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    reopen: Signal,
    lame_duck: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            lame_duck: signal(SignalKind::user_defined2())?,
        })
    }

    /// Returns when the server has stopped.
    async fn obey(&mut self, server: &Server, log: &log::Log) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {
                    trapped("interrupt");
                    return server.shutdown().await;
                }
                _ = self.terminate.recv() => {
                    trapped("terminated");
                    return server.shutdown().await;
                }
                _ = self.lame_duck.recv() => {
                    trapped("user defined signal 2");
                    return self.obey_lame_duck(server, log).await;
                }
                _ = self.hang_up.recv() => refuse_reload(),
                _ = self.reopen.recv() => reopen(log),
            }
        }
    }

    /// While clients are leaving, only an interrupt hurries; a service manager's second TERM must not (as in
    /// nats-server).
    async fn obey_lame_duck(&mut self, server: &Server, log: &log::Log) {
        let leaving = server.lame_duck();
        tokio::pin!(leaving);
        loop {
            tokio::select! {
                () = &mut leaving => return,
                _ = self.interrupt.recv() => {
                    trapped("interrupt");
                    return server.shutdown().await;
                }
                _ = self.terminate.recv() => trapped("terminated"),
                _ = self.lame_duck.recv() => trapped("user defined signal 2"),
                _ = self.hang_up.recv() => refuse_reload(),
                _ = self.reopen.recv() => reopen(log),
            }
        }
    }
}

fn trapped(name: &str) {
    tracing::info!("Trapped \"{name}\" signal");
}

fn refuse_reload() {
    trapped("hangup");
    tracing::error!(
        "Failed to reload server configuration: there is no configuration file to reload"
    );
}

fn reopen(log: &log::Log) {
    trapped("user defined signal 1");
    match log.reopen() {
        Ok(true) => tracing::info!("File log re-opened"),
        Ok(false) => tracing::info!("File log re-open ignored, not a file logger"),
        Err(error) => {
            tracing::error!("{error}; going on with the one that is open")
        }
    }
}
