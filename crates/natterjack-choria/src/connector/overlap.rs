//! The time in which one connection takes the place of another: both are subscribed then, so what is sent to us may come
//! over either or over both, and is handed on once.
//!
//! A message is known by all of its bytes and by its subject. Those of this protocol have a request's identifier, a time and a
//! signature in them, so two that are the same are the same message; of any others as many are handed on as came over
//! one of the connections. Where that cannot be remembered, a message is lost rather than handed on twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ring::digest::{Context, SHA256};

/// Messages that are remembered: far more than come in the moment in which there are two connections.
const REMEMBERED_MAX: usize = 1 << 16;

/// What came over one connection, and not yet over another.
#[derive(Debug)]
pub(super) struct Overlap {
    unmatched: HashMap<[u8; 32], Unmatched>,
    remembered_max: usize,
    /// Both connections are there; after that nothing comes that another one will bring once more.
    is_open: bool,
}

#[derive(Debug)]
struct Unmatched {
    connection: u64,
    count: u32,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to be handed on.
    New,
    /// It came over another connection before.
    Again,
    /// Nobody could tell whether it comes once more.
    Unknowable,
}

impl Default for Overlap {
    fn default() -> Self {
        Self {
            unmatched: HashMap::new(),
            remembered_max: REMEMBERED_MAX,
            is_open: true,
        }
    }
}

impl Overlap {
    /// There are two connections again.
    pub(super) const fn open(&mut self) {
        self.is_open = true;
    }

    /// One of them is no more. What the other one still brings of the same is known as before.
    pub(super) const fn close(&mut self) {
        self.is_open = false;
    }

    /// Whether there are two connections.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes note of a message that came over a connection.
    pub(super) fn note(&mut self, connection: u64, subject: &str, content: &[u8]) -> Verdict {
        let is_full = self.unmatched.len() >= self.remembered_max;
        match self.unmatched.entry(digest(subject, content)) {
            Entry::Occupied(mut known) if known.get().connection != connection => {
                known.get_mut().count -= 1;
                if known.get().count == 0 {
                    known.remove();
                }
                Verdict::Again
            }
            _ if !self.is_open => Verdict::New,
            Entry::Occupied(mut known) => {
                known.get_mut().count += 1;
                Verdict::New
            }
            Entry::Vacant(_) if is_full => Verdict::Unknowable,
            Entry::Vacant(unknown) => {
                unknown.insert(Unmatched {
                    connection,
                    count: 1,
                });
                Verdict::New
            }
        }
    }
}

fn digest(subject: &str, content: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // Otherwise a subject's end could be a content's beginning.
    context.update(&(subject.len() as u64).to_be_bytes());
    context.update(subject.as_bytes());
    context.update(content);
    let digest = context.finish();
    digest
        .as_ref()
        .try_into()
        .expect("a SHA-256 sum has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{Again, New, Unknowable};
    use super::*;

    const OLD: u64 = 1;
    const NEXT: u64 = 2;

    fn note(overlap: &mut Overlap, connection: u64, content: &str) -> Verdict {
        overlap.note(connection, "a.node.b", content.as_bytes())
    }

    #[test]
    fn whichever_connection_is_first_a_message_is_handed_on_once() {
        let mut overlap = Overlap::default();
        for (first, second) in [(OLD, NEXT), (NEXT, OLD)] {
            assert_eq!(note(&mut overlap, first, "x"), New);
            assert_eq!(note(&mut overlap, second, "x"), Again);
        }
        assert!(overlap.unmatched.is_empty());
        // As many as one of them brings.
        assert_eq!(note(&mut overlap, OLD, "x"), New);
        assert_eq!(note(&mut overlap, OLD, "x"), New);
        assert_eq!(note(&mut overlap, NEXT, "x"), Again);
        assert_eq!(note(&mut overlap, NEXT, "x"), Again);
        assert_eq!(note(&mut overlap, NEXT, "x"), New);
        // Another subject, or another border between it and the content, is another message.
        assert_eq!(overlap.note(OLD, "a.node.bx", b""), New);
        assert_eq!(overlap.note(NEXT, "a.node.b", b"x"), New);
    }

    #[test]
    fn what_comes_late_over_the_next_one_is_known() {
        let mut overlap = Overlap::default();
        assert_eq!(note(&mut overlap, OLD, "x"), New);
        overlap.close();
        assert_eq!(note(&mut overlap, NEXT, "y"), New);
        assert_eq!(note(&mut overlap, NEXT, "x"), Again);
        assert!(overlap.unmatched.is_empty());
        // Soon after there is another change.
        overlap.open();
        assert_eq!(note(&mut overlap, NEXT, "z"), New);
        assert_eq!(note(&mut overlap, NEXT + 1, "z"), Again);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_handed_on_twice() {
        let mut overlap = Overlap {
            remembered_max: 1,
            ..Overlap::default()
        };
        assert_eq!(note(&mut overlap, OLD, "x"), New);
        assert_eq!(note(&mut overlap, OLD, "y"), Unknowable);
        assert_eq!(note(&mut overlap, NEXT, "x"), Again);
        assert_eq!(note(&mut overlap, NEXT, "y"), New);
    }

    proptest! {
        /// Two connections bring the same messages, one of them from some message on and the other one up to some later one;
        /// how they take turns is chance.
        #[test]
        fn nothing_is_missed_or_twice(
            count in 1_usize..30,
            borders in (0_usize..30, 0_usize..30),
            turns: Vec<bool>,
        ) {
            let (begin, end) = (borders.0.min(borders.1).min(count), borders.0.max(borders.1).min(count));
            let mut overlap = Overlap::default();
            let (mut old, mut next) = (0..end, begin..count);
            let mut handed_on = Vec::new();
            let mut hear = |overlap: &mut Overlap, connection, number: Option<usize>| {
                if let Some(number) = number && note(overlap, connection, &number.to_string()) == New {
                    handed_on.push(number);
                }
            };
            for is_old in turns {
                if is_old {
                    hear(&mut overlap, OLD, old.next());
                } else {
                    hear(&mut overlap, NEXT, next.next());
                }
            }
            for number in old {
                hear(&mut overlap, OLD, Some(number));
            }
            overlap.close();
            for number in next {
                hear(&mut overlap, NEXT, Some(number));
            }
            handed_on.sort_unstable();
            prop_assert_eq!(handed_on, Vec::from_iter(0..count));
        }
    }
}
