//! What comes once more after a change of servers, because the old one had it and the next one has it as well.
//!
//! * Events are known by source and identifier, and what is no event by its content, which says where the answer goes and so
//!   is never the same: as many as there is room for, however the server came to be another one.
//! * Programs without this library send events without an identifier, and may mean it when they send the same twice. When a
//!   server is changed for another one as planned everything comes over both for a moment. Then each that comes over one of
//!   them is paired with one alike that comes over the other, as they come, and the second of the two is left out. Of those
//!   that are not paired yet, because the next server did not have our subscriptions in time or is late, none is waited for
//!   longer than a moment: the next one alike is meant to be another one. When a connection breaks, they may come twice.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use natterjack_wire::client::Message;

/// What is remembered at any time: 512 KiB.
const LAST_MAX: usize = 1 << 16;

/// What is remembered while a change goes on, and afterwards as long as something may be late: of what can be told apart, and
/// of what cannot, each. What is beyond that may come twice.
const RECENT_MAX: usize = 1 << 20;

/// How long something that can be told apart may have been on its way over another server; up to twice as long if all is
/// remembered.
const LATE_MAX: Duration = Duration::from_secs(10);

/// The same for what cannot. Shorter: in this time one that is meant to be another one is taken for late.
const ALIKE_LATE_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    /// What was handed over last, as far as it can be told apart.
    last: VecDeque<u64>,
    /// The same, while a change goes on or something may come once more because of one.
    known: Recent,
    alike: Alike,
    state: State,
    /// When the last change was made, as long as something may come once more because of it.
    changed: Option<Instant>,
    /// Events that were left out since, because others said the same.
    left_out: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Settled,
    /// Everything comes over both servers, or soon will, and only what comes over the old one gets here.
    Announced,
    /// The server is another one, and what came over it before gets here.
    CatchingUp,
    /// The server is another one.
    Changed,
}

/// Events that cannot be told apart, by their content.
#[derive(Default)]
struct Alike {
    /// Handed over, and not paired with one over the next server.
    handed: Recent,
    /// The same, when the server was last changed, and is to be changed again.
    before: Recent,
    /// Came over the next server, and are not paired with one over the old one.
    early: HashMap<u64, u32>,
    /// Came over the next server, and are paired: they are not handed over with the others from there.
    paired: HashMap<u64, u32>,
}

/// How often each thing was there lately: in two generations, the older of which is forgotten whole.
#[derive(Default)]
struct Recent {
    young: HashMap<u64, u32>,
    old: HashMap<u64, u32>,
    /// When the young one began.
    began: Option<Instant>,
}

impl Recent {
    /// Forgets what is older than twice this. Nothing that is younger than it.
    fn pass(&mut self, late_max: Duration, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= 2 * late_max {
            *self = Self {
                began: Some(now),
                ..Self::default()
            };
        } else if age >= late_max {
            self.old = std::mem::take(&mut self.young);
            self.began = Some(began + late_max);
        }
    }

    fn insert(&mut self, new: u64) {
        if self.young.len() >= RECENT_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        *self.young.entry(new).or_default() += 1;
    }

    fn contains(&self, one: u64) -> bool {
        self.young.contains_key(&one) || self.old.contains_key(&one)
    }

    /// Forgets one of these, the youngest. Answers whether there is one.
    fn take(&mut self, one: u64) -> bool {
        take(&mut self.young, one) || take(&mut self.old, one)
    }
}

/// Takes one of these. Answers whether there is one.
fn take(counts: &mut HashMap<u64, u32>, one: u64) -> bool {
    let Some(count) = counts.get_mut(&one) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        counts.remove(&one);
    }
    true
}

impl Repeats {
    /// The server will soon be another one. What may come once more because of a change before is known on.
    pub(super) fn announce(&mut self, now: Instant) {
        self.remember_last(now);
        if self.state != State::Announced {
            let before = std::mem::take(&mut self.alike.handed);
            self.alike = Alike {
                before,
                ..Alike::default()
            };
        }
        self.state = State::Announced;
    }

    /// Another server is about to be subscribed at. One before, to which there was no change, is of no use any more.
    pub(super) fn overlap_began(&mut self, now: Instant) {
        let Alike {
            handed,
            early,
            paired,
            ..
        } = &mut self.alike;
        early.clear();
        handed.pass(ALIKE_LATE_MAX, now);
        // They are handed over, and those that they were paired with are not there.
        for (content, count) in paired.drain() {
            (0..count).for_each(|_| handed.insert(content));
        }
    }

    /// Something has come over the next server.
    pub(super) fn ahead(&mut self, event: &Message<'_>, now: Instant) {
        let content = self.content(event);
        let Alike {
            handed,
            early,
            paired,
            ..
        } = &mut self.alike;
        handed.pass(ALIKE_LATE_MAX, now);
        let counts = if handed.take(content) { paired } else { early };
        *counts.entry(content).or_default() += 1;
    }

