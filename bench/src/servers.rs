//! Servers as child processes: started on a free port of the loopback, found by what they log, killed
//! when the run is over.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cells::Encryption;
use crate::certificates::Certificates;

/// What nats-server logs before the address once it accepts clients; natterjackd logs the same.
pub(crate) const READY: &str = "Listening for client connections on ";

const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Last lines of a server's log that are kept for an error message.
const LOG_LINES_MAX: usize = 2;

/// Which program a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// The reference.
    NatsServer,
    /// Ours.
    Natterjackd,
    /// The copying process.
    Copy,
}

impl Program {
    /// The program's name as a reader knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Natterjackd => "natterjackd",
            Self::Copy => "copy",
        }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Starts a server and waits until it accepts clients.
    pub(crate) fn start(
        program: Program,
        executable: &Path,
        encryption: Encryption,
        certificates: &Certificates,
    ) -> Result<Self> {
        let mut command = Command::new(executable);
        if program == Program::Copy {
            command.arg("copy");
        }
        command.args(["-a", "127.0.0.1", "-p", "-1"]);
        command.args(certificates.server_flags(encryption));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", executable.display()))?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child,
            address: unknown,
            log: Arc::default(),
        };
        let (found, address) = mpsc::channel();
        let stderr = server
            .child
            .stderr
            .take()
            .context("the server's log is not piped")?;
        let log = Arc::clone(&server.log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once(READY) {
                    // Nobody waits any more after the first such line.
                    let _ = found.send(address.trim().to_owned());
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_back(line);
                if log.len() > LOG_LINES_MAX {
                    log.pop_front();
                }
            }
        });
        let address = address.recv_timeout(READY_DEADLINE).with_context(|| {
            format!(
                "{} did not say that it listens; its log ends: {}",
                program.name(),
                server.log()
            )
        })?;
        server.address = address
            .parse()
            .with_context(|| format!("no address: {address}"))?;
        Ok(server)
    }

    /// Where it accepts clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
