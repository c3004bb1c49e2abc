//! Which events of other nodes never arrived here: a server dropped them on their way between servers, or this node was
//! away.
//!
//! Nobody numbers events, so nobody pays for that. But a node's question about health ([`crate::health`]) stays behind the
//! events that it has published before, all the way. It comes back to that node as well, which then knows how many of its
//! events its server had taken before it; with its next question it says so. Whoever has heard both questions knows how
//! many of those events had arrived here by the first one. What one count has grown by and the other has not is missing
//! here.
//!
//! This knows no network; whoever takes in a connection's messages, in their order, drives it.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Nodes whose events are counted. When there are more all is begun anew: whatever floods the subject must not fill the
/// memory.
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
}

/// A node's question, as far as it is of interest here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) number: u64,
    pub(crate) instance: &'a str,
    /// The source of its events.
    pub(crate) node: &'a str,
    pub(crate) echoed: Option<Echoed>,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// This run of this node.
    own: String,
    own_events: u64,
    /// Events that have arrived, by the source of those who ask questions.
    sources: HashMap<String, u64>,
    /// By instance.
    nodes: HashMap<String, Node>,
}

#[derive(Default)]
struct Node {
    /// Its last questions: their numbers, and how many of its events had arrived here before each.
    marks: VecDeque<(u64, u64)>,
    /// What was known at the last question that could be settled.
    settled: Option<Settled>,
}

#[derive(Clone, Copy)]
struct Settled {
    number: u64,
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

    /// An own event has come back.
    pub(crate) fn own_event_arrived(&mut self) {
        self.own_events += 1;
    }

    /// Somebody else's event has arrived.
    pub(crate) fn event_arrived(&mut self, source: &str) {
        if let Some(events) = self.sources.get_mut(source) {
            *events += 1;
        }
    }

    /// A question has arrived, perhaps an own one. Answers how many events of that node turn out never to have arrived.
    pub(crate) fn question_arrived(&mut self, question: Question<'_>) -> u64 {
        let is_own = question.instance == self.own;
        if !self.nodes.contains_key(question.instance) && self.nodes.len() == NODES_MAX {
            self.nodes.clear();
            self.sources.clear();
        }
        let arrived = if is_own {
            self.own_events
        } else {
            *self.sources.entry(question.node.into()).or_default()
        };
        let node = self.nodes.entry(question.instance.into()).or_default();
        if node.marks.len() == MARKS_MAX {
            node.marks.pop_front();
        }
        node.marks.push_back((question.number, arrived));
        match question.echoed {
            Some(echoed) if !is_own => node.settle(echoed),
            _ => 0,
        }
    }

    /// What the next own question says of the last one that has come back.
    pub(crate) fn echoed(&self) -> Option<Echoed> {
        let (number, events) = *self.nodes.get(&self.own)?.marks.back()?;
        Some(Echoed { number, events })
    }

    /// A node has left.
    pub(crate) fn left(&mut self, instance: &str) {
        // Its source may be that of the one that takes its place.
        self.nodes.remove(instance);
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
            sent: echoed.events,
            arrived,
        };
        let Some(before) = self.settled.replace(now) else {
            return 0;
        };
        if number <= before.number {
            self.settled = Some(before);
            return 0;
        }
        // More than were sent arrive where others use the node's name, or if it lost its connection before they came
        // back to it.
        let sent = now.sent.saturating_sub(before.sent);
        sent.saturating_sub(now.arrived.saturating_sub(before.arrived))
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
    fn a_flood_of_nodes_does_not_fill_the_memory() {
        let mut tally = Tally::default();
        for number in 0..NODES_MAX * 3 {
            let name = number.to_string();
            tally.question_arrived(Question {
                number: 1,
                instance: &name,
                node: &name,
                echoed: None,
            });
        }
        assert!(tally.nodes.len() <= NODES_MAX && tally.sources.len() <= NODES_MAX);
    }
}
