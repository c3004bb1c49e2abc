//! Owns writing a block, quickly: the last place of every few bytes is remembered, where they occur again they are copied,
//! and where nothing occurs again for long the steps grow.
//!
//! What takes the time is not the work. It is guessing wrong which way a branch goes, and waiting for what is remembered
//! before the next place is known. So matches are few and long, lengths are rounded up to what is copied or compared
//! without asking, and content and output have room behind them for that.

/// Content of one block at most. Every place in it fits into 16 bits, and so does the way back to any other.
pub(super) const CONTENT_BYTES_MAX: usize = 1 << 16;

/// Places remembered, at most. Half as many make a block 2 % longer, and are not faster.
const TABLE_BITS: u32 = 14;

/// Less content has next to nothing in it twice, and a copy takes two bytes.
const CONTENT_BYTES_MIN: usize = 32;

/// Bytes that are looked for: four are found too often by chance and far away, where a copy takes as many. In much content
/// that holds for five, too.
const KEY_BYTES_LEAST: usize = 5;
const KEY_BYTES_MOST: usize = 6;
const MUCH_CONTENT_BYTES: usize = 1 << 14;

/// Places looked at in one turn: as many as have their bytes in one word.
const PLACES: usize = 8 - KEY_BYTES_MOST + 1;

/// A step grows by one byte for each so many bytes in which nothing was found.
const BYTES_PER_STEP: usize = 64;

/// Bytes behind the content that are read and copied, though never taken for content.
const BEHIND_BYTES: usize = 32;

const WINDOW_BYTES: usize = CONTENT_BYTES_MAX + BEHIND_BYTES;

/// A literal of so many bytes is copied as if it had as many as that.
const SHORT_LITERAL_BYTES: usize = 32;

/// What one instruction copies that repeats nothing, and what it takes, both at most.
const COPIED_BYTES_MAX: usize = 64;
const COPY_BYTES_MAX: usize = 3;

/// What one turn writes beyond the content of its literal, rounded up: heads, a copy with a repetition, and what a short
/// literal is too short.
const TURN_BYTES_MAX: usize = 1 + SHORT_LITERAL_BYTES + 15;

