//! The other servers that are heard of in the system account, whether or not this one is connected with them.
//!
//! Each tells of itself by its statistics, every ten seconds; one that says it is going, or is not heard of for long, is
//! forgotten (nats-server `remoteServerUpdate`, `checkRemoteServers`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Servers that are remembered. Whoever may publish in the system account could tell of as many as it likes.
const SERVERS_MAX: usize = 4096;

/// Whoever is not heard of for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(150);

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
    pub(super) fn forget_silent(&mut self, now: Instant) -> Vec<Box<str>> {
        let is_silent = |last: &Instant| now.saturating_duration_since(*last) > SILENCE_MAX;
        let silent = self.heard.extract_if(|_, last| is_silent(last));
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
        let later = start + SILENCE_MAX;
        assert!(neighbours.forget_silent(later).is_empty());
        let silent = neighbours.forget_silent(later + Duration::from_millis(1));
        assert_eq!(silent, ["A".into()]);
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
