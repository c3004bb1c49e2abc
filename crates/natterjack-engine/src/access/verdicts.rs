//! Verdicts on publishing that were found lately.
//!
//! Owned by a thread's worker like the cache of receivers, so that an idle connection owns none of it, and keyed by the
//! identity of the compiled permissions, which all connections of one user share and a reload replaces.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::CompiledPermissions;

/// Slots; a power of two.
const SLOTS: usize = 1024;

/// Longer subjects are checked each time.
const SUBJECT_BYTES_MAX: usize = 128;

/// A direct-mapped table. Empty until it is first needed.
pub(crate) struct Verdicts {
    hasher: FixedState,
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    /// 0 is nobody's.
    permissions: u64,
    subject: Vec<u8>,
    is_allowed: bool,
}

impl Verdicts {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            slots: Vec::new(),
        }
    }

    /// Whether the lists of `permissions` allow publishing to `subject`.
    pub(crate) fn may_publish(
        &mut self,
        permissions: &CompiledPermissions,
        subject: &[u8],
    ) -> bool {
        if subject.len() > SUBJECT_BYTES_MAX {
            return permissions.may_publish(subject);
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let hash = self.hasher.hash_one((permissions.id(), subject));
        let slot = &mut self.slots[hash as usize & (SLOTS - 1)];
        if slot.permissions != permissions.id() || slot.subject != subject {
            slot.permissions = permissions.id();
            slot.subject.clear();
            slot.subject.extend_from_slice(subject);
            slot.is_allowed = permissions.may_publish(subject);
        }
        slot.is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Permissions, SubjectRules};
    use super::*;

    #[test]
    fn answers_are_those_of_the_permissions_asked() {
        let only = |subject: &str| {
            CompiledPermissions::new(&Permissions {
                publish: SubjectRules {
                    allow: Some(vec![subject.to_owned()]),
                    deny: vec![],
                },
                ..Permissions::default()
            })
        };
        let (one, other) = (only("a.*"), only("b.>"));
        let mut verdicts = Verdicts::new(1);
        let long = format!("b.{}", "x".repeat(200));
        for _ in 0..3 {
            for (subject, by_one, by_other) in [
                ("a.b", true, false),
                ("b.c", false, true),
                ("c", false, false),
                (&long, false, true),
            ] {
                assert_eq!(
                    verdicts.may_publish(&one, subject.as_bytes()),
                    by_one,
                    "{subject}"
                );
                assert_eq!(
                    verdicts.may_publish(&other, subject.as_bytes()),
                    by_other,
                    "{subject}"
                );
            }
        }
    }

    #[test]
    fn subjects_in_the_same_slot_do_not_mix() {
        let permissions = CompiledPermissions::new(&Permissions {
            publish: SubjectRules {
                allow: None,
                deny: vec!["7.>".to_owned()],
            },
            ..Permissions::default()
        });
        let mut verdicts = Verdicts::new(1);
        for number in (0..20 * SLOTS).chain(0..20 * SLOTS) {
            let subject = format!("{}.{number}", number % 10);
            assert_eq!(
                verdicts.may_publish(&permissions, subject.as_bytes()),
                number % 10 != 7
            );
        }
    }
}
