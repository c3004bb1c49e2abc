//! Running our binaries: with all input at once, or one line at a time. Every wait has a deadline, and nothing outlives
//! its test.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// No wait in these tests takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const NATTERJACK: &str = env!("CARGO_BIN_EXE_natterjack");
pub(crate) const NATTERJACKD: &str = env!("CARGO_BIN_EXE_natterjackd");

/// What a program that has ended has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running program.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
}

/// One of its outputs, line by line.
struct Stream {
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// A terminal: the side of who types, and that of the program.
pub(crate) fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("ours");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let mut options = File::options();
    let name = name.to_str().expect("plain");
    let terminal = options.read(true).write(true).open(name);
    (File::from(master), terminal.expect("a terminal"))
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> Ended {
    let mut running = Running::start(program, arguments);
    let feeding = running.feed(input.into());
    let ended = running.end();
    feeding.join().expect("the writer ends");
    ended
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped());
        Self::spawn(command)
    }

    /// Starts a command with an environment or an input of its own.
    pub(crate) fn spawn(mut command: Command) -> Self {
        // What the person who runs the tests has set is for other servers.
        let is_ours = |name: &std::ffi::OsStr| {
            let name = name.as_encoded_bytes();
            name.starts_with(b"NATS_") || name.starts_with(b"BINDPLANE_")
        };
        // But not what this very test has set.
        let own: Vec<_> = command
            .get_envs()
            .map(|(name, _)| name.to_owned())
            .collect();
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| is_ours(name) && !own.contains(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdin = child.stdin.take();
        let stdout = Stream::follow(child.stdout.take().expect("a pipe"));
        let stderr = Stream::follow(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stdin,
            stdout,
            stderr,
        }
    }

    /// Writes input from a thread, so that a program which does not read cannot stop the test, and closes it.
    fn feed(&mut self, input: Vec<u8>) -> JoinHandle<()> {
        let mut stdin = self.stdin.take().expect("input is still open");
        // A program may end without reading everything.
        std::thread::spawn(move || drop(stdin.write_all(&input)))
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("input is still open");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for a line of standard output that contains this, and returns it.
    #[track_caller]
    pub(crate) fn stdout_line(&mut self, text: &str) -> String {
        self.stdout.wait_for(text)
    }

    #[track_caller]
    pub(crate) fn stderr_line(&mut self, text: &str) -> String {
        self.stderr.wait_for(text)
    }

    /// Sends a signal, by a name such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("`kill` exists");
        assert!(status.success(), "kill -s {name} {pid}");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has ended by itself.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let stdout = self.stdout.rest();
        let stderr = self.stderr.rest();
        let status: ExitStatus = self.child.wait().expect("the child is ours");
        Ended {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: Vec::new(),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line.trim_end().into();
                    }
                }
                Err(error) => panic!("no `{text}`, {error}, after:\n{}", self.seen.concat()),
            }
        }
    }

    #[track_caller]
    fn rest(&mut self) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.seen.concat(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it still runs, after:\n{}", self.seen.concat())
                }
            }
        }
    }
}

/// Our daemon on a free port.
pub(crate) struct Daemon {
    pub(crate) running: Running,
    pub(crate) url: String,
}

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With these variables in its environment.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(NATTERJACKD);
        command
            .args(["-a", "127.0.0.1", "-p", "-1"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let mut running = Running::spawn(command);
        let line = running.stderr_line("Listening for client connections on ");
        let address = line.rsplit(' ').next().expect("an address");
        let url = format!("nats://{address}");
        running.stderr_line("Server is ready");
        Self { running, url }
    }
}

/// Waits until a file has this text in it, and returns all of it. Files announce nothing, so this looks again and again,
/// with a bound.
#[track_caller]
pub(crate) fn wait_for_text(path: &Path, text: &str) -> String {
    let mut contents = String::new();
    wait_until(&format!("`{text}` in {}", path.display()), || {
        contents = std::fs::read_to_string(path).unwrap_or_default();
        contents.contains(text)
    });
    contents
}

/// Waits until something has come about that announces itself to nobody.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..DEADLINE.as_millis() {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("no {what}");
}

/// A port that was free a moment ago, for settings that must name one.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
