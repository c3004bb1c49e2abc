//! What a node keeps for itself: files below `choria_security`, in the folder of keys and certificates.
//!
//! That folder may be another's: Puppet's server has its own user, and nodes run as root. Whoever can put a link there must not
//! have us write to what it points to. So no link is followed below it, folders and files of others are not taken for ours,
//! and what is written is put in the place of what was there, never into it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

/// The folder that is ours.
const OURS: &str = "choria_security";

/// Of folders that are made.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);

/// What others must not be allowed to do with what is ours.
const WRITABLE_BY_OTHERS: Mode = Mode::from_raw_mode(0o022);

/// A folder of ours, whether it is there or not.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    ssldir: PathBuf,
    name: &'static str,
}

/// The same, opened: it stays the same one, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Keeping {
    /// `choria_security/<name>` below the folder of keys and certificates.
    pub(crate) fn new(ssldir: &Path, name: &'static str) -> Self {
        Self {
            ssldir: ssldir.to_path_buf(),
            name,
        }
    }

    /// What a file in it is called, for people.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.ssldir.join(OURS).join(self.name).join(file)
    }

    /// Opens it. `None`: it is not there.
    pub(crate) fn open(&self) -> io::Result<Option<Folder>> {
        let opened = self.descend(open_folder);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(|folder| Some(Folder(folder))),
        }
    }

    /// Opens it, and makes it first if it is not there.
    pub(crate) fn make(&self) -> io::Result<Folder> {
        let opened = self.descend(|parent, name| match open_folder(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match rustix::fs::mkdirat(parent, name, FOLDER_MODE) {
                    // Somebody else has made it at the same time.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => open_folder(parent, name),
                    Err(error) => Err(error.into()),
                }
            }
            opened => opened,
        });
        opened.map(Folder)
    }

    fn descend(&self, step: impl Fn(&OwnedFd, &str) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Where this one is, and whether by links, is for whoever configured it to say.
        let ssldir = rustix::fs::openat(CWD, &self.ssldir, flags, Mode::empty())?;
        step(&step(&ssldir, OURS)?, self.name)
    }
}

fn open_folder(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&folder)?;
    if status.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the folder {name} belongs to another user; change its owner, or remove it"),
        ));
    }
    if Mode::from_raw_mode(status.st_mode).intersects(WRITABLE_BY_OTHERS) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("others may write to the folder {name}; take that from its mode"),
        ));
    }
    Ok(folder)
}

impl Folder {
    /// All of a file. `None`: it is not there.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        // Of a pipe nobody may ever write to.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
        }
        crate::files::contents(file, bytes_max).map(Some)
    }

    /// Puts a file there as a whole, if there is none. Of several that do so at once, one does. Whether it did.
    pub(crate) fn put_first(&self, name: &str, bytes: &[u8], mode: Mode) -> io::Result<bool> {
        let draft = draft_of(name);
        let written = self.create(&draft, bytes, mode).and_then(|_| {
            let linked = rustix::fs::linkat(&self.0, &*draft, &self.0, name, AtFlags::empty());
            match linked {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::EXIST) => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        // Perhaps it is not even there.
        let _ = self.remove(&draft);
        written
    }

    /// Puts a file there, in the place of one that may be, as a whole or not at all. It can be written to further.
    pub(crate) fn put(&self, name: &str, bytes: &[u8], mode: Mode) -> io::Result<File> {
        let draft = draft_of(name);
        let written = self.create(&draft, bytes, mode).and_then(|file| {
            rustix::fs::renameat(&self.0, draft.as_str(), &self.0, name)?;
            Ok(file)
        });
        if written.is_err() {
            // Perhaps it is not even there.
            let _ = self.remove(&draft);
        }
        written
    }

    fn create(&self, name: &str, bytes: &[u8], mode: Mode) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Removes a file, or the link in its place.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// A file that is there for nothing but to be locked, by whom it is then up to. Only we can open it.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        let status = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
        }
        Ok(File::from(file))
    }
}

