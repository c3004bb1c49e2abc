//! What the log hears of messages that are no good: little, for strangers can send as many as they like.

use std::time::{Duration, SystemTime};

/// So often, at most, the log hears of messages that are dropped.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Longest text that the log gets of one.
const COMPLAINT_LETTERS_MAX: usize = 500;

/// What a stranger may have written parts of, as one short line.
pub(crate) fn plain(text: &str) -> String {
    let letters = text.chars().take(COMPLAINT_LETTERS_MAX);
    letters
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

/// How many were not told of since the last one that was.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    told: Option<SystemTime>,
    unsaid: u64,
}

impl Complaints {
    /// Whether to tell now; then how many were not.
    pub(crate) fn ask(&mut self, now: SystemTime) -> Option<u64> {
        let is_soon = |told| {
            now.duration_since(told)
                .is_ok_and(|age| age < COMPLAINT_INTERVAL)
        };
        if self.told.is_some_and(is_soon) {
            self.unsaid += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    #[test]
    fn complaints_are_few() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.ask(begin()), Some(0));
        assert_eq!(complaints.ask(begin()), None);
        assert_eq!(complaints.ask(begin() + Duration::from_millis(999)), None);
        assert_eq!(complaints.ask(begin() + Duration::from_secs(1)), Some(2));
        assert_eq!(complaints.ask(begin()), Some(0), "the clock was set back");
        assert_eq!(plain("a\n[INF] b\u{1b}[2J"), "a?[INF] b?[2J");
        assert_eq!(plain(&"ä".repeat(1000)).chars().count(), 500);
    }
}
