//! Files that are written once: keys for their owner alone, and nothing that is there already is touched.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A file to be written.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) mode: u32,
}

pub(super) const KEY_MODE: u32 = 0o600;
pub(super) const CERTIFICATE_MODE: u32 = 0o644;

/// Whoever is not to read keys need not see where they are, either.
const DIRECTORY_MODE: u32 = 0o750;

/// Says which of the files are there already; they are not to be written.
pub(super) fn refuse_existing<'a>(paths: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
    let existing: Vec<String> = paths
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !existing.is_empty() {
        bail!(
            "{} there already, and nothing is overwritten; name another directory with --out, or move the old files away",
            match existing.as_slice() {
                [one] => format!("{one} is"),
                several => format!("{} are", several.join(", ")),
            }
        );
    }
    Ok(())
}

/// Writes all of them, or none: what was written is removed if a later one fails.
pub(super) fn write(directory: &Path, files: &[File]) -> anyhow::Result<()> {
    refuse_existing(files.iter().map(|file| file.path.as_path()))?;
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    for (index, file) in files.iter().enumerate() {
        if let Err(error) = write_one(file) {
            for written in &files[..index] {
                // It was ours a moment ago; if it cannot be removed, the error tells enough.
                let _ = std::fs::remove_file(&written.path);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn write_one(file: &File) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", file.path.display());
    // Also against whoever makes the file between our look and this.
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(&file.path)
        .with_context(cannot)?;
    let written = opened
        .write_all(file.text.as_bytes())
        .and_then(|()| opened.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&file.path);
    }
    written.with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: PathBuf) -> File {
        File {
            path,
            text: "text".into(),
            mode: KEY_MODE,
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_half_done() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        write(folder.path(), &[file(one.clone())]).expect("it is new");
        let mode = std::fs::metadata(&one)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = write(folder.path(), &[file(other.clone()), file(one)]).unwrap_err();
        assert!(
            error.to_string().contains("one is there already"),
            "{error}"
        );
        assert!(!other.exists());

        let nowhere = folder.path().join("no/such");
        assert!(write(folder.path(), &[file(other.clone()), file(nowhere)]).is_err());
        assert!(!other.exists(), "it is taken back");
    }
}
