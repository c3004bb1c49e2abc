//! Which events of other nodes never arrived here: a server dropped them on their way between servers, or this node was
//! away.
//!
//! Nobody numbers events, so nobody pays for that. But a node's question about health ([`crate::health`]) stays behind the
//! events that it has published before, all the way. It comes back to that node as well, which then knows how many of its
//! events its server had taken before it; with its next question it says so. Whoever has heard both questions knows how
//! many of those events had arrived here by the first one. What one count has grown by and the other has not is missing
//! here. A node that leaves says how many there were altogether, so that its last ones count as well.
//!
//! Between two connections of a node nothing is known: what it says over the later one may overtake what it said over the
//! earlier one.
//!
//! This knows no network; whoever takes in a connection's messages, in their order, drives it.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Nodes whose events are counted, and sources of events. When there are more, the one that was heard of least recently
/// goes: whatever floods the subject must not fill the memory.
const NODES_MAX: usize = 4096;

/// Questions of a node that are remembered until it says what came before them.
const MARKS_MAX: usize = 8;

/// What a node says of an earlier question of its own, which has come back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Echoed {
    /// The question's number.
    number: u64,
    /// How many of the node's events had come back before it.
    events: u64,
    /// How many connections the node had made when it came back. What is said over one of them may overtake what was said
    /// over the one before.
    #[serde(default)]
    link: u64,
}

/// A node's question, as far as it is of interest here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// 0: it is about something else.
    pub(crate) number: u64,
    pub(crate) instance: &'a str,
    /// The source of its events.
    pub(crate) node: &'a str,
    pub(crate) echoed: Option<Echoed>,
}

/// What a node says when it leaves, behind its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Of its last question that has come back.
    echoed: Echoed,
    /// How many of its events have come back altogether.
    events: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// This run of this node.
    own: String,
    own_events: u64,
    /// Connections that this node has made.
    own_links: u64,
    /// What the last own question that has come back proves.
    own_echoed: Option<Echoed>,
    /// Events that have arrived, by the source of those who ask questions.
    sources: HashMap<String, Source>,
    /// By instance.
    nodes: HashMap<String, Node>,
    /// Questions that have arrived, by which those who were heard of last are known.
    now: u64,
}

struct Source {
    events: u64,
    heard: u64,
}

struct Node {
    /// The source of its events.
    name: String,
    heard: u64,
    /// Its last questions: their numbers, and how many of its events had arrived here before each.
    marks: VecDeque<(u64, u64)>,
    /// What was known at the last question that could be settled.
    settled: Option<Settled>,
}

#[derive(Clone, Copy)]
struct Settled {
    number: u64,
    link: u64,
    /// Events that the node's server had taken before it.
    sent: u64,
    /// Events that had arrived here before it.
    arrived: u64,
}

impl Tally {
    /// Whose own questions and events are.
    pub(crate) fn call_own(&mut self, instance: &str) {
        self.own = instance.into();
    }

    /// This node has made a connection.
    pub(crate) fn linked(&mut self) {
        self.own_links += 1;
    }

    /// An own event has come back.
    pub(crate) fn own_event_arrived(&mut self) {
        self.own_events += 1;
    }

    /// Somebody else's event has arrived.
    pub(crate) fn event_arrived(&mut self, source: &str) {
        if let Some(source) = self.sources.get_mut(source) {
            source.events += 1;
        }
    }

    /// A question has arrived, perhaps an own one. Answers how many events of that node turn out never to have arrived.
    pub(crate) fn question_arrived(&mut self, question: Question<'_>) -> u64 {
        let Question {
            number,
            instance,
            node: name,
            echoed,
        } = question;
        if number == 0 {
            return 0;
        }
        if instance == self.own {
            if (self.own_echoed).is_some_and(|last| last.number >= number) {
                // It comes again, by way of another server.
                return 0;
            }
            self.own_echoed = Some(Echoed {
                number,
                events: self.own_events,
                link: self.own_links,
            });
            return 0;
        }
        self.now += 1;
        self.make_room(instance, name);
        let heard = self.now;
        let source = self.sources.entry(name.into());
        let source = source.or_insert(Source { events: 0, heard });
        source.heard = heard;
        let node = self.nodes.entry(instance.into()).or_insert_with(|| Node {
            name: name.into(),
            heard,
            marks: VecDeque::new(),
            settled: None,
        });
        node.heard = heard;
        // What comes late, or again, says nothing.
        if (node.marks.back()).is_none_or(|(last, _)| *last < number) {
            if node.marks.len() == MARKS_MAX {
                node.marks.pop_front();
            }
            node.marks.push_back((number, source.events));
        }
        echoed.map_or(0, |echoed| node.settle(echoed))
    }