/// No name that is looked up here has such a letter, and nobody who does the same at the same time has this number.
fn draft_of(name: &str) -> String {
    format!("{name}~{:016x}", fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const MODE: Mode = Mode::from_raw_mode(0o640);

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_put_as_a_whole() {
        let ssldir = tempfile::tempdir().unwrap();
        let keeping = Keeping::new(ssldir.path(), "taken");
        assert!(keeping.open().unwrap().is_none());
        let folder = keeping.make().unwrap();
        assert!(keeping.open().unwrap().is_some());
        assert_eq!(mode(&ssldir.path().join("choria_security")) & !0o750, 0);
        assert_eq!(folder.read("a", 10).unwrap(), None);
        let mut file = folder.put("a", b"one", MODE).unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!(folder.read("a", 10).unwrap().unwrap(), b"onetwo");
        assert_eq!(mode(&keeping.path("a")) & !0o640, 0);
        assert!(folder.read("a", 5).is_err(), "too long");
        folder.put("a", b"three", MODE).unwrap();
        assert_eq!(fs::read(keeping.path("a")).unwrap(), b"three");
        assert!(!folder.put_first("a", b"four", MODE).unwrap());
        assert_eq!(fs::read(keeping.path("a")).unwrap(), b"three");
        folder.remove("a").unwrap();
        assert_eq!(folder.read("a", 10).unwrap(), None);
        assert!(folder.put_first("a", b"four", MODE).unwrap());
        assert_eq!(fs::read(keeping.path("a")).unwrap(), b"four");
        folder.remove("a").unwrap();
        let left = fs::read_dir(keeping.path("")).unwrap().count();
        assert_eq!(left, 0, "no draft is left");
    }

    #[test]
    fn links_are_not_followed() {
        let ssldir = tempfile::tempdir().unwrap();
        let keeping = Keeping::new(ssldir.path(), "taken");
        let folder = keeping.make().unwrap();
        let foreign = ssldir.path().join("foreign");
        fs::write(&foreign, "theirs").unwrap();
        for name in ["a", "b"] {
            symlink(&foreign, keeping.path(name)).unwrap();
        }
        assert!(folder.read("a", 10).is_err());
        assert!(folder.lock_file("b").is_err());
        folder.put("a", b"ours", MODE).unwrap();
        folder.remove("b").unwrap();
        assert_eq!(fs::read(&foreign).unwrap(), b"theirs");
        assert_eq!(fs::read(keeping.path("a")).unwrap(), b"ours");
        assert!(!keeping.path("b").exists());

        // Nor is the folder itself.
        let ours = ssldir.path().join("choria_security");
        let elsewhere = ssldir.path().join("elsewhere");
        fs::rename(&ours, &elsewhere).unwrap();
        symlink(&elsewhere, &ours).unwrap();
        assert!(keeping.open().is_err());
        assert!(keeping.make().is_err());
        fs::remove_file(&ours).unwrap();
        fs::create_dir(&ours).unwrap();
        symlink(elsewhere.join("taken"), ours.join("taken")).unwrap();
        assert!(keeping.make().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_does_not_stop_us() {
        let ssldir = tempfile::tempdir().unwrap();
        let keeping = Keeping::new(ssldir.path(), "taken");
        let folder = keeping.make().unwrap();
        rustix::fs::mknodat(&folder.0, "a", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(folder.read("a", 10).is_err());
        assert!(folder.lock_file("a").is_err());
    }

    #[test]
    fn what_others_may_write_to_is_not_ours() {
        let ssldir = tempfile::tempdir().unwrap();
        let keeping = Keeping::new(ssldir.path(), "taken");
        keeping.make().unwrap();
        let ours = ssldir.path().join("choria_security");
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
        let error = keeping.make().unwrap_err().to_string();
        assert!(error.contains("others may write"), "{error}");
        assert!(keeping.open().is_err());
        // Only root can give things away.
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&ours, fs::Permissions::from_mode(0o750)).unwrap();
            std::os::unix::fs::chown(&ours, Some(65534), None).unwrap();
            let error = keeping.make().unwrap_err().to_string();
            assert!(error.contains("another user"), "{error}");
        }
    }
}
