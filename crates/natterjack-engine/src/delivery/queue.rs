//! Bytes that wait for a socket: small ones in buffers of our own, large ones shared between targets.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use super::segments::{SEGMENT_BYTES, Segments};
use super::transport::{SliceWrite, Slices};

/// Bytes in order, small ones in buffers of our own, large ones shared between targets.
#[derive(Default)]
pub(crate) struct Queue {
    segments: VecDeque<Segment>,
    pub(super) bytes: usize,
}

enum Segment {
    Owned { buffer: Vec<u8>, start: usize },
    Shared(Bytes),
}

/// Size of the first buffer, so that a lone PONG does not cost a whole segment.
const FIRST_BYTES: usize = 512;

impl Queue {
    /// Buffers come from `spare` by need: a connection without backlog owns none.
    pub(crate) fn push_copy(&mut self, mut bytes: &[u8], spare: &Segments) {
        self.bytes += bytes.len();
        if let Some(Segment::Owned { buffer, .. }) = self.segments.back_mut() {
            fill(buffer, &mut bytes);
        }
        while !bytes.is_empty() {
            let is_small = self.segments.is_empty() && bytes.len() <= SEGMENT_BYTES / 2;
            let mut buffer = if is_small {
                Vec::with_capacity(FIRST_BYTES.max(bytes.len()))
            } else {
                spare.take()
            };
            fill(&mut buffer, &mut bytes);
            self.segments.push_back(Segment::Owned { buffer, start: 0 });
        }
    }

    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.segments.push_back(Segment::Shared(bytes));
        }
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.segments.append(&mut other.segments);
    }

    pub(super) fn consume(&mut self, mut count: usize, spare: &Segments) {
        self.bytes -= count;
        while let Some(segment) = self.segments.front_mut() {
            let len = segment.bytes().len();
            if len > count {
                segment.advance(count);
                return;
            }
            count -= len;
            if let Some(Segment::Owned { buffer, .. }) = self.segments.pop_front() {
                spare.give_back(buffer);
            }
        }
    }

    pub(super) fn slices(
        &self,
        mut skip: usize,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> Option<SliceWrite> {
        let mut gathered = Slices::new();
        for segment in &self.segments {
            let bytes = segment.bytes();
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            if !gathered.push(&bytes[skip..]) {
                break;
            }
            skip = 0;
        }
        gathered.write(write)
    }
}

/// Moves as many bytes into a buffer as it has room for. Splitting a frame is fine: segments are bytes, not frames.
fn fill(buffer: &mut Vec<u8>, bytes: &mut &[u8]) {
    let room = buffer.capacity() - buffer.len();
    let (fitting, rest) = bytes.split_at(room.min(bytes.len()));
    buffer.extend_from_slice(fitting);
    *bytes = rest;
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned { buffer, start } => &buffer[*start..],
            Self::Shared(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Owned { start, .. } => *start += count,
            Self::Shared(bytes) => drop(bytes.split_to(count)),
        }
    }
}
