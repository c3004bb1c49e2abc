//! Lists of subscribers that are shared with readers as snapshots and changed in place while nobody holds one.
//!
//! [`List`] is both what an index keeps and the snapshot a look-up takes away. Who is in which list is decided
//! elsewhere.

use std::hash::{BuildHasher, Hash};
use std::slice;
use std::sync::Arc;

use hashbrown::HashTable;

/// Subscribers in one chunk of a long list. A change to a long list that a reader still holds copies one or two
/// chunks and the pointers to the others, so this trades the copying of subscribers against that of pointers.
const CHUNK_LEN: usize = 128;
/// Up to here one searches a list front to back; a longer one carries a table of positions.
const FEW_MAX: usize = 16;
/// A long list becomes a short one again at this length: below `FEW_MAX`, so that a subscriber who comes and goes at
/// the edge does not rebuild the list each time.
const FEW_AGAIN: usize = 8;

/// An immutable list of at least one subscriber. Cloning it copies no more than one subscriber.
#[derive(Debug)]
pub(crate) enum List<S> {
    One(S),
    Few(Arc<Vec<S>>),
    /// Every chunk but the last holds exactly `CHUNK_LEN` subscribers, the last at least one.
    Many(Arc<Vec<Arc<Vec<S>>>>),
}

impl<S: Clone> Clone for List<S> {
    #[inline]
    fn clone(&self) -> Self {
        match self {
            Self::One(subscriber) => Self::One(subscriber.clone()),
            Self::Few(few) => Self::Few(Arc::clone(few)),
            Self::Many(chunks) => Self::Many(Arc::clone(chunks)),
        }
    }
}

impl<S> List<S> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.len(),
            Self::Many(chunks) => chunks_len(chunks),
        }
    }

    /// The subscribers as consecutive slices.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[S]> {
        let (head, chunks): (&[S], &[Arc<Vec<S>>]) = match self {
            Self::One(subscriber) => (slice::from_ref(subscriber), &[]),
            Self::Few(few) => (few.as_slice(), &[]),
            Self::Many(chunks) => (&[], chunks.as_slice()),
        };
        std::iter::once(head).chain(chunks.iter().map(|chunk| chunk.as_slice()))
    }

    pub(crate) fn position(&self, index: usize) -> Option<&S> {
        match self {
            Self::One(subscriber) => (index == 0).then_some(subscriber),
            Self::Few(few) => few.get(index),
            Self::Many(chunks) => chunks.get(index / CHUNK_LEN)?.get(index % CHUNK_LEN),
        }
    }

    /// Whether both are the same snapshot. Lists of one have no snapshot and compare their subscriber.
    pub(crate) fn same_as(&self, other: &Self) -> bool
    where
        S: Eq,
    {
        match (self, other) {
            (Self::One(one), Self::One(other)) => one == other,
            (Self::Few(few), Self::Few(other)) => Arc::ptr_eq(few, other),
            (Self::Many(chunks), Self::Many(other)) => Arc::ptr_eq(chunks, other),
            _ => false,
        }
    }
}

/// Where each subscriber of a `List::Many` is, so that removing one of 100,000 is not a search. Kept outside the list
/// because readers never need it and a copy of the list should not copy it. Empty while the list is short.
pub(crate) type Positions = HashTable<u32>;

