//! What comes in of any connection: bytes in pieces, and where the start of an unfinished operation stays. What the
//! operations are and mean is the session's business ([`Reader`]).

use std::io::IoSliceMut;
use std::time::Instant;

use bytes::Bytes;

use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::limits::LARGE_FRAME_BYTES;

/// The start of an operation whose rest has not arrived. Owns no memory between operations.
#[derive(Default)]
pub(super) enum Partial {
    /// Nothing has arrived of the next operation.
    #[default]
    None,
    /// A few bytes, to be read on with the next ones in the worker's buffer. More only while a password is checked and
    /// nothing is read.
    Small(Vec<u8>),
    /// A control line that is too long for that: what comes is added to it.
    Long(Vec<u8>),
    /// A large message, with a buffer of its own that is read into directly.
    Large(LargeFrame),
}

pub(super) struct LargeFrame {
    /// Initialised in full; `needed` bytes of it are the frame's.
    buffer: Vec<u8>,
    filled: usize,
    needed: usize,
}

/// How far an input was carried out.
pub(super) struct Carried {
    /// Where the first incomplete operation begins.
    pub(super) end: usize,
    /// How many bytes that operation needs in all, as far as known.
    pub(super) needed: usize,
}

/// A session as far as reading is concerned.
pub(super) trait Reader {
    /// Why it stops in the middle of its input.
    type Halt;

    fn partial(&mut self) -> &mut Partial;

    /// Carries out the complete operations at the start of the input, up to the first fault.
    fn carry_out(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<Carried, Self::Halt>;

    /// An operation that came in more than one read has been carried out.
    fn finished_partial(&mut self) {}
}

/// A message of which this much, but not all, came in more than one read gets a buffer of its own.
const DRIPPING_BYTES: usize = 2 * 1024;

/// So many bytes of a control line are read on with in a worker's buffer: half of what it has room for.
const LINE_BYTES_MAX: usize = 128 * 1024;

impl Partial {
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Where to read to next: the rest of a large message, if one is on its way, and then up to `bytes_max` of `buffer`.
    pub(super) fn read_slices<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
        bytes_max: usize,
    ) -> [IoSliceMut<'a>; 2] {
        match self {
            Self::None | Self::Long(_) => [
                IoSliceMut::new(&mut []),
                IoSliceMut::new(&mut buffer[..bytes_max]),
            ],
            Self::Small(start) => {
                let end = (start.len() + bytes_max).min(buffer.len());
                let (before, rest) = buffer[..end].split_at_mut(start.len());
                before.copy_from_slice(start);
                [IoSliceMut::new(&mut []), IoSliceMut::new(rest)]
            }
            Self::Large(large) => [
                IoSliceMut::new(&mut large.buffer[large.filled..large.needed]),
                IoSliceMut::new(&mut buffer[..bytes_max]),
            ],
        }
    }

    /// Keeps `count` bytes that were read, until it is known whether they are to be carried out.
    pub(super) fn put_aside(&mut self, buffer: &[u8], mut count: usize) {
        *self = match std::mem::take(self) {
            Self::None => Self::Small(buffer[..count].to_vec()),
            Self::Small(start) => Self::Small(buffer[..start.len() + count].to_vec()),
            Self::Long(mut start) => {
                start.extend_from_slice(&buffer[..count]);
                Self::Small(start)
            }
            Self::Large(mut large) => {
                let taken = count.min(large.needed - large.filled);
                large.filled += taken;
                count -= taken;
                if large.filled < large.needed {
                    Self::Large(large)
                } else {
                    large.buffer.truncate(large.needed);
                    large.buffer.extend_from_slice(&buffer[..count]);
                    Self::Small(large.buffer)
                }
            }
        };
    }

