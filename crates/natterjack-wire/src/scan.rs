//! Owns the lexical level of a control line: blanks, words, line ends and the length limit. It knows
//! no operation.
//!
//! A control line is short (a dozen to a hundred bytes), so the cost that matters is per call and per
//! word, not per byte. [`split`] therefore looks at eight bytes at a time: one addition marks every byte
//! up to and including the blank, and only marked bytes are looked at singly. Line end and word bounds
//! come out of the same pass. [`plain_word`] and [`plain_last_size`] are the same for lines in the form that
//! clients write; they give up on anything else, and then [`split`] has a second look.

use crate::error::ProtocolError;

/// A line cut into words. At most `N` words are kept, all are counted.
pub(crate) struct Words<'a, const N: usize> {
    words: [&'a [u8]; N],
    count: usize,
    /// A carriage return stood somewhere else than before the line feed.
    pub(crate) bare_carriage_return: bool,
    /// Index just past the line feed.
    pub(crate) end: usize,
}

impl<'a, const N: usize> Words<'a, N> {
    /// All words of the line, or `None` when there were more than `N`.
    #[inline]
    pub(crate) fn all(&self) -> Option<&[&'a [u8]]> {
        self.words.get(..self.count)
    }
}

/// Cuts the line that starts at `start` into words parted by blanks, tabs and carriage returns.
///
/// `None` means that the line feed has not arrived. The line may hold `line_bytes_max` bytes, not
/// counting its end (`\n` or `\r\n`); a longer one is refused as soon as that many bytes are there.
/// Linear in the length of the line.
#[inline]
pub(crate) fn split<const N: usize>(
    input: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<Option<Words<'_, N>>, ProtocolError> {
    let window = window(input, start, line_bytes_max);
    let mut words: [&[u8]; N] = [&[]; N];
    let mut count = 0;
    let mut word_start = start;
    let mut carriage_returns = 0_usize;
    let mut base = start;
    while base < window.len() {
        let mut chunk = load(window, base);
        let mut marks = at_most_blank(chunk);
        let mut at = base;
        while marks != 0 {
            let skip = marks.trailing_zeros() / 8;
            at += skip as usize;
            chunk >>= skip * 8;
            marks >>= skip * 8;
            let byte = chunk as u8;
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                if at > word_start {
                    if let Some(word) = words.get_mut(count) {
                        *word = &window[word_start..at];
                    }
                    count += 1;
                }
                word_start = at + 1;
                if byte == b'\r' {
                    carriage_returns += 1;
                } else if byte == b'\n' {
                    let ends_with_return = at > start && window[at - 1] == b'\r';
                    let line_bytes = at - start - usize::from(ends_with_return);
                    if line_bytes > line_bytes_max {
                        return Err(ProtocolError::ControlLineTooLong);
                    }
                    return Ok(Some(Words {
                        words,
                        count,
                        bare_carriage_return: carriage_returns > usize::from(ends_with_return),
                        end: at + 1,
                    }));
                }
            }
            // Two shifts, because shifting by 64 is not defined when the mark was in the last byte.
            at += 1;
            chunk >>= 8;
            marks >>= 8;
        }
        base += 8;
    }
    unfinished(window, start, line_bytes_max)
}

/// The word that starts at `start`, if it is not empty and a single blank ends it.
#[inline]
pub(crate) fn plain_word(input: &[u8], start: usize) -> Option<&[u8]> {
    let mut rest = input.get(start..)?;
    let mut length = 0;
    while let Some(chunk) = rest.first_chunk::<8>() {
        let marks = at_most_blank(u64::from_le_bytes(*chunk));
        if marks != 0 {
            length += (marks.trailing_zeros() / 8) as usize;
            let word = &input[start..start + length];
            return (length > 0 && input[start + length] == b' ').then_some(word);
        }
        length += 8;
        rest = &rest[8..];
    }
    None
}

/// The size that starts at `start`, with its text, if `\r\n` follows it.
#[inline]
pub(crate) fn plain_last_size(input: &[u8], start: usize) -> Option<(usize, &[u8])> {
    let text = input.get(start..)?;
    let mut value = 0_usize;
    for (length, &byte) in text.iter().take(SIZE_DIGITS_MAX + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let ends = length > 0 && byte == b'\r' && text.get(length + 1) == Some(&b'\n');
            return ends.then(|| (value, &text[..length]));
        }
        // Wraps only with a tenth digit, which makes it no size; and only where `usize` has 32 bits.
        value = value.wrapping_mul(10).wrapping_add(usize::from(digit));
    }
    None
}

/// The first word of a line that is there whole, and what stands behind the word. Blanks, tabs and carriage
/// returns part words.
#[inline]
pub(crate) fn first_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|&byte| !parts_words(byte))?;
    let text = &text[start..];
    let length = text.iter().position(|&byte| parts_words(byte));
    Some(text.split_at(length.unwrap_or(text.len())))
}

/// The last word of a line that is there whole, behind what stands before the word.
#[inline]
pub(crate) fn last_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().rposition(|&byte| !parts_words(byte))? + 1;
    let text = &text[..end];
    let start = text.iter().rposition(|&byte| parts_words(byte));
    Some(text.split_at(start.map_or(0, |at| at + 1)))
}

