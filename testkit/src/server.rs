//! A server as a child process: started on a free port, restarted on the same one, its log kept, and gone with the test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::deadline::PATIENCE;
use crate::program::{Ending, Program};
use crate::programs::{self, Missing};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Our `natterjackd`.
    Natterjack,
    /// The real nats-server.
    NatsServer,
    /// An old one, for clusters in which both are.
    OldNatsServer,
}

impl Kind {
    /// Those that are compared, the reference first: where it fails too, the expectation is wrong.
    pub const ALL: [Self; 2] = [Self::NatsServer, Self::Natterjack];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Natterjack => "natterjackd",
            Self::NatsServer => "nats-server",
            Self::OldNatsServer => "nats-server-2.9",
        }
    }

    /// The program to start.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(self) -> Result<PathBuf, Missing> {
        match self {
            Self::Natterjack => programs::natterjackd(),
            Self::NatsServer => programs::nats_server(),
            Self::OldNatsServer => programs::old_nats_server(),
        }
    }
}

/// What a server is started with, besides an address of its own.
///
/// # Examples
/// ```
/// use testkit::Config;
/// let plain = Config::default();
/// let small = Config::file("max_payload: 100\n");
/// let traced = Config::default().argument("-DV");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    arguments: Vec<String>,
    files: Vec<(String, String)>,
    client_port: Option<u16>,
    resolver: Option<String>,
}

/// The configuration file that the server is pointed at.
const MAIN_FILE: &str = "server.conf";

/// What the server is to find in place of the system's `/etc/resolv.conf`.
const RESOLVER_FILE: &str = "resolv.conf";

/// What log lines begin with after a reload that went well, and after one that did not.
const RELOADED: &str = "Reloaded server configuration";
const NOT_RELOADED: &str = "Failed to reload server configuration";

impl Config {
    /// A server with this text as its configuration file. The client listener's address is decided by flags, whatever the
    /// text says.
    #[must_use]
    pub fn file(text: impl Into<String>) -> Self {
        Self::default().side_file(MAIN_FILE, text)
    }

    /// Adds a command line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Has clients served on this port in place of a free one.
    #[must_use]
    pub fn client_port(mut self, port: u16) -> Self {
        self.client_port = Some(port);
        self
    }

    /// Has the server, and nobody else, find this text in `/etc/resolv.conf`. It takes Linux, and the privileges that networks
    /// of their own take.
    #[must_use]
    pub fn resolver(mut self, text: impl Into<String>) -> Self {
        self.resolver = Some(text.into());
        self
    }

    /// Adds a file beside the configuration file, for it to include or name.
    #[must_use]
    pub fn side_file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }
}

/// A listener whose address the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// For clients.
    Client,
    /// For other servers of the cluster.
    Route,
    /// The monitoring pages.
    Monitor,
}

impl Listener {
    /// The log line that ends with the address.
    fn announcement(self) -> &'static str {
        match self {
            Self::Client => "Listening for client connections on ",
            Self::Route => "Listening for route connections on ",
            Self::Monitor => "Starting http monitor on ",
        }
    }
}

/// A signal that servers understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Reload the configuration.
    Hangup,
    /// Stop.
    Interrupt,
    /// Stop.
    Terminate,
    /// Open the log file anew.
    User1,
    /// Lame duck mode.
    User2,
    /// Freezes the process: its sockets stay open and nobody is behind them.
    Stop,
    /// Ends the frost.
    Continue,
}

