//! Requests that were taken, so that none is taken twice: not by a node that was started anew either.
//!
//! Each is kept until it would be out of date, by a sum of who asked and what he called it, and none is forgotten before,
//! whatever comes. So there is a bound for each who signs: nobody, however much he asks, has another's forgotten or refused.
//!
//! Where there is a file, it has a line for each: until when, in seconds of Unix time, the sum, and who signed. It is written
//! without waiting for the disk: it outlives the process, and as it names the start of the machine, which may have ended before
//! its last lines were there, one from before that is known to lack some.
//!
//! A file is there only as long as nothing is missing in it: what cannot be written takes the file with it, and whoever starts
//! without one knows of nothing, and has to refuse what was sent before. Each process has a file of its own, and reads those of
//! others that are the same node when it starts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rustix::fs::Mode;
use sha2::{Digest as _, Sha256};

use crate::identity::Identity;
use crate::keeping::{Folder, Keeping};

/// Requests that are remembered. Some 15 MB.
const REMEMBERED_MAX: usize = 100_000;

/// Of one who signs; fewer, when there is less room than that: never more than there would be left.
const SIGNER_MAX: usize = 20_000;

/// What a file may have: a line for each that is remembered and for some that are not any more, with the longest names.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Lines in a file that need not be there before it is written anew.
const USELESS_LINES_MAX: usize = 4_096;

/// Before a file that could not be written is tried once more: all of it is written then, and each request waits for that.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Processes that may be the same node at the same time.
const PROCESSES_MAX: usize = 8;

/// Nobody else needs to know who asks.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// Tells one start of the machine from another (Linux: `random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

type Sum = [u8; 16];

/// Requests that were taken, until they would be out of date.
#[derive(Debug)]
pub(super) struct Taken {
    sums: HashSet<Sum>,
    /// The next to be out of date first, with who signed.
    order: BTreeMap<(SystemTime, Sum), Arc<str>>,
    /// How many there are of each who signed.
    counts: HashMap<Arc<str>, usize>,
    /// What was good until then, or shorter, may have been forgotten. It is in the past, unless the clock is set back.
    forgotten_until: SystemTime,
    /// Where they are kept.
    place: Option<Place>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addition {
    /// It was not there before.
    First,
    /// It was, or may have been.
    Repeated,
    /// So many of the same signer are remembered, and there is no room for another of his.
    TooMany(usize),
}

/// A file of this process alone.
#[derive(Debug)]
struct Place {
    keeping: Keeping,
    name: String,
    /// The file there, unless it could not be written.
    file: Option<Kept>,
    /// Until then that is not tried again.
    pause_until: Option<SystemTime>,
    /// Which start of the machine this is, if that can be known.
    boot: Option<String>,
    /// As long as it is open, no other process has this place.
    _lock: File,
}

#[derive(Debug)]
struct Kept {
    file: File,
    lines: usize,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            sums: HashSet::new(),
            order: BTreeMap::new(),
            counts: HashMap::new(),
            forgotten_until: SystemTime::UNIX_EPOCH,
            place: None,
        }
    }
}

