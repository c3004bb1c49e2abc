//! What comes once more after a change of servers, because the old one had it and the next one has it as well.
//!
//! * Events are known by source and identifier, and what is no event by its content, which says where the answer goes and so
//!   is never the same: as many as there is room for, however the server came to be another one.
//! * Programs without this library send events without an identifier, and may mean it when they send the same twice. When a
//!   server is changed for another one as planned everything comes over both for a moment; whatever event was handed over
//!   since the change was announced is then left out once. When a connection breaks, they may come twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use natterjack_wire::client::Message;

/// What is remembered at any time: 512 KiB.
const LAST_MAX: usize = 1 << 16;

/// Events that are remembered of the time in which everything comes twice. Beyond that those without an identifier do.
const EVENTS_MAX: usize = 1 << 20;

/// How long something may have been on its way over another server.
const LATE_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    /// What was handed over last.
    last: VecDeque<u64>,
    /// How often each event was handed over, whatever it says, since a change was announced.
    events: HashMap<u64, u32>,
    state: State,
    /// The last change, as long as something may come once more because of it.
    change: Option<Change>,
}

struct Change {
    made: Instant,
    /// What [`Repeats::last`] holds.
    known: HashSet<u64>,
}

#[derive(Default)]
enum State {
    #[default]
    Settled,
    /// Everything comes over both servers, or soon will, and only what comes over the old one gets here.
    Announced,
    /// The server is another one.
    Changed,
}

impl Repeats {
    /// The server will soon be another one. What may come once more because of a change before is known on.
    pub(super) fn announce(&mut self) {
        self.events.clear();
        self.state = State::Announced;
    }

    /// The connection broke, and now there is another one.
    pub(super) fn broke(&mut self, now: Instant) {
        self.events = HashMap::new();
        self.changed(now);
    }

    /// The change that was announced is made.
    pub(super) fn changed(&mut self, now: Instant) {
        self.state = State::Changed;
        self.change = Some(Change {
            made: now,
            known: self.last.iter().copied().collect(),
        });
    }

    /// Has to be called now and then.
    pub(super) fn pass(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(change) = &self.change
            && now().saturating_duration_since(change.made) > LATE_MAX
        {
            self.change = None;
            if matches!(self.state, State::Changed) {
                self.state = State::Settled;
                self.events = HashMap::new();
            }
        }
    }

    /// An event is to be handed over, which may not say which one it is. Answers whether it has been already.
    pub(super) fn has_seen_event(&mut self, message: &Message<'_>) -> bool {
        match self.state {
            State::Settled => false,
            State::Announced => {
                let content = self.content(message);
                if self.events.len() < EVENTS_MAX {
                    *self.events.entry(content).or_default() += 1;
                }
                false
            }
            State::Changed if self.events.is_empty() => false,
            State::Changed => {
                let content = self.content(message);
                let Some(count) = self.events.get_mut(&content) else {
                    return false;
                };
                *count -= 1;
                if *count == 0 {
                    self.events.remove(&content);
                }
                true
            }
        }
    }

    /// The same for an event that says which one it is.
    pub(super) fn has_seen_id(&mut self, source: &str, id: &str) -> bool {
        self.has_seen(self.hasher.hash_one((source, id)))
    }

    /// The same for what is no event.
    pub(super) fn has_seen_other(&mut self, message: &Message<'_>) -> bool {
        self.has_seen(self.content(message))
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

    fn has_seen(&mut self, new: u64) -> bool {
        let oldest = if self.last.len() == LAST_MAX {
            self.last.pop_front()
        } else {
            None
        };
        if let Some(change) = &mut self.change {
            if let Some(oldest) = oldest {
                change.known.remove(&oldest);
            }
            if !change.known.insert(new) {
                return true;
            }
        }
        self.last.push_back(new);
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
        assert!(!repeats.has_seen_event(&message(b"0")));
        repeats.announce();
        for body in [b"1", b"1", b"2"] {
            assert!(!repeats.has_seen_event(&message(body)));
        }
        repeats.changed(start);
        let seen = [b"0", b"1", b"2", b"1", b"2", b"1", b"3"];
        let seen = seen.map(|body| repeats.has_seen_event(&message(body)));
        assert_eq!(seen, [false, true, true, true, false, false, false]);
    }

    #[test]
    fn what_can_be_told_apart_is_known_for_a_while_after_a_change() {
        let (mut repeats, start) = (Repeats::default(), now());
        assert!(!repeats.has_seen_id("a", "1"));
        assert!(!repeats.has_seen_id("b", "1"));
        assert!(!repeats.has_seen_other(&message(b"2")));
        repeats.announce();
        assert!(!repeats.has_seen_event(&message(b"1")));
        repeats.broke(start);
        assert!(
            !repeats.has_seen_event(&message(b"1")),
            "it came over one alone"
        );
        assert!(repeats.has_seen_other(&message(b"2")));
        assert!(repeats.has_seen_id("a", "1"));
        assert!(!repeats.has_seen_id("a", "2"));
        assert!(repeats.has_seen_id("a", "2"), "it came late");
        repeats.pass(|| start + LATE_MAX);
        assert!(repeats.has_seen_id("b", "1"));
        repeats.pass(|| start + 2 * LATE_MAX);
        assert!(!repeats.has_seen_id("b", "1"), "it is somebody else's");
    }

    #[test]
    fn a_change_after_a_change_forgets_nothing_that_can_be_told_apart() {
        let (mut repeats, start) = (Repeats::default(), now());
        assert!(!repeats.has_seen_id("a", "1"));
        repeats.announce();
        repeats.changed(start);
        // This server will soon be gone, too.
        repeats.announce();
        repeats.pass(|| start);
        assert!(repeats.has_seen_id("a", "1"));
        assert!(!repeats.has_seen_event(&message(b"1")));
        // The change takes so long that the one before has nothing to do with it.
        repeats.pass(|| start + 2 * LATE_MAX);
        assert!(!repeats.has_seen_id("a", "2"));
        repeats.changed(start + 2 * LATE_MAX);
        assert!(repeats.has_seen_id("a", "2"));
        assert!(repeats.has_seen_event(&message(b"1")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..LAST_MAX + 10 {
            if number == 7 {
                repeats.changed(now());
            }
            repeats.has_seen_id("a", &number.to_string());
        }
        assert!(repeats.has_seen_id("a", &LAST_MAX.to_string()));
        assert!(!repeats.has_seen_id("a", "9"), "it is forgotten");
        let change = repeats.change.as_ref().expect("a moment ago");
        assert!(change.known.len() <= LAST_MAX);
        assert!(repeats.last.len() <= LAST_MAX);
        repeats.announce();
        for number in 0..EVENTS_MAX + 10 {
            repeats.has_seen_event(&message(&number.to_le_bytes()));
        }
        assert_eq!(repeats.events.len(), EVENTS_MAX);
    }
}