    /// The connection broke, and now there is another one.
    pub(super) fn broke(&mut self, now: Instant) {
        self.alike = Alike::default();
        self.made(State::Changed, now);
    }

    /// The change that was announced is made. What has come over the next server is handed over now, up to the next
    /// [`Repeats::pass`].
    pub(super) fn changed(&mut self, now: Instant) {
        self.alike.early = HashMap::new();
        self.made(State::CatchingUp, now);
    }

    fn made(&mut self, state: State, now: Instant) {
        self.remember_last(now);
        self.state = state;
        self.changed = Some(now);
    }

    fn remember_last(&mut self, now: Instant) {
        self.known.pass(LATE_MAX, now);
        for one in &self.last {
            if !self.known.contains(*one) {
                self.known.insert(*one);
            }
        }
    }

    /// Has to be called now and then. Answers how many events were left out, because others said the same, once there
    /// will be no more.
    pub(super) fn pass(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        if self.state == State::CatchingUp {
            self.state = State::Changed;
            self.alike.paired = HashMap::new();
        }
        let changed = self.changed?;
        let since = now().saturating_duration_since(changed);
        if since > LATE_MAX {
            self.changed = None;
            if self.state == State::Changed {
                self.state = State::Settled;
                self.known = Recent::default();
            }
        }
        if since > 2 * ALIKE_LATE_MAX {
            if self.state != State::Announced {
                self.alike = Alike::default();
            }
            let left_out = std::mem::take(&mut self.left_out);
            return (left_out > 0).then_some(left_out);
        }
        None
    }

