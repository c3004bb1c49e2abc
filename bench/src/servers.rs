//! Servers as child processes: started on a free port of the loopback, found by what they log, killed
//! when the run is over.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tempfile::NamedTempFile;

/// What nats-server logs before the address once it accepts clients; natterjackd logs the same.
pub(crate) const READY: &str = "Listening for client connections on ";
/// The same for other servers.
const READY_FOR_ROUTES: &str = "Listening for route connections on ";
/// The same for whoever asks for pages of monitoring, which is said before the others.
const READY_FOR_PAGES: &str = "Starting http monitor on ";

const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Last lines of a server's log that are kept for an error message.
const LOG_LINES_MAX: usize = 2;

/// What is under load: a program, of which a cluster has several; or a cluster in which the two take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// The reference.
    NatsServer,
    /// Ours.
    Natterjackd,
    /// A cluster: ours, the reference, ours.
    OursFirst,
    /// A cluster: the reference, ours, the reference.
    TheirsFirst,
    /// The copying process.
    Copy,
}

impl Program {
    /// The program's name as a reader knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Natterjackd => "natterjackd",
            Self::OursFirst => "ours, theirs",
            Self::TheirsFirst => "theirs, ours",
            Self::Copy => "copy",
        }
    }

    /// Which program the server at that place of a cluster is.
    pub(crate) fn at(self, node: usize) -> Self {
        match (self, node.is_multiple_of(2)) {
            (Self::OursFirst, true) | (Self::TheirsFirst, false) => Self::Natterjackd,
            (Self::OursFirst, false) | (Self::TheirsFirst, true) => Self::NatsServer,
            _ => self,
        }
    }
}

/// How a server belongs to a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership<'a> {
    /// Where another member listens for it; nowhere for the first one.
    pub(crate) seed: Option<SocketAddr>,
    /// More for its `cluster` block.
    pub(crate) settings: &'a str,
}

/// Servers that are started together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Formation<'a> {
    /// How many.
    pub(crate) nodes: usize,
    /// More for their `cluster` blocks.
    pub(crate) settings: &'a str,
}

impl From<usize> for Formation<'_> {
    fn from(nodes: usize) -> Self {
        Self {
            nodes,
            settings: "",
        }
    }
}

impl Membership<'_> {
    /// A file that says so.
    fn file(&self) -> Result<NamedTempFile> {
        let seed = (self.seed).map_or_else(String::new, |seed| format!("\"nats://{seed}\""));
        let text = format!(
            "cluster {{\n name: bench\n listen: \"127.0.0.1:-1\"\n routes: [{seed}]\n {}\n}}\n",
            self.settings
        );
        let mut file = NamedTempFile::new().context("making a file for a server")?;
        file.write_all(text.as_bytes())
            .context("writing a server's file")?;
        Ok(file)
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    route_address: Option<SocketAddr>,
    monitoring_address: Option<SocketAddr>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Starts a server, with more flags, and waits until it accepts clients, and other servers if it is in a cluster.
    pub(crate) fn start(
        program: Program,
        executable: &Path,
        flags: Vec<OsString>,
        membership: Option<Membership<'_>>,
    ) -> Result<Self> {
        let mut command = Command::new(executable);
        if program == Program::Copy {
            command.arg("copy");
        }
        command.args(["-a", "127.0.0.1", "-p", "-1"]).args(flags);
        // It is there until the server has read it, which it has when it listens.
        let file = membership.map(|it| it.file()).transpose()?;
        if let Some(file) = &file {
            command.arg("-c").arg(file.path());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", executable.display()))?;
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            route_address: None,
            monitoring_address: None,
            log: Arc::default(),
        };
        let stderr = server.child.stderr.take();
        let stderr = stderr.context("the server's log is not piped")?;
        let found = follow(stderr, Arc::clone(&server.log));
        server.address = server.find(program, &found.clients)?;
        server.monitoring_address = (found.pages.try_recv().ok())
            .map(|address| {
                address
                    .parse()
                    .with_context(|| format!("no address: {address}"))
            })
            .transpose()?;
        if membership.is_some() {
            server.route_address = Some(server.find(program, &found.routes)?);
        }
        Ok(server)
    }

    /// Starts the servers of a cluster that are to be there from the beginning.
    pub(crate) fn start_cluster<'a>(
        program: Program,
        executable: impl Fn(Program) -> Result<PathBuf>,
        formation: impl Into<Formation<'a>>,
    ) -> Result<Vec<Self>> {
        let Formation { nodes, settings } = formation.into();
        let mut servers: Vec<Self> = Vec::new();
        for node in 0..nodes {
            let program = program.at(node);
            let seed = servers.first().and_then(Self::route_address);
            let membership = Some(Membership { seed, settings });
            servers.push(Self::start(
                program,
                &executable(program)?,
                Vec::new(),
                membership,
            )?);
        }
        Ok(servers)
    }

    /// Where it accepts clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it accepts other servers.
    pub(crate) fn route_address(&self) -> Option<SocketAddr> {
        self.route_address
    }

    /// Where it answers requests for pages of monitoring, if it does.
    pub(crate) fn monitoring_address(&self) -> Option<SocketAddr> {
        self.monitoring_address
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    fn find(&self, program: Program, found: &Receiver<String>) -> Result<SocketAddr> {
        let address = found.recv_timeout(READY_DEADLINE).with_context(|| {
            format!(
                "{} did not say that it listens; its log ends: {}",
                program.name(),
                self.log()
            )
        })?;
        address
            .parse()
            .with_context(|| format!("no address: {address}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses that a log names.
struct Found {
    clients: Receiver<String>,
    routes: Receiver<String>,
    pages: Receiver<String>,
}

fn follow(stderr: ChildStderr, log: Arc<Mutex<VecDeque<String>>>) -> Found {
    let (found_clients, clients) = mpsc::channel();
    let (found_routes, routes) = mpsc::channel();
    let (found_pages, pages) = mpsc::channel();
    let tell = |line: &str, start: &str, found: &Sender<String>| {
        if let Some((_, address)) = line.split_once(start) {
            // Nobody waits any more after the first such line.
            let _ = found.send(address.trim().to_owned());
        }
    };
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Before clients, so that it is there for whoever has waited for them.
            tell(&line, READY_FOR_PAGES, &found_pages);
            tell(&line, READY, &found_clients);
            tell(&line, READY_FOR_ROUTES, &found_routes);
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_back(line);
            if log.len() > LOG_LINES_MAX {
                log.pop_front();
            }
        }
    });
    Found {
        clients,
        routes,
        pages,
    }
}

/// What an executable answers to `--version`.
pub(crate) fn version(executable: &PathBuf) -> Result<String> {
    let output = Command::new(executable)
        .arg("--version")
        .output()
        .with_context(|| format!("running {}", executable.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn programs_take_turns_in_a_mixed_cluster() {
        let members = |program: Program| [0, 1, 2].map(|node| program.at(node));
        let (ours, theirs) = (Program::Natterjackd, Program::NatsServer);
        assert_eq!(members(Program::OursFirst), [ours, theirs, ours]);
        assert_eq!(members(Program::TheirsFirst), [theirs, ours, theirs]);
        assert_eq!(members(ours), [ours; 3]);
    }
}
