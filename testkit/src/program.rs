//! A child process: what it writes is kept line by line and can be waited for, and it is gone with the test.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;

/// A running program. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: Arc<Log>,
}

/// What a program did instead of writing what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It closed its output, as it does when it ends.
    Ended,
    /// It still ran when time was up.
    RunsOn,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ended => "ended",
            Self::RunsOn => "runs on",
        })
    }
}

impl Program {
    /// Starts it, with all three standard streams in our hands.
    ///
    /// # Errors
    /// When the system cannot start it.
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
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

    /// Everything it has written to standard output and standard error, in the order of arrival.
    #[must_use]
    pub fn output(&self) -> String {
        self.log.state().lines.join("\n")
    }

    /// Waits for a line that contains `text`, also one written earlier, and returns it.
    ///
    /// # Errors
    /// When it ends without, or time runs out.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Result<String, Ending> {
        self.wait_for_any(&[text], 0, patience)
    }

    /// Lines it has written.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.log.state().lines.len()
    }

    /// Waits for a line after the first `seen` ones that contains one of `texts`, and returns it.
    ///
    /// # Errors
    /// When it ends without, or time runs out.
    pub fn wait_for_any(
        &self,
        texts: &[&str],
        mut seen: usize,
        patience: Duration,
    ) -> Result<String, Ending> {
        let deadline = Deadline::after(patience);
        let mut state = self.log.state();
        loop {
            let is_wanted = |line: &&String| texts.iter().any(|text| line.contains(text));
            if let Some(line) = state.lines[seen..].iter().find(is_wanted) {
                return Ok(line.clone());
            }
            seen = state.lines.len();
            if state.open_streams == 0 {
                return Err(Ending::Ended);
            }
            state = self
                .log
                .changed(state, deadline.left().ok_or(Ending::RunsOn)?);
        }
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it has closed it.
    pub fn send_line(&mut self, line: &str) -> std::io::Result<()> {
        let stdin = self.child.stdin.as_mut().expect("spawned with a pipe");
        writeln!(stdin, "{line}")?;
        stdin.flush()
    }

    /// Waits until it ends by itself. `None` when time runs out before.
    ///
    /// # Panics
    /// When the system denies knowing the child.
    #[must_use]
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(patience);
        let mut state = self.log.state();
        while state.open_streams > 0 {
            state = self.log.changed(state, deadline.left()?);
        }
        drop(state);
        Some(self.child.wait().expect("the child is ours to wait for"))
    }

    /// Interrupts it, as Ctrl-C does.
    ///
    /// # Panics
    /// When the system has no `kill`.
    #[track_caller]
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Has `kill` send it a signal, by an option such as `-HUP`.
    #[track_caller]
    pub(crate) fn signal(&self, option: &str) {
        // The child has not been waited for, so its process id cannot have passed to another.
        let status = Command::new("kill")
            .args([option, &self.child.id().to_string()])
            .status()
            .expect("the system has a `kill`");
        assert!(status.success(), "kill {option} failed with {status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines a child writes.
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

    /// Waits for a change, or until the time is up.
    fn changed<'log>(
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
    use crate::deadline::PATIENCE;

    fn shell(script: &str) -> Program {
        Program::spawn(Command::new("sh").args(["-c", script])).expect("there is a shell")
    }

    #[test]
    fn a_line_is_found_whenever_it_was_written() {
        let program = shell("echo early; echo late >&2; exec cat");
        assert_eq!(program.wait_for("late", PATIENCE).as_deref(), Ok("late"));
        assert_eq!(program.wait_for("early", PATIENCE).as_deref(), Ok("early"));
        assert_eq!(
            program.wait_for("never", Duration::from_millis(1)),
            Err(Ending::RunsOn)
        );
    }

    #[test]
    fn a_program_can_be_talked_to() {
        let mut program = shell("read line; echo heard $line; exit 3");
        program.send_line("you").expect("it reads");
        let status = program.wait_for_exit(PATIENCE).expect("it ends");
        assert_eq!(
            (status.code(), program.output().as_str()),
            (Some(3), "heard you")
        );
    }

    #[test]
    fn a_program_that_ends_is_not_waited_for() {
        let program = shell("echo only");
        assert_eq!(program.wait_for("other", PATIENCE), Err(Ending::Ended));
    }
}
