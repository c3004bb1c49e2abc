//! The index against the slow obvious model, over any sequence of operations. For the fuzzer and the property tests;
//! no part of the API.

use std::collections::BTreeMap;

use crate::{Index, InvalidPattern, MatchSet, Stamp, is_valid_pattern, matches};

/// Few distinct tokens, so that patterns overlap; among them wildcards, wildcards' look-alikes, the empty token, and
/// tokens that do not fit in place.
const TOKENS: [&[u8]; 10] = [
    b"a",
    b"b",
    b"*",
    b">",
    b"a",
    b"*",
    b"a*",
    b">>",
    b"",
    b"\xff\x00 a token too long to be kept in place",
];
const QUEUES: [Option<&[u8]>; 4] = [None, None, Some(b"workers"), Some(b"")];
/// Look-ups remembered with their stamps, to see which of them go stale.
const REMEMBERED_MAX: usize = 6;

/// One thing to do to an index.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Subscribe, whether the pattern is valid or not.
    Insert(Subscription),
    /// Unsubscribe, whether there is such a subscription or not.
    Remove(Subscription),
    /// Look up, and remember the answer with its stamp.
    Match(Vec<u8>),
}

/// What an index stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The pattern subscribed to.
    pub pattern: Vec<u8>,
    /// The queue group, if any.
    pub queue: Option<&'static [u8]>,
    /// The subscriber's handle.
    pub subscriber: u16,
}

/// Runs the operations that `bytes` spell.
///
/// # Panics
/// If the index differs from the model.
pub fn subject_index(bytes: &[u8]) {
    check(&operations(bytes));
}

/// Runs `operations` on an index and on the model.
///
/// # Panics
/// If they differ.
pub fn check(operations: &[Operation]) {
    let index = Index::new();
    let mut model = Model::default();
    let mut remembered: Vec<(Vec<u8>, Stamp, MatchSet<u16>)> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Insert(subscription) => {
                let Subscription {
                    pattern,
                    queue,
                    subscriber,
                } = subscription;
                let outcome = index.insert(pattern, *queue, *subscriber);
                if is_valid_pattern(pattern) {
                    assert_eq!(outcome, Ok(()));
                    model.insert(subscription);
                } else {
                    assert_eq!(outcome, Err(InvalidPattern));
                }
            }
            Operation::Remove(subscription) => {
                let Subscription {
                    pattern,
                    queue,
                    subscriber,
                } = subscription;
                let removed = index.remove(pattern, *queue, subscriber);
                assert_eq!(
                    removed,
                    model.remove(subscription),
                    "removing {subscription:?}"
                );
            }
            Operation::Match(subject) => {
                let stamp = index.stamp(subject);
                let found = index.matches(subject);
                assert!(index.is_current(&stamp), "nothing changed since");
                assert!(
                    found.same_as(&index.matches(subject)),
                    "nothing changed since"
                );
                model.check_answer(subject, &found);
                if remembered.len() == REMEMBERED_MAX {
                    remembered.remove(0);
                }
                remembered.push((subject.clone(), stamp, found));
            }
        }
        assert_eq!(index.len(), model.0.len());
        for (subject, stamp, found) in &remembered {
            if index.is_current(stamp) {
                model.check_answer(subject, found);
            }
        }
    }
    model.check_entries(&index);
    for Subscription {
        pattern,
        queue,
        subscriber,
    } in &model.0
    {
        assert!(index.remove(pattern, *queue, subscriber));
    }
    assert!(index.is_empty());
    assert_eq!(index.nodes_used(), 0, "what was removed takes no room");
}

/// Every subscription in one list.
#[derive(Default)]
struct Model(Vec<Subscription>);

impl Model {
    fn insert(&mut self, subscription: &Subscription) {
        if !self.0.contains(subscription) {
            self.0.push(subscription.clone());
        }
    }

    fn remove(&mut self, subscription: &Subscription) -> bool {
        let place = self.0.iter().position(|present| present == subscription);
        place.map(|place| self.0.swap_remove(place)).is_some()
    }

    fn check_entries(&self, index: &Index<u16>) {
        let mut entries = Vec::new();
        index.for_each(|entry| {
            entries.push((
                entry.pattern.to_vec(),
                entry.queue.map(<[u8]>::to_vec),
                *entry.subscriber,
            ));
        });
        let mut expected: Vec<_> = self
            .0
            .iter()
            .map(|present| {
                (
                    present.pattern.clone(),
                    present.queue.map(<[u8]>::to_vec),
                    present.subscriber,
                )
            })
            .collect();
        entries.sort_unstable();
        expected.sort_unstable();
        assert_eq!(entries, expected);
    }