/// See [`Encoder::encode`].
#[derive(Clone)]
pub(super) struct Encoder {
    /// The content; anything behind it.
    window: Box<[u8; WINDOW_BYTES]>,
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
            window: Box::new([0; WINDOW_BYTES]),
            places: Box::new([0; 1 << TABLE_BITS]),
        }
    }

    /// Appends a block if it is shorter than its content by an eighth at least, and says whether it did.
    pub(super) fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) -> bool {
        self.encode_as::<false>(content, out)
    }

    /// The same without what Snappy does not know.
    pub(super) fn encode_snappy(&mut self, content: &[u8], out: &mut Vec<u8>) -> bool {
        self.encode_as::<true>(content, out)
    }

    fn encode_as<const IS_SNAPPY: bool>(&mut self, content: &[u8], out: &mut Vec<u8>) -> bool {
        assert!(
            content.len() <= CONTENT_BYTES_MAX,
            "a block of 64 KiB at most"
        );
        if content.len() < CONTENT_BYTES_MIN {
            return false;
        }
        self.window[..content.len()].copy_from_slice(content);
        let start = out.len();
        write_length(out, content.len());
        let head = out.len();
        let bytes_max = start + content.len() - content.len() / 8 - head;
        out.resize(head + bytes_max + TURN_BYTES_MAX, 0);
        let target = &mut out[head..];
        let written = match content.len() {
            MUCH_CONTENT_BYTES.. => {
                self.instructions::<KEY_BYTES_MOST, IS_SNAPPY>(content.len(), target, bytes_max)
            }
            _ => self.instructions::<KEY_BYTES_LEAST, IS_SNAPPY>(content.len(), target, bytes_max),
        };
        out.truncate(written.map_or(start, |written| head + written));
        written.is_some()
    }

    /// Writes the instructions and says how many bytes they take; `None` if they take more than `bytes_max`. The target has
    /// [`TURN_BYTES_MAX`] more than that.
    fn instructions<const KEY_BYTES: usize, const IS_SNAPPY: bool>(
        &mut self,
        content_bytes: usize,
        target: &mut [u8],
        bytes_max: usize,
    ) -> Option<usize> {
        // As many places as there are bytes are enough, and clearing few is faster.
        let bits = content_bytes.ilog2().min(TABLE_BITS);
        let window = &*self.window;
        let places = &mut *self.places;
        places[..1 << bits].fill(0);
        // A key has its bytes at the upper end of a word, and nothing below.
        let key_shift = 8 * (8 - KEY_BYTES);
        let hash_shift = u64::BITS - bits;
        // A table's length is a power of two: so it is seen that no hash is beyond it.
        let hash = |key: u64| {
            (key.wrapping_mul(0x9E37_79B1_85EB_CA87) >> hash_shift) as usize % (1 << TABLE_BITS)
        };

        // Everything before this is written, and takes so many bytes.
        let mut written = 0;
        let mut taken = 0;
        let mut offset_last = 0;
        // Place 0 is where an empty place points to, so it needs no entry of its own.
        let mut at = 1;
        'turns: while at + 8 <= content_bytes {
            let eight = eight_bytes(window, at, 0);
            let mut from;
            'search: {
                for index in 0..PLACES {
                    let key = (eight >> (8 * index)) << key_shift;
                    let place = &mut places[hash(key)];
                    from = usize::from(*place);
                    *place = (at + index) as u16;
                    if eight_bytes(window, from, 0) << key_shift == key {
                        at += index;
                        break 'search;
                    }
                }
                at += PLACES + (at - written) / BYTES_PER_STEP;
                continue 'turns;
            }
            let mut length = same_bytes(window, from, at, content_bytes);
            // What was stepped over may be the same as well.
            while at > written
                && from > 0
                && window[(at - 1) % CONTENT_BYTES_MAX] == window[(from - 1) % CONTENT_BYTES_MAX]
            {
                at -= 1;
                from -= 1;
                length += 1;
            }
            let literal_bytes = at - written;
            // There is room for one copy in any case, and without repetitions there may be many.
            let copies_bytes = match IS_SNAPPY {
                true => COPY_BYTES_MAX * (length / COPIED_BYTES_MAX),
                false => 0,
            };
            if taken + literal_bytes + copies_bytes > bytes_max {
                return None;
            }
            let offset = at - from;
            taken = write_literal(target, taken, window, written, literal_bytes);
            taken = match IS_SNAPPY {
                true => write_copies(target, taken, offset, length),
                false => write_copy(target, taken, offset, length, offset == offset_last),
            };
            if taken > bytes_max {
                return None;
            }
            offset_last = offset;
            at += length;
            written = at;
        }
        let literal_bytes = content_bytes - written;
        // What is left is often all there is, and then it would be copied in vain.
        if taken + literal_bytes > bytes_max {
            return None;
        }
        taken = write_literal(target, taken, window, written, literal_bytes);
        (taken <= bytes_max).then_some(taken)
    }
}

/// Eight bytes from `at + behind` on, which is no more than [`BEHIND_BYTES`] less eight.
#[inline]
fn eight_bytes(window: &[u8; WINDOW_BYTES], at: usize, behind: usize) -> u64 {
    // No place is beyond that: so it is seen that there are eight bytes.
    let at = at % CONTENT_BYTES_MAX + behind;
    let bytes = window[at..].first_chunk();
    u64::from_le_bytes(*bytes.expect("eight bytes of those behind"))
}

