//! Owns S2, the compression of routes: a stream of bytes in chunks, each of which holds a block. Who compresses,
//! and when, is agreed on elsewhere ([`Compression`](crate::route::Compression)); [`Decompressor`] and
//! [`Compressor`] take bytes and give bytes.
//!
//! S2 is Snappy with larger blocks (4 MiB instead of 64 KiB) and one more way to copy: again from as far back as
//! the last time, for up to 16 MiB. A stream that calls itself Snappy is read as well.
//!
//! | bytes | chunk |
//! | --- | --- |
//! | `ff 06 00 00` `S2sTwO` | start of a stream; may come again at any time |
//! | `00`, length, checksum, block | compressed content |
//! | `01`, length, checksum, content | content as it is |
//! | `80` to `fe`, length | skipped |
//!
//! A length has three bytes, little-endian, and counts what stands behind it; the checksum is CRC-32C of the
//! content, rotated by 15 bits and offset. Blocks do not refer to each other.
//!
//! What nats-server 2.15.1 does with this: it starts a stream anew with every write to the socket, header
//! included, with blocks of up to 1 MiB, and it puts content that does not shrink into chunks of type `01`. It reads
//! a stream that starts once and then goes on for good, which is what a [`Compressor`] writes.
//!
//! Our blocks are at most 64 KiB long, so that the encoder's table is small enough to be cleared for every write.
//! So a stream without repetitions is Snappy, which is what [`snappy`] writes for those who ask for that.
//! There is one encoder, with the effort of `s2_fast`; modes that ask for more get the same.

mod block;
mod checksum;
mod encoder;

pub(crate) use block::decode as decode_block;

use thiserror::Error;

use crate::frame::Decoded;
use block::Progress;
use checksum::{RunningChecksum, masked_checksum};
use encoder::Encoder;

/// The content of a chunk as nats-server and its library bound it, at least.
pub const CONTENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
const IDENTIFIER: u8 = 0xFF;
/// Types from here on may be skipped, apart from the identifier.
const SKIPPABLE: u8 = 0x80;

/// The chunk that starts a stream.
const STREAM_START: &[u8; 10] = b"\xFF\x06\x00\x00S2sTwO";
const SNAPPY_START: &[u8; 10] = b"\xFF\x06\x00\x00sNaPpY";
const NAMES: [&[u8]; 2] = [b"S2sTwO", b"sNaPpY"];

/// Type and length.
const HEAD_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

/// Bytes that are no S2 stream. Nothing that follows can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum S2Error {
    /// The stream does not start with its identifier, or another one.
    #[error("not an S2 stream")]
    Identifier,
    /// A chunk that is neither known nor to be skipped.
    #[error("unknown kind of chunk in S2 stream: {kind:#04x}")]
    UnknownChunk {
        /// Its type.
        kind: u8,
    },
    /// A chunk has more content than allowed.
    #[error("chunk of S2 stream is too large")]
    ChunkTooLarge,
    /// A chunk is too short for its checksum, or a block is not what it says.
    #[error("corrupt S2 stream")]
    Corrupt,
    /// The content is not what was written.
    #[error("checksum of S2 stream does not match")]
    Checksum,
}

/// Reads a stream.
#[derive(Clone, Debug)]
pub struct Decompressor {
    content_bytes_max: usize,
    /// The stream has said what it is.
    is_identified: bool,
    /// Bytes of a chunk that nobody wants and that have not arrived.
    skip_bytes: usize,
    /// Of the chunk at the start of the input some content has been appended.
    underway: Option<Underway>,
}

#[derive(Clone, Debug)]
struct Underway {
    progress: Progress,
    checksum: RunningChecksum,
}

/// What came of one [`Decompressor::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chunk has been read, and this many bytes are its content, perhaps none.
    Whole {
        /// Its content, at the end of what was appended.
        content_bytes: usize,
        /// Bytes of the input.
        consumed: usize,
    },
    /// Some of the content has been appended, and cannot be trusted yet. The next step goes on, with the same bytes and
    /// whatever follows them.
    Unfinished,
    /// The chunk has not arrived in full.
    Incomplete {
        /// So many bytes it has at least.
        needed: usize,
    },
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new(CONTENT_BYTES_MAX)
    }
}