    fn check_answer(&self, subject: &[u8], found: &MatchSet<u16>) {
        let mut plain = Vec::new();
        let mut groups: BTreeMap<&[u8], Vec<u16>> = BTreeMap::new();
        for subscription in self
            .0
            .iter()
            .filter(|present| matches(&present.pattern, subject))
        {
            match subscription.queue {
                None => plain.push(subscription.subscriber),
                Some(name) => groups
                    .entry(name)
                    .or_default()
                    .push(subscription.subscriber),
            }
        }
        let context = subject.escape_ascii();
        assert_eq!(
            found.is_empty(),
            plain.is_empty() && groups.is_empty(),
            "at {context}"
        );
        assert_eq!(found.plain_len(), plain.len(), "at {context}");
        assert_eq!(
            sorted(found.plain()),
            sorted(&plain),
            "plain subscribers at {context}"
        );
        let found_groups = found.groups().iter().map(|group| {
            assert_eq!(group.members().count(), group.len());
            (
                group.name(),
                sorted((0..group.len()).map(|index| group.member(index))),
            )
        });
        let expected = groups
            .iter()
            .map(|(name, members)| (*name, sorted(members)));
        assert!(
            found_groups.eq(expected),
            "queue groups at {context}: {found:?}, not {groups:?}"
        );
    }
}

fn sorted<'a>(subscribers: impl IntoIterator<Item = &'a u16>) -> Vec<u16> {
    let mut subscribers: Vec<u16> = subscribers.into_iter().copied().collect();
    subscribers.sort_unstable();
    subscribers
}

/// Reads operations from `bytes`: any bytes are some operations, and similar bytes are similar operations.
fn operations(bytes: &[u8]) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut bytes = bytes.iter().copied();
    while let Some(kind) = bytes.next() {
        let subject = subject(&mut bytes);
        operations.push(match kind % 5 {
            0 | 1 => Operation::Insert(subscription(subject, &mut bytes)),
            2 => Operation::Remove(subscription(subject, &mut bytes)),
            _ => Operation::Match(subject),
        });
    }
    operations
}

fn subscription(pattern: Vec<u8>, bytes: &mut impl Iterator<Item = u8>) -> Subscription {
    let byte = bytes.next().unwrap_or_default();
    Subscription {
        pattern,
        queue: QUEUES[usize::from(byte) % QUEUES.len()],
        subscriber: u16::from(byte / 4),
    }
}

/// One byte says how many tokens, and each token takes one.
fn subject(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let tokens = 1 + bytes.next().unwrap_or_default() % 5;
    let mut subject = Vec::new();
    for place in 0..tokens {
        if place > 0 {
            subject.push(b'.');
        }
        subject.extend(TOKENS[usize::from(bytes.next().unwrap_or_default()) % TOKENS.len()]);
    }
    subject
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_token() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            12 => prop::sample::select(TOKENS.as_slice()).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..40),
        ]
    }

    fn any_subject() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            30 => prop::collection::vec(any_token(), 1..6),
            1 => prop::collection::vec(any_token(), 100..300),
        ]
        .prop_map(|tokens| tokens.join(&b'.'))
    }

    fn any_subscription() -> impl Strategy<Value = Subscription> {
        (
            any_subject(),
            prop::sample::select(QUEUES.as_slice()),
            0_u16..60,
        )
            .prop_map(|(pattern, queue, subscriber)| Subscription {
                pattern,
                queue,
                subscriber,
            })
    }

    fn any_operations() -> impl Strategy<Value = Vec<Operation>> {
        let operation = prop_oneof![
            4 => any_subscription().prop_map(Operation::Insert),
            1 => any_subscription().prop_map(Operation::Remove),
            4 => any_subject().prop_map(Operation::Match),
        ];
        // A removal of something at random rarely hits, so some removals undo an earlier insertion.
        let undo =
            prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..30);
        (prop::collection::vec(operation, 0..100), undo).prop_map(|(mut operations, undo)| {
            for (which, place) in undo {
                if operations.is_empty() {
                    break;
                }
                if let Operation::Insert(subscription) = which.get(&operations) {
                    let removal = Operation::Remove(subscription.clone());
                    operations.insert(place.index(operations.len()), removal);
                }
            }
            operations
        })
    }

    proptest! {
        #[test]
        fn the_index_equals_the_linear_model(operations in any_operations()) {
            check(&operations);
        }

        #[test]
        fn many_subscribers_of_few_patterns(
            steps in prop::collection::vec((0_u8..8, 0_u16..30, 0_usize..2, 0_usize..3), 0..300)
        ) {
            // More insertions than removals, so that lists grow long, and a look-up now and then.
            let operations: Vec<Operation> = steps
                .into_iter()
                .map(|(kind, subscriber, pattern, queue)| {
                    let pattern = [b"a.b".as_slice(), b"a.*"][pattern].to_vec();
                    let queue = [None, Some(b"x".as_slice()), Some(b"y")][queue];
                    match kind {
                        0..5 => Operation::Insert(Subscription { pattern, queue, subscriber }),
                        5..7 => Operation::Remove(Subscription { pattern, queue, subscriber }),
                        _ => Operation::Match(b"a.b".to_vec()),
                    }
                })
                .collect();
            check(&operations);
        }

        #[test]
        fn any_bytes_are_operations(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
            subject_index(&bytes);
        }

        #[test]
        fn patterns_overlap_if_a_subject_shows_it(
            left in any_subject(), right in any_subject(), subject in any_subject()
        ) {
            if matches(&left, &subject) && matches(&right, &subject) {
                prop_assert!(crate::overlaps(&left, &right));
            }
        }
    }
}
