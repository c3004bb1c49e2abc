//! A byte string that lives inside its owner while it is short. Tokens and subjects mostly are, and a heap block for
//! each would cost more than the string.

/// Bytes kept in place: what fills 24 bytes together with the length and the variant.
const INLINE_LEN: usize = 22;

/// An owned, immutable byte string.
#[derive(Debug)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    Heap(Box<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24);

impl Key {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE_LEN];
        match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text);
                Self::Inline {
                    len: u8::try_from(text.len()).unwrap_or_default(),
                    bytes,
                }
            }
            None => Self::Heap(text.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_length() {
        for len in 0..64_u8 {
            let text: Vec<u8> = (0..len).collect();
            let key = Key::new(&text);
            assert_eq!(key.as_bytes(), text);
            assert_eq!(matches!(key, Key::Inline { .. }), text.len() <= INLINE_LEN);
        }
    }
}
