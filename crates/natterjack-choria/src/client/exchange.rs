//! The answers to one request: which belong to it, who has answered, who has not. No socket and no clock.

use std::collections::{BTreeSet, HashSet};

use crate::identity::Identity;
use crate::wire::{FormatError, Reply, SecureReply};

/// Nodes that can answer one request. Somebody who makes up names for more than a large fleet has is not listened to.
const NODES_MAX: usize = 200_000;

/// Names of nodes that answered without being asked that are kept. Whoever makes up names makes up many.
const UNEXPECTED_MAX: usize = 100;

/// Why a message is no answer that counts. Nobody need be told; the numbers tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// It is no reply, or its hash is another one.
    #[error(transparent)]
    Damaged(#[from] FormatError),
    /// To another request.
    #[error("it answers another request, {id}")]
    Other {
        /// Which one.
        id: String,
    },
    /// The agent is not the one that was asked.
    #[error("it comes from the agent {agent:?}, which was not asked")]
    OtherAgent {
        /// Which one.
        agent: String,
    },
    /// That node has answered already.
    #[error("{node} has answered already")]
    Again {
        /// Which node.
        node: Identity,
    },
    /// That node was not asked.
    #[error("{node} was not asked")]
    NotAsked {
        /// Which node.
        node: Identity,
    },
    /// More names than there can be nodes.
    #[error("too many nodes answer")]
    TooMuch,
}

/// An answer that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The answer.
    pub reply: Reply,
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes that answered and were expected to.
    pub answered: usize,
    /// Nodes that were expected to answer and did not, sorted.
    pub missing: Vec<Identity>,
    /// Nodes that answered though nobody expected them to, sorted; a hundred at most. What they say is not told.
    pub unexpected: Vec<Identity>,
    /// Answers of such nodes, all of them.
    pub unexpected_answers: u64,
    /// Further answers of nodes that had answered.
    pub repeated: u64,
    /// Messages that were no answers, or damaged ones.
    pub damaged: u64,
    /// Answers to other requests, most of them late ones.
    pub foreign: u64,
}

/// One request and its answers.
#[derive(Debug)]
pub struct Exchange {
    id: String,
    agent: String,
    /// Those of whom an answer is still expected. `None`: whoever is there.
    waiting: Option<BTreeSet<Identity>>,
    answered: HashSet<Identity>,
    outcome: Outcome,
}

impl Exchange {
    /// Answers of an agent to the request of this identifier, from these nodes, or from whoever is there.
    #[must_use]
    pub fn new(id: &str, agent: &str, expected: Option<&[Identity]>) -> Self {
        Self {
            id: id.to_owned(),
            agent: agent.to_owned(),
            waiting: expected.map(|nodes| nodes.iter().cloned().collect()),
            answered: HashSet::new(),
            outcome: Outcome::default(),
        }
    }

    /// Takes what came: the content of a [`crate::wire::Transport`].
    ///
    /// # Errors
    /// If it is no answer that counts.
    pub fn take(&mut self, content: &[u8]) -> Result<Arrival, Ignored> {
        let taken = self.judge(content);
        match &taken {
            Ok(_) => {}
            Err(Ignored::NotAsked { node }) => {
                self.outcome.unexpected_answers += 1;
                let kept = &mut self.outcome.unexpected;
                if kept.len() < UNEXPECTED_MAX && !kept.contains(node) {
                    kept.push(node.clone());
                }
            }
            Err(Ignored::Damaged(_) | Ignored::OtherAgent { .. } | Ignored::TooMuch) => {
                self.outcome.damaged += 1;
            }
            Err(Ignored::Other { .. }) => self.outcome.foreign += 1,
            Err(Ignored::Again { .. }) => self.outcome.repeated += 1,
        }
        taken
    }

    fn judge(&mut self, content: &[u8]) -> Result<Arrival, Ignored> {
        let reply = Reply::from_text(&SecureReply::open(content)?)?;
        if reply.request_id != self.id {
            return Err(Ignored::Other {
                id: reply.request_id,
            });
        }
        if reply.agent != self.agent {
            return Err(Ignored::OtherAgent { agent: reply.agent });
        }
        let node = &reply.sender;
        if self.answered.contains(node) {
            return Err(Ignored::Again { node: node.clone() });
        }
        if self.answered.len() >= NODES_MAX {
            return Err(Ignored::TooMuch);
        }
        if let Some(waiting) = &mut self.waiting
            && !waiting.remove(node)
        {
            return Err(Ignored::NotAsked { node: node.clone() });
        }
        self.answered.insert(node.clone());
        Ok(Arrival { reply })
    }

