//! Whether a change of servers may go on.
//!
//! Everybody is asked, over the old server, and all answers come over both. Who has answered over the next one is heard over
//! it from then on; who has answered over the old one has all that was said there before the question, and has said before
//! the answer whatever has come over the old server by then. So once all have answered a question that was asked behind the
//! last event, over both, nothing is missed and nothing overtakes.
//!
//! This knows no network and no clock; whoever takes in what comes over both drives it.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Stage;

/// Which of the two something came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Old,
    Next,
}

#[derive(Default)]
pub(super) struct Change {
    /// Questions asked so far; the number of the last.
    asked: u64,
    /// The first question since events are held back.
    first_behind: Option<u64>,
    /// Who must answer. This node is among them: it hears its own questions.
    expected: BTreeSet<String>,
    /// Who was given up.
    silent: BTreeSet<String>,
    /// The last question that somebody has answered, by [`Over`].
    answered: BTreeMap<String, [u64; 2]>,
}

impl Change {
    /// Everybody is about to be asked: these must answer. Answers with the question's number, which this node never uses
    /// twice.
    pub(super) fn ask(&mut self, stage: Stage, everybody: BTreeSet<String>) -> u64 {
        if stage == Stage::Holding && self.first_behind.is_none() {
            self.first_behind = Some(self.asked + 1);
            // There was time enough: it does not answer, and nobody else shall wait for that.
            let silent = |name: &&String| !self.has_answered(name, 1);
            self.silent = self.expected.iter().filter(silent).cloned().collect();
        }
        self.expect(everybody);
        self.asked += 1;
        self.asked
    }

    /// These must answer, beside those who are known not to.
    pub(super) fn expect(&mut self, everybody: BTreeSet<String>) {
        self.expected = &everybody - &self.silent;
    }

    pub(super) fn answered(&mut self, who: &str, number: u64, over: Over) {
        if number > self.asked {
            return;
        }
        let answered = match self.answered.get_mut(who) {
            Some(answered) => answered,
            // Whoever invents names must not fill the memory.
            None if self.expected.contains(who) => self.answered.entry(who.into()).or_default(),
            None => return,
        };
        let answered = &mut answered[over as usize];
        *answered = number.max(*answered);
    }

    /// Whether all who must have answered.
    pub(super) fn is_done(&self, stage: Stage) -> bool {
        let first = match stage {
            Stage::Hearing => 1,
            // Not asked yet.
            Stage::Holding => self.first_behind.unwrap_or(u64::MAX),
        };
        self.expected
            .iter()
            .all(|name| self.has_answered(name, first))
    }

    /// Whether nobody was given up.
    pub(super) fn has_heard_all(&self) -> bool {
        self.silent.is_empty()
    }

    fn has_answered(&self, name: &str, first: u64) -> bool {
        let answered = self.answered.get(name);
        answered.is_some_and(|answered| answered.iter().all(|number| *number >= first))
    }

    /// Another one begins. What was asked for the last one counts no more.
    pub(super) fn begin(&mut self) {
        *self = Self {
            asked: self.asked,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> BTreeSet<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    fn answer(change: &mut Change, who: &str, number: u64) {
        change.answered(who, number, Over::Old);
        change.answered(who, number, Over::Next);
    }

    #[test]
    fn all_must_answer_over_both_and_once_more_behind_the_last_event() {
        let mut change = Change::default();
        let first = change.ask(Stage::Hearing, names("a b"));
        answer(&mut change, "a", first);
        change.answered("b", first, Over::Old);
        assert!(!change.is_done(Stage::Hearing));
        let second = change.ask(Stage::Hearing, names("a b"));
        change.answered("b", second, Over::Next);
        assert!(change.is_done(Stage::Hearing));
        let third = change.ask(Stage::Holding, names("a b"));
        assert!(!change.is_done(Stage::Holding));
        answer(&mut change, "a", third);
        answer(&mut change, "b", second);
        assert!(!change.is_done(Stage::Holding), "that was asked before");
        let fourth = change.ask(Stage::Holding, names("a b"));
        answer(&mut change, "b", third);
        assert!(change.is_done(Stage::Holding) && change.has_heard_all());
        change.expect(names("a b c"));
        assert!(!change.is_done(Stage::Holding), "somebody has come");
        answer(&mut change, "c", fourth);
        assert!(change.is_done(Stage::Holding));
        answer(&mut change, "d", fourth + 1);
        answer(&mut change, "x", fourth);
        assert!(!change.answered.contains_key("d") && !change.answered.contains_key("x"));
    }

    #[test]
    fn who_does_not_answer_at_first_is_not_waited_for_later() {
        let mut change = Change::default();
        let first = change.ask(Stage::Hearing, names("a b"));
        answer(&mut change, "a", first);
        let second = change.ask(Stage::Holding, names("a b"));
        answer(&mut change, "a", second);
        assert!(change.is_done(Stage::Holding) && !change.has_heard_all());
        // It counts again in the next change, for which old answers do not.
        change.begin();
        let third = change.ask(Stage::Hearing, names("a b"));
        assert!(third > second && change.has_heard_all());
        answer(&mut change, "a", second);
        assert!(!change.is_done(Stage::Hearing));
    }
}