impl Decompressor {
    /// `content_bytes_max` bounds the content of one chunk, which bounds memory in two ways: how much may have to be
    /// buffered until the chunk is whole (a sixth more), and how much one call appends. Less than
    /// [`CONTENT_BYTES_MAX`] refuses what a nats-server may send.
    pub fn new(content_bytes_max: usize) -> Self {
        Self {
            content_bytes_max,
            is_identified: false,
            skip_bytes: 0,
            underway: None,
        }
    }

    /// From the next chunk on, another bound on content.
    pub fn set_content_bytes_max(&mut self, content_bytes_max: usize) {
        self.content_bytes_max = content_bytes_max;
    }

    /// Reads the chunk at the start of `input`, appends its content to `out` and says how many bytes it appended,
    /// perhaps none.
    ///
    /// After [`Decoded::Incomplete`], call it again with the same bytes and more of them. Costs time linear in the
    /// length of the chunk and of its content. After an error `out` is as it was.
    ///
    /// # Errors
    /// When the stream is not what it should be; it is of no more use.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Decoded<usize>, S2Error> {
        loop {
            return Ok(match self.step(input, out, usize::MAX)? {
                Step::Whole {
                    content_bytes,
                    consumed,
                } => Decoded::Op {
                    op: content_bytes,
                    consumed,
                },
                Step::Incomplete { needed } => Decoded::Incomplete { needed },
                Step::Unfinished => continue,
            });
        }
    }

    /// The same, but of what is compressed no more than some `bytes_max` bytes are appended at one time: a few bytes can
    /// stand for megabytes, and who reads for several must not be kept by one. Nothing else may be done with `out` before the
    /// chunk is whole; after an error it is as it was before the chunk.
    ///
    /// Costs time linear in what is appended and in what of the chunk that takes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn step(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Step, S2Error> {
        let skipped = |consumed| {
            Ok(Step::Whole {
                content_bytes: 0,
                consumed,
            })
        };
        if self.skip_bytes > 0 && !input.is_empty() {
            let consumed = self.skip_bytes.min(input.len());
            self.skip_bytes -= consumed;
            return skipped(consumed);
        }
        let Some((&[kind, low, middle, high], rest)) = input.split_first_chunk::<HEAD_BYTES>()
        else {
            let needed = if self.skip_bytes > 0 { 1 } else { HEAD_BYTES };
            // Something else than a stream is refused at its first byte.
            return match input.first() {
                Some(&kind) if !self.is_identified && kind != IDENTIFIER => {
                    Err(S2Error::Identifier)
                }
                _ => Ok(Step::Incomplete { needed }),
            };
        };
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        if kind == IDENTIFIER {
            return self.identifier(rest, length);
        }
        if !self.is_identified {
            return Err(S2Error::Identifier);
        }
        match kind {
            COMPRESSED | UNCOMPRESSED => {}
            SKIPPABLE.. => {
                self.skip_bytes = length;
                return skipped(HEAD_BYTES);
            }
            _ => return Err(S2Error::UnknownChunk { kind }),
        }
        self.content(kind, rest, length, out, bytes_max)
    }

    fn identifier(&mut self, rest: &[u8], length: usize) -> Result<Step, S2Error> {
        if length != NAMES[0].len() {
            return Err(S2Error::Identifier);
        }
        let there = &rest[..rest.len().min(length)];
        if !NAMES.iter().any(|name| name.starts_with(there)) {
            return Err(S2Error::Identifier);
        }
        let whole = HEAD_BYTES + length;
        if there.len() < length {
            return Ok(Step::Incomplete { needed: whole });
        }
        self.is_identified = true;
        Ok(Step::Whole {
            content_bytes: 0,
            consumed: whole,
        })
    }

    fn content(
        &mut self,
        kind: u8,
        rest: &[u8],
        length: usize,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Step, S2Error> {
        let length_max = match kind {
            UNCOMPRESSED => self.content_bytes_max,
            _ => block::encoded_bytes_max(self.content_bytes_max),
        };
        if length < CHECKSUM_BYTES {
            return Err(S2Error::Corrupt);
        }
        if length - CHECKSUM_BYTES > length_max && self.underway.is_none() {
            return Err(S2Error::ChunkTooLarge);
        }
        let whole = HEAD_BYTES + length;
        let Some(chunk) = rest.get(..length) else {
            return Ok(Step::Incomplete { needed: whole });
        };
        let (checksum, data) = chunk.split_at(CHECKSUM_BYTES);
        let (content_bytes, found) = if kind == UNCOMPRESSED {
            out.extend_from_slice(data);
            (data.len(), masked_checksum(data))
        } else {
            let mut underway = match self.underway.take() {
                Some(underway) => underway,
                None => Underway {
                    progress: Progress::begin(data, self.content_bytes_max)?,
                    checksum: RunningChecksum::default(),
                },
            };
            let before = out.len();
            let start = before - underway.progress.filled();
            let followed = underway.progress.follow(data, out, bytes_max.max(1));
            let is_whole = followed.inspect_err(|_| out.truncate(start))?;
            underway.checksum.add(&out[before..]);
            if !is_whole {
                self.underway = Some(underway);
                return Ok(Step::Unfinished);
            }
            (underway.progress.filled(), underway.checksum.masked())
        };
        if found.to_le_bytes() != checksum {
            out.truncate(out.len() - content_bytes);
            return Err(S2Error::Checksum);
        }
        Ok(Step::Whole {
            content_bytes,
            consumed: whole,
        })
    }
}

