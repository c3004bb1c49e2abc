//! The tree of wildcard patterns: one step of a pattern leads from a node to the next. Neither locks nor counters are
//! known here; an index keeps several trees and a lock for each.
//!
//! Nodes live in a slab and know their two wildcard successors. The literal successors of all nodes share one hash table
//! of node numbers, found by predecessor and token, so a node costs the same whether it has one successor or 100,000.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::RandomState;
use memchr::memchr;
use smallvec::SmallVec;

use crate::key::{Key, hash_of};
use crate::match_set::MatchSet;
use crate::slab::Slab;
use crate::slot::Slot;
use crate::split_table::SplitTable;
use crate::subject::{self, SEPARATOR, Step};

/// A node by its number in the slab.
type NodeId = u32;

/// The node every pattern starts from. Never a successor, so the value also says "no successor".
const START: NodeId = 0;

#[derive(Debug)]
struct Node<S> {
    /// The subscribers of the pattern that ends here.
    slot: Slot<S>,
    predecessor: NodeId,
    /// The successor for `*`, or `START`.
    one_token: NodeId,
    /// The successor for `>`, or `START`.
    all_remaining: NodeId,
    /// How many literal successors there are.
    literals: u32,
    /// The text of the step that leads here. Two tokens of common length fit in place, for the prefix that is one step.
    token: Key<30>,
}

const _: () = assert!(size_of::<Node<usize>>() == 72);

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self::new(START, Key::new(b"", 0))
    }
}

impl<S> Node<S> {
    fn new(predecessor: NodeId, token: Key<30>) -> Self {
        Self {
            slot: Slot::default(),
            predecessor,
            one_token: START,
            all_remaining: START,
            literals: 0,
            token,
        }
    }

    fn is_unused(&self) -> bool {
        self.slot.is_empty()
            && self.one_token == START
            && self.all_remaining == START
            && self.literals == 0
    }

    fn is_after(&self, predecessor: NodeId, token: &[u8]) -> bool {
        self.predecessor == predecessor && self.token.as_bytes() == token
    }

    /// Where the table of literal successors keeps this node.
    fn hash(&self, hasher: &RandomState) -> u64 {
        self.token
            .hash(|token| step_hash(self.predecessor, token, hasher))
    }
}

/// Patterns and their subscribers.
#[derive(Debug)]
pub(crate) struct Trie<S> {
    nodes: Slab<Node<S>>,
    literals: SplitTable<NodeId>,
}

impl<S> Default for Trie<S> {
    fn default() -> Self {
        Self {
            nodes: Slab::default(),
            literals: SplitTable::default(),
        }
    }
}

impl<S> Trie<S> {
    /// Nodes in use besides the one every pattern starts from.
    pub(crate) fn nodes_used(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    /// Gives to `visit` the patterns that end in one chunk of nodes, with their subscribers. Chunks are counted from 0;
    /// false if there is no such chunk. A pattern stays in its chunk as long as it has subscribers.
    pub(crate) fn visit_chunk(&self, chunk: usize, mut visit: impl FnMut(&[u8], &Slot<S>)) -> bool {
        let Some(nodes) = self.nodes.chunk(chunk) else {
            return false;
        };
        for (node, Node { slot, .. }) in nodes {
            if !slot.is_empty() {
                visit(&self.pattern(node), slot);
            }
        }
        true
    }

    /// The pattern that ends at `node`.
    fn pattern(&self, node: NodeId) -> Vec<u8> {
        let mut tokens = Vec::new();
        let mut at = node;
        while at != START {
            tokens.push(self.nodes[at].token.as_bytes());
            at = self.nodes[at].predecessor;
        }
        tokens.reverse();
        tokens.join(&SEPARATOR)
    }

    /// The node that follows `from` by `step`, `START` if there is none.
    fn successor(&self, from: NodeId, step: Step<'_>, hasher: &RandomState) -> NodeId {
        match step {
            Step::OneToken => self.nodes[from].one_token,
            Step::AllRemaining => self.nodes[from].all_remaining,
            Step::Literal(token) => {
                self.literal_successor(from, token, step_hash(from, token, hasher))
            }
        }
    }

    #[inline]
    fn literal_successor(&self, from: NodeId, token: &[u8], hash: u64) -> NodeId {
        let found = self
            .literals
            .find(hash, |&node| self.nodes[node].is_after(from, token));
        found.copied().unwrap_or(START)
    }

    /// Makes the node that follows `from` by `step`.
    fn grow(&mut self, from: NodeId, step: Step<'_>, hasher: &RandomState) -> NodeId {
        let token = step.token();
        let hash = step_hash(from, token, hasher);
        let node = self.nodes.insert(Node::new(from, Key::new(token, hash)));
        match step {
            Step::OneToken => self.nodes[from].one_token = node,
            Step::AllRemaining => self.nodes[from].all_remaining = node,
            Step::Literal(_) => {
                self.nodes[from].literals += 1;
                let nodes = &self.nodes;
                self.literals
                    .insert_unique(hash, node, |&node| nodes[node].hash(hasher));
            }
        }
        node
    }

    /// Undoes `grow`. Returns the predecessor.
    fn cut(&mut self, node: NodeId, hasher: &RandomState) -> NodeId {
        let from = self.nodes[node].predecessor;
        match subject::step(self.nodes[node].token.as_bytes()) {
            // The prefix that is one step may read as a step of several tokens, never as a wildcard.
            Step::OneToken => self.nodes[from].one_token = START,
            Step::AllRemaining => self.nodes[from].all_remaining = START,
            Step::Literal(_) => {
                self.nodes[from].literals -= 1;
                let nodes = &self.nodes;
                let hash = nodes[node].hash(hasher);
                self.literals.remove(
                    hash,
                    |&other| other == node,
                    |&node| nodes[node].hash(hasher),
                );
            }
        }
        self.nodes.remove(node);
        from
    }
}

impl<S: Clone + Eq + Hash> Trie<S> {
    /// Returns whether the subscriber was added, which it is unless it was there already.
    pub(crate) fn insert<'a>(
        &mut self,
        steps: impl Iterator<Item = Step<'a>>,
        queue: Option<&[u8]>,
        subscriber: S,
        hasher: &RandomState,
    ) -> bool {
        if self.nodes.len() == 0 {
            self.nodes.insert(Node::default());
        }
        let mut at = START;
        for step in steps {
            at = match self.successor(at, step, hasher) {
                START => self.grow(at, step, hasher),
                next => next,
            };
        }
        self.nodes[at].slot.insert(queue, subscriber, hasher)
    }