    /// Keeps the start of an operation until its rest arrives.
    fn keep(rest: &[u8], needed: usize, is_continued: bool, worker: &mut Worker) -> Self {
        if rest.is_empty() {
            return Self::None;
        }
        // A message that comes in dribs and drabs must not be copied with each of them.
        let is_dripping = is_continued && needed > rest.len() + 1 && rest.len() > DRIPPING_BYTES;
        // Of a control line it is not known how long it will be, so that a buffer of its own could not be filled.
        let is_line = needed == rest.len() + 1;
        if is_line && rest.len() > LINE_BYTES_MAX {
            return Self::Long(rest.to_vec());
        }
        if needed <= LARGE_FRAME_BYTES && !is_dripping || is_line {
            return Self::Small(rest.to_vec());
        }
        let spare = std::mem::take(&mut worker.spare_frame);
        // Fresh zeros come from the system untouched, so a peer that announces a large message and sends nothing
        // of it costs address space. A spare one has been touched, and whoever queues a part of it keeps all of it:
        // it must not be much larger than the frame.
        let is_fitting = (needed..=needed * 2).contains(&spare.len());
        let mut buffer = if is_fitting { spare } else { vec![0; needed] };
        buffer[..rest.len()].copy_from_slice(rest);
        Self::Large(LargeFrame {
            buffer,
            filled: rest.len(),
            needed,
        })
    }
}

/// Carries out what `count` bytes complete that were read into [`Partial::read_slices`], and keeps the rest.
#[inline]
pub(super) fn read_operations<R: Reader>(
    reader: &mut R,
    buffer: &[u8],
    mut count: usize,
    worker: &mut Worker,
    now: Instant,
) -> Result<(), R::Halt> {
    let start = match std::mem::take(reader.partial()) {
        Partial::None => 0,
        Partial::Small(start) => start.len(),
        Partial::Long(start) => return read_on(reader, start, &buffer[..count], worker, now),
        Partial::Large(mut large) => {
            let taken = count.min(large.needed - large.filled);
            large.filled += taken;
            count -= taken;
            if large.filled < large.needed {
                *reader.partial() = Partial::Large(large);
                return Ok(());
            }
            carry_out_large(reader, large, worker, now)?;
            reader.finished_partial();
            0
        }
    };
    let input = &buffer[..start + count];
    let source = Source {
        input,
        shared: None,
    };
    let carried = reader.carry_out(source, worker, now)?;
    let is_continued = start > 0 && carried.end == 0;
    *reader.partial() = Partial::keep(&input[carried.end..], carried.needed, is_continued, worker);
    if !is_continued {
        reader.finished_partial();
    }
    Ok(())
}

/// More has come of a line that is too long for a worker's buffer.
#[cold]
fn read_on<R: Reader>(
    reader: &mut R,
    mut line: Vec<u8>,
    more: &[u8],
    worker: &mut Worker,
    now: Instant,
) -> Result<(), R::Halt> {
    line.extend_from_slice(more);
    let source = Source {
        input: &line,
        shared: None,
    };
    let carried = reader.carry_out(source, worker, now)?;
    if carried.end == 0 && carried.needed == line.len() + 1 {
        *reader.partial() = Partial::Long(line);
        return Ok(());
    }
    let is_continued = carried.end == 0;
    *reader.partial() = Partial::keep(&line[carried.end..], carried.needed, is_continued, worker);
    if !is_continued {
        reader.finished_partial();
    }
    Ok(())
}

/// Carries out what was [put aside](Partial::put_aside).
pub(super) fn carry_out_kept<R: Reader>(
    reader: &mut R,
    worker: &mut Worker,
    now: Instant,
) -> Result<(), R::Halt> {
    let kept = match std::mem::take(reader.partial()) {
        Partial::Small(kept) => kept,
        other => {
            *reader.partial() = other;
            return Ok(());
        }
    };
    let source = Source {
        input: &kept,
        shared: None,
    };
    let carried = reader.carry_out(source, worker, now)?;
    *reader.partial() = Partial::keep(&kept[carried.end..], carried.needed, false, worker);
    Ok(())
}

/// A large message is complete.
fn carry_out_large<R: Reader>(
    reader: &mut R,
    large: LargeFrame,
    worker: &mut Worker,
    now: Instant,
) -> Result<(), R::Halt> {
    let bytes = Bytes::from(large.buffer);
    let source = Source {
        input: &bytes[..large.needed],
        shared: Some(&bytes),
    };
    let carried = reader.carry_out(source, worker, now);
    // If every target took it at once, nobody else holds the buffer and the next large message gets it.
    if bytes.is_unique() {
        worker.spare_frame = Vec::from(bytes);
    }
    carried.map(|_| ())
}
