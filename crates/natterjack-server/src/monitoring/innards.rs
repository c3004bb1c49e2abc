//! `/stacksz`, `/debug/vars`, `/ipqueuesz` and `/raftz`: the insides of a program in Go, of which this one has only some.
//! Whoever collects all pages finds all of them, with the same fields; what is not there is 0 or empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::absent::Absent;
use super::process;

/// What nats-server says where no groups agree by Raft.
pub(super) const NO_RAFT: &str = "No Raft nodes registered";

/// Threads that are listed.
const THREADS_MAX: usize = 4096;

/// Numbers of Go's in a list of pauses, and sizes of its pieces of memory (Go 1.27 `runtime.MemStats`).
const PAUSES: usize = 256;
const SIZES: usize = 61;

/// Queues inside the server (`/ipqueuesz`): what nats-server calls so is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ipqueuesz(BTreeMap<&'static str, Absent>);

/// Groups that agree by Raft (`/raftz`): there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Raftz(BTreeMap<&'static str, Absent>);

/// Variables of the process (`/debug/vars`, Go `expvar`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Expvarz {
    /// How it was started: the program alone, since passwords and tokens may be among the arguments.
    pub cmdline: Vec<String>,
    /// Memory.
    pub memstats: MemoryStats,
}

/// Memory, in the fields that a program in Go has for it. There is no collector of garbage, and what is in use is all that
/// is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes in use.
    pub alloc: u64,
    total_alloc: u64,
    sys: u64,
    lookups: u64,
    mallocs: u64,
    frees: u64,
    heap_alloc: u64,
    heap_sys: u64,
    heap_idle: u64,
    heap_inuse: u64,
    heap_released: u64,
    heap_objects: u64,
    stack_inuse: u64,
    stack_sys: u64,
    #[serde(rename = "MSpanInuse")]
    span_inuse: u64,
    #[serde(rename = "MSpanSys")]
    span_sys: u64,
    #[serde(rename = "MCacheInuse")]
    cache_inuse: u64,
    #[serde(rename = "MCacheSys")]
    cache_sys: u64,
    buck_hash_sys: u64,
    #[serde(rename = "GCSys")]
    collector_sys: u64,
    other_sys: u64,
    #[serde(rename = "NextGC")]
    next_collection: u64,
    #[serde(rename = "LastGC")]
    last_collection: u64,
    pause_total_ns: u64,
    pause_ns: Vec<u64>,
    pause_end: Vec<u64>,
    #[serde(rename = "NumGC")]
    collections: u64,
    #[serde(rename = "NumForcedGC")]
    forced_collections: u64,
    #[serde(rename = "GCCPUFraction")]
    collector_share: u64,
    #[serde(rename = "EnableGC")]
    is_collecting: bool,
    #[serde(rename = "DebugGC")]
    is_debugging: bool,
    by_size: Vec<SizeStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SizeStats {
    size: u64,
    mallocs: u64,
    frees: u64,
}

/// A profile of the running program, which it does not make of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Profilez {
    profile: (),
    error: String,
}

pub(crate) fn ipqueuesz() -> Ipqueuesz {
    Ipqueuesz::default()
}

pub(crate) fn raftz() -> Raftz {
    Raftz::default()
}

pub(crate) fn profilez(name: Option<&str>) -> Profilez {
    Profilez {
        profile: (),
        error: match name {
            None => "Profile name not specified".to_owned(),
            Some(name) => format!("Profile {name:?} not found"),
        },
    }
}

pub(crate) fn expvarz() -> Expvarz {
    let program = std::env::args_os().next();
    let program = program.map(|program| program.to_string_lossy().into_owned());
    let in_use = process::memory_bytes();
    Expvarz {
        cmdline: program.into_iter().collect(),
        memstats: MemoryStats {
            alloc: in_use,
            total_alloc: in_use,
            sys: in_use,
            lookups: 0,
            mallocs: 0,
            frees: 0,
            heap_alloc: in_use,
            heap_sys: in_use,
            heap_idle: 0,
            heap_inuse: in_use,
            heap_released: 0,
            heap_objects: 0,
            stack_inuse: 0,
            stack_sys: 0,
            span_inuse: 0,
            span_sys: 0,
            cache_inuse: 0,
            cache_sys: 0,
            buck_hash_sys: 0,
            collector_sys: 0,
            other_sys: 0,
            next_collection: 0,
            last_collection: 0,
            pause_total_ns: 0,
            pause_ns: vec![0; PAUSES],
            pause_end: vec![0; PAUSES],
            collections: 0,
            forced_collections: 0,
            collector_share: 0,
            is_collecting: false,
            is_debugging: false,
            by_size: vec![SizeStats::default(); SIZES],
        },
    }
}

/// The program's threads with their names and what they are about, as a text. A stack is not shown: a thread of the system's
/// cannot be asked for it without stopping it. Empty where the system does not tell.
pub(super) fn threads() -> String {
    threads_below(Path::new("/proc/self/task"))
}

fn threads_below(folder: &Path) -> String {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(THREADS_MAX)
    {
        let number = entry.file_name().to_string_lossy().parse::<u64>();
        let status = fs::read_to_string(entry.path().join("status"));
        if let (Ok(number), Ok(status)) = (number, status) {
            let line = |name: &str| {
                let mut lines = status.lines();
                lines
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
                    .trim()
            };
            let state = line("State:");
            let state = state
                .split_once(" (")
                .map_or(state, |(_, words)| words.trim_end_matches(')'));
            threads.insert(
                number,
                format!("thread {number} [{state}]:\n{}\n", line("Name:")),
            );
        }
    }
    threads.into_values().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_listed_with_names_and_states() {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, status) in [
            ("12", "Name:\tb c\nState:\tS (sleeping)\n"),
            ("3", "Name:\tmain\nUmask:\t0022\nState:\tR (running)\n"),
            ("x", "Name:\tnobody\n"),
        ] {
            fs::create_dir(folder.path().join(number)).expect("a folder");
            fs::write(folder.path().join(number).join("status"), status).expect("a file");
        }
        let text = threads_below(folder.path());
        assert_eq!(
            text,
            "thread 3 [running]:\nmain\n\nthread 12 [sleeping]:\nb c\n"
        );
        assert_eq!(threads_below(&folder.path().join("none")), "");
    }

    #[test]
    fn nothing_but_the_program_is_shown_of_how_it_was_started() {
        assert_eq!(expvarz().cmdline.len(), 1);
    }
}