impl Taken {
    /// What a node's file says, in which all else will be kept as well. It is made, with its folder, if it is not there.
    /// `false`: it was not, or lacks something, or another process that is this node keeps nothing, so that it is not known what
    /// was taken before. An error: nothing can be kept.
    pub(super) fn kept_in(
        keeping: Keeping,
        node: &Identity,
        now: SystemTime,
    ) -> io::Result<(Self, bool)> {
        let boot = fs::read_to_string(BOOT_ID).ok();
        let boot = boot.map(|boot| boot.trim().to_owned());
        let folder = keeping.make()?;
        let (index, lock) = lock(&folder, node)?;
        let mut taken = Self::default();
        let (mut is_known, mut is_lacking) = (false, false);
        for other in 0..PROCESSES_MAX {
            let text = match folder.read(&file_name(node, other), FILE_BYTES_MAX) {
                Ok(Some(text)) => text,
                Ok(None) => {
                    is_lacking |= other != index && is_held(&folder, node, other)?;
                    continue;
                }
                Err(error) if other == index => {
                    tracing::warn!(
                        file = %keeping.path(&file_name(node, other)).display(), %error,
                        "what was taken before cannot be read, and is written anew"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_whole = taken.read(&String::from_utf8_lossy(&text), boot.as_deref(), now);
            is_known |= other == index && is_whole;
            is_lacking |= other != index && !is_whole && is_held(&folder, node, other)?;
        }
        let mut place = Place {
            name: file_name(node, index),
            keeping,
            file: None,
            pause_until: None,
            boot,
            _lock: lock,
        };
        match place.write_anew(&taken.order) {
            Ok(kept) => place.file = Some(kept),
            // What is taken from now on would be missing in the one that may be there.
            Err(error) => place.give_up(true, &error, now),
        }
        taken.place = Some(place);
        Ok((taken, is_known && !is_lacking))
    }

    /// Takes over what a file says. `false`: it may lack something.
    fn read(&mut self, text: &str, boot: Option<&str>, now: SystemTime) -> bool {
        let mut is_whole = boot.is_none();
        for line in text.lines() {
            match (parse(line), boot) {
                (Some((until, ..)), _) if until < now => {
                    self.forgotten_until = self.forgotten_until.max(until);
                }
                (Some((until, sum, signer)), _) => {
                    if self.order.len() >= REMEMBERED_MAX {
                        return false;
                    }
                    self.remember(signer, sum, until);
                }
                (None, Some(boot)) if line == head(boot) => is_whole = true,
                // Perhaps the last line, which somebody writes at this moment.
                (None, _) => {}
            }
        }
        is_whole
    }

    /// Remembers a request of somebody, signed by him or another.
    pub(super) fn add(
        &mut self,
        signer: &str,
        caller: &str,
        id: &str,
        until: SystemTime,
        now: SystemTime,
    ) -> Addition {
        self.forget(now);
        // Who has heard of another's request could otherwise use up its identifier before that comes.
        let sum = Sha256::digest(format!("{caller} {id}"));
        let sum: Sum = std::array::from_fn(|index| sum[index]);
        if self.sums.contains(&sum) || until <= self.forgotten_until {
            return Addition::Repeated;
        }
        let count = self.counts.get(signer).copied().unwrap_or_default();
        if count >= SIGNER_MAX.min(REMEMBERED_MAX - self.order.len()) {
            return Addition::TooMany(count);
        }
        self.remember(signer, sum, until);
        if let Some(place) = &mut self.place {
            place.keep(&line(until, &sum, signer), &self.order, now);
        }
        Addition::First
    }

    fn remember(&mut self, signer: &str, sum: Sum, until: SystemTime) {
        if !self.sums.insert(sum) {
            return;
        }
        let known = self.counts.get_key_value(signer);
        let signer = known.map_or_else(|| signer.into(), |(signer, _)| Arc::clone(signer));
        *self.counts.entry(Arc::clone(&signer)).or_default() += 1;
        self.order.insert((until, sum), signer);
    }

    /// What would be out of date.
    fn forget(&mut self, now: SystemTime) {
        while let Some(entry) = self.order.first_entry()
            && entry.key().0 < now
        {
            let ((until, sum), signer) = entry.remove_entry();
            self.forgotten_until = self.forgotten_until.max(until);
            self.sums.remove(&sum);
            if let Some(count) = self.counts.get_mut(&signer) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&signer);
                }
            }
        }
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.keeping.path(&self.name)
    }

    /// Adds a line, which is of one of those that are remembered.
    fn keep(&mut self, line: &str, order: &BTreeMap<(SystemTime, Sum), Arc<str>>, now: SystemTime) {
        let was_kept = self.file.is_some();
        // A clock that was set back must not make it longer.
        let pauses = |until: SystemTime| now < until && until <= now + RETRY_PAUSE;
        if !was_kept && self.pause_until.is_some_and(pauses) {
            return;
        }
        let written = match self.file.take() {
            Some(mut kept) if kept.lines <= order.len() + USELESS_LINES_MAX => {
                kept.lines += 1;
                kept.file.write_all(line.as_bytes()).map(|()| kept)
            }
            _ => self.write_anew(order),
        };
        match written {
            Ok(kept) => {
                if !was_kept {
                    let file = self.path();
                    tracing::info!(file = %file.display(), "requests that were taken are kept again");
                }
                self.file = Some(kept);
            }
            Err(error) => self.give_up(was_kept, &error, now),
        }
    }

