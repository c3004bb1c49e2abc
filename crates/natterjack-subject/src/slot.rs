//! Who subscribed to one pattern: the plain subscribers and the queue groups.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::members::{self, List, Positions};

/// The subscribers of one pattern.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    plain: Option<List<S>>,
    /// Most patterns have neither queue groups nor many subscribers, so a slot pays one pointer for both.
    more: Option<Box<More<S>>>,
}

#[derive(Debug)]
struct More<S> {
    /// Of the plain subscribers.
    positions: Positions,
    /// Sorted, so that the order in which a look-up sees them depends on nothing but their names.
    groups: BTreeMap<Arc<[u8]>, Group<S>>,
}

#[derive(Debug)]
struct Group<S> {
    list: Option<List<S>>,
    positions: Positions,
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self {
            plain: None,
            more: None,
        }
    }
}

impl<S> Default for More<S> {
    fn default() -> Self {
        Self {
            positions: Positions::new(),
            groups: BTreeMap::new(),
        }
    }
}

impl<S> Default for Group<S> {
    fn default() -> Self {
        Self {
            list: None,
            positions: Positions::new(),
        }
    }
}

impl<S> Slot<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_none() && self.more.is_none()
    }

    #[inline]
    pub(crate) fn plain(&self) -> Option<&List<S>> {
        self.plain.as_ref()
    }

    /// The queue groups in the order of their names.
    #[inline]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<[u8]>, &List<S>)> {
        let groups = self.more.iter().flat_map(|more| &more.groups);
        groups.filter_map(|(name, group)| Some((name, group.list.as_ref()?)))
    }
}

impl<S: Clone + Eq + Hash> Slot<S> {
    /// Returns whether the subscriber was added, which it is unless it was there already.
    pub(crate) fn insert(
        &mut self,
        queue: Option<&[u8]>,
        subscriber: S,
        hasher: &impl BuildHasher,
    ) -> bool {
        let Some(name) = queue else {
            return members::insert(
                &mut self.plain,
                || &mut self.more.get_or_insert_default().positions,
                subscriber,
                hasher,
            );
        };
        let groups = &mut self.more.get_or_insert_default().groups;
        if !groups.contains_key(name) {
            groups.insert(name.into(), Group::default());
        }
        groups
            .get_mut(name)
            .is_some_and(|Group { list, positions }| {
                members::insert(list, || positions, subscriber, hasher)
            })
    }

    /// Returns whether the subscriber was there.
    pub(crate) fn remove(
        &mut self,
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &impl BuildHasher,
    ) -> bool {
        let removed = match queue {
            None => members::remove(
                &mut self.plain,
                || &mut self.more.get_or_insert_default().positions,
                subscriber,
                hasher,
            ),
            Some(name) => {
                let Some(more) = &mut self.more else {
                    return false;
                };
                let Some(Group { list, positions }) = more.groups.get_mut(name) else {
                    return false;
                };
                let removed = members::remove(list, || positions, subscriber, hasher);
                if list.is_none() {
                    more.groups.remove(name);
                }
                removed
            }
        };
        if self
            .more
            .as_ref()
            .is_some_and(|more| more.groups.is_empty() && more.positions.is_empty())
        {
            self.more = None;
        }
        removed
    }
}
