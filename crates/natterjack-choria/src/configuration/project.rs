//! Files of projects, `choria.conf` in the working directory and above it: which of them count, and for what.
//!
//! Whoever goes to a folder does not yet trust everybody who may write to it. So a file counts only if nobody but root and
//! whoever runs the program can have put it there, or changed it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Configuration, Origin, PASSWORD, Reader, Severity};

/// What others must not be allowed to do with a file or its folder. The folder for what is temporary, too, where others
/// cannot remove what is there, but can put something where nothing is.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a file of a project does not count, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error(
        "they do not count for root; put what you need into the main file, or name this one with --config"
    )]
    Root,
    #[error("it is a link, or no file at all; put the file itself there")]
    NoFile,
    #[error("the {0} belongs to another user; copy what you need to a place of your own")]
    Owner(&'static str),
    #[error("others may write to the {0}; take that from its mode, such as with chmod go-w")]
    Writable(&'static str),
    #[error("{0}")]
    Read(#[from] io::Error),
}

/// What is in a file of a project, if it counts.
pub(super) fn read(path: &Path, is_root: bool) -> Result<Vec<u8>, Distrust> {
    if is_root {
        return Err(Distrust::Root);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Distrust::NoFile);
    };
    let user = rustix::process::geteuid().as_raw();
    // What has been looked at stays the same, whatever becomes of its name.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty())
        .map_err(refused)?;
    // Of a pipe nobody may ever write to.
    let opened = rustix::fs::openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty());
    judge("folder", &File::from(folder).metadata()?, user)?;
    let mut file = File::from(opened.map_err(refused)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Distrust::NoFile);
    }
    judge("file", &metadata, user)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(error: Errno) -> Distrust {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Distrust::NoFile,
        error => Distrust::Read(error.into()),
    }
}

fn judge(what: &'static str, metadata: &Metadata, user: u32) -> Result<(), Distrust> {
    if metadata.uid() != user && metadata.uid() != 0 {
        Err(Distrust::Owner(what))
    } else if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        Err(Distrust::Writable(what))
    } else {
        Ok(())
    }
}

impl Reader<'_> {
    /// A project may have come from others. If it decides to whom a login is shown that is not its own, somebody should know.
    pub(super) fn notice_login_for_servers_of_projects(&mut self, configuration: &Configuration) {
        let Some(login) = self.login_of_others(configuration) else {
            return;
        };
        let deciding = deciding_servers(configuration);
        let found = deciding
            .iter()
            .find_map(|name| Some((name, self.place_in_project(name)?)));
        let Some((name, (path, line))) = found else {
            return;
        };
        let message = format!(
            "{name} of a project decides which servers are connected to, and {login} ({}) is shown to them; if you do not know \
             whose they are, ask nothing from this folder. If they are yours, name them in the main file, such as ~/.choriarc",
            self.settings[login].origin
        );
        let path = path.to_path_buf();
        self.say(Severity::Warning, Origin::File { path, line }, message);
    }

    /// What is shown to servers, and is no project's.
    fn login_of_others(&self, configuration: &Configuration) -> Option<&'static str> {
        // Where there are credentials, nothing else is shown.
        if let Some(file) = &configuration.credentials {
            let is_of_project = self.place_in_project(CREDENTIALS).is_some_and(|(path, _)| {
                // The setting may be its own, and the file another's.
                path.parent().is_some_and(|folder| is_below(file, folder))
            });
            return (!is_of_project).then_some(CREDENTIALS);
        }
        let mut names = ["plugin.nats.user", PASSWORD].into_iter();
        names
            .find(|name| self.settings.contains_key(*name) && self.place_in_project(name).is_none())
    }

    /// Where a project made a setting that counts.
    fn place_in_project(&self, name: &str) -> Option<(&Path, usize)> {
        match &self.settings.get(name)?.origin {
            Origin::File { path, line } if self.projects.contains(path) => Some((path, *line)),
            _ => None,
        }
    }
}

const CREDENTIALS: &str = "plugin.nats.credentials";

/// Settings that decide which servers are connected to.
fn deciding_servers(configuration: &Configuration) -> Vec<&'static str> {
    const DOMAIN: &str = "plugin.choria.srv_domain";
    let federation = &configuration.federation;
    if configuration.is_federated() && !federation.middleware_hosts.is_empty() {
        return vec!["plugin.choria.federation_middleware_hosts"];
    }
    let mut deciding = Vec::new();
    if configuration.use_srv
        && (configuration.is_federated() || configuration.middleware_hosts.is_empty())
    {
        deciding.push(DOMAIN);
    }
    if !configuration.middleware_hosts.is_empty() {
        deciding.push("plugin.choria.middleware_hosts");
    }
    deciding
}

/// As it is written; a way up out of the folder is none within it.
fn is_below(file: &Path, folder: &Path) -> bool {
    let is_up = |part| part == Component::ParentDir;
    file.strip_prefix(folder)
        .is_ok_and(|rest| !rest.components().any(is_up))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    const TEXT: &str = "ttl = 5\n";

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A folder that only its owner may write to, and a file in it.
    fn project() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("choria.conf");
        fs::write(&file, TEXT).unwrap();
        set_mode(folder.path(), 0o755);
        set_mode(&file, 0o644);
        (folder, file)
    }

    fn said(file: &Path) -> String {
        read(file, false).unwrap_err().to_string()
    }

    #[test]
    fn what_only_its_owner_can_have_written_counts() {
        let (_folder, file) = project();
        assert_eq!(read(&file, false).unwrap(), TEXT.as_bytes());
        assert!(matches!(read(&file, true), Err(Distrust::Root)));
    }

    #[test]
    fn what_others_can_write_to_does_not() {
        let (folder, file) = project();
        for mode in [0o664, 0o646, 0o666] {
            set_mode(&file, mode);
            assert!(said(&file).contains("write to the file"), "{mode:o}");
        }
        set_mode(&file, 0o644);
        for mode in [0o775, 0o757, 0o777, 0o1777] {
            set_mode(folder.path(), mode);
            assert!(said(&file).contains("write to the folder"), "{mode:o}");
        }
        set_mode(folder.path(), 0o755);
        assert!(read(&file, false).is_ok());
    }

    #[test]
    fn what_belongs_to_others_does_not() {
        let (_folder, file) = project();
        let metadata = fs::metadata(&file).unwrap();
        assert!(judge("file", &metadata, metadata.uid()).is_ok());
        let stranger = judge("file", &metadata, metadata.uid() + 1);
        if metadata.uid() == 0 {
            assert!(stranger.is_ok(), "root's counts for everybody");
            std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
            assert!(said(&file).contains("the file belongs to another"));
        } else {
            assert!(matches!(stranger, Err(Distrust::Owner("file"))));
        }
    }

    #[test]
    fn what_is_no_file_does_not() {
        let (folder, file) = project();
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(said(&link).contains("it is a link"));
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(said(&folder.path().join("folder")).contains("no file"));
        let by_link = folder.path().join("linked");
        symlink(folder.path(), &by_link).unwrap();
        assert!(said(&by_link.join("choria.conf")).contains("it is a link"));
        assert!(said(&folder.path().join("missing")).contains("No such file"));
    }
}