    fn make_room(&mut self, instance: &str, name: &str) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(instance) {
            let oldest = self.nodes.iter().min_by_key(|(_, node)| node.heard);
            if let Some(oldest) = oldest.map(|(instance, _)| instance.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        if self.sources.len() >= NODES_MAX && !self.sources.contains_key(name) {
            let oldest = self.sources.iter().min_by_key(|(_, source)| source.heard);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.sources.remove(&oldest);
                // What was counted for them begins at nothing again.
                self.nodes.retain(|_, node| node.name != oldest);
            }
        }
    }

    /// What the next own question says of the last one that has come back.
    pub(crate) fn echoed(&self) -> Option<Echoed> {
        self.own_echoed
    }

    /// What this node says when it leaves. `None`: nobody could make anything of it.
    pub(crate) fn account(&self) -> Option<Account> {
        // What came back over another connection does not tell what has arrived over this one.
        let echoed = (self.own_echoed).filter(|echoed| echoed.link == self.own_links)?;
        Some(Account {
            echoed,
            events: self.own_events,
        })
    }

    /// A node has left. Answers who it was, and how many of its events turn out never to have arrived.
    pub(crate) fn left(
        &mut self,
        instance: &str,
        account: Option<Account>,
    ) -> Option<(String, u64)> {
        // Its source may be that of the one that takes its place.
        let mut node = self.nodes.remove(instance)?;
        let Account { echoed, events } = account?;
        let mut missed = node.settle(echoed);
        let arrived = self.sources.get(&node.name)?.events;
        if let Some(before) = node.settled.filter(|before| before.link == echoed.link) {
            missed += before.missed(events, arrived);
        }
        Some((node.name, missed))
    }
}

impl Node {
    fn settle(&mut self, echoed: Echoed) -> u64 {
        let of_question = |(number, _): &&(u64, u64)| *number == echoed.number;
        // A question that did not arrive here settles nothing; a later one does for it.
        let Some(&(number, arrived)) = self.marks.iter().find(of_question) else {
            return 0;
        };
        let now = Settled {
            number,
            link: echoed.link,
            sent: echoed.events,
            arrived,
        };
        let Some(before) = self.settled else {
            self.settled = Some(now);
            return 0;
        };
        if number <= before.number {
            return 0;
        }
        self.settled = Some(now);
        if before.link == now.link {
            before.missed(now.sent, now.arrived)
        } else {
            // What it said over the connection before may still be on its way here.
            0
        }
    }
}

