//! Which nodes are there, and whether what this node says reaches them.
//!
//! Every node asks all others now and then, and all answer. An answer proves that the asker's words arrive there and the
//! answerer's here; a question proves the latter alone. Since a question stays behind the events accepted before it, an
//! answer also proves that those have arrived. This knows no network and no clock: [`crate::health`] drives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Nodes remembered. A bus has tens; whatever floods the subject must not fill the memory.
const NODES_MAX: usize = 4096;

/// Nodes that have left and are remembered.
const LEFT_MAX: usize = 64;

/// Questions whose time of sending is remembered.
const PROBES_MAX: usize = 64;

/// Intervals without a sign of life after which a node is forgotten, and the shortest time for that.
const SILENT_INTERVALS_MAX: u32 = 3;
const SILENCE_MIN: Duration = Duration::from_secs(5);

/// Longest time that an answer may take, and still count for the interval it belongs to.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// First and longest pause between questions as long as somebody has not answered.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Roster {
    /// This node.
    own: String,
    interval: Duration,
    /// How long nobody new must have turned up for this to count as complete.
    settling: Duration,
    nodes: BTreeMap<String, Node>,
    /// Who has left. What is still on its way from there must not bring it back.
    left: VecDeque<String>,
    /// Questions asked so far; the number of the last.
    asked: u64,
    probes: VecDeque<(u64, Instant)>,
    /// Since when there is a connection.
    connected: Option<Instant>,
    /// The last question before that.
    asked_before: u64,
    /// When somebody new turned up last, or the connection did.
    changed: Instant,
    /// When to ask next.
    due: Instant,
}

struct Node {
    name: String,
    /// Its last sign of life.
    heard: Instant,
    /// The last question that it has answered, when, and how long that took.
    answered: Option<Answered>,
    /// The id of the server it embeds, if it has told.
    server: Option<String>,
}

#[derive(Clone, Copy)]
struct Answered {
    number: u64,
    sent: Instant,
    at: Instant,
}

/// One node, as it looks now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) is_own: bool,
    /// Whether it answers in time.
    pub(crate) is_answering: bool,
    /// How long ago it answered last.
    pub(crate) answered_ago: Option<Duration>,
    /// From the question to that answer.
    pub(crate) round_trip: Option<Duration>,
}

impl Roster {
    pub(crate) fn new(own: String, interval: Duration, settling: Duration, now: Instant) -> Self {
        Self {
            own,
            interval,
            settling,
            nodes: BTreeMap::new(),
            left: VecDeque::new(),
            asked: 0,
            probes: VecDeque::new(),
            connected: None,
            asked_before: 0,
            changed: now,
            due: now,
        }
    }

    /// The connection came or went.
    pub(crate) fn linked(&mut self, connected: bool, now: Instant) {
        self.connected = connected.then_some(now);
        if connected {
            self.asked_before = self.asked;
            self.changed(now);
        }
    }

    fn changed(&mut self, now: Instant) {
        self.changed = now;
        self.due = now;
    }

    /// When to ask next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Everybody is being asked now. Answers with the number of the question.
    pub(crate) fn ask(&mut self, now: Instant) -> u64 {
        let silence_max = (self.interval * SILENT_INTERVALS_MAX).max(SILENCE_MIN);
        self.nodes
            .retain(|_, node| now.duration_since(node.heard) < silence_max);
        self.asked += 1;
        if self.probes.len() == PROBES_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back((self.asked, now));
        self.due = now + self.pause(now);
        self.asked
    }

    /// Short as long as something is open, and longer and longer while it stays so.
    fn pause(&self, now: Instant) -> Duration {
        if self.connected.is_some() && !self.is_complete() {
            let open_for = now.duration_since(self.changed);
            let settled = (self.changed + self.settling).saturating_duration_since(now);
            (open_for / 4)
                .max(settled)
                .clamp(PAUSE_MIN, PAUSE_MAX.min(self.interval.max(PAUSE_MIN)))
        } else {
            self.interval
        }
    }

    /// A node has given a sign of life.
    pub(crate) fn heard(&mut self, instance: &str, name: &str, now: Instant) {
        if let Some(node) = self.nodes.get_mut(instance) {
            node.heard = now;
        } else if self.nodes.len() < NODES_MAX && !self.left.iter().any(|left| left == instance) {
            let node = Node {
                name: name.into(),
                heard: now,
                answered: None,
                server: None,
            };
            self.nodes.insert(instance.into(), node);
            // Whether our words reach it is to be seen.
            if instance != self.own {
                self.changed(now);
            }
        }
    }

    /// The node embeds this server.
    pub(crate) fn embeds(&mut self, instance: &str, server: String) {
        if let Some(node) = self.nodes.get_mut(instance) {
            node.server = Some(server);
        }
    }

