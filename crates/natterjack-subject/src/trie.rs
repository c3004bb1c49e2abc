//! The tree of wildcard patterns: one step of a pattern leads from a node to the next. Neither locks nor counters are
//! known here; an index keeps several trees and a lock for each.
//!
//! Nodes live in a slab and know their two wildcard successors; literal successors of all nodes share one hash table
//! keyed by node and token, so a node costs the same whether it has one successor or 100,000.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashTable;
use memchr::memchr;
use smallvec::SmallVec;

use crate::key::Key;
use crate::match_set::MatchSet;
use crate::slot::Slot;
use crate::subject::{SEPARATOR, Step};

/// A node by its place in the slab.
type NodeId = u32;

/// The node every pattern starts from. Never a successor, so the value also says "no successor".
const START: NodeId = 0;

#[derive(Debug)]
struct Node<S> {
    /// The subscribers of the pattern that ends here.
    slot: Slot<S>,
    /// The successor for `*`, or `START`.
    one_token: NodeId,
    /// The successor for `>`, or `START`.
    all_remaining: NodeId,
    /// How many literal successors the edge table holds for this node.
    literals: u32,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            slot: Slot::default(),
            one_token: START,
            all_remaining: START,
            literals: 0,
        }
    }
}

impl<S> Node<S> {
    fn is_unused(&self) -> bool {
        self.slot.is_empty()
            && self.one_token == START
            && self.all_remaining == START
            && self.literals == 0
    }
}

/// The way from a node to a literal successor.
#[derive(Debug)]
struct Edge {
    from: NodeId,
    to: NodeId,
    token: Key,
}

/// Patterns and their subscribers.
#[derive(Debug)]
pub(crate) struct Trie<S> {
    nodes: Vec<Node<S>>,
    /// Nodes of the slab in no use.
    free: Vec<NodeId>,
    edges: HashTable<Edge>,
}

impl<S> Default for Trie<S> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            edges: HashTable::new(),
        }
    }
}

impl<S> Trie<S> {
    /// Nodes in use besides the one every pattern starts from.
    pub(crate) fn nodes_used(&self) -> usize {
        self.nodes.len().saturating_sub(1 + self.free.len())
    }
}