/// Adds `subscriber` to a list, where `None` is the empty list, unless it is there already. Returns whether it was
/// added. `positions` are those of the list, asked for only when it is long.
///
/// Amortised O(1) while nobody holds a snapshot of the list; otherwise the first change after a snapshot copies a chunk
/// and the pointers to the others.
pub(crate) fn insert<'a, S: Clone + Eq + Hash>(
    list: &mut Option<List<S>>,
    positions: impl FnOnce() -> &'a mut Positions,
    subscriber: S,
    hasher: &impl BuildHasher,
) -> bool {
    match list {
        None => *list = Some(List::One(subscriber)),
        Some(List::One(one)) => {
            if *one == subscriber {
                return false;
            }
            *list = Some(List::Few(Arc::new(vec![one.clone(), subscriber])));
        }
        Some(List::Few(few)) => {
            if few.contains(&subscriber) {
                return false;
            }
            Arc::make_mut(few).push(subscriber);
            if few.len() > FEW_MAX {
                let chunks = Arc::new(vec![Arc::clone(few)]);
                let positions = positions();
                for (index, member) in few.iter().enumerate() {
                    let index = position_number(index);
                    positions.insert_unique(hasher.hash_one(member), index, |&index| {
                        hasher.hash_one(at(&chunks, index))
                    });
                }
                *list = Some(List::Many(chunks));
            }
        }
        Some(List::Many(chunks)) => {
            let positions = positions();
            let hash = hasher.hash_one(&subscriber);
            if positions
                .find(hash, |&index| *at(chunks, index) == subscriber)
                .is_some()
            {
                return false;
            }
            let index = position_number(chunks_len(chunks));
            push(chunks, subscriber);
            positions.insert_unique(hash, index, |&index| hasher.hash_one(at(chunks, index)));
        }
    }
    true
}

/// Removes `subscriber` from a list. Returns whether it was there.
///
/// O(1) while nobody holds a snapshot of the list, whatever its length; the same copy as for an insertion otherwise.
pub(crate) fn remove<'a, S: Clone + Eq + Hash>(
    list: &mut Option<List<S>>,
    positions: impl FnOnce() -> &'a mut Positions,
    subscriber: &S,
    hasher: &impl BuildHasher,
) -> bool {
    match list {
        None => return false,
        Some(List::One(one)) => {
            if one != subscriber {
                return false;
            }
            *list = None;
        }
        Some(List::Few(few)) => {
            let Some(index) = few.iter().position(|member| member == subscriber) else {
                return false;
            };
            let few = Arc::make_mut(few);
            few.swap_remove(index);
            if let [only] = few.as_slice() {
                *list = Some(List::One(only.clone()));
            }
        }
        Some(List::Many(chunks)) => {
            let positions = positions();
            let hash = hasher.hash_one(subscriber);
            let Ok(entry) = positions.find_entry(hash, |&index| at(chunks, index) == subscriber)
            else {
                return false;
            };
            let (index, _) = entry.remove();
            let last = position_number(chunks_len(chunks) - 1);
            if index != last {
                let last_hash = hasher.hash_one(at(chunks, last));
                let moved = positions.find_mut(last_hash, |&index| index == last);
                *moved.expect("every member of a long list has a position") = index;
            }
            swap_remove(chunks, index as usize);
            if last as usize == FEW_AGAIN {
                *list = chunks.first().map(|first| List::Few(Arc::clone(first)));
                *positions = Positions::new();
            }
        }
    }
    true
}

const _: () = assert!(FEW_AGAIN > 1 && FEW_AGAIN < FEW_MAX && FEW_MAX < CHUNK_LEN);

fn chunks_len<S>(chunks: &[Arc<Vec<S>>]) -> usize {
    match chunks.split_last() {
        Some((last, full)) => full.len() * CHUNK_LEN + last.len(),
        None => 0,
    }
}

fn at<S>(chunks: &[Arc<Vec<S>>], index: u32) -> &S {
    &chunks[index as usize / CHUNK_LEN][index as usize % CHUNK_LEN]
}

/// A position in a list as the position table stores it.
fn position_number(index: usize) -> u32 {
    u32::try_from(index).expect("four thousand million handles do not fit in memory")
}

fn push<S: Clone>(chunks: &mut Arc<Vec<Arc<Vec<S>>>>, subscriber: S) {
    let chunks = Arc::make_mut(chunks);
    match chunks.last_mut() {
        Some(last) if last.len() < CHUNK_LEN => Arc::make_mut(last).push(subscriber),
        _ => chunks.push(Arc::new(vec![subscriber])),
    }
}