    /// Returns whether the subscriber was there. Nodes that lead nowhere afterwards are given back.
    pub(crate) fn remove<'a>(
        &mut self,
        mut steps: impl Iterator<Item = Step<'a>>,
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &RandomState,
    ) -> bool {
        if self.nodes.len() == 0 {
            return false;
        }
        let end = steps.try_fold(START, |at, step| match self.successor(at, step, hasher) {
            START => None,
            next => Some(next),
        });
        let Some(mut at) = end else { return false };
        let removed = self.nodes[at].slot.remove(queue, subscriber, hasher);
        while at != START && self.nodes[at].is_unused() {
            at = self.cut(at, hasher);
        }
        if self.nodes_used() == 0 {
            *self = Self::default();
        }
        removed
    }

    /// Adds to `found` the subscribers of all patterns that begin with the literal step `prefix` and match `rest`
    /// after it. `prefix_hash` is its `hash_of`.
    pub(crate) fn collect_after(
        &self,
        prefix: &[u8],
        prefix_hash: u64,
        rest: &[u8],
        hasher: &RandomState,
        found: &mut MatchSet<S>,
    ) {
        match self.literal_successor(START, prefix, prefix_hash) {
            START => {}
            from => self.collect_from(from, rest, hasher, found),
        }
    }

    /// Adds to `found` the subscribers of all patterns that match `subject`.
    pub(crate) fn collect(&self, subject: &[u8], hasher: &RandomState, found: &mut MatchSet<S>) {
        if self.nodes.len() != 0 {
            self.collect_from(START, subject, hasher, found);
        }
    }

    /// `subject` must hold at least one token and no empty one.
    fn collect_from(
        &self,
        from: NodeId,
        subject: &[u8],
        hasher: &RandomState,
        found: &mut MatchSet<S>,
    ) {
        // Nodes to visit with the subject that is left there, `None` at its end. A list and not recursion, because
        // whoever subscribes chooses the depth.
        let mut waiting = SmallVec::<[(NodeId, Option<&[u8]>); 8]>::new();
        let mut next = Some((from, Some(subject)));
        while let Some((at, left)) = next {
            next = None;
            let node = &self.nodes[at];
            match left {
                None => found.add(&node.slot),
                Some(left) => {
                    if node.all_remaining != START {
                        found.add(&self.nodes[node.all_remaining].slot);
                    }
                    if node.one_token != START || node.literals != 0 {
                        let (token, rest) = first_token(left);
                        if node.literals != 0 {
                            let hash = step_hash(at, token, hasher);
                            let successor = self.literal_successor(at, token, hash);
                            next = (successor != START).then_some((successor, rest));
                        }
                        if node.one_token != START {
                            waiting.extend(next.replace((node.one_token, rest)));
                        }
                    }
                }
            }
            next = next.or_else(|| waiting.pop());
        }
    }
}

/// The first token and what follows its separator, if there is one.
fn first_token(subject: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(SEPARATOR, subject) {
        Some(end) => (&subject[..end], Some(&subject[end + 1..])),
        None => (subject, None),
    }
}

/// The first step of all is hashed as its text alone: the caller has that hash already.
#[inline]
fn step_hash(from: NodeId, token: &[u8], hasher: &RandomState) -> u64 {
    if from == START {
        return hash_of(hasher, token);
    }
    let mut state = hasher.build_hasher();
    state.write_u32(from);
    state.write(token);
    state.finish()
}