    /// With a part of them it would look as if all were there.
    fn give_up(&mut self, was_kept: bool, error: &io::Error, now: SystemTime) {
        self.pause_until = Some(now + RETRY_PAUSE);
        let file = self.path();
        if was_kept {
            tracing::error!(
                file = %file.display(), %error,
                "requests that were taken cannot be kept; a node that is started now refuses those from before"
            );
        }
        let removed = match self.keeping.open() {
            Ok(Some(folder)) => folder.remove(&self.name),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
            && was_kept
        {
            tracing::error!(
                file = %file.display(), %error,
                "this file lacks requests that were taken, and cannot be removed: remove it before the next start"
            );
        }
    }

    /// What is remembered, and nothing else.
    fn write_anew(&self, order: &BTreeMap<(SystemTime, Sum), Arc<str>>) -> io::Result<Kept> {
        let mut text = String::new();
        if let Some(boot) = &self.boot {
            text += &head(boot);
            text.push('\n');
        }
        for ((until, sum), signer) in order {
            text += &line(*until, sum, signer);
        }
        let folder = self.keeping.make()?;
        Ok(Kept {
            file: folder.put(&self.name, text.as_bytes(), FILE_MODE)?,
            lines: order.len(),
        })
    }
}

/// The first place that no other process has, of which there is one if it is the only process of this node.
fn lock(folder: &Folder, node: &Identity) -> io::Result<(usize, File)> {
    for index in 0..PROCESSES_MAX {
        let file = folder.lock_file(&lock_name(node, index))?;
        match file.try_lock() {
            Ok(()) => {
                if index > 0 {
                    tracing::warn!(
                        node = %node,
                        "another process on this machine is this node as well; both take what is sent to it"
                    );
                }
                return Ok((index, file));
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{PROCESSES_MAX} processes are this node already"),
    ))
}

/// No node has the letter after which the number comes.
fn file_name(node: &Identity, index: usize) -> String {
    match index {
        0 => format!("{node}.requests"),
        index => format!("{node}~{index}.requests"),
    }
}

fn lock_name(node: &Identity, index: usize) -> String {
    format!("{node}~{index}.lock")
}

/// Whether another process has a place. It is not made if it was never there.
fn is_held(folder: &Folder, node: &Identity, index: usize) -> io::Result<bool> {
    let name = lock_name(node, index);
    if folder.read(&name, 1)?.is_none() {
        return Ok(false);
    }
    match folder.lock_file(&name)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn head(boot: &str) -> String {
    format!("boot {boot}")
}

fn line(until: SystemTime, sum: &Sum, signer: &str) -> String {
    let since = until.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    // Rounded up: a part of a second earlier would be too early.
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    format!("{seconds} {} {signer}\n", HEXLOWER.encode(sum))
}

/// `None`: the line is none, perhaps because not all of it was written.
fn parse(line: &str) -> Option<(SystemTime, Sum, &str)> {
    let (seconds, rest) = line.split_once(' ')?;
    // Former ones did not say who signed.
    let (sum, signer) = rest.split_once(' ').unwrap_or((rest, ""));
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    let sum = HEXLOWER.decode(sum.as_bytes()).ok()?;
    Some((until, sum.try_into().ok()?, signer))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    fn later(seconds: u64) -> SystemTime {
        now() + Duration::from_secs(seconds)
    }

    fn node() -> Identity {
        Identity::new("node1").unwrap()
    }

    fn keeping(ssldir: &tempfile::TempDir) -> Keeping {
        Keeping::new(ssldir.path(), "taken")
    }

    fn start(ssldir: &tempfile::TempDir, now: SystemTime) -> (Taken, bool) {
        Taken::kept_in(keeping(ssldir), &node(), now).unwrap()
    }

    fn file(ssldir: &tempfile::TempDir) -> PathBuf {
        keeping(ssldir).path("node1.requests")
    }

    /// Whether a request of somebody who signs himself is taken.
    fn add(
        taken: &mut Taken,
        certname: &str,
        id: impl ToString,
        until: SystemTime,
        now: SystemTime,
    ) -> bool {
        let caller = format!("choria={certname}");
        taken.add(certname, &caller, &id.to_string(), until, now) == Addition::First
    }

    #[test]
    fn what_was_taken_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut taken, is_known) = start(&folder, now());
        assert!(!is_known, "there was no file");
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        assert!(add(&mut taken, "rip", "b", later(10), now()));
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
        assert!(add(&mut taken, "bob", "a", later(60), now()));
        drop(taken);
        let mut text = fs::read_to_string(file(&folder)).unwrap();
        assert_eq!(text.lines().filter_map(parse).count(), 3);
        // The process was killed here.
        text.push_str("1795289");
        fs::write(file(&folder), text).unwrap();

        let (mut taken, is_known) = start(&folder, later(30));
        assert!(is_known);
        assert!(!add(&mut taken, "rip", "a", later(60), later(30)));
        assert!(add(&mut taken, "rip", "c", later(60), later(30)));
        assert_eq!(taken.counts["rip"], 2);
        drop(taken);
        let (taken, _) = start(&folder, later(30));
        assert_eq!(taken.order.len(), 3, "{:?}", taken.order);
        drop(taken);
        let (taken, _) = start(&folder, later(62));
        assert!(taken.order.is_empty());
        let text = fs::read_to_string(file(&folder)).unwrap();
        assert_eq!(text.lines().filter_map(parse).count(), 0);
    }

    #[test]
    fn a_file_from_before_the_machine_was_started_may_lack_something() {
        let folder = tempfile::tempdir().unwrap();
        let (mut taken, _) = start(&folder, now());
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        let Some(boot) = taken.place.as_ref().unwrap().boot.clone() else {
            // Nobody knows when this machine was started.
            return;
        };
        drop(taken);
        let text = fs::read_to_string(file(&folder)).unwrap();
        fs::write(file(&folder), text.replace(&boot, "another")).unwrap();
        let (mut taken, is_known) = start(&folder, now());
        assert!(!is_known);
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
        drop(taken);
        assert!(start(&folder, now()).1, "it is written anew");
    }

    #[test]
    fn a_file_of_former_times_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (mut taken, _) = start(&folder, now());
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        drop(taken);
        let text = fs::read_to_string(file(&folder)).unwrap();
        fs::write(file(&folder), text.replace(" rip\n", "\n")).unwrap();
        let (mut taken, _) = start(&folder, now());
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (mut taken, _) = start(&folder, now());
        for number in 0..2 * USELESS_LINES_MAX as u64 {
            assert!(add(&mut taken, "rip", number, later(number), later(number)));
        }
        let text = fs::read_to_string(file(&folder)).unwrap();
        let lines = text.lines().count();
        assert!(lines <= USELESS_LINES_MAX + 10, "{lines}");
        drop(taken);
        let last = 2 * USELESS_LINES_MAX as u64 - 1;
        let (mut taken, _) = start(&folder, later(last));
        assert!(!add(&mut taken, "rip", last, later(last), later(last)));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (mut taken, _) = start(&folder, now());
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let place = taken.place.as_mut().unwrap();
        place.file.as_mut().unwrap().file = full;
        assert!(add(&mut taken, "rip", "b", later(60), now()));
        assert!(!file(&folder).exists());
        // Where the folder would be there is a file: the next try fails too.
        let ours = folder.path().join("choria_security");
        let away = folder.path().join("away");
        fs::rename(&ours, &away).unwrap();
        fs::write(&ours, "").unwrap();
        assert!(add(&mut taken, "rip", "c", later(60), later(10)));
        fs::remove_file(&ours).unwrap();
        fs::rename(&away, &ours).unwrap();
        assert!(add(&mut taken, "rip", "d", later(60), later(19)));
        assert!(!file(&folder).exists(), "it is not tried each time");
        assert!(add(&mut taken, "rip", "e", later(60), later(20)));
        drop(taken);
        let (mut taken, is_known) = start(&folder, now());
        assert!(is_known);
        for id in ["a", "b", "c", "d", "e"] {
            assert!(!add(&mut taken, "rip", id, later(60), now()), "{id}");
        }
    }