/// What a [`Compressor`] tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Nothing: the format alone (`s2_uncompressed`).
    Stored,
    /// What can be done in passing.
    Fast,
}

/// Writes a stream. Some 96 KiB large.
#[derive(Clone, Debug)]
pub struct Compressor {
    effort: Effort,
    is_started: bool,
    encoder: Encoder,
}

impl Compressor {
    /// The only place that allocates.
    pub fn new(effort: Effort) -> Self {
        Self {
            effort,
            is_started: false,
            encoder: Encoder::new(),
        }
    }

    /// From the next [`write`](Self::write) on.
    pub fn set_effort(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// Appends `input` as chunks that can be read as soon as they arrive: there is nothing to flush. The first call
    /// starts the stream. Linear in the length of `input`.
    ///
    /// A call costs some eight bytes and the clearing of a table, so that many small pieces are better gathered
    /// before.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if !self.is_started {
            self.is_started = true;
            out.extend_from_slice(STREAM_START);
        }
        for content in input.chunks(encoder::CONTENT_BYTES_MAX) {
            write_chunk(content, out, |content, out| {
                self.effort == Effort::Fast && self.encoder.encode(content, out)
            });
        }
    }
}

/// A whole stream as readers of Snappy understand it, and those of S2 as well. For what is written once: it allocates
/// what a [`Compressor`] keeps.
#[must_use]
pub fn snappy(content: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = SNAPPY_START.to_vec();
    for content in content.chunks(encoder::CONTENT_BYTES_MAX) {
        write_chunk(content, &mut out, |content, out| {
            encoder.encode_snappy(content, out)
        });
    }
    out
}

/// Appends a chunk. `encode` appends the content if that makes it shorter, and says whether it did.
fn write_chunk(
    content: &[u8],
    out: &mut Vec<u8>,
    encode: impl FnOnce(&[u8], &mut Vec<u8>) -> bool,
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(&masked_checksum(content).to_le_bytes());
    let shrunk = encode(content, out);
    if !shrunk {
        out.extend_from_slice(content);
    }
    let kind = if shrunk { COMPRESSED } else { UNCOMPRESSED };
    let length = (out.len() - start - HEAD_BYTES) as u32;
    let [low, middle, high, _] = length.to_le_bytes();
    out[start..start + HEAD_BYTES].copy_from_slice(&[kind, low, middle, high]);
}

#[cfg(test)]
mod tests;
