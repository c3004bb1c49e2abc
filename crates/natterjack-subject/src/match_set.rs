//! What a look-up answers: who receives a subject. Snapshots only; an index that changes afterwards does not change a
//! match set.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::members::List;
use crate::slot::Slot;

/// The subscribers of a subject at the moment of the look-up: everybody in [`plain`](Self::plain), and one member of
/// each of [`groups`](Self::groups).
///
/// Holds shared snapshots of the index's lists, so it is cheap to take and to clone whatever the number of
/// subscribers, and keeps the subscribers in it alive. A subscriber that subscribed by several matching patterns is
/// in it once for each.
#[derive(Clone)]
pub struct MatchSet<S> {
    lists: SmallVec<[List<S>; 4]>,
    groups: Vec<QueueGroup<S>>,
}

impl<S> Default for MatchSet<S> {
    fn default() -> Self {
        Self {
            lists: SmallVec::new(),
            groups: Vec::new(),
        }
    }
}

impl<S> MatchSet<S> {
    /// A set of nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The subscribers outside of queue groups: each receives the message.
    pub fn plain(&self) -> impl Iterator<Item = &S> {
        self.lists.iter().flat_map(List::slices).flatten()
    }

    /// How many [`plain`](Self::plain) yields. O(patterns that match).
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.lists.iter().map(List::len).sum()
    }

    /// The queue groups, sorted by name, each name once: one member of each receives the message.
    #[must_use]
    pub fn groups(&self) -> &[QueueGroup<S>] {
        &self.groups
    }

    /// Whether nobody receives the subject.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.groups.is_empty()
    }
}

impl<S: Eq> MatchSet<S> {
    /// Whether both sets are made of the same snapshots, and so surely name the same subscribers.
    ///
    /// Compares pointers, not subscribers: two sets with equal subscribers that were taken before and after a change
    /// may well differ. O(patterns and groups that match).
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.lists.len() == other.lists.len()
            && self.groups.len() == other.groups.len()
            && self
                .lists
                .iter()
                .zip(&other.lists)
                .all(|(list, other)| list.same_as(other))
            && self
                .groups
                .iter()
                .zip(&other.groups)
                .all(|(group, other)| group.same_as(other))
    }
}

impl<S: Clone> MatchSet<S> {
    /// Adds the subscribers of one more matching pattern. `finish` must follow the last.
    #[inline]
    pub(crate) fn add(&mut self, slot: &Slot<S>) {
        if let Some(list) = slot.plain() {
            self.lists.push(list.clone());
        }
        for (name, list) in slot.groups() {
            let mut parts = SmallVec::new();
            parts.push(list.clone());
            self.groups.push(QueueGroup {
                name: Arc::clone(name),
                len: list.len(),
                parts,
            });
        }
    }

    /// Makes one group of those that share a name: a queue group spans all patterns that match a subject
    /// (nats-server `addQueue` in `Sublist.match`).
    #[inline]
    pub(crate) fn finish(&mut self) {
        if self.groups.len() > 1 {
            self.merge_groups();
        }
    }

    fn merge_groups(&mut self) {
        // One pattern's groups are sorted already, and then this is one pass. Stable, so that the order of members
        // follows the order of patterns.
        self.groups
            .sort_by(|left, right| left.name.cmp(&right.name));
        self.groups.dedup_by(|next, kept| {
            let same = next.name == kept.name;
            if same {
                kept.len += next.len;
                kept.parts.append(&mut next.parts);
            }
            same
        });
    }
}

impl<S: fmt::Debug> fmt::Debug for MatchSet<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MatchSet")
            .field("plain", &self.plain().collect::<Vec<_>>())
            .field("groups", &self.groups)
            .finish()
    }
}

/// The members of one queue group over all patterns that match a subject; one of them receives the message.
#[derive(Clone)]
pub struct QueueGroup<S> {
    name: Arc<[u8]>,
    len: usize,
    parts: SmallVec<[List<S>; 1]>,
}

impl<S> QueueGroup<S> {
    /// The name the members gave when they subscribed.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The number of members, at least one. A subscriber that joined by several matching patterns counts once for
    /// each.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a group has at least one member"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The member at `index`. O(patterns that match).
    ///
    /// # Panics
    /// If `index` is not less than [`len`](Self::len).
    #[must_use]
    pub fn member(&self, index: usize) -> &S {
        let mut index_left = index;
        for part in &self.parts {
            if let Some(member) = part.position(index_left) {
                return member;
            }
            index_left -= part.len();
        }
        panic!("member {index} of a queue group of {}", self.len)
    }

    /// All members, in the order of [`member`](Self::member).
    pub fn members(&self) -> impl Iterator<Item = &S> {
        self.parts.iter().flat_map(List::slices).flatten()
    }

    fn same_as(&self, other: &Self) -> bool
    where
        S: Eq,
    {
        self.name == other.name
            && self.parts.len() == other.parts.len()
            && self
                .parts
                .iter()
                .zip(&other.parts)
                .all(|(part, other)| part.same_as(other))
    }
}

impl<S: fmt::Debug> fmt::Debug for QueueGroup<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("QueueGroup")
            .field("name", &self.name.escape_ascii().to_string())
            .field("members", &self.members().collect::<Vec<_>>())
            .finish()
    }
}
