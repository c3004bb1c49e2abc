//! Owns reading a block: its length, and instructions that append bytes or copy some that are there already.
//!
//! | low bits of the tag | instruction |
//! | --- | --- |
//! | 00 | the next bytes, as many as the upper six bits say plus one; 60 to 63: as the next 1 to 4 bytes say plus one |
//! | 01 | copy 4 to 11 bytes from less than 2048 back; from 0 back means: from as far as the last time, and then the length may go on in 1 to 3 more bytes |
//! | 10 | copy 1 to 64 bytes from less than 64 KiB back |
//! | 11 | copy 1 to 64 bytes from less than 4 GiB back |

use super::S2Error;

/// Bytes a block of so much content can take: every byte on its own, with its tag, would be more, but nobody does
/// that; this is what the format's libraries allow.
pub(super) const fn encoded_bytes_max(content_bytes: usize) -> usize {
    32 + content_bytes + content_bytes / 6
}

/// Appends the content of a block. On error, `out` is as it was.
pub(crate) fn decode(
    block: &[u8],
    content_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), S2Error> {
    let start = out.len();
    let mut progress = Progress::begin(block, content_bytes_max)?;
    let followed = progress.follow(block, out, usize::MAX);
    followed.map(drop).inspect_err(|_| out.truncate(start))
}

/// How far a block has been read that is read piece by piece.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Bytes of content.
    length: usize,
    /// Of these, those that are there.
    filled: usize,
    /// Bytes of the block that have been followed.
    taken: usize,
    unfinished: Unfinished,
}

impl Progress {
    pub(super) fn begin(block: &[u8], content_bytes_max: usize) -> Result<Self, S2Error> {
        let (length, instructions) = take_length(block)?;
        if length > content_bytes_max {
            return Err(S2Error::ChunkTooLarge);
        }
        Ok(Self {
            length,
            filled: 0,
            taken: block.len() - instructions.len(),
            unfinished: Unfinished::default(),
        })
    }

    /// Bytes of content that are there; they are the last ones of `out`.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Appends up to `bytes_max` bytes more, and tells whether it is all of the content.
    pub(super) fn follow(
        &mut self,
        block: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, S2Error> {
        let start = out.len() - self.filled;
        let end = self.filled.saturating_add(bytes_max).min(self.length);
        out.resize(start + end, 0);
        let mut position = Position {
            rest: block.get(self.taken..).unwrap_or_default(),
            filled: self.filled,
            length: self.length,
            unfinished: self.unfinished,
        };
        let is_whole = position.fill(&mut out[start..]).ok_or(S2Error::Corrupt)?;
        self.filled = position.filled;
        self.taken = block.len() - position.rest.len();
        self.unfinished = position.unfinished;
        Ok(is_whole)
    }
}

/// A number of up to 32 bits, seven to a byte, the lowest first.
fn take_length(block: &[u8]) -> Result<(usize, &[u8]), S2Error> {
    let mut value = 0_u64;
    for (index, &byte) in block.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            let value = u32::try_from(value).map_err(|_| S2Error::Corrupt)?;
            return Ok((value as usize, &block[index + 1..]));
        }
    }
    Err(S2Error::Corrupt)
}

/// What a usual instruction copies at most. It is copied as half of that or all of it, and the surplus is overwritten
/// later: so only few branches depend on lengths, and they are seldom guessed wrong.
const WIDE: usize = 64;
const HALF: usize = WIDE / 2;

/// What is between two instructions, or left of one.
#[derive(Clone, Copy, Debug, Default)]
struct Unfinished {
    /// 0 until something was copied, which makes a repetition before that invalid like any copy from 0 back.
    offset: usize,
    /// Bytes of an instruction for which there was no room.
    pending: usize,
    /// They are the next ones of the block, and not copied.
    is_literal: bool,
}

/// Where in a block reading is.
struct Position<'a> {
    rest: &'a [u8],
    /// Bytes of the target that are there.
    filled: usize,
    /// Bytes of the whole content.
    length: usize,
    unfinished: Unfinished,
}

