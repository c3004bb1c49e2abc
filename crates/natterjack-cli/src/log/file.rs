//! A log file that is appended to, and begun anew when it is too large.
//!
//! Rotated files are named as nats-server names them: `x.log.2026.11.22.03.07.30.330027332`, in local time. Whatever
//! goes wrong with renaming, lines go on into the file that is open.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Zoned;

use super::layout::{Content, Layout, Severity};
use super::sink::{Lines, Sink, WriteFailure, write_fully};

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// What nats-server's `log_size_limit` says; 0: no limit.
    bytes_max: u64,
    /// Files to keep, this one included; 0: all.
    files_max: u64,
    /// Size of the file, as far as is known without asking.
    bytes_written: u64,
    /// The size that makes it change. Larger than `bytes_max` after a change that failed.
    rotate_above: u64,
    /// A failure to rotate has been reported, and none has succeeded since.
    has_warned: bool,
    /// The last line was cut by a failure.
    is_torn: bool,
}

/// What became of a file that is too large.
enum Rotation {
    /// It has this name now, and another has taken its place.
    Rotated(PathBuf),
    /// It had been renamed by somebody else, or was made shorter.
    Unneeded,
}

impl LogFile {
    pub(super) fn open(path: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let file = append_to(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.into(),
            file,
            // What is no file, such as a pipe or a terminal, cannot be renamed out of the way.
            bytes_max: if metadata.is_file() { bytes_max } else { 0 },
            files_max,
            bytes_written: metadata.len(),
            rotate_above: bytes_max,
            has_warned: false,
            is_torn: false,
        })
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.is_torn {
            write_fully(&mut self.file, b"\n").map_err(|(_, error)| (0, error))?;
            self.bytes_written += 1;
            self.is_torn = false;
        }
        let outcome = write_fully(&mut self.file, bytes);
        let written = match &outcome {
            Ok(()) => bytes.len(),
            Err((written, _)) => *written,
        };
        self.bytes_written += written as u64;
        self.is_torn = written > 0 && bytes[written - 1] != b'\n';
        outcome
    }

    /// What the file itself has to say. Lost if it cannot be written: it is about this very file.
    fn note(&mut self, layout: &Layout, severity: Severity, text: &str) {
        let line = layout.line(severity, &Content::plain(text), None);
        let _ = self.write_bytes(line.as_bytes());
    }

    fn is_too_large(&self) -> bool {
        self.bytes_max > 0 && self.bytes_written > self.rotate_above
    }

    fn rotate(&mut self, layout: &Layout) {
        match self.rename() {
            Ok(rotation) => {
                self.rotate_above = self.bytes_max;
                self.has_warned = false;
                if let Rotation::Rotated(backup) = rotation {
                    let text = format!("Rotated log, backup saved as {backup:?}");
                    self.note(layout, Severity::Info, &text);
                    self.purge(layout);
                }
            }
            Err(error) => {
                self.rotate_above = self.bytes_written.saturating_add(self.bytes_max);
                if !self.has_warned {
                    self.has_warned = true;
                    let text = format!(
                        "Unable to rotate the log file ({error}), going on with it; will try again whenever it has grown by {} bytes",
                        self.bytes_max
                    );
                    self.note(layout, Severity::Warning, &text);
                }
            }
        }
    }

    fn rename(&mut self) -> io::Result<Rotation> {
        let own = self.file.metadata()?;
        if own.len() <= self.bytes_max {
            // Somebody has copied and emptied it.
            self.bytes_written = own.len();
            return Ok(Rotation::Unneeded);
        }
        let named = fs::metadata(&self.path);
        let is_renamed = match &named {
            Ok(named) => (named.dev(), named.ino()) != (own.dev(), own.ino()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_renamed {
            // As `mv` and a signal to come would have it, a little earlier.
            self.go_on_with(append_to(&self.path)?)?;
            return Ok(Rotation::Unneeded);
        }
        let backup = self.backup_path();
        fs::rename(&self.path, &backup)?;
        match append_to(&self.path).and_then(|file| self.go_on_with(file)) {
            Ok(()) => Ok(Rotation::Rotated(backup)),
            Err(error) => {
                // Best effort: lines go on into the open file, under whichever name.
                let _ = fs::rename(&backup, &self.path);
                Err(error)
            }
        }
    }

    fn go_on_with(&mut self, file: File) -> io::Result<()> {
        self.bytes_written = file.metadata()?.len();
        self.file = file;
        Ok(())
    }

    fn backup_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(Zoned::now().strftime(".%Y.%m.%d.%H.%M.%S.%9f").to_string());
        name.into()
    }

    /// Removes the oldest rotated files until there are as many as may be.
    fn purge(&mut self, layout: &Layout) {
        if self.files_max == 0 {
            return;
        }
        let backups = match self.backups() {
            Ok(backups) => backups,
            Err(error) => {
                let text = format!(
                    "Unable to look for old log files ({error}), will attempt next rotation"
                );
                return self.note(layout, Severity::Error, &text);
            }
        };
        let kept = usize::try_from(self.files_max - 1).unwrap_or(usize::MAX);
        let surplus = backups.len().saturating_sub(kept);
        for backup in &backups[..surplus] {
            if let Err(error) = fs::remove_file(backup) {
                let text = format!(
                    "Unable to remove backup log file {backup:?} ({error}), will attempt next rotation"
                );
                return self.note(layout, Severity::Error, &text);
            }
            let text = format!("Purged log file {backup:?}");
            self.note(layout, Severity::Info, &text);
        }
    }

    /// Rotated files, the oldest first: their names order them.
    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut backups = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_backup = entry
                .file_name()
                .to_str()
                .and_then(|text| text.strip_prefix(&*name))
                .is_some_and(is_time_stamp);
            if is_backup && entry.file_type()?.is_file() {
                backups.push(entry.path());
            }
        }
        backups.sort();
        Ok(backups)
    }
}

