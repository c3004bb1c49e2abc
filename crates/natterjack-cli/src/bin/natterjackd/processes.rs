//! What the system tells about other processes: which are servers, and since when they run.
//!
//! Read from `/proc`. Where there is none, no process is found; whoever asks then needs a process id from the user.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// This program, and the one it stands in for.
pub(crate) const SERVERS: [&str; 2] = ["natterjackd", "nats-server"];

/// The processes of this machine.
pub(crate) struct Processes {
    root: PathBuf,
    ticks_per_second: u64,
}

impl Processes {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            root: "/proc".into(),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
        }
    }

    /// Processes that run the program of this name, except this one; in order. `None`: nobody can tell.
    pub(crate) fn running(&self, program: &str) -> Option<Vec<u32>> {
        let entries = fs::read_dir(&self.root).ok()?;
        let mut pids: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() && self.runs(*pid, program))
            .collect();
        if pids.is_empty() && !self.root.join("self").exists() {
            return None;
        }
        pids.sort_unstable();
        Some(pids)
    }

    /// Whether this process runs the program of this name, by the name it was started by or by its file: a link called
    /// `nats-server` may lead to us. Other users' files cannot be seen, their names can.
    pub(crate) fn runs(&self, pid: u32, program: &str) -> bool {
        self.name(pid).is_some_and(|name| name == program)
            || self.file_name(pid).is_some_and(|name| name == program)
    }

    /// The name a process was started by, at most 15 bytes of it. `None`: it does not run, or nobody can tell.
    pub(crate) fn name(&self, pid: u32) -> Option<String> {
        let name = fs::read_to_string(self.folder(pid).join("comm")).ok()?;
        Some(name.trim_end_matches('\n').into())
    }

    /// The name of the file it was started from, which may have been replaced since.
    fn file_name(&self, pid: u32) -> Option<String> {
        let path = fs::read_link(self.folder(pid).join("exe")).ok()?;
        let name = path.file_name()?.to_str()?;
        Some(name.strip_suffix(" (deleted)").unwrap_or(name).into())
    }

    /// When a process was started, to the second.
    pub(crate) fn started(&self, pid: u32) -> Option<SystemTime> {
        // proc(5): field 22 is the start in ticks since the boot; field 2 is a name in parentheses, with anything in it.
        let status = fs::read_to_string(self.folder(pid).join("stat")).ok()?;
        let fields = &status[status.rfind(')')? + 1..];
        let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
        let machine = fs::read_to_string(self.root.join("stat")).ok()?;
        let boot = machine
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        let seconds = boot.trim().parse::<u64>().ok()? + ticks / self.ticks_per_second.max(1);
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn folder(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    /// Processes that do not exist: id, name, file, start in seconds since 1970.
    pub(crate) fn invented(root: &Path, processes: &[(u32, &str, &str, u64)]) -> Processes {
        fs::create_dir_all(root.join("self")).unwrap();
        fs::write(root.join("stat"), "cpu 1 2\nbtime 1000\n").unwrap();
        for (pid, name, file, started) in processes {
            let folder = root.join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            std::os::unix::fs::symlink(file, folder.join("exe")).unwrap();
            let ticks = (started - 1_000) * 100;
            let fields = "0 ".repeat(18);
            fs::write(
                folder.join("stat"),
                format!("{pid} ({name}) odd) S {fields}{ticks} 0 0\n"),
            )
            .unwrap();
        }
        Processes {
            root: root.into(),
            ticks_per_second: 100,
        }
    }

    #[test]
    fn servers_are_found_by_name_and_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let processes = invented(
            folder.path(),
            &[
                (12, "natterjackd", "/usr/bin/natterjackd", 2_000),
                (7, "nats-server", "/usr/bin/natterjackd (deleted)", 2_000),
                (8, "nats-server", "/usr/bin/nats-server", 2_000),
                (9, "natterjack", "/usr/bin/natterjack", 2_000),
                (own, "natterjackd", "/usr/bin/natterjackd", 2_000),
            ],
        );
        assert_eq!(processes.running("natterjackd"), Some(vec![7, 12]));
        assert_eq!(processes.running("nats-server"), Some(vec![7, 8]));
        assert_eq!(processes.running("x"), Some(vec![]));
        assert_eq!(processes.name(9).as_deref(), Some("natterjack"));
        assert_eq!(processes.name(10), None);
        let start = processes
            .started(12)
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(start.as_secs(), 2_000);
    }

    #[test]
    fn without_proc_nobody_can_tell() {
        let processes = Processes {
            root: "/nonexistent".into(),
            ticks_per_second: 100,
        };
        assert_eq!(processes.running("natterjackd"), None);
    }

    #[test]
    fn this_process_has_started_before_now() {
        let processes = Processes::of_this_machine();
        let own = std::process::id();
        if !Path::new("/proc/self").exists() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = file.as_file().metadata().unwrap().modified().unwrap();
        let started = processes.started(own).unwrap();
        assert!(started <= now + Duration::from_secs(2), "{started:?}");
        assert!(processes.name(own).is_some());
    }
}
