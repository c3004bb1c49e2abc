//! Facter, the program that knows facts about a machine.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where Puppet's packages put it.
const OF_PUPPET: &str = "/opt/puppetlabs/bin/facter";

/// It takes half a second; on a machine that is busy, longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, if the machine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facter {
    program: Option<PathBuf>,
}

impl Facter {
    /// Puppet's own, or else the first in the folders of `PATH`.
    #[must_use]
    pub fn of_machine(folders: Option<&str>) -> Self {
        Self {
            program: program(Path::new(OF_PUPPET), "facter", folders),
        }
    }

    /// This program.
    #[must_use]
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: Some(program.into()),
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
    /// does not come to an end.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<String> {
        let program = self.program.as_deref()?;
        let said = said(Command::new(program).arg(name))?;
        let said = said.trim();
        (!said.is_empty()).then(|| said.to_owned())
    }
}

/// What a program says that succeeds. `None`: it is not there, fails, says too much, or does not come to an end in time.
pub(crate) fn said(command: &mut Command) -> Option<String> {
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
            return None;
        }
    };
    let mut output = process.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        // What is longer than this is no name.
        let read = output.by_ref().take(4096).read_to_string(&mut text);
        // Nobody waits for it any more if it took too long.
        let _ = sender.send(read.is_ok().then_some(text));
    });
    let Ok(text) = receiver.recv_timeout(PATIENCE) else {
        tracing::debug!(%program, "a program does not end; it is killed");
        let _ = process.kill();
        let _ = process.wait();
        return None;
    };
    let is_done = process.wait().is_ok_and(|status| status.success());
    text.filter(|_| is_done)
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
}
