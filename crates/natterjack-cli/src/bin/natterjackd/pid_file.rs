//! The file that tells others our process id, and who may have it: one running server.
//!
//! We hold a lock on the file as long as we run, which the system releases however we end. nats-server holds none, so
//! that one is recognised by its process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::processes::{Processes, SERVERS};

/// A file that others keep replacing under our hands is given up after so many attempts.
const ATTEMPTS_MAX: usize = 10;

/// More than any process id.
const TEXT_BYTES_MAX: u64 = 64;

/// A process that started this much after the file was written has its id by chance. Both times are to the second.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// Why the file cannot be ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error("cannot write the process id to {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error(
        "the process id file {path} belongs to another server that runs, {server}; stop that one, or give each a file of its own",
        path = path.display()
    )]
    Owned { path: PathBuf, server: String },
    #[error(
        "{path} is not a process id file: there is something else in it, which is not overwritten",
        path = path.display()
    )]
    Foreign { path: PathBuf },
}

/// Our process id file. Removed when dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Locked while it is open.
    file: File,
}

impl PidFile {
    /// Writes our process id, and nothing else, over whatever a crashed predecessor left.
    pub(crate) fn claim(path: &Path) -> Result<Self, PidFileError> {
        Self::claim_among(path, &Processes::of_this_machine())
    }

    /// Its name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn claim_among(path: &Path, processes: &Processes) -> Result<Self, PidFileError> {
        let failed = |error| PidFileError::Write {
            path: path.into(),
            error,
        };
        let mut file = lock(path, processes)?;
        let metadata = file.metadata().map_err(failed)?;
        let text = std::process::id().to_string();
        if metadata.is_file() {
            let before = read(&mut file).map_err(failed)?;
            check(path, &before, &metadata, processes)?;
        }
        file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
        if metadata.is_file() {
            file.set_len(text.len() as u64).map_err(failed)?;
        }
        Ok(Self {
            path: path.into(),
            file,
        })
    }
}

/// Opens and locks the file that has this name.
fn lock(path: &Path, processes: &Processes) -> Result<File, PidFileError> {
    let failed = |error| PidFileError::Write {
        path: path.into(),
        error,
    };
    for _ in 0..ATTEMPTS_MAX {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let text = read(&mut file).unwrap_or_default();
                return Err(owned(path, text.trim(), processes));
            }
            // Some network file systems have no locks; what the file says must do.
            Err(_) => return Ok(file),
        }
        // Its owner may have removed it between our opening and our locking it.
        if is_same_file(path, &file) {
            return Ok(file);
        }
    }
    Err(failed(io::ErrorKind::ResourceBusy.into()))
}

/// Whether what is in the file leaves it to us.
fn check(
    path: &Path,
    before: &str,
    metadata: &fs::Metadata,
    processes: &Processes,
) -> Result<(), PidFileError> {
    let before = before.trim();
    if before.is_empty() {
        return Ok(());
    }
    let Ok(pid) = before.parse::<u32>() else {
        return Err(PidFileError::Foreign { path: path.into() });
    };
    let is_server = SERVERS.iter().any(|server| processes.runs(pid, server));
    // A lock of ours would have been found: this one, if it is of our kind, has its id by chance.
    let is_locking = processes.runs(pid, SERVERS[0]);
    let is_older = match (processes.started(pid), metadata.modified()) {
        (Some(started), Ok(written)) => started <= written + CLOCK_SLACK,
        _ => true,
    };
    if pid != std::process::id() && is_server && !is_locking && is_older {
        return Err(owned(path, before, processes));
    }
    Ok(())
}

