//! What the process takes of the machine: memory and processor time. 0 where the system does not tell.

use std::fs;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Figures over less time than this say nothing.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Memory of the process that is in use, in bytes (its resident set).
pub(super) fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident_bytes(&status).unwrap_or(0)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Share of a processor that the process had, from one question to the next; 100 is all of one core.
pub(super) struct ProcessorShare(Mutex<Sample>);

struct Sample {
    at: Instant,
    used: Duration,
    percent: f64,
}

impl ProcessorShare {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Sample {
            at: now,
            used: processor_time(),
            percent: 0.0,
        }))
    }

    /// The share in percent since the last question that is at least a second ago, with one decimal.
    pub(super) fn percent(&self, now: Instant) -> f64 {
        let mut last = self.0.lock();
        let elapsed = now.saturating_duration_since(last.at);
        if elapsed >= INTERVAL_MIN {
            let used = processor_time();
            let share = used.saturating_sub(last.used).as_secs_f64() / elapsed.as_secs_f64();
            *last = Sample {
                at: now,
                used,
                percent: (share * 1000.0).round() / 10.0,
            };
        }
        last.percent
    }
}

/// Processor time of this thread.
#[cfg(unix)]
pub(super) fn thread_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(unix))]
pub(super) fn thread_time() -> Duration {
    // About the same, as long as there is a processor for everybody.
    crate::clock::calendar_now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(unix)]
fn processor_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(unix))]
fn processor_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn the_resident_set_is_found() {
        let status = "Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t  14548 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(14_897_152));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        assert!(memory_bytes() > 100_000);
    }

    #[test]
    #[cfg(unix)]
    fn work_shows_in_the_share() {
        let start = now();
        let share = ProcessorShare::new(start);
        assert_eq!(share.percent(start + INTERVAL_MIN / 2), 0.0);
        let used = processor_time();
        while processor_time() < used + Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        // As if a second had passed.
        assert!(share.percent(start + INTERVAL_MIN) >= 3.0);
    }
}