impl Position<'_> {
    /// Follows the instructions until the target is full, and tells whether that is the whole content. `None` if they do not
    /// fill that exactly.
    fn fill(&mut self, target: &mut [u8]) -> Option<bool> {
        self.follow_on(target)?;
        loop {
            if self.unfinished.pending > 0 {
                return Some(false);
            }
            self.follow_usual(target)?;
            if self.rest.is_empty() {
                return (self.filled == self.length).then_some(true);
            }
            if self.filled == target.len() && self.filled < self.length {
                return Some(false);
            }
            self.follow_one(target)?;
        }
    }

    /// Fills with what is left of an instruction, as far as there is room.
    fn follow_on(&mut self, target: &mut [u8]) -> Option<()> {
        let Unfinished {
            offset,
            pending,
            is_literal,
        } = self.unfinished;
        let count = pending.min(target.len() - self.filled);
        if count == 0 {
            return Some(());
        }
        if is_literal {
            let (literal, rest) = self.rest.split_at_checked(count)?;
            target[self.filled..self.filled + count].copy_from_slice(literal);
            self.rest = rest;
        } else {
            copy(target, self.filled, offset, count)?;
        }
        self.filled += count;
        self.unfinished.pending -= count;
        Some(())
    }

    /// Follows instructions up to one that is unusual, or near to an end.
    #[inline]
    fn follow_usual(&mut self, target: &mut [u8]) -> Option<()> {
        let (mut rest, mut filled) = (self.rest, self.filled);
        let mut offset = self.unfinished.offset;
        while let Some(input) = rest.first_chunk::<{ 1 + WIDE }>()
            && filled + WIDE <= target.len()
        {
            let [tag, one, two, three, four, ..] = *input;
            let upper = usize::from(tag >> 2);
            let place = &mut target[filled..filled + WIDE];
            if tag & 3 == 0 {
                // The length stands elsewhere.
                if upper >= 60 {
                    break;
                }
                let length = upper + 1;
                place[..HALF].copy_from_slice(&input[1..=HALF]);
                if length > HALF {
                    place[HALF..].copy_from_slice(&input[1 + HALF..]);
                }
                filled += length;
                rest = &rest[1 + length..];
                continue;
            }
            let (back, length, taken) = match tag & 3 {
                1 => ((upper >> 3) << 8 | usize::from(one), 4 + (upper & 7), 2),
                2 => (usize::from(u16::from_le_bytes([one, two])), 1 + upper, 3),
                _ => {
                    let back = u32::from_le_bytes([one, two, three, four]);
                    (back as usize, 1 + upper, 5)
                }
            };
            if back >= WIDE {
                let from = filled.checked_sub(back)?;
                target.copy_within(from..from + HALF, filled);
                if length > HALF {
                    target.copy_within(from + HALF..from + WIDE, filled + HALF);
                }
            } else if back == 0 {
                break;
            } else {
                copy(target, filled, back, length)?;
            }
            offset = back;
            filled += length;
            rest = &rest[taken..];
        }
        (self.rest, self.filled) = (rest, filled);
        self.unfinished.offset = offset;
        Some(())
    }

    /// Follows the next instruction, whatever it is, as far as there is room; there is one.
    fn follow_one(&mut self, target: &mut [u8]) -> Option<()> {
        let (&tag, behind) = self.rest.split_first()?;
        let upper = usize::from(tag >> 2);
        let length;
        (length, self.rest) = match tag & 3 {
            0 => {
                let (length, behind) = literal_length(upper, behind)?;
                if length > behind.len() {
                    return None;
                }
                self.rest = behind;
                return self.begin(length, true, target);
            }
            1 => {
                let (&[low], behind) = behind.split_first_chunk()?;
                let back = (upper >> 3) << 8 | usize::from(low);
                if back == 0 {
                    repeat_length(upper & 7, behind)?
                } else {
                    self.unfinished.offset = back;
                    (4 + (upper & 7), behind)
                }
            }
            2 => {
                let (&bytes, behind) = behind.split_first_chunk()?;
                self.unfinished.offset = usize::from(u16::from_le_bytes(bytes));
                (1 + upper, behind)
            }
            _ => {
                let (&bytes, behind) = behind.split_first_chunk()?;
                self.unfinished.offset = u32::from_le_bytes(bytes) as usize;
                (1 + upper, behind)
            }
        };
        let offset = self.unfinished.offset;
        if offset == 0 || offset > self.filled {
            return None;
        }
        self.begin(length, false, target)
    }

    fn begin(&mut self, length: usize, is_literal: bool, target: &mut [u8]) -> Option<()> {
        if length > self.length - self.filled {
            return None;
        }
        self.unfinished.pending = length;
        self.unfinished.is_literal = is_literal;
        self.follow_on(target)
    }
}

