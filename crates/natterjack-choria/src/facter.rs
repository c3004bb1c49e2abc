//! Facter, the program that knows facts about a machine.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Where Puppet's packages put it.
const OF_PUPPET: &str = "/opt/puppetlabs/bin/facter";

/// It takes half a second; on a machine that is busy, longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// After that whoever waits hears for what.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// How often it is looked whether it has ended, once it has said all.
const END_INTERVAL: Duration = Duration::from_millis(2);

/// How long it is not run again after it did not come to an end: each time somebody waits for it.
const REST_AFTER_HANGING: Duration = Duration::from_secs(600);

/// The program, if the machine has it. Clones know together whether it comes to an end.
#[derive(Clone, Debug)]
pub struct Facter {
    program: Option<PathBuf>,
    patience: Duration,
    /// When it last did not come to an end.
    hung_at: Arc<Mutex<Option<Instant>>>,
}

impl Default for Facter {
    fn default() -> Self {
        Self {
            program: None,
            patience: PATIENCE,
            hung_at: Arc::default(),
        }
    }
}

/// Why a program did not say anything that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is not there, fails, or says too much.
    Useless,
    /// It did not come to an end in time.
    Hung,
}

impl Facter {
    /// Puppet's own, or else the first in the folders of `PATH`.
    #[must_use]
    pub fn of_machine(folders: Option<&str>) -> Self {
        Self {
            program: program(Path::new(OF_PUPPET), "facter", folders),
            ..Self::default()
        }
    }

    /// This program.
    #[must_use]
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: Some(program.into()),
            ..Self::default()
        }
    }

    /// None: every fact is unknown.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Where it is.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// What it says about one fact. Waits for the program, half a second usually. `None`: it is not there, says nothing, or
    /// does not come to an end; then it is not run again for ten minutes.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<String> {
        let program = self.program.as_deref()?;
        let rests = |at: Instant| now().saturating_duration_since(at) < REST_AFTER_HANGING;
        if self.hung_at.lock().is_some_and(rests) {
            tracing::debug!(program = %program.display(), name, "it did not come to an end before, and is not asked");
            return None;
        }
        match said_within(Command::new(program).arg(name), self.patience) {
            Ok(said) => {
                let said = said.trim();
                (!said.is_empty()).then(|| said.to_owned())
            }
            Err(Silence::Useless) => None,
            Err(Silence::Hung) => {
                *self.hung_at.lock() = Some(now());
                None
            }
        }
    }
}

/// What a program says that succeeds. Whoever waits for it hears so in the log, and that it is gone on without.
pub(crate) fn said(command: &mut Command) -> Result<String, Silence> {
    said_within(command, PATIENCE)
}

fn said_within(command: &mut Command, patience: Duration) -> Result<String, Silence> {
    let program = command.get_program().to_owned();
    let program = program.display();
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut process = match started {
        Ok(process) => process,
        Err(error) => {
            tracing::debug!(%program, %error, "a program cannot be run");
            return Err(Silence::Useless);
        }
    };
    let begin = now();
    let text = first_text(&mut process).and_then(|text| heard(&text, &program, patience));
    let ended = text.and_then(|text| Some((text, ended(&mut process, begin + patience)?)));
    let Some((text, is_done)) = ended else {
        tracing::warn!(
            "{program} did not come to an end within {patience:?} and was killed; going on without what it knows"
        );
        let _ = process.kill();
        let _ = process.wait();
        return Err(Silence::Hung);
    };
    text.filter(|_| is_done).ok_or(Silence::Useless)
}

/// Waits until it has ended, and answers whether it succeeded. `None`: it has not in time. Its output may end long before.
fn ended(process: &mut Child, end: Instant) -> Option<bool> {
    let (_nobody, pause) = mpsc::channel::<()>();
    loop {
        match process.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if now() >= end => return None,
            Ok(None) => {
                let _ = pause.recv_timeout(END_INTERVAL);
            }
            Err(_) => return Some(false),
        }
    }
}

/// What it says, once its output ends. `None`: it is no text.
fn first_text(process: &mut Child) -> Option<Receiver<Option<String>>> {
    let mut output = process.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        // What is longer than this is no name.
        let read = output.by_ref().take(4096).read_to_string(&mut text);
        // Nobody waits for it any more if it took too long.
        let _ = sender.send(read.is_ok().then_some(text));
    });
    Some(receiver)
}

/// Waits for it. `None`: it did not come in time.
fn heard(
    text: &Receiver<Option<String>>,
    program: &impl std::fmt::Display,
    patience: Duration,
) -> Option<Option<String>> {
    let silence = SILENCE_MAX.min(patience / 4);
    text.recv_timeout(silence).ok().or_else(|| {
        tracing::warn!("waiting for {program}, {patience:?} at most");
        text.recv_timeout(patience - silence).ok()
    })
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a program rests is decided with the time as an argument"
    )]
    Instant::now()
}

/// A program of Puppet's: where its packages put it, or else in the folders of `PATH`.
pub(crate) fn program(of_puppet: &Path, name: &str, folders: Option<&str>) -> Option<PathBuf> {
    let in_folders = folders
        .unwrap_or_default()
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name));
    std::iter::once(of_puppet.to_path_buf())
        .chain(in_folders)
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::test_log::TestLog;

    fn script(folder: &Path, text: &str) -> Facter {
        let path = folder.join("facter");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Facter::of_machine(Some(&format!("relative:/nowhere:{}", folder.display())))
    }

    #[test]
    fn facts() {
        let folder = tempfile::tempdir().unwrap();
        let facter = script(folder.path(), "echo \"of $1\"");
        assert_eq!(
            facter.fact("networking.domain").as_deref(),
            Some("of networking.domain")
        );
        assert_eq!(script(folder.path(), "").fact("a"), None);
        assert_eq!(script(folder.path(), "echo x; exit 1").fact("a"), None);
        assert_eq!(Facter::none().fact("a"), None);
        assert_eq!(Facter::at("/nowhere/facter").fact("a"), None);
    }

    /// Such as one that leaves something running behind it.
    #[test]
    fn one_that_has_said_all_and_does_not_end_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut facter = script(folder.path(), "echo a; exec >&-; exec sleep 600");
        facter.patience = Duration::from_millis(200);
        assert_eq!(facter.fact("networking.fqdn"), None);
        assert!(facter.hung_at.lock().is_some());
    }

    #[test]
    fn one_that_hangs_is_run_once_and_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let mut facter = script(folder.path(), "exec sleep 600");
        facter.patience = Duration::from_millis(200);
        let clone = facter.clone();
        let log = TestLog::start();
        assert_eq!(facter.fact("networking.fqdn"), None);
        assert_eq!(clone.fact("networking.domain"), None);
        let program = folder.path().join("facter").display().to_string();
        for (expected, count) in [
            (
                format!("WARN message=waiting for {program}, 200ms at most"),
                1,
            ),
            (
                format!(
                    "WARN message={program} did not come to an end within 200ms and was killed"
                ),
                1,
            ),
            ("it did not come to an end before".to_owned(), 1),
        ] {
            let text = log.text();
            assert_eq!(
                text.matches(&expected).count(),
                count,
                "{expected} in {text}"
            );
        }
    }
}
