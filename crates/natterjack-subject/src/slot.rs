//! Who subscribed to one pattern: the plain subscribers and the queue groups.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::members::Members;

/// The subscribers of one pattern.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) plain: Members<S>,
    /// By name. Most patterns have none, so a slot pays one pointer for them; sorted, so that the order in which a
    /// look-up sees them depends on nothing but their names.
    groups: Option<Box<Groups<S>>>,
}

type Groups<S> = BTreeMap<Arc<[u8]>, Members<S>>;

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self {
            plain: Members::default(),
            groups: None,
        }
    }
}

impl<S> Slot<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_none()
    }

    /// The queue groups in the order of their names.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Members<S>)> {
        self.groups.iter().flat_map(|groups| groups.iter())
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
            return self.plain.insert(subscriber, hasher);
        };
        let groups = self.groups.get_or_insert_default();
        match groups.get_mut(name) {
            Some(members) => members.insert(subscriber, hasher),
            None => {
                let mut members = Members::default();
                members.insert(subscriber, hasher);
                groups.insert(name.into(), members);
                true
            }
        }
    }

    /// Returns whether the subscriber was there.
    pub(crate) fn remove(
        &mut self,
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &impl BuildHasher,
    ) -> bool {
        let Some(name) = queue else {
            return self.plain.remove(subscriber, hasher);
        };
        let Some(groups) = &mut self.groups else {
            return false;
        };
        let Some(members) = groups.get_mut(name) else {
            return false;
        };
        let removed = members.remove(subscriber, hasher);
        if members.is_empty() {
            groups.remove(name);
            if groups.is_empty() {
                self.groups = None;
            }
        }
        removed
    }
}