impl<S: Clone + Eq + Hash> Trie<S> {
    /// Returns whether the subscriber was added, which it is unless it was there already.
    pub(crate) fn insert<'a>(
        &mut self,
        steps: impl Iterator<Item = Step<'a>>,
        queue: Option<&[u8]>,
        subscriber: S,
        hasher: &impl BuildHasher,
    ) -> bool {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = START;
        for step in steps {
            at = match self.successor(at, step, hasher) {
                START => self.grow(at, step, hasher),
                next => next,
            };
        }
        self.nodes[at as usize]
            .slot
            .insert(queue, subscriber, hasher)
    }

    /// Returns whether the subscriber was there. Nodes that lead nowhere afterwards are given back.
    pub(crate) fn remove<'a>(
        &mut self,
        steps: impl Iterator<Item = Step<'a>>,
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &impl BuildHasher,
    ) -> bool {
        if self.nodes.is_empty() {
            return false;
        }
        let mut way: SmallVec<[(NodeId, Step<'a>); 8]> = SmallVec::new();
        let mut at = START;
        for step in steps {
            way.push((at, step));
            at = self.successor(at, step, hasher);
            if at == START {
                return false;
            }
        }
        let removed = self.nodes[at as usize]
            .slot
            .remove(queue, subscriber, hasher);
        while self.nodes[at as usize].is_unused()
            && let Some((from, step)) = way.pop()
        {
            self.cut(from, step, hasher);
            self.free.push(at);
            at = from;
        }
        if self.nodes_used() == 0 {
            *self = Self::default();
        }
        removed
    }

    /// Adds to `found` the subscribers of all patterns that begin with the literal step `prefix` and match `rest`
    /// after it.
    pub(crate) fn collect_after(
        &self,
        prefix: &[u8],
        rest: &[u8],
        hasher: &impl BuildHasher,
        found: &mut MatchSet<S>,
    ) {
        match self.literal_successor(START, prefix, hasher) {
            START => {}
            from => self.collect_from(from, rest, hasher, found),
        }
    }

    /// Adds to `found` the subscribers of all patterns that match `subject`.
    pub(crate) fn collect(
        &self,
        subject: &[u8],
        hasher: &impl BuildHasher,
        found: &mut MatchSet<S>,
    ) {
        if !self.nodes.is_empty() {
            self.collect_from(START, subject, hasher, found);
        }
    }

    /// `subject` must hold at least one token and no empty one.
    fn collect_from(
        &self,
        from: NodeId,
        subject: &[u8],
        hasher: &impl BuildHasher,
        found: &mut MatchSet<S>,
    ) {
        // Nodes to visit with the subject that is left there, `None` at its end. A list and not recursion, because
        // whoever subscribes chooses the depth.
        let mut waiting = SmallVec::<[(NodeId, Option<&[u8]>); 8]>::new();
        waiting.push((from, Some(subject)));
        while let Some((at, left)) = waiting.pop() {
            let node = &self.nodes[at as usize];
            let Some(left) = left else {
                found.add(&node.slot);
                continue;
            };
            if node.all_remaining != START {
                found.add(&self.nodes[node.all_remaining as usize].slot);
            }
            if node.one_token == START && node.literals == 0 {
                continue;
            }
            let (token, rest) = match memchr(SEPARATOR, left) {
                Some(end) => (&left[..end], Some(&left[end + 1..])),
                None => (left, None),
            };
            if node.one_token != START {
                waiting.push((node.one_token, rest));
            }
            if node.literals != 0 {
                match self.literal_successor(at, token, hasher) {
                    START => {}
                    next => waiting.push((next, rest)),
                }
            }
        }
    }

    /// The node that follows `from` by `step`, `START` if there is none.
    fn successor(&self, from: NodeId, step: Step<'_>, hasher: &impl BuildHasher) -> NodeId {
        match step {
            Step::OneToken => self.nodes[from as usize].one_token,
            Step::AllRemaining => self.nodes[from as usize].all_remaining,
            Step::Literal(token) => self.literal_successor(from, token, hasher),
        }
    }

    fn literal_successor(&self, from: NodeId, token: &[u8], hasher: &impl BuildHasher) -> NodeId {
        self.edges
            .find(edge_hash(from, token, hasher), |edge| {
                edge.from == from && edge.token.as_bytes() == token
            })
            .map_or(START, |edge| edge.to)
    }

    /// Makes the node that follows `from` by `step`.
    fn grow(&mut self, from: NodeId, step: Step<'_>, hasher: &impl BuildHasher) -> NodeId {
        let to = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("a tree's nodes fit in memory")
        });
        match step {
            Step::OneToken => self.nodes[from as usize].one_token = to,
            Step::AllRemaining => self.nodes[from as usize].all_remaining = to,
            Step::Literal(token) => {
                self.nodes[from as usize].literals += 1;
                let hash = edge_hash(from, token, hasher);
                self.edges.insert_unique(
                    hash,
                    Edge {
                        from,
                        to,
                        token: Key::new(token),
                    },
                    |edge| edge_hash(edge.from, edge.token.as_bytes(), hasher),
                );
            }
        }
        to
    }

    /// Forgets the way from `from` by `step`.
    fn cut(&mut self, from: NodeId, step: Step<'_>, hasher: &impl BuildHasher) {
        match step {
            Step::OneToken => self.nodes[from as usize].one_token = START,
            Step::AllRemaining => self.nodes[from as usize].all_remaining = START,
            Step::Literal(token) => {
                let hash = edge_hash(from, token, hasher);
                if let Ok(edge) = self.edges.find_entry(hash, |edge| {
                    edge.from == from && edge.token.as_bytes() == token
                }) {
                    edge.remove();
                    self.nodes[from as usize].literals -= 1;
                }
            }
        }
    }
}

fn edge_hash(from: NodeId, token: &[u8], hasher: &impl BuildHasher) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(from);
    state.write(token);
    state.finish()
}