    /// Whether a node that embeds this server has answered since the connection was made.
    pub(crate) fn has_answered_at(&self, server: &str) -> bool {
        self.nodes.values().any(|node| {
            node.server.as_deref() == Some(server)
                && (node.answered).is_some_and(|answered| answered.number > self.asked_before)
        })
    }

    /// A node has answered a question of ours.
    pub(crate) fn answered(&mut self, number: u64, instance: &str, name: &str, now: Instant) {
        self.heard(instance, name, now);
        let probe = self.probes.iter().find(|(probe, _)| *probe == number);
        let (Some(&(number, sent)), Some(node)) = (probe, self.nodes.get_mut(instance)) else {
            return;
        };
        if node.answered.is_none_or(|before| before.number < number) {
            node.answered = Some(Answered {
                number,
                sent,
                at: now,
            });
        }
        // Now that everything is settled there is no hurry.
        if self.is_complete() {
            self.due = self.due.max(sent + self.interval);
        }
    }

    /// A node has said good-bye.
    pub(crate) fn left(&mut self, instance: &str) {
        // With it, whoever was there before it under its name: instances are named in the order of their starts. This node
        // itself is there, whatever others are called.
        if let Some(Node { name, .. }) = self.nodes.remove(instance) {
            let own = &self.own;
            let is_before = |earlier: &str, node: &Node| {
                node.name == name && *earlier < *instance && *earlier != **own
            };
            self.nodes.retain(|earlier, node| !is_before(earlier, node));
        }
        if self.left.len() == LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back(instance.into());
    }

    /// Whether everybody there is has answered since the connection was made, and nobody new turned up for a while.
    pub(crate) fn is_complete(&self) -> bool {
        let is_current = |answered: &Answered| answered.number > self.asked_before;
        let own = self.nodes.get(&self.own).and_then(|node| node.answered);
        self.connected.is_some()
            && own.is_some_and(|own| is_current(&own) && own.sent >= self.changed + self.settling)
            && self
                .nodes
                .values()
                .all(|node| node.answered.as_ref().is_some_and(is_current))
    }

    /// Names of other nodes that have not answered this question or a later one.
    pub(crate) fn silent_since(&self, number: u64) -> BTreeSet<String> {
        let has_answered = |node: &&Node| {
            node.answered
                .is_some_and(|answered| answered.number >= number)
        };
        let others = || {
            self.nodes
                .iter()
                .filter(|(instance, _)| **instance != self.own)
                .map(|(_, node)| node)
        };
        // A node that was started anew has answered for its predecessor.
        let answered: BTreeSet<_> = others()
            .filter(has_answered)
            .map(|node| &node.name)
            .collect();
        others()
            .map(|node| &node.name)
            .filter(|name| !answered.contains(name))
            .cloned()
            .collect()
    }

    /// Instances of other nodes that are up, as far as is known: those that answer in time, and those that are new.
    pub(crate) fn others_up(&self, now: Instant) -> BTreeSet<String> {
        let late = self.interval + ANSWER_TIME_MAX;
        let is_in_time = |answered: Answered| now.saturating_duration_since(answered.at) < late;
        let is_up = |node: &Node| node.answered.is_none_or(is_in_time);
        let all = self.nodes.iter();
        all.filter(|(instance, node)| **instance != self.own && is_up(node))
            .map(|(instance, _)| instance.clone())
            .collect()
    }