    /// Whether all have answered who were expected to. Never, if nobody knows who is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.waiting.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// What came of it.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        self.outcome.answered = self.answered.len();
        self.outcome.missing = self.waiting.into_iter().flatten().collect();
        self.outcome.unexpected.sort_unstable();
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

    fn node(name: &str) -> Identity {
        Identity::new(name).unwrap()
    }

    fn answer(id: &str, agent: &str, sender: &str) -> Vec<u8> {
        let reply = Reply {
            body: "\"pong\"".into(),
            request_id: id.into(),
            sender: node(sender),
            agent: agent.into(),
            time: UNIX_EPOCH,
        };
        SecureReply::new(reply.to_text()).to_bytes()
    }

    #[test]
    fn ends_when_all_have_answered() {
        let nodes = ["n1", "n2", "n3"].map(node);
        let mut exchange = Exchange::new(ID, "rpcutil", Some(&nodes));
        assert!(exchange.take(&answer(ID, "rpcutil", "n2")).is_ok());
        let stranger = exchange.take(&answer(ID, "rpcutil", "n9"));
        assert!(
            matches!(stranger, Err(Ignored::NotAsked { .. })),
            "{stranger:?}"
        );
        let again = exchange.take(&answer(ID, "rpcutil", "n2"));
        assert!(matches!(again, Err(Ignored::Again { .. })), "{again:?}");
        let again = exchange.take(&answer(ID, "rpcutil", "n9"));
        assert!(matches!(again, Err(Ignored::NotAsked { .. })), "{again:?}");
        assert!(exchange.take(&answer(ID, "rpcutil", "n1")).is_ok());
        assert!(!exchange.is_complete());
        assert!(exchange.take(&answer(ID, "rpcutil", "n3")).is_ok());
        assert!(exchange.is_complete());
        assert_eq!(
            exchange.finish(),
            Outcome {
                answered: 3,
                unexpected: vec![node("n9")],
                unexpected_answers: 2,
                repeated: 1,
                ..Outcome::default()
            }
        );
    }

    #[test]
    fn what_does_not_belong_is_counted() {
        let mut exchange = Exchange::new(ID, "rpcutil", Some(&[node("n1")]));
        let other = exchange.take(&answer("00000000000000000000000000000001", "rpcutil", "n1"));
        assert!(matches!(other, Err(Ignored::Other { .. })), "{other:?}");
        let other = exchange.take(&answer(ID, "discovery", "n1"));
        assert!(
            matches!(other, Err(Ignored::OtherAgent { .. })),
            "{other:?}"
        );
        let forged = String::from_utf8(answer(ID, "rpcutil", "n1")).unwrap();
        let forged = exchange.take(forged.replace("pong", "gong").as_bytes());
        assert!(matches!(forged, Err(Ignored::Damaged(_))), "{forged:?}");
        let reply = SecureReply::open(&answer(ID, "rpcutil", "n1")).unwrap();
        let long = reply.replace("n1", &"n".repeat(256));
        assert!(long.len() > reply.len() + 200);
        let long = exchange.take(&SecureReply::new(long).to_bytes());
        assert!(matches!(long, Err(Ignored::Damaged(_))), "{long:?}");
        assert_eq!(
            exchange.finish(),
            Outcome {
                missing: vec![node("n1")],
                damaged: 3,
                foreign: 1,
                ..Outcome::default()
            }
        );
    }

    #[test]
    fn whoever_is_there_may_answer() {
        let mut exchange = Exchange::new(ID, "discovery", None);
        assert!(exchange.take(&answer(ID, "discovery", "n1")).is_ok());
        assert!(!exchange.is_complete());
        assert_eq!(exchange.finish().answered, 1);
    }

    #[test]
    fn made_up_names_are_counted_and_not_kept() {
        let mut exchange = Exchange::new(ID, "rpcutil", Some(&[node("n1")]));
        for number in 0..5 * UNEXPECTED_MAX {
            let made_up = answer(ID, "rpcutil", &format!("liar{number}"));
            assert!(exchange.take(&made_up).is_err());
        }
        let outcome = exchange.finish();
        assert_eq!(outcome.unexpected.len(), UNEXPECTED_MAX);
        assert_eq!(outcome.unexpected_answers, 5 * UNEXPECTED_MAX as u64);
        assert_eq!(outcome.answered, 0);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = Exchange::new(ID, "rpcutil", None).take(&bytes);
        }
    }
}
