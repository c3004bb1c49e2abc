//! Which files are read, and in which order: the main one, those of plugins beside it, those of projects.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Role, Surroundings};

/// Places of a user's own file, in his home.
const IN_HOME: [&str; 2] = [".choriarc", ".mcollective"];

/// Folders of the machine's files, each with the ending that files there have.
const FOLDERS: [(&str, &str); 5] = [
    ("/etc/choria", "conf"),
    ("/usr/local/etc/choria", "conf"),
    ("/etc/puppetlabs/mcollective", "cfg"),
    ("/etc/mcollective", "cfg"),
    ("/usr/local/etc/mcollective", "cfg"),
];

/// Where Puppet writes a node's classes: that of its own packages (Choria's default), Debian's, and long ago
/// (MCollective's default).
const CLASSES_FILES: [&str; 3] = [
    "opt/puppetlabs/puppet/cache/state/classes.txt",
    "var/cache/puppet/state/classes.txt",
    "var/lib/puppet/state/classes.txt",
];

/// The first of those that is there; or, as long as Puppet has not run, the first whose Puppet is.
pub(super) fn classes_file(surroundings: &Surroundings) -> PathBuf {
    let files = CLASSES_FILES.map(|file| surroundings.root.join(file));
    let is_expected = |file: &&PathBuf| {
        let puppet = file.ancestors().nth(2);
        puppet.is_some_and(Path::is_dir)
    };
    let there = files.iter().find(|file| file.is_file());
    let expected = there.or_else(|| files.iter().find(is_expected));
    expected.unwrap_or(&files[2]).clone()
}

/// Where a main file may be; the first that can be read is it.
pub(super) fn candidates(role: Role, surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if role == Role::Client
        && let Some(home) = &surroundings.home
    {
        candidates.extend(IN_HOME.iter().map(|name| home.join(name)));
    }
    let stem = match role {
        Role::Client => "client",
        Role::Server => "server",
    };
    let in_folder = |(folder, ending): &(&str, &str)| {
        let folder = surroundings.root.join(folder.trim_start_matches('/'));
        folder.join(format!("{stem}.{ending}"))
    };
    candidates.extend(FOLDERS.iter().map(in_folder));
    candidates
}

pub(super) fn is_readable(path: &Path) -> bool {
    path.is_file() && fs::File::open(path).is_ok()
}

/// Where plugins have their files, whether it is there or not: beside the main file. For a user's own file in his home there
/// is none: there the folder would be his home's.
pub(super) fn plugin_folder(main: &Path, surroundings: &Surroundings) -> Option<PathBuf> {
    let folder = main.parent()?;
    (surroundings.home.as_deref() != Some(folder)).then(|| folder.join("plugin.d"))
}

/// Files of plugins in that folder, `NAME.cfg` or `.conf`, by name: what is told must not depend on the order in a folder.
/// One that is not there has none.
pub(super) fn plugin_files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let plugin = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let ending = path.extension()?;
        let is_word = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        ((ending == "cfg" || ending == "conf") && is_word).then_some((name, path))
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| plugin(entry.path()))
        .collect();
    files.sort();
    Ok(files)
}

/// `choria.conf` of the working directory and all above it, the outermost first. For clients alone: who starts a node
/// stands somewhere, where others may be allowed to write, and they must not decide who may ask it. Whether a client takes
/// them is for [`super::project`] to say.
pub(super) fn project_files(role: Role, surroundings: &Surroundings) -> Vec<PathBuf> {
    let (Role::Client, Some(directory)) = (role, &surroundings.directory) else {
        return Vec::new();
    };
    let mut files: Vec<_> = directory
        .ancestors()
        .map(|folder| folder.join("choria.conf"))
        .filter(|file| file.is_file())
        .collect();
    files.reverse();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_where_puppet_is() {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            is_root: true,
            ..Surroundings::bare("node1", folder.path())
        };
        let found = || {
            let file = classes_file(&surroundings);
            let file = file.strip_prefix(folder.path()).unwrap();
            file.to_str().unwrap().to_owned()
        };
        assert_eq!(found(), "var/lib/puppet/state/classes.txt");
        let debian = folder.path().join("var/cache/puppet");
        fs::create_dir_all(debian.join("state")).unwrap();
        assert_eq!(found(), "var/cache/puppet/state/classes.txt");
        fs::create_dir_all(folder.path().join("opt/puppetlabs/puppet/cache")).unwrap();
        assert_eq!(found(), CLASSES_FILES[0]);
        fs::write(debian.join("state/classes.txt"), "apache\n").unwrap();
        assert_eq!(found(), "var/cache/puppet/state/classes.txt");
    }
}
