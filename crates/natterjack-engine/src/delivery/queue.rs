//! Bytes that wait for a socket: small ones in buffers of our own, large ones shared between targets.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

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

/// Size of the buffers that collect small frames. Large enough that a backlog costs few write entries,
/// and allocated by need: a connection without backlog owns none.
const SEGMENT_BYTES: usize = 32 * 1024;

impl Queue {
    pub(crate) fn push_copy(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        if let Some(Segment::Owned { buffer, .. }) = self.segments.back_mut() {
            let room = buffer.capacity() - buffer.len();
            let fits = room.min(bytes.len());
            // Splitting a frame is fine: segments are bytes, not frames.
            buffer.extend_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
        }
        if !bytes.is_empty() {
            // The first buffer fits what comes, so that a lone PONG does not cost 32 KiB.
            let capacity = if self.segments.is_empty() {
                512
            } else {
                SEGMENT_BYTES
            };
            let mut buffer = Vec::with_capacity(capacity.max(bytes.len()));
            buffer.extend_from_slice(bytes);
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

    pub(super) fn consume(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(segment) = self.segments.front_mut() {
            let len = segment.bytes().len();
            if len > count {
                segment.advance(count);
                return;
            }
            count -= len;
            self.segments.pop_front();
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