/// Removes the subscriber at `index` and puts the last one in its place.
fn swap_remove<S: Clone>(chunks: &mut Arc<Vec<Arc<Vec<S>>>>, index: usize) {
    let chunks = Arc::make_mut(chunks);
    let Some(last_chunk) = chunks.last_mut() else {
        return;
    };
    let last_chunk = Arc::make_mut(last_chunk);
    let Some(last) = last_chunk.pop() else { return };
    if last_chunk.is_empty() {
        chunks.pop();
    }
    // When the last one was itself the one to go, its place is gone too.
    if let Some(chunk) = chunks.get_mut(index / CHUNK_LEN)
        && let Some(place) = Arc::make_mut(chunk).get_mut(index % CHUNK_LEN)
    {
        *place = last;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use foldhash::quality::RandomState;
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Members {
        list: Option<List<u32>>,
        positions: Positions,
        hasher: RandomState,
    }

    impl Members {
        fn insert(&mut self, subscriber: u32) -> bool {
            insert(
                &mut self.list,
                || &mut self.positions,
                subscriber,
                &self.hasher,
            )
        }

        fn remove(&mut self, subscriber: u32) -> bool {
            remove(
                &mut self.list,
                || &mut self.positions,
                &subscriber,
                &self.hasher,
            )
        }
    }

    fn contents(list: Option<&List<u32>>) -> Vec<u32> {
        list.into_iter()
            .flat_map(List::slices)
            .flatten()
            .copied()
            .collect()
    }

    #[track_caller]
    fn check(members: &Members, expected: &HashSet<u32>) {
        let found = contents(members.list.as_ref());
        assert_eq!(found.len(), expected.len());
        assert_eq!(&found.iter().copied().collect::<HashSet<_>>(), expected);
        assert_eq!(members.list.is_none(), expected.is_empty());
        let is_long = matches!(members.list, Some(List::Many(_)));
        assert_eq!(
            members.positions.len(),
            if is_long { expected.len() } else { 0 }
        );
        let Some(list) = &members.list else { return };
        assert_eq!(list.len(), expected.len());
        for (index, member) in found.iter().enumerate() {
            assert_eq!(list.position(index), Some(member));
        }
        assert_eq!(list.position(found.len()), None);
    }

    proptest! {
        #[test]
        fn is_a_set_and_snapshots_never_change(
            steps in prop::collection::vec((any::<bool>(), 0_u32..400, 0_u8..8), 1..1200)
        ) {
            let mut members = Members::default();
            let mut model = HashSet::new();
            let mut snapshots: Vec<(List<u32>, Vec<u32>)> = Vec::new();
            for (insert, subscriber, snapshot) in steps {
                if insert {
                    prop_assert_eq!(members.insert(subscriber), model.insert(subscriber));
                } else {
                    prop_assert_eq!(members.remove(subscriber), model.remove(&subscriber));
                }
                if snapshot == 0 {
                    let list = members.list.clone();
                    snapshots.extend(list.map(|list| (list.clone(), contents(Some(&list)))));
                } else if snapshot == 1 {
                    snapshots.pop();
                }
            }
            check(&members, &model);
            for (list, expected) in &snapshots {
                prop_assert_eq!(&contents(Some(list)), expected);
            }
            for subscriber in model.drain() {
                prop_assert!(members.remove(subscriber));
            }
            check(&members, &model);
        }
    }

    #[test]
    fn long_lists_shrink_back_to_nothing() {
        let mut members = Members::default();
        let mut expected = HashSet::new();
        for subscriber in 0..1000 {
            assert!(members.insert(subscriber));
            expected.insert(subscriber);
        }
        check(&members, &expected);
        assert!(matches!(members.list, Some(List::Many(_))));
        for subscriber in (0..1000).rev() {
            assert!(members.remove(subscriber));
            expected.remove(&subscriber);
            check(&members, &expected);
        }
        assert!(members.list.is_none());
    }
}