fn owned(path: &Path, pid: &str, processes: &Processes) -> PidFileError {
    let name = pid.parse().ok().and_then(|pid| processes.name(pid));
    PidFileError::Owned {
        path: path.into(),
        server: match (name, pid) {
            (_, "") => "which has not written its process id yet".into(),
            (Some(name), pid) => format!("{name} with process id {pid}"),
            (None, pid) => format!("with process id {pid}"),
        },
    }
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_same_file(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(own)) => (named.dev(), named.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file())
            && is_same_file(&self.path, &self.file)
            && fs::read_to_string(&self.path)
                .is_ok_and(|text| text.trim() == std::process::id().to_string());
        if is_ours {
            // Left behind if the folder has become read-only; nothing depends on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::tests::invented;

    /// 2001, long before any file of these tests was written.
    const LONG_AGO: u64 = 1_000_000_000;
    /// 2286, long after.
    const LONG_HENCE: u64 = 10_000_000_000;

    struct Scene {
        folder: tempfile::TempDir,
        processes: Processes,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let processes = invented(
            &folder.path().join("proc"),
            &[
                (4_000_001, "nats-server", "/bin/nats-server", LONG_AGO),
                (4_000_002, "nats-server", "/bin/nats-server", LONG_HENCE),
                (4_000_003, "natterjackd", "/bin/natterjackd", LONG_AGO),
                (4_000_004, "bash", "/bin/bash", LONG_AGO),
            ],
        );
        Scene { folder, processes }
    }

    impl Scene {
        fn path(&self) -> PathBuf {
            self.folder.path().join("pid")
        }

        /// Claims a file with this in it.
        fn claim(&self, before: &str) -> Result<PidFile, PidFileError> {
            fs::write(self.path(), before).unwrap();
            PidFile::claim_among(&self.path(), &self.processes)
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }
    }

    #[test]
    fn it_comes_and_goes() {
        let scene = scene();
        let own = std::process::id().to_string();
        let file = PidFile::claim_among(&scene.path(), &scene.processes).unwrap();
        assert_eq!(scene.text(), own);
        drop(file);
        assert!(!scene.path().exists());
    }

    #[test]
    fn what_the_dead_left_is_overwritten() {
        let scene = scene();
        let own = std::process::id().to_string();
        // Nobody; somebody else by now; a server that came later; one of ours, which would hold the lock; ourselves.
        for before in [
            "",
            "4000009\n",
            "4000004",
            "4000002",
            "4000003",
            own.as_str(),
        ] {
            let file = scene.claim(before).unwrap();
            assert_eq!(scene.text(), own, "{before}");
            drop(file);
        }
    }

    #[test]
    fn what_belongs_to_a_running_server_is_left_alone() {
        let scene = scene();
        let error = scene.claim("4000001\n").unwrap_err();
        assert!(
            error.to_string().contains(
                "belongs to another server that runs, nats-server with process id 4000001;"
            ),
            "{error}"
        );
        assert_eq!(scene.text(), "4000001\n");
    }

    #[test]
    fn only_one_of_us_gets_it() {
        let scene = scene();
        let file = PidFile::claim_among(&scene.path(), &scene.processes).unwrap();
        let error = PidFile::claim_among(&scene.path(), &scene.processes).unwrap_err();
        let own = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("another server that runs, with process id {own};")),
            "{error}"
        );
        drop(file);
        drop(PidFile::claim_among(&scene.path(), &scene.processes).unwrap());
    }

    #[test]
    fn a_file_of_another_kind_is_not_overwritten() {
        let scene = scene();
        let error = scene.claim("port: 4222\n").unwrap_err();
        assert!(
            error.to_string().contains("is not a process id file"),
            "{error}"
        );
        assert_eq!(scene.text(), "port: 4222\n");
    }

    #[test]
    fn a_file_that_others_have_taken_over_stays() {
        let scene = scene();
        let file = PidFile::claim_among(&scene.path(), &scene.processes).unwrap();
        fs::write(scene.path(), "1").unwrap();
        drop(file);
        assert_eq!(scene.text(), "1");
        let file = scene.claim("").unwrap();
        fs::remove_file(scene.path()).unwrap();
        fs::write(scene.path(), std::process::id().to_string()).unwrap();
        drop(file);
        assert!(scene.path().exists());
    }

    #[test]
    fn a_device_is_written_to_and_kept() {
        drop(PidFile::claim(Path::new("/dev/null")).unwrap());
        assert!(Path::new("/dev/null").exists());
    }
}
