//! Requests that were taken, so that none is taken twice: not by a node that was started anew either.
//!
//! Each is kept until it would be out of date, by a sum of who asked and what he called it. Where there is a file, it has a
//! line for each: until when, in seconds of Unix time, and the sum. It is written without waiting for the disk: it outlives
//! the process, and after a machine's sudden end it may lack the last lines.
//!
//! A file is there only as long as nothing is missing in it: what cannot be written takes the file with it, and whoever starts
//! without one knows of nothing, and has to refuse what was sent before.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// Requests that are remembered. Some 10 MB.
const REMEMBERED_MAX: usize = 100_000;

/// What a file may have: twice as many lines as are remembered, and some that are on their way.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Lines in a file that need not be there before it is written anew.
const USELESS_LINES_MAX: usize = 4_096;

type Sum = [u8; 16];

/// Requests that were taken, until they would be out of date.
#[derive(Debug, Default)]
pub(super) struct Taken {
    sums: HashSet<Sum>,
    /// In the order in which they came.
    order: VecDeque<(SystemTime, Sum)>,
    /// Where they are kept.
    path: Option<PathBuf>,
    /// The file there, unless it could not be written.
    file: Option<Kept>,
}

/// The file.
#[derive(Debug)]
struct Kept {
    file: File,
    lines: usize,
}

impl Taken {
    /// What a file says, in which all else will be kept as well. It is made, with its folder, if it is not there. `false`: it
    /// was not, so that nothing is known of what was taken before.
    pub(super) fn kept_in(path: &Path, now: SystemTime) -> io::Result<(Self, bool)> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(folder)?;
        }
        let mut taken = Self::default();
        let is_there = match File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
                let lines = text.lines().filter_map(parse);
                for (until, sum) in lines.filter(|(until, _)| *until >= now) {
                    taken.remember(sum, until, now);
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        taken.path = Some(path.to_path_buf());
        taken.file = Some(taken.write_anew(path)?);
        Ok((taken, is_there))
    }

    /// `false`: it was taken before.
    pub(super) fn add(
        &mut self,
        caller: &str,
        id: &str,
        until: SystemTime,
        now: SystemTime,
    ) -> bool {
        // Who has heard of another's request could otherwise use up its identifier before that comes.
        let sum = Sha256::digest(format!("{caller} {id}"));
        let sum: Sum = std::array::from_fn(|index| sum[index]);
        if !self.remember(sum, until, now) {
            return false;
        }
        self.keep(sum, until);
        true
    }

    fn remember(&mut self, sum: Sum, until: SystemTime, now: SystemTime) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until < now) {
            self.forget_oldest();
        }
        if !self.sums.insert(sum) {
            return false;
        }
        if self.order.len() >= REMEMBERED_MAX {
            self.forget_oldest();
        }
        self.order.push_back((until, sum));
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((_, sum)) = self.order.pop_front() {
            self.sums.remove(&sum);
        }
    }

    fn keep(&mut self, sum: Sum, until: SystemTime) {
        let Some(path) = self.path.take() else {
            return;
        };
        let was_kept = self.file.is_some();
        let written = match self.file.take() {
            Some(mut kept) if kept.lines <= self.order.len() + USELESS_LINES_MAX => {
                kept.lines += 1;
                let line = line(until, &sum);
                kept.file.write_all(line.as_bytes()).map(|()| kept)
            }
            _ => self.write_anew(&path),
        };
        match written {
            Ok(kept) => {
                if !was_kept {
                    tracing::info!(file = %path.display(), "requests that were taken are kept again");
                }
                self.file = Some(kept);
            }
            Err(error) => {
                // With a part of them it would look as if all were there.
                let removed = fs::remove_file(&path);
                if was_kept {
                    tracing::error!(
                        file = %path.display(), %error,
                        "requests that were taken cannot be kept; a node that is started now refuses those from before"
                    );
                }
                if let Err(error) = removed
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::error!(
                        file = %path.display(), %error,
                        "this file lacks requests that were taken, and cannot be removed: remove it before the next start"
                    );
                }
            }
        }
        self.path = Some(path);
    }

    /// What is remembered, and nothing else.
    fn write_anew(&self, path: &Path) -> io::Result<Kept> {
        let mut draft = path.as_os_str().to_owned();
        // No node is called so: names have no such letter.
        draft.push("~");
        let lines = self.order.iter().map(|(until, sum)| line(*until, sum));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&draft)?;
        file.write_all(lines.collect::<String>().as_bytes())?;
        fs::rename(&draft, path)?;
        Ok(Kept {
            file,
            lines: self.order.len(),
        })
    }
}

