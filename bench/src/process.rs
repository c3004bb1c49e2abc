//! What a process has spent and holds, and what the whole machine has spent, read from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux architecture we run on
/// (`USER_HZ`, a kernel ABI constant).
const TICKS_PER_SECOND: u64 = 100;

/// Processor time a process has used so far, user and system.
///
/// The scheduler's own count per thread has nanoseconds but forgets threads that have ended; the count
/// in `stat` forgets nothing but has steps of 10 ms. The larger of the two is right to within the time
/// of one step, and exact while no thread ends.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    let mut scheduled = Duration::ZERO;
    let tasks = format!("/proc/{process}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
        // A thread that ends between the listing and the reading is covered by `stat` below.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let nanoseconds = text
            .split_whitespace()
            .next()
            .and_then(|field| field.parse().ok());
        scheduled += Duration::from_nanos(nanoseconds.unwrap_or(0));
    }
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks_in_stat(&text).with_context(|| format!("no processor time in {path}"))?;
    Ok(scheduled.max(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)))
}

/// Bytes of memory a process holds right now (resident set).
///
/// `smaps_rollup` walks the page table, where `status` reports per-processor counters that may lag by
/// hundreds of KiB.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kibibytes_in_field(&text, "Rss:")
        .map(|kibibytes| kibibytes * 1024)
        .with_context(|| format!("no resident set in {path}"))
}

/// Processor time the whole machine has used so far, by all processes, interrupts and the hypervisor, in
/// steps of 10 ms.
pub(crate) fn machine_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = busy_ticks(&text).context("no processor time in /proc/stat")?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// User, nice, system, irq, softirq and steal of the first line; guests are part of user
/// (`proc_stat(5)`).
fn busy_ticks(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 5, 6, 7]
        .into_iter()
        .map(|index| fields.get(index).copied())
        .sum()
}

/// User plus system ticks: fields 14 and 15 of `stat`, counted from the command name's closing
/// parenthesis because the name itself may hold spaces (`proc_pid_stat(5)`).
fn ticks_in_stat(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kibibytes_in_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{busy_ticks, kibibytes_in_field, processor_time, resident_bytes, ticks_in_stat};

    #[test]
    fn stat_is_read_behind_the_name() {
        let text = "12 (a (b) c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 77 1 2";
        assert_eq!(ticks_in_stat(text), Some(300));
        assert_eq!(ticks_in_stat("12 (a) S 1"), None);
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(
            busy_ticks("cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 9 9 9"),
            Some(63)
        );
        assert_eq!(busy_ticks("cpu  1 2 4"), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(
            kibibytes_in_field("00-7f rollup\nRss:     1234 kB\nPss: 1 kB", "Rss:"),
            Some(1234)
        );
        assert_eq!(kibibytes_in_field("Pss: 1 kB", "Rss:"), None);
    }

    #[test]
    fn this_process_has_spent_time_and_holds_memory() {
        let before = processor_time(std::process::id()).unwrap();
        let mut sum = 0_u64;
        for number in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        assert!(processor_time(std::process::id()).unwrap() > before);
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }
}