/// How many bytes follow as they are.
fn literal_length(upper: usize, rest: &[u8]) -> Option<(usize, &[u8])> {
    if upper < 60 {
        return Some((upper + 1, rest));
    }
    let (number, rest) = number(rest, upper - 59)?;
    Some((number.checked_add(1)?, rest))
}

/// How many bytes to copy from as far as the last time.
fn repeat_length(code: usize, rest: &[u8]) -> Option<(usize, &[u8])> {
    let (bytes, least) = match code {
        0..=4 => return Some((4 + code, rest)),
        5 => (1, 4 + 4),
        6 => (2, 4 + (1 << 8)),
        _ => (3, 4 + (1 << 16)),
    };
    let (number, rest) = number(rest, bytes)?;
    Some((number + least, rest))
}

/// A number of one to four bytes.
fn number(rest: &[u8], bytes: usize) -> Option<(usize, &[u8])> {
    let (text, rest) = rest.split_at_checked(bytes)?;
    let mut number = [0; 4];
    number[..bytes].copy_from_slice(text);
    Some((u32::from_le_bytes(number) as usize, rest))
}

/// A short piece is copied as so many bytes, where there is room.
const SHORT: usize = 16;

/// Copies `length` bytes to `filled` from `offset` bytes before. The two may overlap, and then what was copied is
/// copied again.
#[inline]
fn copy(target: &mut [u8], filled: usize, offset: usize, length: usize) -> Option<()> {
    if offset == 0 || offset > filled || length > target.len() - filled {
        return None;
    }
    let from = filled - offset;
    if offset >= SHORT
        && length <= SHORT
        && let Some(&source) = target[from..].first_chunk::<SHORT>()
        && let Some(chunk) = target[filled..].first_chunk_mut::<SHORT>()
    {
        *chunk = source;
        return Some(());
    }
    // What is there from `from` on repeats after `offset` bytes, so a multiple of that may be copied at once, and
    // it doubles with every turn.
    let mut done = 0;
    while done < length {
        let piece = (offset + done).min(length - done);
        target.copy_within(from..from + piece, filled + done);
        done += piece;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &[u8], expected: Result<&[u8], S2Error>) {
        let mut out = b"before".to_vec();
        let found = decode(block, 1 << 20, &mut out).map(|()| &out[6..]);
        assert_eq!(found, expected, "{block:x?}");
        if expected.is_err() {
            assert_eq!(out, b"before");
        }
        for bytes_max in [1, 3, 70] {
            let found = in_pieces(block, bytes_max);
            let found = found.as_deref().map_err(|error| *error);
            assert_eq!(found, expected, "{bytes_max} bytes at a time: {block:x?}");
        }
    }

    /// The same with room for a few bytes at a time.
    fn in_pieces(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, S2Error> {
        let mut out = b"before".to_vec();
        let mut progress = Progress::begin(block, 1 << 20)?;
        loop {
            let before = progress.filled();
            let is_whole = progress.follow(block, &mut out, bytes_max)?;
            assert_eq!(out.len(), 6 + progress.filled());
            assert!(progress.filled() - before <= bytes_max);
            if is_whole {
                return Ok(out.split_off(6));
            }
            assert!(progress.filled() > before, "it gets on");
        }
    }

    #[test]
    fn literals() {
        check(b"\x00", Ok(b""));
        check(b"\x03\x08abc", Ok(b"abc"));
        check(b"\x03\xF0\x02abc", Ok(b"abc"));
        check(b"\x03\xF4\x02\x00abc", Ok(b"abc"));
        check(b"\x03\xF8\x02\x00\x00abc", Ok(b"abc"));
        check(b"\x03\xFC\x02\x00\x00\x00abc", Ok(b"abc"));
        check(b"\x83\x80\x00\x08abc", Ok(b"abc"));
        check(b"\x02\x08abc", Err(S2Error::Corrupt));
        check(b"\x04\x08abc", Err(S2Error::Corrupt));
        check(b"\x03\x08ab", Err(S2Error::Corrupt));
        check(b"\x03\xF0", Err(S2Error::Corrupt));
        check(b"\x03\xFC\xFF\xFF\xFF\xFFabc", Err(S2Error::Corrupt));
    }

    #[test]
    fn lengths() {
        check(b"", Err(S2Error::Corrupt));
        check(b"\x80", Err(S2Error::Corrupt));
        check(b"\xFF\xFF\xFF\xFF\x1F", Err(S2Error::Corrupt));
        check(b"\xFF\xFF\xFF\xFF\x0F", Err(S2Error::ChunkTooLarge));
        check(b"\x81\x80\x40", Err(S2Error::ChunkTooLarge));
        check(b"\x80\x80\x40", Err(S2Error::Corrupt));
    }

    #[test]
    fn copies() {
        check(b"\x08\x0Cabcd\x01\x04", Ok(b"abcdabcd"));
        check(b"\x07\x08abc\x01\x03", Ok(b"abcabca"));
        check(b"\x08\x00a\x0D\x01", Ok(b"aaaaaaaa"));
        check(b"\x06\x0Cabcd\x06\x04\x00", Ok(b"abcdab"));
        check(b"\x06\x0Cabcd\x07\x04\x00\x00\x00", Ok(b"abcdab"));
        check(b"\x05\x0Cabcd\x02\x01\x00", Ok(b"abcdd"));
        check(b"\x05\x0Cabcd\x02\x05\x00", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x02\x00\x00", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x03\x00\x00\x00\x00", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x03\x01\x00\x00\x80", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x06\x01\x00", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x02\x01", Err(S2Error::Corrupt));
        check(b"\x05\x0Cabcd\x01", Err(S2Error::Corrupt));
    }

    #[test]
    fn repetitions() {
        check(b"\x0A\x08abc\x02\x03\x00\x08xyz\x01", Err(S2Error::Corrupt));
        // abc, a from 3 back, then 6 more from 3 back.
        check(b"\x0A\x08abc\x02\x03\x00\x09\x00", Ok(b"abcabcabca"));
        check(b"\x08\x0Cabcd\x01\x00", Err(S2Error::Corrupt));
        let long = |length: usize| b"ab".repeat(length)[..length].to_vec();
        let start = b"\x04ab\x02\x02\x00";
        let block = [&[3 + 8 + 7][..], start, b"\x15\x00\x07"].concat();
        check(&block, Ok(&long(3 + 8 + 7)));
        let block = [&b"\x87\x12"[..], start, b"\x19\x00\x00\x08"].concat();
        check(&block, Ok(&long(3 + 260 + 0x800)));
        let block = [&b"\x89\x80\x04"[..], start, b"\x1D\x00\x02\x00\x00"].concat();
        check(&block, Ok(&long(3 + 4 + 65_536 + 2)));
    }

    /// With much room behind what is copied and behind the instruction, with little, and without.
    #[test]
    fn copies_of_every_length_from_everywhere_near() {
        let literal: Vec<u8> = (0..100).collect();
        for offset in 1..=100 {
            for length in 1..=64 {
                for behind in [0, 20, 100] {
                    let mut expected = literal.clone();
                    for _ in 0..length {
                        expected.push(expected[expected.len() - offset]);
                    }
                    expected.extend_from_slice(&literal[..behind]);
                    let mut block = Vec::new();
                    match expected.len() {
                        few @ ..0x80 => block.push(few as u8),
                        many => block.extend_from_slice(&[many as u8 | 0x80, (many >> 7) as u8]),
                    }
                    block.extend_from_slice(&[60 << 2, 99]);
                    block.extend_from_slice(&literal);
                    block.extend_from_slice(&[(length - 1) << 2 | 2, offset as u8, 0]);
                    if behind > 0 {
                        block.extend_from_slice(&[60 << 2, behind as u8 - 1]);
                        block.extend_from_slice(&literal[..behind]);
                    }
                    check(&block, Ok(&expected));
                }
            }
        }
    }
}