impl Signal {
    fn option(self) -> &'static str {
        match self {
            Self::Hangup => "-HUP",
            Self::Interrupt => "-INT",
            Self::Terminate => "-TERM",
            Self::User1 => "-USR1",
            Self::User2 => "-USR2",
            Self::Stop => "-STOP",
            Self::Continue => "-CONT",
        }
    }
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its program is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Its files could not be written, or its process could not be created.
    #[error("cannot start {program}: {source}")]
    Process {
        /// The program's name.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended, or said nothing, before it listened.
    #[error("{program} did not say where it listens for clients; it {ending}; its log:\n{log}")]
    NotListening {
        /// The program's name.
        program: &'static str,
        /// What it did instead.
        ending: Ending,
        /// Everything it wrote.
        log: String,
    },
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct ServerUnderTest {
    kind: Kind,
    config: Config,
    folder: TempDir,
    process: Option<Program>,
    addresses: HashMap<&'static str, SocketAddr>,
}

impl ServerUnderTest {
    /// Starts a server on 127.0.0.1 and a free port, and returns once it listens for clients.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(kind: Kind, config: &Config) -> Self {
        Self::try_start(kind, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a server on 127.0.0.1 and a free port, and returns once it listens for clients.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn try_start(kind: Kind, config: &Config) -> Result<Self, StartError> {
        let process_error = |source| StartError::Process {
            program: kind.name(),
            source,
        };
        let folder = tempfile::tempdir().map_err(process_error)?;
        for (name, text) in &config.files {
            std::fs::write(folder.path().join(name), text).map_err(process_error)?;
        }
        if let Some(text) = &config.resolver {
            std::fs::write(folder.path().join(RESOLVER_FILE), text).map_err(process_error)?;
        }
        let mut server = Self {
            kind,
            config: config.clone(),
            folder,
            process: None,
            addresses: HashMap::new(),
        };
        server.launch()?;
        Ok(server)
    }

    /// Which server this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it was started and not stopped by us since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Where it listens for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[Listener::Client.announcement()]
    }

    /// Where it listens for clients, as a client library wants it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where another listener is. The configuration must have asked for one; port -1 in it means a free one.
    ///
    /// # Panics
    /// When its log does not tell.
    #[must_use]
    #[track_caller]
    pub fn listener(&self, listener: Listener) -> SocketAddr {
        let line = self.wait_for_log(listener.announcement());
        address_after(&line, listener.announcement())
            .unwrap_or_else(|| panic!("no address in the log line `{line}`"))
    }

    /// Everything it has written since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Program::output)
            .unwrap_or_default()
    }

    /// Waits for a log line that contains `text`, also one written earlier, and returns it.
    ///
    /// # Panics
    /// When it does not come in time, or the server has ended without it.
    #[must_use]
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        let process = self.process.as_ref().expect("the server has been stopped");
        process.wait_for(text, PATIENCE).unwrap_or_else(|ending| {
            panic!(
                "{} did not say `{text}`; it {ending}; its log:\n{}",
                self.kind.name(),
                self.log()
            )
        })
    }

    /// Kills it, if it runs, and returns when it is gone. Connections break as they do when a machine fails.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it on the ports it had, after killing it if it still runs.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.launch().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has been stopped, or the system has no `kill`.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server has been stopped");
        process.signal(signal.option());
    }

    /// Gives it another configuration file in place of the one it was started with, has it reload, and returns the log line
    /// that tells what came of it.
    ///
    /// # Panics
    /// When it was started without a configuration file, has been stopped, or does not tell.
    #[must_use]
    #[track_caller]
    pub fn reload(&mut self, text: &str) -> String {
        let file = self
            .config
            .files
            .iter_mut()
            .find(|(name, _)| name == MAIN_FILE)
            .expect("a configuration file to reload");
        text.clone_into(&mut file.1);
        std::fs::write(self.folder.path().join(MAIN_FILE), text)
            .expect("the test's own folder can be written");
        let process = self.process.as_ref().expect("the server has been stopped");
        let seen = process.lines();
        process.signal(Signal::Hangup.option());
        process
            .wait_for_any(&[RELOADED, NOT_RELOADED], seen, PATIENCE)
            .unwrap_or_else(|ending| {
                panic!(
                    "{} did not reload; it {ending}; its log:\n{}",
                    self.kind.name(),
                    self.log()
                )
            })
    }

    /// The text of its configuration file.
    ///
    /// # Panics
    /// When it was started without one.
    #[must_use]
    #[track_caller]
    pub fn configuration(&self) -> &str {
        let mut files = self.config.files.iter();
        let file = files.find(|(name, _)| name == MAIN_FILE);
        &file.expect("a configuration file").1
    }

    /// Waits until it ends by itself and returns how, and what it wrote.
    ///
    /// # Panics
    /// When it has been stopped already, or does not end in time.
    #[must_use]
    #[track_caller]
    pub fn wait_for_exit(&mut self, patience: Duration) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("the server has been stopped");
        let status = process.wait_for_exit(patience).unwrap_or_else(|| {
            panic!(
                "{} did not end; its log:\n{}",
                self.kind.name(),
                process.output()
            )
        });
        (status, process.output())
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let program = self.kind.program()?;
        let announcement = Listener::Client.announcement();
        let known = self.addresses.get(announcement).map(SocketAddr::port);
        let port = self.config.client_port.or(known);
        let mut command = match &self.config.resolver {
            None => Command::new(program),
            Some(_) => with_resolver(&self.folder.path().join(RESOLVER_FILE), &program),
        };
        command
            .args(["-a", "127.0.0.1", "-p"])
            .arg(port.map_or_else(|| "-1".to_owned(), |port| port.to_string()))
            .args(&self.config.arguments)
            .current_dir(self.folder.path());
        if self.config.files.iter().any(|(name, _)| name == MAIN_FILE) {
            command.arg("-c").arg(self.folder.path().join(MAIN_FILE));
        }
        let process = Program::spawn(&mut command).map_err(|source| StartError::Process {
            program: self.kind.name(),
            source,
        })?;
        let not_listening = |ending| StartError::NotListening {
            program: self.kind.name(),
            ending,
            log: process.output(),
        };
        let line = process
            .wait_for(announcement, PATIENCE)
            .map_err(not_listening)?;
        let address =
            address_after(&line, announcement).ok_or_else(|| not_listening(Ending::RunsOn))?;
        self.addresses.insert(announcement, address);
        self.process = Some(process);
        Ok(())
    }
}

/// A command that becomes this program, which is to find the file at `/etc/resolv.conf`. The mount is the process's own and
/// ends with it; as each step becomes the next one, the process is the program itself in the end.
fn with_resolver(file: &Path, program: &Path) -> Command {
    const BECOME: &str = r#"mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", BECOME, "become"]);
    command.arg(file).arg(program);
    command
}

fn address_after(line: &str, announcement: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(announcement)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_log_lines() {
        let line = "[1] [INF] Listening for client connections on 127.0.0.1:4222";
        let found = address_after(line, Listener::Client.announcement());
        assert_eq!(found, Some(SocketAddr::from(([127, 0, 0, 1], 4222))));
        assert_eq!(
            address_after("something else", Listener::Client.announcement()),
            None
        );
    }
}
