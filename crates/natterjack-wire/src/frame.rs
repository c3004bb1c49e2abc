//! Owns what all decoders share above the lexical level: their answer, how an operation is told by its letters,
//! and the body of a message. Which operations there are is the business of [`client`](crate::client) and
//! [`route`](crate::route).

use crate::error::ProtocolError;
use crate::scan::is_blank;

/// What a decoder found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<Op> {
    /// A whole operation.
    Op {
        /// It borrows from the input.
        op: Op,
        /// Bytes it took; the next operation starts there. Never zero.
        consumed: usize,
    },
    /// The start of an operation, so far without fault.
    Incomplete {
        /// Bytes, counted from the start of the input, that are known to be required. Always more than
        /// the input holds. Exact once the control line of a message is complete, so that a reader can
        /// make room for a large frame once and read straight into it; before that one more than there is.
        needed: usize,
    },
}

impl<Op> Decoded<Op> {
    /// Changes the operation, keeps the numbers.
    #[inline]
    pub(crate) fn map<Other>(self, change: impl FnOnce(Op) -> Other) -> Decoded<Other> {
        match self {
            Self::Op { op, consumed } => Decoded::Op {
                op: change(op),
                consumed,
            },
            Self::Incomplete { needed } => Decoded::Incomplete { needed },
        }
    }
}

/// More is needed, nobody knows how much.
#[inline]
pub(crate) fn one_more<Op>(input: &[u8]) -> Decoded<Op> {
    Decoded::Incomplete {
        needed: input.len() + 1,
    }
}

/// What must stand directly behind an operation's letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Blank,
    Anything,
}

/// The letters of an operation, in upper case.
pub(crate) struct Operation {
    word: &'static [u8],
    behind: Behind,
}

impl Operation {
    pub(crate) const fn new(word: &'static [u8], behind: Behind) -> Self {
        Self { word, behind }
    }
}

/// Which of `operations` the input starts with; `None` while it could still become several or one.
pub(crate) fn operation(
    input: &[u8],
    operations: &[Operation],
) -> Result<Option<&'static [u8]>, ProtocolError> {
    for Operation { word, behind } in operations {
        let there = input.len().min(word.len());
        if !input[..there].eq_ignore_ascii_case(&word[..there]) {
            continue;
        }
        if there < word.len() {
            return Ok(None);
        }
        return match (behind, input.get(word.len())) {
            (Behind::Anything, _) => Ok(Some(word)),
            (Behind::Blank, None) => Ok(None),
            (Behind::Blank, Some(&byte)) if is_blank(byte) => Ok(Some(word)),
            (Behind::Blank, Some(_)) => Err(ProtocolError::UnknownOperation),
        };
    }
    Err(ProtocolError::UnknownOperation)
}

/// The `total_len` bytes from `start` and the `\r\n` that must follow them.
#[inline]
pub(crate) fn body(
    input: &[u8],
    start: usize,
    total_len: usize,
    payload_bytes_max: usize,
) -> Result<Decoded<&[u8]>, ProtocolError> {
    if total_len > payload_bytes_max {
        return Err(ProtocolError::PayloadTooLarge);
    }
    let end = start + total_len;
    match input.get(end..end + 2) {
        Some(b"\r\n") => Ok(Decoded::Op {
            op: &input[start..end],
            consumed: end + 2,
        }),
        Some(_) => Err(ProtocolError::PayloadTerminator),
        None => match input.get(end) {
            None | Some(b'\r') => Ok(Decoded::Incomplete { needed: end + 2 }),
            Some(_) => Err(ProtocolError::PayloadTerminator),
        },
    }
}
