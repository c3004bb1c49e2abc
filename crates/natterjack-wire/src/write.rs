//! Owns what is written the same to clients and to routes: the small operations, lines of words, numbers.

use crate::error::ErrorReply;

/// `PING`
#[inline]
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

/// `PONG`
#[inline]
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

/// `+OK`
#[inline]
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-ERR`
pub fn error(out: &mut Vec<u8>, reply: &ErrorReply<'_>) {
    out.extend_from_slice(b"-ERR '");
    reply.write_text(out);
    out.extend_from_slice(b"'\r\n");
}

/// A line of an operation and words: room is made once, and short words are copied without a call.
#[inline]
pub(crate) fn words<const N: usize>(out: &mut Vec<u8>, operation: &[u8], words: [&[u8]; N]) {
    let start = out.len();
    let words_bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    out.resize(start + operation.len() + words_bytes + 1, b' ');
    let (head, mut rest) = out[start..].split_at_mut(operation.len());
    head.copy_from_slice(operation);
    for word in words {
        let (place, behind) = rest.split_at_mut(word.len());
        copy_word(place, word);
        rest = &mut behind[1..];
    }
    let end = out.len();
    out[end - 2..].copy_from_slice(b"\r\n");
}

/// The same for any number of words.
pub(crate) fn line<'a>(out: &mut Vec<u8>, operation: &[u8], words: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(operation);
    for word in words {
        out.extend_from_slice(word);
        out.push(b' ');
    }
    // The last blank was one too many.
    out.pop();
    out.extend_from_slice(b"\r\n");
}

/// Copies a word to a place of the same length. A call of `memcpy` costs more than copying the few bytes of most
/// words, which two overlapping loads and stores do.
#[inline]
fn copy_word(place: &mut [u8], word: &[u8]) {
    let length = word.len();
    if length > 16 {
        place.copy_from_slice(word);
    } else if let (Some(first), Some(last)) = (word.first_chunk::<8>(), word.last_chunk::<8>()) {
        place[..8].copy_from_slice(first);
        place[length - 8..].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        place[..4].copy_from_slice(first);
        place[length - 4..].copy_from_slice(last);
    } else {
        for (place, &byte) in place.iter_mut().zip(word).take(3) {
            *place = byte;
        }
    }
}

/// A number in decimal digits, without an allocation.
#[inline]
pub fn decimal(number: usize) -> Decimal {
    Decimal::new(number as u64)
}

/// See [`decimal`].
#[derive(Clone, Copy)]
pub struct Decimal {
    /// The digits stand at the end.
    digits: [u8; Self::DIGITS_MAX],
    start: u8,
}

impl Decimal {
    /// The digits of `u64::MAX`.
    const DIGITS_MAX: usize = 20;

    /// `number` in decimal digits.
    #[inline]
    pub fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; Self::DIGITS_MAX];
        let mut start = Self::DIGITS_MAX;
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self {
                    digits,
                    start: start as u8,
                };
            }
        }
    }
}

impl AsRef<[u8]> for Decimal {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.digits[usize::from(self.start)..]
    }
}

impl core::ops::Deref for Decimal {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl core::fmt::Debug for Decimal {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(core::str::from_utf8(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [
            0,
            1,
            9,
            10,
            99,
            100,
            12_345,
            999_999_999,
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert_eq!(&*Decimal::new(number), number.to_string().as_bytes());
        }
    }
}
