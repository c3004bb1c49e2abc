//! A byte string that lives inside its owner while it is short, and the hash all tables here use for byte strings.
//!
//! Subjects and tokens mostly are short. A heap block for each would cost more than the string, and one more cache
//! miss at every comparison.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;

/// An owned, immutable byte string, kept in place up to `INLINE_LEN` bytes.
#[derive(Debug)]
pub(crate) enum Key<const INLINE_LEN: usize> {
    Inline {
        len: u8,
        bytes: [u8; INLINE_LEN],
    },
    /// The hash is that of the owner, and fills what would be padding: a table that grows need not read the string.
    Heap {
        hash: u64,
        bytes: Box<[u8]>,
    },
}

impl<const INLINE_LEN: usize> Key<INLINE_LEN> {
    pub(crate) fn new(text: &[u8], hash: u64) -> Self {
        let mut bytes = [0; INLINE_LEN];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(text);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap {
                hash,
                bytes: text.into(),
            },
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap { bytes, .. } => bytes,
        }
    }

    /// The hash given to `new`; `again` finds it anew from the string.
    #[inline]
    pub(crate) fn hash(&self, again: impl FnOnce(&[u8]) -> u64) -> u64 {
        match self {
            Self::Inline { .. } => again(self.as_bytes()),
            Self::Heap { hash, .. } => *hash,
        }
    }
}

/// Seeded for each index, because clients choose the bytes. Which of the 64 bits serve what: the lowest and the highest
/// seven choose a place in a hash table, bits 12 to 31 a part of it, 32 to 43 a shard, from 44 a counter.
#[inline]
pub(crate) fn hash_of(hasher: &RandomState, bytes: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(bytes);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_length() {
        for len in 0..64_u8 {
            let text: Vec<u8> = (0..len).collect();
            let key = Key::<22>::new(&text, 7);
            assert_eq!(key.as_bytes(), text);
            assert_eq!(matches!(key, Key::Inline { .. }), text.len() <= 22);
            let inline = matches!(key, Key::Inline { .. });
            assert_eq!(
                key.hash(|bytes| bytes.len() as u64),
                if inline { u64::from(len) } else { 7 }
            );
        }
    }
}
