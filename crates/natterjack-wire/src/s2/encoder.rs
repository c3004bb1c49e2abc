//! Owns writing a block, quickly: the last place of every four bytes is remembered, where they occur again a copy
//! is tried, and where nothing occurs again for long the steps grow.

/// Content of one block at most. Every place in it fits into 16 bits, and so does the way back to any other.
pub(super) const CONTENT_BYTES_MAX: usize = 1 << 16;

/// Places remembered, at most: 32 KiB, as much as a first-level cache holds besides the content itself.
const TABLE_BITS: u32 = 14;

/// Less content has next to nothing in it twice, and a copy takes two bytes.
const CONTENT_BYTES_MIN: usize = 32;

/// What is compared, and what can be copied at least.
const MATCH_BYTES_MIN: usize = 4;

/// Before a literal of a block of ours.
const LITERAL_HEAD_BYTES_MAX: usize = 3;

/// A step is one byte long for so many misses, then two, and so on.
const MISSES_PER_STEP: usize = 32;

/// See [`Encoder::encode`].
#[derive(Clone)]
pub(super) struct Encoder {
    places: Box<[u16; 1 << TABLE_BITS]>,
}

impl core::fmt::Debug for Encoder {
    /// What is remembered is worth nothing between two blocks.
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            places: Box::new([0; 1 << TABLE_BITS]),
        }
    }

    /// Appends a block if it is shorter than its content by an eighth at least, and says whether it did.
    pub(super) fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) -> bool {
        assert!(
            content.len() <= CONTENT_BYTES_MAX,
            "a block of 64 KiB at most"
        );
        if content.len() < CONTENT_BYTES_MIN {
            return false;
        }
        let start = out.len();
        let bytes_max = content.len() - content.len() / 8;
        write_length(out, content.len());
        let fits = self.instructions(content, out, start + bytes_max);
        if !fits {
            out.truncate(start);
        }
        fits
    }

    /// The instructions, as long as they end before `out_bytes_max`.
    fn instructions(&mut self, content: &[u8], out: &mut Vec<u8>, out_bytes_max: usize) -> bool {
        // As many places as there are bytes are enough, and clearing few is faster.
        let bits = content.len().ilog2().min(TABLE_BITS);
        let places = &mut self.places[..1 << bits];
        places.fill(0);
        let shift = u32::BITS - bits;
        let hash = |four: u32| (four.wrapping_mul(0x9E37_79B1) >> shift) as usize;

        // Everything before this is written.
        let mut written = 0;
        let mut offset_last = 0;
        let mut misses = 0;
        // Place 0 is where an empty place points to, so it needs no entry of its own.
        let mut at = 1;
        while let Some(four) = four_bytes(content, at) {
            let place = &mut places[hash(four)];
            let mut from = usize::from(*place);
            *place = at as u16;
            if four_bytes(content, from) != Some(four) {
                misses += 1;
                at += 1 + misses / MISSES_PER_STEP;
                continue;
            }
            let mut length = MATCH_BYTES_MIN
                + same_bytes(
                    &content[from + MATCH_BYTES_MIN..],
                    &content[at + MATCH_BYTES_MIN..],
                );
            // What was stepped over may be the same as well.
            while at > written && from > 0 && content[at - 1] == content[from - 1] {
                at -= 1;
                from -= 1;
                length += 1;
            }
            write_literal(out, &content[written..at]);
            let offset = at - from;
            if offset == offset_last {
                write_repeat(out, length);
            } else {
                write_copy(out, offset, length);
            }
            if out.len() > out_bytes_max {
                return false;
            }
            offset_last = offset;
            at += length;
            written = at;
            misses = 0;
            if let Some(four) = four_bytes(content, at - 2) {
                places[hash(four)] = (at - 2) as u16;
            }
        }
        // What is left is often all there is, and then it would be copied in vain.
        let rest = &content[written..];
        if out.len() + rest.len() + LITERAL_HEAD_BYTES_MAX > out_bytes_max {
            return false;
        }
        write_literal(out, rest);
        true
    }
}

#[inline]
fn four_bytes(content: &[u8], at: usize) -> Option<u32> {
    let bytes = content.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// How many bytes the two have in common from their start.
#[inline]
fn same_bytes(earlier: &[u8], later: &[u8]) -> usize {
    let mut same = 0;
    for (one, other) in earlier.as_chunks::<8>().0.iter().zip(later.as_chunks().0) {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return same + (differing.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    let rest = earlier[same..].iter().zip(&later[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn write_literal(out: &mut Vec<u8>, literal: &[u8]) {
    let Some(number) = literal.len().checked_sub(1) else {
        return;
    };
    match number {
        0..60 => out.push((number as u8) << 2),
        60..256 => out.extend_from_slice(&[60 << 2, number as u8]),
        _ => {
            let [low, high] = (number as u16).to_le_bytes();
            out.extend_from_slice(&[61 << 2, low, high]);
        }
    }
    out.extend_from_slice(literal);
}

/// Copies at least four bytes.
fn write_copy(out: &mut Vec<u8>, offset: usize, length: usize) {
    let [low, high] = (offset as u16).to_le_bytes();
    if length < 12 && offset < 2048 {
        out.extend_from_slice(&[high << 5 | (length as u8 - 4) << 2 | 1, low]);
        return;
    }
    // What does not fit is repeated, and a repetition has four bytes at least.
    let first = if length > 64 { 60 } else { length };
    out.extend_from_slice(&[(first as u8 - 1) << 2 | 2, low, high]);
    if length > first {
        write_repeat(out, length - first);
    }
}

/// Copies at least four bytes, and less than a block, from as far back as the last time.
fn write_repeat(out: &mut Vec<u8>, length: usize) {
    match length - 4 {
        number @ 0..=4 => out.extend_from_slice(&[(number as u8) << 2 | 1, 0]),
        number @ 5..260 => out.extend_from_slice(&[5 << 2 | 1, 0, (number - 4) as u8]),
        number => {
            let [low, high] = ((number - 256) as u16).to_le_bytes();
            out.extend_from_slice(&[6 << 2 | 1, 0, low, high]);
        }
    }
}
