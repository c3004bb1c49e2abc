//! Where a subject's separators are, found in one pass: what a look-up must know before it looks anywhere.
//!
//! Eight bytes at a time, as one number. Subjects are short, and for short strings two calls of a vectorised search
//! and one more pass for empty tokens cost about twice as much.

use crate::subject::SEPARATOR;

/// The separators of a subject, as far as look-ups care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The place of the first separator: where the prefix of one token ends.
    pub(crate) first_end: Option<usize>,
    /// The place of the second separator: where the prefix of two tokens ends.
    pub(crate) second_end: Option<usize>,
    /// Whether the subject is empty, begins or ends with a separator, or has two side by side.
    pub(crate) has_empty_token: bool,
}

impl Shape {
    #[inline]
    pub(crate) fn of(subject: &[u8]) -> Self {
        let mut shape = Self {
            first_end: None,
            second_end: None,
            has_empty_token: false,
        };
        // Whether the byte before is a separator. As if one stood before the subject and one after it: then every empty
        // token lies between two adjacent ones.
        let mut before = 1;
        let (words, rest) = subject.as_chunks::<8>();
        for (number, &word) in words.iter().enumerate() {
            before = shape.take(u64::from_le_bytes(word), 8, number * 8, before);
        }
        if !rest.is_empty() {
            let word = match subject.last_chunk::<8>() {
                // Reading some bytes again is faster than reading less than eight.
                Some(&last) => u64::from_le_bytes(last) >> (8 * (8 - rest.len())),
                None => rest
                    .iter()
                    .rev()
                    .fold(0, |word, &byte| word << 8 | u64::from(byte)),
            };
            before = shape.take(word, rest.len(), words.len() * 8, before);
        }
        shape.has_empty_token |= before != 0;
        shape
    }

    /// Takes the next `len` bytes, the first of them the lowest of `word`, the others zero. Returns 1 if the last is a
    /// separator, 0 if not.
    #[inline]
    fn take(&mut self, word: u64, len: usize, place: usize, before: u64) -> u64 {
        let mut separators = separators(word);
        let last = separators >> (8 * (len - 1)) & 1;
        self.has_empty_token |= separators & (separators << 8 | before) != 0;
        while separators != 0 && self.second_end.is_none() {
            let end = place + separators.trailing_zeros() as usize / 8;
            match self.first_end {
                None => self.first_end = Some(end),
                Some(_) => self.second_end = Some(end),
            }
            separators &= separators - 1;
        }
        last
    }
}

/// The lowest bit of each byte of `word` that is a separator.
#[inline]
fn separators(word: u64) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const LOW_SEVEN: u64 = LOW * 0x7f;
    // A byte is zero now where it was a separator. Adding 127 to its lower seven bits sets its highest bit unless they
    // are zero, and never carries into the next byte.
    let zero_at = word ^ (LOW * SEPARATOR as u64);
    let not_zero = ((zero_at & LOW_SEVEN) + LOW_SEVEN) | zero_at;
    !not_zero >> 7 & LOW
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(subject: &[u8]) -> Shape {
        let mut ends = (0..subject.len()).filter(|&place| subject[place] == SEPARATOR);
        Shape {
            first_end: ends.next(),
            second_end: ends.next(),
            has_empty_token: subject
                .split(|&byte| byte == SEPARATOR)
                .any(<[u8]>::is_empty),
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_shape(
            subject in prop::collection::vec(prop_oneof![
                1 => Just(SEPARATOR),
                2 => any::<u8>(),
                // What differs from a separator in one bit, at either end.
                1 => prop::sample::select(&[0x2f, 0xae, 0x2c, 0x00, 0xff][..]),
            ], 0..40)
        ) {
            prop_assert_eq!(Shape::of(&subject), naive(&subject));
        }
    }

    #[test]
    fn every_place_of_up_to_three_separators() {
        for len in 0..20 {
            for (one, two, three) in (0..=len).flat_map(|one| {
                (0..=len).flat_map(move |two| (0..=len).map(move |three| (one, two, three)))
            }) {
                let mut subject = vec![b'a'; len];
                for place in [one, two, three] {
                    if let Some(byte) = subject.get_mut(place) {
                        *byte = SEPARATOR;
                    }
                }
                assert_eq!(
                    Shape::of(&subject),
                    naive(&subject),
                    "{:?}",
                    subject.escape_ascii()
                );
            }
        }
    }
}