    #[test]
    fn where_nothing_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("choria_security"), "").unwrap();
        assert!(Taken::kept_in(keeping(&folder), &node(), now()).is_err());
    }

    #[test]
    fn what_cannot_be_kept_at_first_is_later() {
        let folder = tempfile::tempdir().unwrap();
        drop(start(&folder, now()));
        fs::remove_file(file(&folder)).unwrap();
        fs::create_dir(file(&folder)).unwrap();
        let (mut taken, is_known) = start(&folder, now());
        assert!(!is_known);
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        fs::remove_dir(file(&folder)).unwrap();
        assert!(add(&mut taken, "rip", "b", later(60), later(10)));
        drop(taken);
        let (mut taken, is_known) = start(&folder, now());
        assert!(is_known);
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
    }

    #[test]
    fn links_in_the_folder_are_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        drop(start(&folder, now()));
        let foreign = folder.path().join("foreign");
        fs::write(&foreign, "theirs").unwrap();
        fs::remove_file(file(&folder)).unwrap();
        std::os::unix::fs::symlink(&foreign, file(&folder)).unwrap();
        let (mut taken, is_known) = start(&folder, now());
        assert!(!is_known);
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        drop(taken);
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "theirs");
        assert!(start(&folder, now()).1);
    }

    #[test]
    fn each_process_has_a_file_and_reads_all() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, _) = start(&folder, now());
        let (mut second, is_known) = start(&folder, now());
        assert!(!is_known, "it has no file yet");
        for number in 0..2 * USELESS_LINES_MAX {
            let until = later(1 + number as u64 / 1_000);
            assert!(add(&mut first, "rip", number, until, now()));
            assert!(add(&mut second, "bob", number, until, now()));
        }
        assert!(add(&mut first, "rip", "a", later(60), now()));
        assert!(add(&mut second, "rip", "b", later(60), now()));
        drop(second);
        drop(first);
        let (mut third, is_known) = start(&folder, later(30));
        assert!(is_known);
        for id in ["a", "b"] {
            assert!(!add(&mut third, "rip", id, later(60), later(30)), "{id}");
        }
        let (_fourth, is_known) = start(&folder, later(30));
        assert!(is_known);
        let others: Vec<_> = (2..PROCESSES_MAX).map(|_| start(&folder, now())).collect();
        assert!(Taken::kept_in(keeping(&folder), &node(), now()).is_err());
        drop(others);
    }

    #[test]
    fn what_another_process_took_and_does_not_keep_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = start(&folder, now());
        let (second, _) = start(&folder, now());
        drop(first);
        fs::remove_file(keeping(&folder).path("node1~1.requests")).unwrap();
        let (third, is_known) = start(&folder, now());
        assert!(!is_known, "the second is there and has no file");
        drop((second, third));
        assert!(start(&folder, now()).1);
    }

    #[test]
    fn who_asks_much_does_not_have_anothers_forgotten() {
        let mut taken = Taken::default();
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        for number in 0..SIGNER_MAX {
            assert!(add(&mut taken, "bob", number, later(100), now()));
        }
        let refused = taken.add("bob", "choria=bob", "more", later(100), now());
        assert_eq!(refused, Addition::TooMany(SIGNER_MAX));
        // Nor by asking in the names of many.
        let refused = taken.add("bob", "choria=ann", "more", later(100), now());
        assert_eq!(refused, Addition::TooMany(SIGNER_MAX));
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
        assert!(add(&mut taken, "rip", "b", later(60), now()));
        // What he has asked is out of date in the end.
        assert!(add(&mut taken, "bob", "more", later(161), later(101)));
        assert_eq!(taken.order.len(), 1);
        assert_eq!(taken.counts.len(), 1);
    }

    #[test]
    fn of_many_who_ask_much_each_leaves_room() {
        let mut taken = Taken::default();
        for signer in 0..12 {
            let signer = format!("signer{signer}");
            let mut number = 0;
            while add(&mut taken, &signer, number, later(60), now()) {
                number += 1;
            }
        }
        assert!(taken.order.len() < REMEMBERED_MAX);
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
        assert!(!add(&mut taken, "signer0", 0, later(60), now()));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back() {
        let mut taken = Taken::default();
        assert!(add(&mut taken, "rip", "a", later(60), now()));
        assert!(add(&mut taken, "rip", "b", later(160), later(100)));
        assert!(!add(&mut taken, "rip", "a", later(60), now()));
        assert!(add(&mut taken, "rip", "c", later(61), now()));
    }
}
