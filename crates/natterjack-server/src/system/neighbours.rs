//! The other servers that are heard of in the system account, whether or not this one is connected with them.
//!
//! Each tells of itself by its statistics, every ten seconds; one that says it is going, or is not heard of for long, is
//! forgotten (nats-server `remoteServerUpdate`, `checkRemoteServers`). One that is not connected any more either is
//! forgotten earlier, since what clients it had counts for their accounts' limits, and they come here.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Servers that are remembered. Whoever may publish in the system account could tell of as many as it likes.
const SERVERS_MAX: usize = 4096;

/// Whoever is not heard of for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// The same for who is not connected: twice the time between two statistics, and a little more.
const ABSENCE_MAX: Duration = Duration::from_secs(25);

#[derive(Default)]
pub(super) struct Neighbours {
    /// When each was last heard of, by id.
    heard: HashMap<Box<str>, Instant>,
}

impl Neighbours {
    pub(super) fn len(&self) -> usize {
        self.heard.len()
    }

    /// Something was heard of a server. Returns whether it is a new one.
    pub(super) fn heard(&mut self, id: &str, now: Instant) -> bool {
        if let Some(last) = self.heard.get_mut(id) {
            *last = now;
            return false;
        }
        let has_room = self.heard.len() < SERVERS_MAX;
        if has_room {
            self.heard.insert(id.into(), now);
        }
        has_room
    }

    /// A server said that it is going. Returns whether it was known.
    pub(super) fn left(&mut self, id: &str) -> bool {
        self.heard.remove(id).is_some()
    }

    /// Forgets, and returns, those that have been silent for too long. Linear in all.
    pub(super) fn forget_silent(
        &mut self,
        connected: &HashSet<&str>,
        now: Instant,
    ) -> Vec<Box<str>> {
        let silent = self.heard.extract_if(|id, last| {
            let silence_max = match connected.contains(&**id) {
                true => SILENCE_MAX,
                false => ABSENCE_MAX,
            };
            now.saturating_duration_since(*last) > silence_max
        });
        silent.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn servers_come_and_go() {
        let (mut neighbours, start) = (Neighbours::default(), now());
        assert!(neighbours.heard("A", start));
        assert!(neighbours.heard("B", start));
        assert!(!neighbours.heard("A", start));
        assert!(neighbours.left("A"));
        assert!(!neighbours.left("A"));
        assert_eq!(neighbours.len(), 1);
        assert!(neighbours.heard("A", start));
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let (mut neighbours, start) = (Neighbours::default(), now());
        neighbours.heard("A", start);
        neighbours.heard("B", start + Duration::from_secs(1));
        neighbours.heard("C", start + Duration::from_secs(1));
        let connected = HashSet::from(["A", "B"]);
        let moment = Duration::from_millis(1);
        let mut forgotten_at = |time| neighbours.forget_silent(&connected, time);
        assert!(forgotten_at(start + ABSENCE_MAX).is_empty());
        let later = start + Duration::from_secs(1) + ABSENCE_MAX;
        assert_eq!(forgotten_at(later + moment), ["C".into()]);
        assert!(forgotten_at(start + SILENCE_MAX).is_empty());
        assert_eq!(forgotten_at(start + SILENCE_MAX + moment), ["A".into()]);
        assert_eq!(neighbours.len(), 1);
    }

    #[test]
    fn no_more_are_remembered_than_allowed() {
        let (mut neighbours, start) = (Neighbours::default(), now());
        for number in 0..SERVERS_MAX {
            assert!(neighbours.heard(&number.to_string(), start));
        }
        assert!(!neighbours.heard("one more", start));
        assert_eq!(neighbours.len(), SERVERS_MAX);
    }
}