    /// Nodes by name, those of one name as one.
    pub(crate) fn seen(&self, now: Instant) -> Vec<Seen> {
        let late = self.interval + self.interval.min(ANSWER_TIME_MAX);
        let mut by_name = BTreeMap::<&str, Seen>::new();
        for (instance, node) in &self.nodes {
            let ago = (node.answered).map(|answered| now.saturating_duration_since(answered.at));
            let round_trip =
                |answered: Answered| answered.at.saturating_duration_since(answered.sent);
            let seen = Seen {
                name: node.name.clone(),
                is_own: *instance == self.own,
                is_answering: self.connected.is_some() && ago.is_some_and(|ago| ago < late),
                answered_ago: ago,
                round_trip: node.answered.map(round_trip),
            };
            match by_name.get(node.name.as_str()) {
                Some(known)
                    if known.is_own
                        || known
                            .answered_ago
                            .is_some_and(|known| ago.is_none_or(|ago| known < ago)) => {}
                _ => drop(by_name.insert(&node.name, seen)),
            }
        }
        by_name.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const SETTLING: Duration = Duration::from_millis(50);

    struct Game {
        roster: Roster,
        now: Instant,
    }

    impl Game {
        /// A node that is connected.
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        fn new() -> Self {
            let now = Instant::now();
            let mut roster = Roster::new("own".into(), INTERVAL, SETTLING, now);
            roster.linked(true, now);
            Self { roster, now }
        }

        fn pass(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }

        fn ask(&mut self) -> u64 {
            self.roster.ask(self.now)
        }

        fn answer(&mut self, number: u64, nodes: &[&str]) {
            for node in nodes {
                self.roster.answered(number, node, node, self.now);
            }
        }

        /// Until nothing is open, with these nodes answering at once.
        fn settle(&mut self, nodes: &[&str]) -> u64 {
            for _ in 0..100 {
                self.now = self.now.max(self.roster.due());
                let number = self.ask();
                self.answer(number, nodes);
                if self.roster.is_complete() {
                    return number;
                }
            }
            panic!("never complete");
        }

        fn answering(&self) -> Vec<String> {
            let seen = self.roster.seen(self.now);
            let answering = seen.into_iter().filter(|node| node.is_answering);
            answering.map(|node| node.name).collect()
        }
    }

    #[test]
    fn it_is_complete_once_everybody_has_answered_for_a_while() {
        let mut game = Game::new();
        let first = game.ask();
        game.answer(first, &["own", "b"]);
        assert!(!game.roster.is_complete(), "others may be on their way");
        let number = game.settle(&["own", "b"]);
        assert!(number > first);
        assert!(game.roster.silent_since(number).is_empty());
        assert_eq!(game.roster.due(), game.now + INTERVAL, "no hurry now");
    }

    #[test]
    fn a_newcomer_must_have_answered_too() {
        let mut game = Game::new();
        game.settle(&["own"]);
        game.pass(1000);
        game.roster.heard("c", "c", game.now);
        assert!(!game.roster.is_complete());
        assert_eq!(game.roster.due(), game.now, "it is asked at once");
        let number = game.ask();
        game.answer(number, &["own"]);
        assert!(!game.roster.is_complete());
        assert_eq!(game.roster.silent_since(number), ["c".to_owned()].into());
        game.settle(&["own", "c"]);
    }

    #[test]
    fn a_new_connection_proves_nothing_by_itself() {
        let mut game = Game::new();
        let number = game.settle(&["own", "b"]);
        game.roster.linked(false, game.now);
        assert!(!game.roster.is_complete() && game.answering().is_empty());
        game.pass(100);
        game.roster.linked(true, game.now);
        game.answer(number, &["own", "b"]);
        assert!(!game.roster.is_complete(), "an answer from before");
        game.settle(&["own", "b"]);
    }

    #[test]
    fn who_falls_silent_is_missed_and_forgotten_and_who_leaves_is_not() {
        let mut game = Game::new();
        game.settle(&["own", "b", "c"]);
        game.roster.left("c");
        game.roster.heard("c", "c", game.now);
        assert_eq!(
            game.answering(),
            ["b", "own"],
            "what it said before comes late"
        );
        game.pass(11_000);
        let number = game.ask();
        game.answer(number, &["own"]);
        assert_eq!(game.answering(), ["b", "own"], "it has some time to answer");
        game.pass(1_500);
        assert_eq!(game.answering(), ["own"]);
        assert_eq!(game.roster.silent_since(number), ["b".to_owned()].into());
        game.pass(30_000);
        let number = game.ask();
        game.answer(number, &["own"]);
        assert!(game.roster.silent_since(number).is_empty());
        assert_eq!(game.roster.seen(game.now).len(), 1);
    }

    #[test]
    fn a_node_that_was_started_anew_counts_once() {
        let mut game = Game::new();
        game.settle(&["own", "b"]);
        game.pass(500);
        game.roster.heard("b2", "b", game.now);
        let number = game.ask();
        game.answer(number, &["own"]);
        game.roster.answered(number, "b2", "b", game.now);
        assert_eq!(game.answering(), ["b", "own"]);
        assert!(game.roster.silent_since(number).is_empty());
        game.roster.left("b2");
        assert_eq!(game.answering(), ["own"], "and leaves once");
    }

    #[test]
    fn this_node_stays_when_another_of_its_name_leaves() {
        let mut game = Game::new();
        game.settle(&["own"]);
        game.roster.heard("own2", "own", game.now);
        game.settle(&["own", "own2"]);
        game.roster.left("own2");
        assert!(game.roster.is_complete());
        assert_eq!(game.answering(), ["own"]);
    }

    #[test]
    fn questions_become_rare_while_nobody_answers() {
        let mut game = Game::new();
        let mut asked = 0;
        let end = game.now + Duration::from_secs(20);
        while game.now < end {
            game.ask();
            asked += 1;
            game.now = game.roster.due();
        }
        assert!((20..60).contains(&asked), "{asked}");
    }
}