fn line(until: SystemTime, sum: &Sum) -> String {
    let since = until.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    // Rounded up: a part of a second earlier would be too early.
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    format!("{seconds} {}\n", HEXLOWER.encode(sum))
}

/// `None`: the line is none, perhaps because the machine stopped while it was written.
fn parse(line: &str) -> Option<(SystemTime, Sum)> {
    let (seconds, sum) = line.split_once(' ')?;
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    let sum = HEXLOWER.decode(sum.as_bytes()).ok()?;
    Some((until, sum.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    fn later(seconds: u64) -> SystemTime {
        now() + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_taken_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("security/node1");
        let (mut taken, is_known) = Taken::kept_in(&path, now()).unwrap();
        assert!(!is_known, "there was no file");
        assert!(taken.add("choria=rip", "a", later(60), now()));
        assert!(taken.add("choria=rip", "b", later(10), now()));
        assert!(!taken.add("choria=rip", "a", later(60), now()));
        assert!(taken.add("choria=bob", "a", later(60), now()));
        drop(taken);
        let mut text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        // The machine stopped here.
        text.push_str("1795289");
        fs::write(&path, text).unwrap();

        let (mut taken, is_known) = Taken::kept_in(&path, later(30)).unwrap();
        assert!(is_known);
        assert!(!taken.add("choria=rip", "a", later(60), later(30)));
        assert!(taken.add("choria=rip", "c", later(60), later(30)));
        drop(taken);
        let (taken, _) = Taken::kept_in(&path, later(30)).unwrap();
        assert!(taken.order.len() >= 3, "{:?}", taken.order);
        drop(taken);
        let (taken, _) = Taken::kept_in(&path, later(62)).unwrap();
        assert!(taken.order.is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node1");
        let (mut taken, _) = Taken::kept_in(&path, now()).unwrap();
        for number in 0..2 * USELESS_LINES_MAX as u64 {
            let id = number.to_string();
            assert!(taken.add("choria=rip", &id, later(number), later(number)));
        }
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= USELESS_LINES_MAX + 10, "{lines}");
        let last = later(2 * USELESS_LINES_MAX as u64 - 1);
        let (mut taken, _) = Taken::kept_in(&path, last).unwrap();
        let id = (2 * USELESS_LINES_MAX - 1).to_string();
        assert!(!taken.add("choria=rip", &id, last, last));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node1");
        let (mut taken, _) = Taken::kept_in(&path, now()).unwrap();
        assert!(taken.add("choria=rip", "a", later(60), now()));
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        taken.file.as_mut().unwrap().file = full;
        // Where the draft would be written there is a folder: the next try fails too.
        let draft = folder.path().join("node1~");
        fs::create_dir(&draft).unwrap();
        assert!(taken.add("choria=rip", "b", later(60), now()));
        assert!(!path.exists());
        assert!(taken.add("choria=rip", "c", later(60), now()));
        assert!(!path.exists());
        fs::remove_dir(&draft).unwrap();
        assert!(taken.add("choria=rip", "d", later(60), now()));
        drop(taken);
        let (mut taken, is_known) = Taken::kept_in(&path, now()).unwrap();
        assert!(is_known);
        for id in ["a", "b", "c", "d"] {
            assert!(!taken.add("choria=rip", id, later(60), now()), "{id}");
        }
    }

    #[test]
    fn where_nothing_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(Taken::kept_in(&folder.path().join("file/node1"), now()).is_err());
    }

    #[test]
    fn the_oldest_are_forgotten_if_there_are_too_many() {
        let mut taken = Taken::default();
        for number in 0..=REMEMBERED_MAX {
            assert!(taken.add("choria=rip", &number.to_string(), later(60), now()));
        }
        assert_eq!(taken.order.len(), REMEMBERED_MAX);
        assert_eq!(taken.sums.len(), REMEMBERED_MAX);
        assert!(!taken.add("choria=rip", "1", later(60), now()));
        assert!(taken.add("choria=rip", "0", later(60), now()));
    }
}
