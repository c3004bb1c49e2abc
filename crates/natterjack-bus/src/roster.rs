//! Which nodes are there, and whether what this node says reaches them.
//!
//! Every node asks all others now and then, and all answer. An answer proves that the asker's words arrive there and the
//! answerer's here; a question proves the latter alone. Since a question stays behind the events accepted before it, an
//! answer also proves that those have arrived. This knows no network and no clock: [`crate::health`] drives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
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
    /// Its first sign of life, and its last.
    appeared: Instant,
    heard: Instant,
    /// The last question that it has answered, when, and how long that took.
    answered: Option<Answered>,
    /// The id of the server it embeds, if it has told.
    server: Option<String>,
    /// Whether that server may still be on its way to others, so that more nodes may come into reach.
    is_settling: bool,
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
            // Whoever fills in settings by hand may have forgotten it.
            interval: interval.max(PAUSE_MIN),
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
        // Without a connection everybody is silent, and may be back when it is.
        if let Some(connected) = self.connected {
            let silence = |node: &Node| now.saturating_duration_since(connected.max(node.heard));
            self.nodes.retain(|_, node| silence(node) < silence_max);
        }
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
        if self.connected.is_some() && self.is_open(now) {
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
                appeared: now,
                heard: now,
                answered: None,
                server: None,
                is_settling: false,
            };
            self.nodes.insert(instance.into(), node);
            // Whether our words reach it is to be seen.
            if instance != self.own {
                self.changed(now);
            }
        }
    }

    /// The node embeds this server, which may still be on its way to others.
    pub(crate) fn embeds(&mut self, instance: &str, server: String, is_settling: bool) {
        if let Some(node) = self.nodes.get_mut(instance) {
            node.server = Some(server);
            node.is_settling = is_settling;
        }
    }

    /// Whether the server of a node that is up may still be on its way to others.
    pub(crate) fn is_settling(&self, now: Instant) -> bool {
        let nodes = &mut self.nodes.iter();
        nodes.any(|(instance, node)| node.is_settling && !self.is_gone(instance, node, now))
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
        if !self.is_open(now) {
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

    /// Whether something is soon to be known that is not known yet.
    fn is_open(&self, now: Instant) -> bool {
        !self.is_complete(now) || self.is_settling(now)
    }

    /// Whether everybody there is has answered since the connection was made, this node just now, and nobody new turned up
    /// for a while.
    pub(crate) fn is_complete(&self, now: Instant) -> bool {
        let is_current = |answered: &Answered| answered.number > self.asked_before;
        let own = self.nodes.get(&self.own).and_then(|node| node.answered);
        self.connected.is_some()
            && own.is_some_and(|own| {
                // Nothing else tells that a server, or the way to it, stands still: the connection is there.
                let is_recent = now.saturating_duration_since(own.at) < self.patience();
                is_current(&own) && is_recent && own.sent >= self.changed + self.settling
            })
            && self.nodes.iter().all(|(instance, node)| {
                node.answered.as_ref().is_some_and(is_current) || self.is_gone(instance, node, now)
            })
    }

    /// Whether this node is not there any more, as far as one can know of somebody who has not said good-bye.
    fn is_gone(&self, instance: &str, node: &Node, now: Instant) -> bool {
        let silent_since = self.connected.map(|connected| connected.max(node.heard));
        let is_silent = silent_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.patience());
        is_silent || self.has_successor(instance, node)
    }

    /// Whether a node of the same name was started later and answers questions that this one does not. Instances are named
    /// in the order of their starts. Two nodes may have one name by mistake: then both go on answering.
    fn has_successor(&self, instance: &str, node: &Node) -> bool {
        let has_answered_instead = |later: &Node| {
            let is_asked_later = |answered: Answered| answered.sent > node.heard;
            later.name == node.name
                && later.appeared > node.heard
                && later.answered.is_some_and(is_asked_later)
        };
        let mut later = self.nodes.range::<str, _>((Excluded(instance), Unbounded));
        *instance != *self.own && later.any(|(_, later)| has_answered_instead(later))
    }

    /// How long a node that is up may be silent: it is asked once in each interval.
    fn patience(&self) -> Duration {
        self.interval + ANSWER_TIME_MAX
    }

    /// Names of other nodes that have not answered this question or a later one, with the ids of the servers that they embed,
    /// as far as they have told. Of those that are known to be gone nothing is expected.
    pub(crate) fn silent_since(&self, number: u64, now: Instant) -> BTreeSet<(&str, Option<&str>)> {
        let has_answered = |node: &Node| {
            node.answered
                .is_some_and(|answered| answered.number >= number)
        };
        // A node that was started anew has answered for its predecessor.
        let answered: BTreeSet<_> = (self.nodes.iter())
            .filter(|(instance, node)| **instance != self.own && has_answered(node))
            .map(|(_, node)| &node.name)
            .collect();
        self.nodes
            .iter()
            .filter(|(instance, node)| {
                **instance != self.own
                    && !answered.contains(&node.name)
                    && !self.is_gone(instance, node, now)
            })
            .map(|(_, node)| (&*node.name, node.server.as_deref()))
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

        /// So many questions, which these instances of nodes answer at once.
        fn exchange(&mut self, questions: u32, nodes: &[(&str, &str)]) {
            for _ in 0..questions {
                self.now = self.now.max(self.roster.due());
                let number = self.ask();
                for (instance, name) in nodes {
                    self.roster.answered(number, instance, name, self.now);
                }
            }
        }

        /// Until nothing is open, with these nodes answering at once.
        fn settle(&mut self, nodes: &[&str]) -> u64 {
            for _ in 0..100 {
                self.now = self.now.max(self.roster.due());
                let number = self.ask();
                self.answer(number, nodes);
                if self.roster.is_complete(self.now) {
                    return number;
                }
            }
            panic!("never complete");
        }

        fn silent_since(&self, number: u64) -> Vec<&str> {
            let silent = self.roster.silent_since(number, self.now);
            silent.into_iter().map(|(name, _)| name).collect()
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
        assert!(
            !game.roster.is_complete(game.now),
            "others may be on their way"
        );
        let number = game.settle(&["own", "b"]);
        assert!(number > first);
        assert!(game.silent_since(number).is_empty());
        assert_eq!(game.roster.due(), game.now + INTERVAL, "no hurry now");
    }

    #[test]
    fn a_newcomer_must_have_answered_too() {
        let mut game = Game::new();
        game.settle(&["own"]);
        game.pass(1000);
        game.roster.heard("c", "c", game.now);
        assert!(!game.roster.is_complete(game.now));
        assert_eq!(game.roster.due(), game.now, "it is asked at once");
        let number = game.ask();
        game.answer(number, &["own"]);
        assert!(!game.roster.is_complete(game.now));
        assert_eq!(game.silent_since(number), ["c"]);
        game.settle(&["own", "c"]);
    }

    #[test]
    fn a_new_connection_proves_nothing_by_itself() {
        let mut game = Game::new();
        let number = game.settle(&["own", "b"]);
        game.roster.linked(false, game.now);
        assert!(!game.roster.is_complete(game.now) && game.answering().is_empty());
        game.pass(100);
        game.roster.linked(true, game.now);
        game.answer(number, &["own", "b"]);
        assert!(!game.roster.is_complete(game.now), "an answer from before");
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
        assert_eq!(game.silent_since(number), ["b"]);
        game.pass(999);
        assert_eq!(game.silent_since(number), ["b"]);
        game.pass(501);
        assert_eq!(game.answering(), ["own"]);
        assert!(game.silent_since(number).is_empty(), "it is gone");
        game.pass(30_000);
        let number = game.ask();
        game.answer(number, &["own"]);
        assert!(game.silent_since(number).is_empty());
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
        assert!(game.silent_since(number).is_empty());
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
        assert!(game.roster.is_complete(game.now));
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

    #[test]
    fn a_node_that_hears_nothing_of_itself_is_not_complete() {
        let mut game = Game::new();
        game.settle(&["own", "b"]);
        // Nobody answers, itself included: the connection is there, and nothing goes through.
        game.pass(10_000);
        assert!(game.roster.is_complete(game.now), "it has time to answer");
        game.ask();
        game.pass(2_000);
        assert!(!game.roster.is_complete(game.now));
        game.settle(&["own", "b"]);
    }

    #[test]
    fn of_whoever_crashed_only_the_successor_is_waited_for() {
        let mut game = Game::new();
        game.exchange(4, &[("own", "own"), ("b1", "b")]);
        assert!(game.roster.is_complete(game.now));
        // Its server is gone with it, which this node was connected with.
        game.roster.linked(false, game.now);
        game.pass(100);
        game.roster.linked(true, game.now);
        game.exchange(4, &[("own", "own")]);
        assert!(!game.roster.is_complete(game.now), "it may be on its way");
        game.exchange(4, &[("own", "own"), ("b2", "b")]);
        assert!(game.roster.is_complete(game.now));
        // Two of one name that are both there are both waited for.
        game.roster.heard("b1", "b", game.now);
        assert!(!game.roster.is_complete(game.now));
    }

    #[test]
    fn whoever_crashed_for_good_is_not_waited_for_long() {
        let mut game = Game::new();
        game.settle(&["own", "b"]);
        game.roster.linked(false, game.now);
        game.pass(1_000);
        game.roster.linked(true, game.now);
        let connected = game.now;
        game.settle(&["own"]);
        let waited = game.now.duration_since(connected);
        assert!(
            (INTERVAL..=INTERVAL + Duration::from_secs(4)).contains(&waited),
            "{waited:?}"
        );
    }

    #[test]
    fn a_long_time_without_a_connection_makes_nobody_forgotten() {
        let mut game = Game::new();
        game.settle(&["own", "b"]);
        game.roster.linked(false, game.now);
        for _ in 0..20 {
            game.pass(10_000);
            game.ask();
        }
        game.roster.linked(true, game.now);
        game.exchange(4, &[("own", "own")]);
        assert!(!game.roster.is_complete(game.now), "it may be on its way");
        game.exchange(4, &[("own", "own"), ("b", "b")]);
        assert!(game.roster.is_complete(game.now));
    }

    #[test]
    fn a_server_on_its_way_to_others_is_told_until_it_is_there_or_gone() {
        let mut game = Game::new();
        game.settle(&["own", "b"]);
        assert!(!game.roster.is_settling(game.now));
        game.roster.embeds("b", "B".into(), true);
        assert!(game.roster.is_settling(game.now));
        game.exchange(2, &[("own", "own"), ("b", "b")]);
        let soon = game.now + PAUSE_MAX;
        assert!(game.roster.due() <= soon, "it is asked again and again");
        game.roster.embeds("b", "B".into(), false);
        assert!(!game.roster.is_settling(game.now));
        game.roster.embeds("b", "B".into(), true);
        game.pass(12_000);
        assert!(!game.roster.is_settling(game.now));
    }
}
