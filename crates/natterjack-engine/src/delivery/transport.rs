//! How an outbox reaches its peer, and writing as much as the peer takes.

use std::io::{ErrorKind, IoSlice};

/// How an outbox reaches its peer; the shell's side of a connection.
pub trait Transport: Send + Sync {
    /// Writes as many bytes as the peer's socket takes now, without waiting.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when it takes none; any other error ends the connection.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> std::io::Result<usize>;

    /// Has the connection's own task look at its session again: there is a backlog to write as soon as the
    /// socket takes it, or the connection was closed.
    fn wake(&self);
}

/// The outcome of writing as much as a socket takes.
pub(super) struct Written {
    pub(super) bytes: usize,
    /// The socket took less than offered.
    pub(super) full: bool,
    pub(super) failed: bool,
}

/// Writes until everything is written or the socket is full. `slices(skip, write)` must hand to `write` the
/// bytes after the first `skip`, and return its result, or `None` when there are none left.
pub(super) fn write_slices(
    transport: &dyn Transport,
    mut slices: impl FnMut(
        usize,
        &mut dyn FnMut(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> Option<SliceWrite>,
) -> Written {
    let mut written = Written {
        bytes: 0,
        full: false,
        failed: false,
    };
    while let Some(attempt) = slices(written.bytes, &mut |slices| transport.try_write(slices)) {
        match attempt.result {
            Ok(0) => {
                written.failed = true;
                break;
            }
            Ok(count) => {
                written.bytes += count;
                // A short write means a full socket: the next try would only be refused.
                if count < attempt.offered {
                    written.full = true;
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                written.full = true;
                break;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                written.failed = true;
                break;
            }
        }
    }
    written
}

/// One vectored write: how many bytes were offered and what came of it.
pub(crate) struct SliceWrite {
    pub(crate) offered: usize,
    pub(crate) result: std::io::Result<usize>,
}

/// Entries handed to one vectored write; Linux takes at most 1,024.
const SLICES_MAX: usize = 256;

/// A bounded list of slices for one vectored write, on the stack.
pub(crate) struct Slices<'a> {
    slices: smallvec::SmallVec<[IoSlice<'a>; 32]>,
    bytes: usize,
}

impl<'a> Slices<'a> {
    pub(crate) fn new() -> Self {
        Self {
            slices: smallvec::SmallVec::new(),
            bytes: 0,
        }
    }

    /// Adds bytes; `false` when the list is full.
    pub(crate) fn push(&mut self, bytes: &'a [u8]) -> bool {
        if self.slices.len() == SLICES_MAX {
            return false;
        }
        self.bytes += bytes.len();
        self.slices.push(IoSlice::new(bytes));
        true
    }

    pub(crate) fn write(
        self,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> Option<SliceWrite> {
        if self.bytes == 0 {
            return None;
        }
        Some(SliceWrite {
            offered: self.bytes,
            result: write(&self.slices),
        })
    }
}
