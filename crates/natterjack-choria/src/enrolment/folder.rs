//! The folder of keys and certificates: what is in it, who may read it, and how files come to be there as a whole or not at
//! all. Modes are those that Puppet's own agent and MCollective's plugins give, save that only their owner reads private
//! keys.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Folders below, with their modes. The umask may take something away; folders that are there stay as they are.
const FOLDERS: [(&str, u32); 5] = [
    ("certificate_requests", 0o755),
    ("certs", 0o755),
    ("public_keys", 0o755),
    ("private_keys", 0o750),
    ("private", 0o750),
];

/// Of the folder itself.
const FOLDER_MODE: u32 = 0o771;

/// Of those above it, such as `~/.puppetlabs`.
const ABOVE_MODE: u32 = 0o755;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Everybody,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everybody => 0o644,
        }
    }
}

/// What could not be done in the folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct FolderError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

pub(super) fn create(folder: &Path) -> Result<(), FolderError> {
    if let Some(above) = folder.parent() {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(ABOVE_MODE)
            .create(above);
        made.map_err(failed(above))?;
    }
    create_one(folder, FOLDER_MODE)?;
    for (name, mode) in FOLDERS {
        create_one(&folder.join(name), mode)?;
    }
    Ok(())
}

fn create_one(folder: &Path, mode: u32) -> Result<(), FolderError> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.map_err(failed(folder)),
    }
}

/// Puts a file where none is. `false`: there is one already, and it stays.
pub(super) fn place(path: &Path, text: &[u8], readers: Readers) -> Result<bool, FolderError> {
    let new = write_beside(path, text, readers)?;
    // Unlike renaming, this never replaces anything.
    let placed = fs::hard_link(&new, path);
    let _ = fs::remove_file(&new);
    match placed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(failed(path)(source)),
    }
}

/// Puts a file there, instead of the one that may be.
pub(super) fn replace(path: &Path, text: &[u8], readers: Readers) -> Result<(), FolderError> {
    let new = write_beside(path, text, readers)?;
    fs::rename(&new, path).map_err(failed(path))
}

/// Under a name of its own, so that nobody who does the same at the same time is disturbed.
fn write_beside(path: &Path, text: &[u8], readers: Readers) -> Result<PathBuf, FolderError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", fastrand::u64(..)));
    let new = PathBuf::from(name);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(readers.mode())
            .open(&new)?;
        file.write_all(text)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // Perhaps it is not even there.
        let _ = fs::remove_file(&new);
        return Err(failed(&new)(error));
    }
    Ok(new)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_path_buf();
    |source| FolderError { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_files_have_their_modes_from_the_start() {
        let place_of_test = tempfile::tempdir().unwrap();
        let folder = place_of_test.path().join("a/ssl");
        create(&folder).unwrap();
        create(&folder).unwrap();
        // Whatever the umask of who runs this is, it takes away only.
        for (name, most) in FOLDERS {
            assert_eq!(mode(&folder.join(name)) & !most, 0, "{name}");
        }
        assert_eq!(mode(&folder.join("private_keys")) & 0o007, 0);
        let key = folder.join("private_keys/a.pem");
        assert!(place(&key, b"one", Readers::Owner).unwrap());
        assert_eq!(mode(&key), 0o600);
        assert!(!place(&key, b"two", Readers::Owner).unwrap());
        assert_eq!(fs::read(&key).unwrap(), b"one");
        let request = folder.join("certificate_requests/a.pem");
        replace(&request, b"one", Readers::Everybody).unwrap();
        replace(&request, b"two", Readers::Everybody).unwrap();
        assert_eq!(fs::read(&request).unwrap(), b"two");
        assert_eq!(mode(&request) & 0o600, 0o600);
        assert_eq!(
            fs::read_dir(folder.join("private_keys")).unwrap().count(),
            1
        );
    }

    #[test]
    fn nobody_is_disturbed_who_writes_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        let first = write_beside(&path, b"one", Readers::Owner).unwrap();
        let second = write_beside(&path, b"two", Readers::Owner).unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"one");
        assert_eq!(fs::read(&second).unwrap(), b"two");
        assert!(place(&path, b"three", Readers::Owner).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_made() {
        let place_of_test = tempfile::tempdir().unwrap();
        let file = place_of_test.path().join("file");
        fs::write(&file, "").unwrap();
        let error = create(&file).unwrap_err();
        assert_eq!(error.path, file);
        assert!(create(&file.join("ssl")).is_err());
    }
}
