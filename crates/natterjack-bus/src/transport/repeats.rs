//! What comes once more after a change of servers, because the old one had it and the next one has it as well.
//!
//! * When a server is changed for another one as planned, everything comes over both for a moment. Whatever was handed over
//!   in that time is known by its content, and left out when it comes over the next one.
//! * When a connection breaks nobody can plan that. Events that were handed over before are known by source and identifier,
//!   as many as there is room for. What is no event, or has no identifier, may come twice then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use natterjack_wire::client::Message;

/// Events that are remembered at any time: 512 KiB.
const EVENTS_MAX: usize = 1 << 16;

/// Messages that are remembered of the time in which everything comes twice. Beyond that they do come twice.
const MESSAGES_MAX: usize = 1 << 20;

/// How long something may have been on its way over another server.
const LATE_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    /// The last events.
    events: VecDeque<u64>,
    /// How often each message was handed over while everything came twice.
    messages: HashMap<u64, u32>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Settled,
    /// Everything comes over both servers, and only what comes over the old one gets here.
    Overlapping,
    /// The server is another one.
    Changed {
        since: Instant,
        /// What `events` holds.
        known: HashSet<u64>,
    },
}

impl Repeats {
    /// Everything comes twice from now on.
    pub(super) fn overlap(&mut self) {
        self.messages.clear();
        self.state = State::Overlapping;
    }

    /// The connection broke, and now there is another one.
    pub(super) fn broke(&mut self, now: Instant) {
        self.messages = HashMap::new();
        self.changed(now);
    }

    /// The change that began with [`Repeats::overlap`] is made.
    pub(super) fn changed(&mut self, now: Instant) {
        self.state = State::Changed {
            since: now,
            known: self.events.iter().copied().collect(),
        };
    }

    /// Has to be called now and then.
    pub(super) fn pass(&mut self, now: impl FnOnce() -> Instant) {
        if let State::Changed { since, .. } = &self.state
            && now().saturating_duration_since(*since) > LATE_MAX
        {
            self.state = State::Settled;
            self.messages = HashMap::new();
        }
    }

    /// A message is to be handed over. Answers whether it has been already.
    pub(super) fn has_seen(&mut self, message: &Message<'_>) -> bool {
        match self.state {
            State::Settled => false,
            State::Overlapping => {
                let content = self.content(message);
                if self.messages.len() < MESSAGES_MAX {
                    *self.messages.entry(content).or_default() += 1;
                }
                false
            }
            State::Changed { .. } if self.messages.is_empty() => false,
            State::Changed { .. } => {
                let content = self.content(message);
                let Some(count) = self.messages.get_mut(&content) else {
                    return false;
                };
                *count -= 1;
                if *count == 0 {
                    self.messages.remove(&content);
                }
                true
            }
        }
    }

    fn content(&self, message: &Message<'_>) -> u64 {
        let Message {
            subject,
            sid,
            reply,
            body,
            ..
        } = message;
        self.hasher.hash_one((subject, sid, reply, body))
    }

    /// The same for an event.
    pub(super) fn has_seen_event(&mut self, source: &str, id: &str) -> bool {
        let event = self.hasher.hash_one((source, id));
        let oldest = if self.events.len() == EVENTS_MAX {
            self.events.pop_front()
        } else {
            None
        };
        if let State::Changed { known, .. } = &mut self.state {
            if let Some(oldest) = oldest {
                known.remove(&oldest);
            }
            if !known.insert(event) {
                return true;
            }
        }
        self.events.push_back(event);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            subject: b"a",
            sid: b"1",
            reply: None,
            header_len: None,
            body,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_came_while_everything_comes_twice_is_left_out_as_often() {
        let (mut repeats, start) = (Repeats::default(), now());
        assert!(!repeats.has_seen(&message(b"0")));
        repeats.overlap();
        for body in [b"1", b"1", b"2"] {
            assert!(!repeats.has_seen(&message(body)));
        }
        repeats.changed(start);
        let seen = [b"0", b"1", b"2", b"1", b"2", b"1", b"3"];
        let seen = seen.map(|body| repeats.has_seen(&message(body)));
        assert_eq!(seen, [false, true, true, true, false, false, false]);
    }

    #[test]
    fn events_from_before_a_change_are_known_for_a_while() {
        let (mut repeats, start) = (Repeats::default(), now());
        assert!(!repeats.has_seen_event("a", "1"));
        assert!(!repeats.has_seen_event("b", "1"));
        repeats.overlap();
        assert!(!repeats.has_seen(&message(b"1")));
        repeats.broke(start);
        assert!(!repeats.has_seen(&message(b"1")), "it came over one alone");
        assert!(repeats.has_seen_event("a", "1"));
        assert!(!repeats.has_seen_event("a", "2"));
        assert!(repeats.has_seen_event("a", "2"), "it came late");
        repeats.pass(|| start + LATE_MAX);
        assert!(repeats.has_seen_event("b", "1"));
        repeats.pass(|| start + 2 * LATE_MAX);
        assert!(!repeats.has_seen_event("b", "1"), "it is somebody else's");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..EVENTS_MAX + 10 {
            if number == 7 {
                repeats.changed(now());
            }
            repeats.has_seen_event("a", &number.to_string());
        }
        assert!(repeats.has_seen_event("a", &EVENTS_MAX.to_string()));
        assert!(!repeats.has_seen_event("a", "9"), "it is forgotten");
        let State::Changed { known, .. } = &repeats.state else {
            panic!("it changed a moment ago")
        };
        assert!(known.len() <= EVENTS_MAX);
        assert_eq!(repeats.events.len(), EVENTS_MAX);
        repeats.overlap();
        for number in 0..MESSAGES_MAX + 10 {
            repeats.has_seen(&message(&number.to_le_bytes()));
        }
        assert_eq!(repeats.messages.len(), MESSAGES_MAX);
    }
}