const fn parts_words(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The rest of the line that starts at `start`, without its end, and the index just past the line
/// feed. Limits and `None` as in [`split`].
#[inline]
pub(crate) fn rest_of_line(
    input: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let window = window(input, start, line_bytes_max);
    let Some(length) = memchr::memchr(b'\n', &window[start..]) else {
        return unfinished(window, start, line_bytes_max);
    };
    let line = &window[start..start + length];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > line_bytes_max {
        return Err(ProtocolError::ControlLineTooLong);
    }
    Ok(Some((line, start + length + 1)))
}

/// Index of the first byte at or after `start` that is no blank, or the input's length.
///
/// Blanks before the arguments do not count as arguments, but they are bounded by the same limit:
/// an operation must fit into a bounded buffer. (nats-server skips any number of them.)
#[inline]
pub(crate) fn skip_blanks(
    input: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<usize, ProtocolError> {
    let mut at = start;
    while at < input.len() && is_blank(input[at]) {
        at += 1;
        if at - start > line_bytes_max {
            return Err(ProtocolError::ControlLineTooLong);
        }
    }
    Ok(at)
}

/// Space or tab.
#[inline]
pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A size as the protocol writes it: one to nine ASCII digits, nothing else (client protocol,
/// section 4). `None` for everything else, so signs and overflow need no extra thought.
#[inline]
pub(crate) fn size(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > SIZE_DIGITS_MAX {
        return None;
    }
    let mut value = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + usize::from(digit);
    }
    Some(value)
}

/// Digits of a size.
const SIZE_DIGITS_MAX: usize = 9;

/// The bytes in which the line end must lie: the longest line allowed and `\r\n`.
#[inline]
fn window(input: &[u8], start: usize, line_bytes_max: usize) -> &[u8] {
    let end = start.saturating_add(line_bytes_max).saturating_add(2);
    &input[..input.len().min(end)]
}

/// No line feed in the window: too long already, or more to come. A carriage return in last place
/// may be half a line end and does not count.
#[cold]
fn unfinished<T>(
    window: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<Option<T>, ProtocolError> {
    let line = window.get(start..).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > line_bytes_max {
        Err(ProtocolError::ControlLineTooLong)
    } else {
        Ok(None)
    }
}

/// Eight bytes from `base`, the first in the lowest place, filled up with a byte that is never marked.
#[inline]
fn load(window: &[u8], base: usize) -> u64 {
    let rest = &window[base..];
    match rest.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => {
            let mut chunk = [0xFF; 8];
            chunk[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(chunk)
        }
    }
}

/// Sets the top bit of each byte that is 0x20 or less. Adding 0x5F carries a byte of 0x21 or more into
/// its own top bit and never further, bytes from 0x80 have it set already; what is left is marked.
#[inline]
const fn at_most_blank(chunk: u64) -> u64 {
    const TOP: u64 = 0x8080_8080_8080_8080;
    !(((chunk & !TOP) + 0x5F5F_5F5F_5F5F_5F5F) | chunk) & TOP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_exactly_the_bytes_up_to_the_blank() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let mut chunk = [0xFF; 8];
                chunk[place] = byte;
                let marks = at_most_blank(u64::from_le_bytes(chunk));
                let expected = if byte <= b' ' { 0x80 << (place * 8) } else { 0 };
                assert_eq!(marks, expected, "byte {byte:#x} in place {place}");
            }
        }
    }

    #[test]
    fn words_and_line_ends() {
        #[track_caller]
        fn check(line: &[u8], expected: Option<(&[&[u8]], bool, usize)>) {
            let found = split::<4>(line, 0, 64).expect("short line");
            let found = found.as_ref().map(|words| {
                (
                    words.all().expect("four words at most"),
                    words.bare_carriage_return,
                    words.end,
                )
            });
            assert_eq!(found, expected);
        }
        check(b"", None);
        check(b"a", None);
        check(b"a b\r", None);
        check(b"\n", Some((&[], false, 1)));
        check(b"\r\n", Some((&[], false, 2)));
        check(b"a\n", Some((&[b"a"], false, 2)));
        check(b"a\r\nb", Some((&[b"a"], false, 3)));
        check(b" a\t b \r\n", Some((&[b"a", b"b"], false, 8)));
        check(b"a\rb\r\n", Some((&[b"a", b"b"], true, 5)));
        check(b"a\r\r\n", Some((&[b"a"], true, 4)));
        check(
            b"a\0\x1F\xFFb 1\n",
            Some((&[b"a\0\x1F\xFFb", b"1"], false, 8)),
        );
        check(
            b"12345678 1234567 \r\n",
            Some((&[b"12345678", b"1234567"], false, 19)),
        );
    }

    #[test]
    fn too_many_words_are_counted_but_not_kept() {
        let words = split::<2>(b"a b c\n", 0, 64)
            .expect("short")
            .expect("whole");
        assert!(words.all().is_none());
        assert_eq!(words.end, 6);
    }

    #[test]
    fn the_limit_counts_the_line_without_its_end() {
        #[track_caller]
        fn check(line: &[u8], fits: bool) {
            assert_eq!(split::<4>(line, 1, 4).is_ok(), fits, "split {line:?}");
            assert_eq!(
                rest_of_line(line, 1, 4).is_ok(),
                fits,
                "rest_of_line {line:?}"
            );
        }
        check(b"_abcd", true);
        check(b"_abcd\r", true);
        check(b"_abcd\r\n", true);
        check(b"_abcd\n", true);
        check(b"_abcde", false);
        check(b"_abcde\n", false);
        check(b"_abcde\r\n", false);
        check(b"_abcd\rx", false);
        check(b"_abcdefghijk", false);
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: Option<usize>) {
            assert_eq!(size(text.as_bytes()), expected);
        }
        check("0", Some(0));
        check("05", Some(5));
        check("999999999", Some(999_999_999));
        check("000000001", Some(1));
        check("0000000001", None);
        check("1000000000", None);
        check("18446744073709551617", None);
        check("", None);
        check("-1", None);
        check("+5", None);
        check("5a", None);
        check("0x5", None);
        check("5/", None);
        check("5:", None);
    }
}