/// Whether this is what a rotated file's name ends with.
fn is_time_stamp(text: &str) -> bool {
    let digits = [4, 2, 2, 2, 2, 2, 9];
    let Some(text) = text.strip_prefix('.') else {
        return false;
    };
    let parts: Vec<_> = text.split('.').collect();
    parts.len() == digits.len()
        && parts.iter().zip(digits).all(|(part, digits)| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        // Readable by the group, as nats-server's.
        .mode(0o640)
        .open(path)
}

impl Sink for LogFile {
    fn write(&mut self, lines: &Lines, layout: &Layout) -> Result<(), WriteFailure> {
        let all = lines.bytes();
        let mut done = 0;
        while done < all.len() {
            if self.is_too_large() {
                self.rotate(layout);
            }
            let end = if self.bytes_max == 0 {
                all.len()
            } else {
                // Up to the line that makes it too large, so that it ends with that one, as nats-server's files do.
                let room = self.rotate_above.saturating_sub(self.bytes_written);
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                lines.end_after(done.saturating_add(room))
            };
            self.write_bytes(&all[done..end])
                .map_err(|(written, error)| WriteFailure {
                    lines_written: lines.lines_within(done + written),
                    error,
                })?;
            done = end;
        }
        if self.is_too_large() {
            self.rotate(layout);
        }
        Ok(())
    }

    /// The log before this one may have been the same file, and have rotated it since.
    fn settle(&mut self) {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = self.file.metadata().map(identity).ok();
        let named = fs::metadata(&self.path).map(identity).ok();
        if own != named
            && let Ok(file) = append_to(&self.path)
        {
            let _ = self.go_on_with(file);
        } else if let Ok(metadata) = self.file.metadata() {
            self.bytes_written = metadata.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Settings;
    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        log: LogFile,
        layout: Layout,
    }

    fn scene(bytes_max: u64, files_max: u64) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::open(&folder.path().join("x.log"), bytes_max, files_max).unwrap();
        let layout = Layout::new(&Settings {
            time: false,
            ..Settings::default()
        });
        Scene {
            folder,
            log,
            layout,
        }
    }

    impl Scene {
        fn write(&mut self, texts: &[&str]) {
            let mut lines = Lines::default();
            for text in texts {
                lines.push(text.as_bytes());
            }
            self.log.write(&lines, &self.layout).unwrap();
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("x.log")
        }

        fn current(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }

        /// The lines that were written, in order, without those of the rotation itself.
        fn all(&self) -> String {
            let mut files = self.log.backups().unwrap();
            files.push(self.path());
            let text: String = files
                .iter()
                .map(|path| fs::read_to_string(path).unwrap())
                .collect();
            text.lines()
                .filter(|line| !line.starts_with('['))
                .map(|line| format!("{line}\n"))
                .collect()
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_renamed_and_no_line_is_lost() {
        let mut scene = scene(300, 0);
        let texts: Vec<String> = (0..200).map(|number| format!("line {number}\n")).collect();
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        for batch in all.chunks(7) {
            scene.write(batch);
        }
        assert_eq!(scene.all(), texts.concat());
        let backups = scene.log.backups().unwrap();
        assert!(backups.len() > 5, "{backups:?}");
        for backup in &backups {
            let size = fs::metadata(backup).unwrap().len();
            assert!((301..320).contains(&size), "{size}");
        }
        assert!(
            scene
                .current()
                .contains("[INF] Rotated log, backup saved as \"/"),
            "{}",
            scene.current()
        );
    }

    #[test]
    fn one_batch_may_fill_several_files() {
        let mut scene = scene(300, 0);
        let texts: Vec<String> = (0..200).map(|number| format!("line {number}\n")).collect();
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        scene.write(&all);
        assert!(scene.log.backups().unwrap().len() > 5);
        assert_eq!(scene.all(), texts.concat());
    }

    #[test]
    fn only_so_many_files_are_kept() {
        let mut scene = scene(10, 3);
        let bystander = scene.folder.path().join("x.log.old");
        fs::write(&bystander, "").unwrap();
        for _ in 0..6 {
            scene.write(&["a line of some length\n"]);
        }
        assert_eq!(scene.log.backups().unwrap().len(), 2);
        assert!(bystander.exists());
        assert!(scene.current().contains("[INF] Purged log file \"/"));
    }

    #[test]
    fn a_folder_that_forbids_renaming_is_reported_once() {
        let mut scene = scene(50, 0);
        // A folder of the backup's name would do no better against root, whom no permission stops: take the folder away.
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("moved");
        fs::rename(scene.folder.path(), &moved).unwrap();
        fs::write(scene.folder.path(), "a file, not a folder").unwrap();
        let long = "a line that is longer than fifty bytes, which is the limit\n";
        for _ in 0..4 {
            scene.write(&[long]);
        }
        fs::remove_file(scene.folder.path()).unwrap();
        fs::rename(&moved, scene.folder.path()).unwrap();
        let text = scene.current();
        assert_eq!(text.matches(long).count(), 4, "{text}");
        assert_eq!(
            text.matches("[WRN] Unable to rotate the log file (")
                .count(),
            1,
            "{text}"
        );
        // It works again.
        scene.write(&[long, long]);
        assert!(!scene.log.backups().unwrap().is_empty());
        assert_eq!(scene.all().matches(long).count(), 6);
    }

    #[test]
    fn a_file_renamed_by_others_is_left_alone() {
        let mut scene = scene(50, 0);
        scene.write(&["one\n"]);
        let moved = scene.folder.path().join("moved");
        fs::rename(scene.path(), &moved).unwrap();
        let long = "a line that is longer than fifty bytes, which is the limit\n";
        scene.write(&[long]);
        scene.write(&["two\n"]);
        assert_eq!(fs::read_to_string(&moved).unwrap(), format!("one\n{long}"));
        assert_eq!(scene.current(), "two\n");
        assert!(scene.log.backups().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_emptied_by_others_is_not_rotated_early() {
        let mut scene = scene(50, 0);
        scene.write(&["a line of thirty bytes or so..\n"]);
        File::create(scene.path()).unwrap();
        scene.write(&["a line of thirty bytes or so..\n"]);
        assert!(scene.log.backups().unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_is_an_error_and_devices_are_never_rotated() {
        let mut log = LogFile::open(Path::new("/dev/full"), 1, 1).unwrap();
        let mut lines = Lines::default();
        lines.push(b"one\n");
        lines.push(b"two\n");
        let layout = Layout::new(&Settings::default());
        let failure = log.write(&lines, &layout).unwrap_err();
        assert_eq!(failure.lines_written, 0);
        assert_eq!(failure.error.kind(), io::ErrorKind::StorageFull);
        let mut log = LogFile::open(Path::new("/dev/null"), 1, 1).unwrap();
        log.write(&lines, &layout).unwrap();
        log.write(&lines, &layout).unwrap();
        assert!(!log.is_too_large());
    }

    #[test]
    fn a_line_that_was_cut_is_ended_first() {
        let mut scene = scene(0, 0);
        scene.write(&["one\n"]);
        scene.log.is_torn = true;
        scene.write(&["two\n"]);
        assert_eq!(scene.current(), "one\n\ntwo\n");
    }

    #[test]
    fn the_group_may_read_it() {
        let scene = scene(0, 0);
        let mode = fs::metadata(scene.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }
}
