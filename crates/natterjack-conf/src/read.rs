//! Reads files: bounded, and with the reason in words when it fails.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use crate::limits::FILE_BYTES_MAX;

/// The bytes of a file that is included, or why there are none. A pipe is not opened: that waits for somebody who writes
/// to it, and meanwhile a server that reads its configuration anew obeys no signal. (The main file may be one, as a shell
/// makes it.)
pub(crate) fn read_included(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_file() || metadata.is_dir() {
        read(path)
    } else {
        Err("it is not a file but a pipe or a device".into())
    }
}

/// The bytes of a file, or why there are none: a phrase that follows "cannot read x: ". Reads at most
/// [`FILE_BYTES_MAX`] bytes, whatever the file pretends to be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    let metadata = file.metadata().map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("it is a folder".into());
    }
    let too_long = || {
        let mebibytes = FILE_BYTES_MAX >> 20;
        format!("it is longer than {mebibytes} MiB, which no configuration is")
    };
    if metadata.len() > FILE_BYTES_MAX as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| reason(&error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_long());
    }
    Ok(bytes)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::IsADirectory => "it is a folder".into(),
        ErrorKind::NotADirectory => "a part of its path is not a folder".into(),
        _ => error.to_string(),
    }
}

/// The path an `include` means: relative to the including file's folder, even if it begins with `/`, and with `..`
/// taken off the text of the path rather than looked up (nats-server: conf/parse.go `itemInclude`, which uses Go's
/// `filepath.Join`).
pub(crate) fn included_path(including: &Path, included: &str) -> PathBuf {
    let folder = including.parent().unwrap_or_else(|| Path::new(""));
    let mut path = PathBuf::new();
    let relative = Path::new(included.trim_start_matches('/'));
    for component in folder.components().chain(relative.components()) {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match path.components().next_back() {
                Some(Component::Normal(_)) => {
                    path.pop();
                }
                Some(Component::RootDir) => {}
                _ => path.push(".."),
            },
            _ => path.push(component),
        }
    }
    if path.as_os_str().is_empty() {
        path.push(".");
    }
    path
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{included_path, read, read_included};

    #[test]
    fn an_included_path_is_relative_to_the_including_file() {
        for (including, included, expected) in [
            ("nats.conf", "a.conf", "a.conf"),
            ("./nats.conf", "./a.conf", "a.conf"),
            ("/etc/nats/nats.conf", "../a.conf", "/etc/a.conf"),
            ("/etc/nats/nats.conf", "/a.conf", "/etc/nats/a.conf"),
            ("/nats.conf", "../../a.conf", "/a.conf"),
            ("conf/nats.conf", "nowhere/../a.conf", "conf/a.conf"),
            ("conf/nats.conf", "../../a.conf", "../a.conf"),
            ("nats.conf", "", "."),
        ] {
            let path = included_path(Path::new(including), included);
            assert_eq!(path, Path::new(expected), "{included} in {including}");
        }
    }

    #[test]
    fn what_never_ends_is_not_read_to_its_end() {
        let reason = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(
            reason,
            "it is longer than 16 MiB, which no configuration is"
        );
    }

    #[test]
    fn devices_are_not_included() {
        let reason = read_included(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(reason, "it is not a file but a pipe or a device");
        assert_eq!(
            read_included(Path::new("/nonexistent")).unwrap_err(),
            "no such file"
        );
        assert_eq!(read_included(Path::new("/")).unwrap_err(), "it is a folder");
    }

    #[test]
    fn a_sparse_file_of_a_hundred_mebibytes_is_refused_by_its_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100 << 20).unwrap();
        let reason = read(file.path()).unwrap_err();
        assert_eq!(
            reason,
            "it is longer than 16 MiB, which no configuration is"
        );
    }
}
