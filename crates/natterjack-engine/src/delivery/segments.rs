//! Buffers for what waits, used again once it has been written.
//!
//! A consumer that reads as fast as it can still has a full socket now and then, and megabytes wait for a moment. Memory
//! that is asked of the allocator and given back each time goes back to the system, which has it zeroed and mapped
//! anew; that costs more than copying into it. So a few are kept, by all connections together.

use parking_lot::Mutex;

/// Size of a buffer. Large enough that a backlog costs few write entries.
pub(super) const SEGMENT_BYTES: usize = 32 * 1024;

/// Buffers that are kept while nobody needs them: 2 MiB, what waits for one or two consumers when producers are slowed.
const SPARE_MAX: usize = 64;

/// Spare buffers of one engine. Their lock is taken for an instant, also under an outbox's.
#[derive(Default)]
pub(crate) struct Segments {
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Segments {
    /// An empty buffer of [`SEGMENT_BYTES`].
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES))
    }

    /// Keeps a buffer that is not needed any more, if it came from here and there are not enough.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() != SEGMENT_BYTES {
            return;
        }
        buffer.clear();
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SEGMENT_BYTES, SPARE_MAX, Segments};

    #[test]
    fn a_few_buffers_are_used_again() {
        let segments = Segments::default();
        let mut taken: Vec<_> = (0..SPARE_MAX + 10).map(|_| segments.take()).collect();
        taken[0].extend_from_slice(b"old");
        let first = taken[0].as_ptr();
        taken.truncate(SPARE_MAX + 5);
        taken.reverse();
        taken.drain(..5).for_each(drop);
        taken.into_iter().for_each(|it| segments.give_back(it));
        assert_eq!(segments.spare.lock().len(), SPARE_MAX);
        let again = segments.take();
        assert_eq!((again.as_ptr(), again.len()), (first, 0));
        assert_eq!(again.capacity(), SEGMENT_BYTES);
    }

    #[test]
    fn no_more_than_a_few_are_kept_and_none_of_other_sizes() {
        let segments = Segments::default();
        segments.give_back(vec![0; 100]);
        segments.give_back(vec![0; SEGMENT_BYTES * 4]);
        assert!(segments.spare.lock().is_empty());
        for _ in 0..SPARE_MAX + 10 {
            segments.give_back(vec![0; SEGMENT_BYTES]);
        }
        assert_eq!(segments.spare.lock().len(), SPARE_MAX);
    }
}