/// How many bytes the two places have in common, up to the content's end. Compares four words at a time.
#[inline]
fn same_bytes(window: &[u8; WINDOW_BYTES], from: usize, at: usize, content_bytes: usize) -> usize {
    let bytes_max = content_bytes - at;
    let mut same = 0;
    while same < bytes_max {
        let differing = [0, 8, 16, 24].map(|behind| {
            eight_bytes(window, from + same, behind) ^ eight_bytes(window, at + same, behind)
        });
        let [first, second, third, fourth] = differing;
        if first | second | third | fourth != 0 {
            // All of this comes without a branch.
            let (upper, lower, words) = match first | second {
                0 => (third, fourth, 16),
                _ => (first, second, 0),
            };
            let (word, bytes) = if upper == 0 { (lower, 8) } else { (upper, 0) };
            same += words + bytes + (word.trailing_zeros() / 8) as usize;
            break;
        }
        same += BEHIND_BYTES;
    }
    same.min(bytes_max)
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Writes what is there from `from` on, at `taken`, and says where it ends.
#[inline]
fn write_literal(
    target: &mut [u8],
    taken: usize,
    window: &[u8; WINDOW_BYTES],
    from: usize,
    length: usize,
) -> usize {
    if length > SHORT_LITERAL_BYTES {
        return write_long_literal(target, taken, &window[from..from + length]);
    }
    // Without content there is no literal, and its head is overwritten.
    let head = (length.wrapping_sub(1) as u8) << 2;
    let from = from % CONTENT_BYTES_MAX;
    let place = &mut target[taken..taken + 1 + SHORT_LITERAL_BYTES];
    place[0] = head;
    place[1..].copy_from_slice(&window[from..from + SHORT_LITERAL_BYTES]);
    taken + usize::from(length > 0) + length
}

#[cold]
fn write_long_literal(target: &mut [u8], taken: usize, literal: &[u8]) -> usize {
    let number = literal.len() - 1;
    let [low, high] = (number as u16).to_le_bytes();
    let (head, head_bytes) = match number {
        0..60 => ([low << 2, 0, 0], 1),
        60..256 => ([60 << 2, low, 0], 2),
        _ => ([61 << 2, low, high], 3),
    };
    let (place, rest) = target[taken..].split_at_mut(head_bytes);
    place.copy_from_slice(&head[..head_bytes]);
    rest[..literal.len()].copy_from_slice(literal);
    taken + head_bytes + literal.len()
}

/// Copies at least four bytes, from as far back as the last time or not; says where the instruction ends.
#[inline]
fn write_copy(
    target: &mut [u8],
    taken: usize,
    offset: usize,
    length: usize,
    is_again: bool,
) -> usize {
    let [low, high] = (offset as u16).to_le_bytes();
    if length <= COPIED_BYTES_MAX {
        let number = length as u8;
        let near = [high << 5 | number.wrapping_sub(4) << 2 | 1, low, 0, 0];
        let far = [number.wrapping_sub(1) << 2 | 2, low, high, 0];
        let is_near = length < 12 && offset < 2048;
        put_four(target, taken, if is_near { near } else { far });
        return taken + 3 - usize::from(is_near);
    }
    if is_again {
        return write_repeat(target, taken, length);
    }
    // What does not fit is repeated, and a repetition has four bytes at least.
    put_four(target, taken, [(60 - 1) << 2 | 2, low, high, 0]);
    write_repeat(target, taken + 3, length - 60)
}

/// Copies at least four bytes, as often as it takes and each time said anew; says where the last instruction ends.
fn write_copies(target: &mut [u8], mut taken: usize, offset: usize, length: usize) -> usize {
    let mut left = length;
    while left > COPIED_BYTES_MAX {
        // What is left has four bytes at least.
        let part = COPIED_BYTES_MAX.min(left - 4);
        taken = write_copy(target, taken, offset, part, false);
        left -= part;
    }
    write_copy(target, taken, offset, left, false)
}

/// Copies at least four bytes, and less than a block, from as far back as the last time.
fn write_repeat(target: &mut [u8], taken: usize, length: usize) -> usize {
    let (bytes, count) = match length - 4 {
        number @ 0..=4 => ([(number as u8) << 2 | 1, 0, 0, 0], 2),
        number @ 5..260 => ([5 << 2 | 1, 0, (number - 4) as u8, 0], 3),
        number => {
            let [low, high] = ((number - 256) as u16).to_le_bytes();
            ([6 << 2 | 1, 0, low, high], 4)
        }
    };
    put_four(target, taken, bytes);
    taken + count
}

#[inline]
fn put_four(target: &mut [u8], taken: usize, bytes: [u8; 4]) {
    target[taken..taken + 4].copy_from_slice(&bytes);
}