    /// An event is to be handed over that does not say which one it is. Answers whether it has been already.
    pub(super) fn has_seen_alike(
        &mut self,
        event: &Message<'_>,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        if self.state == State::Settled {
            return false;
        }
        let content = self.content(event);
        let Alike {
            handed,
            before,
            early,
            paired,
        } = &mut self.alike;
        let has_seen = match self.state {
            State::Settled => false,
            State::Announced => {
                let now = now();
                for recent in [&mut *handed, &mut *before] {
                    recent.pass(ALIKE_LATE_MAX, now);
                }
                if take(early, content) {
                    *paired.entry(content).or_default() += 1;
                } else {
                    handed.insert(content);
                }
                before.take(content)
            }
            State::CatchingUp => take(paired, content),
            State::Changed => {
                handed.pass(ALIKE_LATE_MAX, now());
                handed.take(content)
            }
        };
        self.left_out += u64::from(has_seen);
        has_seen
    }

    /// The same for an event that says which one it is.
    pub(super) fn has_seen_id(
        &mut self,
        source: &str,
        id: &str,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        self.has_seen(self.hasher.hash_one((source, id)), now)
    }

    /// The same for what is no event.
    pub(super) fn has_seen_other(
        &mut self,
        message: &Message<'_>,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        self.has_seen(self.content(message), now)
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

    fn has_seen(&mut self, new: u64, now: impl FnOnce() -> Instant) -> bool {
        if self.state != State::Settled {
            self.known.pass(LATE_MAX, now());
            if !self.known.contains(new) {
                self.known.insert(new);
            } else if self.changed.is_some() {
                return true;
            }
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
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

    /// Somewhere in time.
    struct Game {
        repeats: Repeats,
        now: Instant,
    }

    impl Game {
        fn new() -> Self {
            Self {
                repeats: Repeats::default(),
                now: now(),
            }
        }

        fn pass(&mut self, time: Duration) -> Option<u64> {
            self.now += time;
            let now = self.now;
            self.repeats.pass(|| now)
        }

        fn event(&mut self, body: &[u8]) -> bool {
            let now = self.now;
            self.repeats.has_seen_alike(&message(body), || now)
        }

        fn id(&mut self, source: &str, id: &str) -> bool {
            let now = self.now;
            self.repeats.has_seen_id(source, id, || now)
        }

        fn other(&mut self, body: &[u8]) -> bool {
            let now = self.now;
            self.repeats.has_seen_other(&message(body), || now)
        }

        fn ahead(&mut self, body: &[u8]) {
            self.repeats.ahead(&message(body), self.now);
        }

        fn announce(&mut self) {
            self.repeats.announce(self.now);
        }

        fn overlap_began(&mut self) {
            self.repeats.overlap_began(self.now);
        }

        fn changed(&mut self) {
            self.repeats.changed(self.now);
        }

        fn broke(&mut self) {
            self.repeats.broke(self.now);
        }
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_over_both_is_left_out_once_whichever_is_first() {
        let mut game = Game::new();
        game.announce();
        game.overlap_began();
        assert!(!game.event(b"1"));
        game.ahead(b"1");
        game.ahead(b"2");
        game.ahead(b"2");
        assert!(!game.event(b"2"));
        assert!(!game.event(b"1"));
        game.ahead(b"new");
        // All the time that a change may take.
        game.pass(Duration::from_secs(9));
        game.ahead(b"1");
        game.changed();
        let kept: [&[u8]; 5] = [b"1", b"2", b"2", b"new", b"1"];
        let seen = kept.map(|body| game.event(body));
        assert_eq!(seen, [true, true, false, false, false]);
        assert_eq!(game.pass(MOMENT), None);
        assert_eq!(game.pass(ALIKE_LATE_MAX * 2), Some(2));
        assert_eq!(game.pass(LATE_MAX * 2), None);
    }

    #[test]
    fn what_is_late_over_the_next_server_is_left_out_as_often() {
        let mut game = Game::new();
        assert!(!game.event(b"0"));
        game.announce();
        game.overlap_began();
        for body in [b"1", b"1", b"2"] {
            assert!(!game.event(body));
        }
        game.changed();
        game.pass(MOMENT);
        let seen = [b"0", b"1", b"2", b"1", b"2", b"1", b"3"].map(|body| game.event(body));
        assert_eq!(seen, [false, true, true, true, false, false, false]);
    }

    #[test]
    fn what_says_the_same_as_something_before_the_change_is_another_one() {
        let mut game = Game::new();
        game.announce();
        // Another server is found much later.
        assert!(!game.event(b"tick"));
        for _ in 0..100 {
            game.pass(ALIKE_LATE_MAX * 2);
            assert!(!game.event(b"tick"));
        }
        game.pass(ALIKE_LATE_MAX * 2);
        game.overlap_began();
        assert!(!game.event(b"tick"));
        game.ahead(b"tick");
        game.pass(ALIKE_LATE_MAX * 2);
        game.changed();
        assert!(game.event(b"tick"), "it came over both");
        game.pass(MOMENT);
        for _ in 0..100 {
            assert!(!game.event(b"tick"), "nobody sent it twice");
            game.pass(ALIKE_LATE_MAX * 2);
        }
    }

    #[test]
    fn a_next_server_that_is_lost_is_not_what_another_one_is_paired_with() {
        let mut game = Game::new();
        game.announce();
        game.overlap_began();
        assert!(!game.event(b"1"));
        game.ahead(b"1");
        game.ahead(b"2");
        game.overlap_began();
        // Both servers have both; the one that is gone had them, too.
        assert!(!game.event(b"2"));
        game.ahead(b"1");
        game.ahead(b"2");
        game.changed();
        assert!(game.event(b"1") && game.event(b"2"));
        assert!(!game.event(b"1"));
    }

    #[test]
    fn what_can_be_told_apart_is_known_for_a_while_after_a_change() {
        let mut game = Game::new();
        assert!(!game.id("a", "1"));
        assert!(!game.id("b", "1"));
        assert!(!game.other(b"2"));
        game.announce();
        assert!(!game.event(b"1"));
        game.broke();
        assert!(!game.event(b"1"), "it came over one alone");
        assert!(game.other(b"2"));
        assert!(game.id("a", "1"));
        assert!(!game.id("a", "2"));
        assert!(game.id("a", "2"), "it came late");
        game.pass(LATE_MAX);
        assert!(game.id("b", "1"));
        game.pass(LATE_MAX);
        assert!(!game.id("b", "1"), "it is somebody else's");
    }

    #[test]
    fn a_change_after_a_change_forgets_nothing_that_can_be_told_apart() {
        let mut game = Game::new();
        assert!(!game.id("a", "1"));
        game.announce();
        assert!(!game.event(b"0"));
        game.changed();
        // This server will soon be gone, too.
        game.announce();
        game.pass(MOMENT);
        assert!(game.id("a", "1"));
        assert!(!game.event(b"1"));
        assert!(game.event(b"0"), "it was late over this one");
        // The change takes so long that the one before has nothing to do with it.
        game.pass(2 * LATE_MAX);
        assert!(!game.id("a", "2"));
        assert!(!game.event(b"2"));
        game.changed();
        game.pass(MOMENT);
        assert!(game.id("a", "2"));
        assert!(game.event(b"2"));
    }

    #[test]
    fn of_a_busy_bus_enough_is_remembered_for_a_change_that_takes_long() {
        let mut game = Game::new();
        assert!(!game.id("a", "first"));
        game.announce();
        for number in 0..RECENT_MAX / 2 - LAST_MAX {
            game.id("a", &number.to_string());
        }
        game.changed();
        assert!(game.id("a", "first") && game.id("a", "7"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut game = Game::new();
        for number in 0..LAST_MAX + 10 {
            game.id("a", &number.to_string());
        }
        game.changed();
        assert!(game.id("a", &LAST_MAX.to_string()));
        assert!(!game.id("a", "9"), "it is forgotten");
        game.announce();
        for number in 0..RECENT_MAX + 10 {
            game.event(&number.to_le_bytes());
            game.id("b", &number.to_string());
        }
        let Repeats {
            last, known, alike, ..
        } = &game.repeats;
        assert!(last.len() <= LAST_MAX);
        for recent in [known, &alike.handed] {
            assert!(recent.young.len() + recent.old.len() <= RECENT_MAX);
        }
    }
}
