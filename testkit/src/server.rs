//! A server as a child process: started on a free port, restarted on the same one, its log kept, and gone with the test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::deadline::{Deadline, PATIENCE};
use crate::programs::{self, Missing};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Our `natterjackd`.
    Natterjack,
    /// The real nats-server.
    NatsServer,
}

impl Kind {
    /// Both, the reference first: where it fails too, the expectation is wrong.
    pub const ALL: [Self; 2] = [Self::NatsServer, Self::Natterjack];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Natterjack => "natterjackd",
            Self::NatsServer => "nats-server",
        }
    }

    /// The program to start.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(self) -> Result<std::path::PathBuf, Missing> {
        match self {
            Self::Natterjack => programs::natterjackd(),
            Self::NatsServer => programs::nats_server(),
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
}

/// The configuration file that the server is pointed at.
const MAIN_FILE: &str = "server.conf";

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
}

impl Signal {
    fn option(self) -> &'static str {
        match self {
            Self::Hangup => "-HUP",
            Self::Interrupt => "-INT",
            Self::Terminate => "-TERM",
            Self::User1 => "-USR1",
            Self::User2 => "-USR2",
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
    #[error("{program} did not say `{awaited}`; it {ending}; its log:\n{log}")]
    NotListening {
        /// The program's name.
        program: &'static str,
        /// The line waited for.
        awaited: &'static str,
        /// What it did instead.
        ending: &'static str,
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
    process: Option<Process>,
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
            .map(|process| process.log.text())
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
        process
            .log
            .wait_for(text, PATIENCE)
            .unwrap_or_else(|ending| {
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
        // The child has not been waited for, so its process id cannot have passed to another.
        let status = Command::new("kill")
            .args([signal.option(), &process.child.id().to_string()])
            .status()
            .expect("the system has a `kill`");
        assert!(
            status.success(),
            "kill {} failed with {status}",
            signal.option()
        );
    }

    /// Waits until it ends by itself and returns how, and what it wrote.
    ///
    /// # Panics
    /// When it has been stopped already, or does not end in time.
    #[must_use]
    #[track_caller]
    pub fn wait_for_exit(&mut self, patience: Duration) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("the server has been stopped");
        assert!(
            process.log.wait_for_end(patience),
            "{} did not end; its log:\n{}",
            self.kind.name(),
            process.log.text()
        );
        let status = process.child.wait().expect("the child is ours to wait for");
        (status, process.log.text())
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let program = self.kind.program()?;
        let announcement = Listener::Client.announcement();
        let port = self.addresses.get(announcement).map(SocketAddr::port);
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p"])
            .arg(port.map_or_else(|| "-1".to_owned(), |port| port.to_string()))
            .args(&self.config.arguments)
            .current_dir(self.folder.path());
        if self.config.files.iter().any(|(name, _)| name == MAIN_FILE) {
            command.arg("-c").arg(self.folder.path().join(MAIN_FILE));
        }
        let process = Process::spawn(&mut command).map_err(|source| StartError::Process {
            program: self.kind.name(),
            source,
        })?;
        let not_listening = |ending, log| StartError::NotListening {
            program: self.kind.name(),
            awaited: announcement,
            ending,
            log,
        };
        let line = process
            .log
            .wait_for(announcement, PATIENCE)
            .map_err(|ending| not_listening(ending, process.log.text()))?;
        let address = address_after(&line, announcement)
            .ok_or_else(|| not_listening("named no address", process.log.text()))?;
        self.addresses.insert(announcement, address);
        self.process = Some(process);
        Ok(())
    }
}

fn address_after(line: &str, announcement: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(announcement)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The child and what it writes. Dropping it kills the child and waits for its end.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Log>,
}

impl Process {
    fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = Arc::new(Log::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            log.state().open_streams += 1;
            let log = Arc::clone(&log);
            // Ends with the stream, which ends with the child.
            thread::spawn(move || log.follow(stream));
        }
        Ok(Self { child, log })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines a child writes, to be waited for.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    open_streams: usize,
}

impl Log {
    fn follow(&self, stream: impl Read) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            self.state().lines.push(text);
            self.changed.notify_all();
        }
        self.state().open_streams -= 1;
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        self.state().lines.join("\n")
    }

    /// The first line that contains `text`, or what happened instead.
    fn wait_for(&self, text: &str, patience: Duration) -> Result<String, &'static str> {
        let deadline = Deadline::after(patience);
        let mut state = self.state();
        let mut seen = 0;
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            seen = state.lines.len();
            if state.open_streams == 0 {
                return Err("ended");
            }
            let Some(left) = deadline.left() else {
                return Err("runs on");
            };
            state = self.wait(state, left);
        }
    }

    /// Whether the child has closed its streams, as it does when it ends.
    fn wait_for_end(&self, patience: Duration) -> bool {
        let deadline = Deadline::after(patience);
        let mut state = self.state();
        while state.open_streams > 0 {
            let Some(left) = deadline.left() else {
                return false;
            };
            state = self.wait(state, left);
        }
        true
    }

    fn wait<'log>(
        &'log self,
        state: MutexGuard<'log, LogState>,
        left: Duration,
    ) -> MutexGuard<'log, LogState> {
        self.changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// A panic elsewhere leaves the lines as they are, which is all we want to read.
    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str) -> Process {
        Process::spawn(Command::new("sh").args(["-c", script])).expect("there is a shell")
    }

    #[test]
    fn a_line_is_found_whenever_it_was_written() {
        let process = child("echo early; echo late >&2; exec cat");
        assert_eq!(
            process.log.wait_for("late", PATIENCE).as_deref(),
            Ok("late")
        );
        assert_eq!(
            process.log.wait_for("early", PATIENCE).as_deref(),
            Ok("early")
        );
    }

    #[test]
    fn a_child_that_ends_is_not_waited_for() {
        let process = child("echo only");
        assert_eq!(process.log.wait_for("other", PATIENCE), Err("ended"));
        assert!(process.log.wait_for_end(PATIENCE));
    }

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
