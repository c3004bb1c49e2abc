//! What a record was made with: the machine, the programs and the source.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine a record was made on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// Processors this process may use.
    pub(crate) processors: usize,
    /// Memory, in MiB.
    pub(crate) memory_mebibytes: u64,
    /// Kernel release.
    pub(crate) kernel: String,
    /// How TCP paces itself here. With `bbr` the system sends every packet by a timer, also on the loopback, which costs
    /// more than copying what is in it.
    pub(crate) congestion_control: String,
    /// Load average over one minute before the first run: whether the machine had other things to do.
    pub(crate) load_before: String,
}

impl Machine {
    /// Whether the system sends packets by a timer.
    pub(crate) fn paces(&self) -> bool {
        self.congestion_control.starts_with("bbr")
    }

    /// The machine this process runs on.
    pub(crate) fn this() -> Self {
        let memory = field_of("/proc/meminfo", "MemTotal");
        let kibibytes: u64 = memory
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Self {
            processor: field_of("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mebibytes: kibibytes / 1024,
            kernel: first_word_of("/proc/sys/kernel/osrelease"),
            congestion_control: first_word_of("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_before: first_word_of("/proc/loadavg"),
        }
    }
}

/// The compiler in use where the benchmark runs.
pub(crate) fn compiler() -> String {
    output_of("rustc", &["--version"])
}

/// The commit of the working copy the benchmark runs in, and whether it had changes on top.
pub(crate) fn commit() -> String {
    let commit = output_of("git", &["rev-parse", "--short=12", "HEAD"]);
    let changes = output_of("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    }
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn first_word_of(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The value of the first `name : value` line.
fn field_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}