impl Settled {
    /// What is missing of what was sent since.
    fn missed(&self, sent: u64, arrived: u64) -> u64 {
        // More than were sent arrive where others use the node's name, or if it lost its connection before they came
        // back to it.
        let sent = sent.saturating_sub(self.sent);
        sent.saturating_sub(arrived.saturating_sub(self.arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that publishes and asks, seen by itself and by another.
    #[derive(Default)]
    struct Game {
        own: Tally,
        other: Tally,
        asked: u64,
    }

    impl Game {
        fn new() -> Self {
            let mut game = Self::default();
            game.own.call_own("1");
            game.other.call_own("2");
            game
        }

        fn publish(&mut self, arrive: u64, miss: u64) {
            for number in 0..arrive + miss {
                self.own.own_event_arrived();
                if number < arrive {
                    self.other.event_arrived("a");
                }
            }
        }

        /// Answers what the other one finds missing.
        fn ask(&mut self, arrives: bool) -> u64 {
            self.asked += 1;
            let question = Question {
                number: self.asked,
                instance: "1",
                node: "a",
                echoed: self.own.echoed(),
            };
            assert_eq!(
                self.own.question_arrived(question),
                0,
                "nobody misses its own"
            );
            if arrives {
                self.other.question_arrived(question)
            } else {
                0
            }
        }
    }

    #[test]
    fn what_does_not_arrive_is_found_by_the_question_after_the_next() {
        let mut game = Game::new();
        game.publish(3, 4);
        assert_eq!(
            (game.ask(true), game.ask(true)),
            (0, 0),
            "before it was known"
        );
        game.publish(10, 2);
        assert_eq!(game.ask(true), 0, "it may be on its way");
        game.publish(0, 5);
        assert_eq!(game.ask(true), 2);
        assert_eq!(game.ask(true), 5);
        game.publish(100, 0);
        assert_eq!((game.ask(true), game.ask(true), game.ask(true)), (0, 0, 0));
    }

    #[test]
    fn questions_may_be_missing_too() {
        let mut game = Game::new();
        game.ask(true);
        game.ask(true);
        for _ in 0..MARKS_MAX * 2 {
            game.publish(0, 1);
            game.ask(false);
        }
        assert_eq!(game.ask(true), 0);
        game.publish(7, 0);
        assert_eq!(game.ask(true), MARKS_MAX as u64 * 2);
    }

    #[test]
    fn what_others_publish_under_the_name_makes_nothing_missing() {
        let mut game = Game::new();
        game.ask(true);
        game.ask(true);
        game.other.event_arrived("a");
        game.other.event_arrived("stranger");
        game.publish(1, 0);
        game.ask(true);
        assert_eq!(game.ask(true), 0);
        game.publish(1, 1);
        game.ask(true);
        assert_eq!(game.ask(true), 1, "nor does it hide anything later");
    }

    #[test]
    fn what_is_missing_at_the_end_is_told_by_the_good_bye() {
        let mut game = Game::new();
        game.ask(true);
        game.ask(true);
        game.publish(5, 2);
        game.ask(true);
        game.publish(3, 4);
        let account = game.own.account();
        assert_eq!(game.other.left("1", account), Some(("a".into(), 6)));
        assert_eq!(game.other.left("1", account), None, "it is gone");
        // A short life, with one question at its beginning.
        let mut game = Game::new();
        game.ask(true);
        game.publish(3, 1);
        let account = game.own.account();
        assert_eq!(game.other.left("1", account), Some(("a".into(), 1)));
        // One that says nothing of it.
        let mut game = Game::new();
        game.ask(true);
        game.publish(3, 1);
        assert_eq!(game.other.left("1", None), None);
    }

    #[test]
    fn what_is_overtaken_by_another_connection_is_not_missing() {
        let mut game = Game::new();
        game.ask(true);
        game.ask(true);
        for _ in 0..5 {
            game.own.own_event_arrived();
        }
        // It breaks and is made again, and the question overtakes the events.
        game.own.linked();
        assert!(game.own.account().is_none());
        assert_eq!((game.ask(true), game.ask(true)), (0, 0));
        for _ in 0..5 {
            game.other.event_arrived("a");
        }
        assert_eq!((game.ask(true), game.ask(true)), (0, 0));
        // From then on it is counted again.
        game.publish(3, 1);
        game.ask(true);
        assert_eq!(game.ask(true), 1);
        game.publish(3, 1);
        let account = game.own.account();
        assert_eq!(game.other.left("1", account), Some(("a".into(), 1)));
    }

    #[test]
    fn questions_that_come_again_or_are_about_something_else_count_nothing() {
        let mut game = Game::new();
        game.ask(true);
        game.ask(true);
        game.publish(3, 0);
        let again = Question {
            number: 2,
            instance: "1",
            node: "a",
            echoed: game.own.echoed(),
        };
        game.other.question_arrived(again);
        game.own.question_arrived(again);
        for _ in 0..MARKS_MAX {
            game.other.question_arrived(Question {
                number: 0,
                echoed: None,
                ..again
            });
        }
        assert_eq!((game.ask(true), game.ask(true)), (0, 0));
        game.publish(3, 1);
        game.ask(true);
        assert_eq!(game.ask(true), 1);
    }

    #[test]
    fn of_a_flood_of_nodes_the_last_ones_count() {
        let mut game = Game::new();
        game.ask(true);
        for number in 0..NODES_MAX * 3 {
            let name = number.to_string();
            let question = Question {
                number: 1,
                instance: &name,
                node: &name,
                echoed: None,
            };
            game.other.question_arrived(question);
            if number % NODES_MAX == 0 {
                game.ask(true);
            }
            if number % 2 == 0 {
                game.other.left(&name, None);
            }
        }
        let Tally { nodes, sources, .. } = &game.other;
        assert!(nodes.len() <= NODES_MAX && sources.len() <= NODES_MAX);
        assert!(sources.contains_key(&(NODES_MAX * 3 - 1).to_string()));
        assert!(!sources.contains_key("0"));
        // Whoever goes on asking is not pushed out, and nothing of it is missing.
        assert_eq!((game.ask(true), game.ask(true)), (0, 0));
        game.publish(3, 1);
        game.ask(true);
        assert_eq!(game.ask(true), 1);
    }
}
