//! Lists of slices as vectored reads and writes have them: the part of one that is still to be written, and the room
//! that is left in one that is being filled.

use std::io::{IoSlice, IoSliceMut};

use smallvec::SmallVec;

/// The bytes after the first `skip`, at most `bytes_max` of them.
pub(super) fn window<'a>(
    slices: &'a [IoSlice<'_>],
    mut skip: usize,
    bytes_max: usize,
) -> SmallVec<[IoSlice<'a>; 16]> {
    let mut window = SmallVec::new();
    let mut room = bytes_max;
    for slice in slices {
        if skip >= slice.len() {
            skip -= slice.len();
            continue;
        }
        let bytes = &slice[skip..];
        skip = 0;
        let taken = bytes.len().min(room);
        window.push(IoSlice::new(&bytes[..taken]));
        room -= taken;
        if room == 0 {
            break;
        }
    }
    window
}

/// Slices that are being filled from their beginning.
pub(super) struct Filling<'a, 'b> {
    slices: &'a mut [IoSliceMut<'b>],
    room: usize,
    /// Bytes that are there.
    pub(super) filled: usize,
}

impl<'a, 'b> Filling<'a, 'b> {
    pub(super) fn new(slices: &'a mut [IoSliceMut<'b>]) -> Self {
        let room = slices.iter().map(|slice| slice.len()).sum();
        Self {
            slices,
            room,
            filled: 0,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.room - self.filled
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// The next part that is free.
    pub(super) fn next(&mut self) -> Option<&mut [u8]> {
        let mut skip = self.filled;
        for slice in &mut *self.slices {
            if skip < slice.len() {
                return Some(&mut slice[skip..]);
            }
            skip -= slice.len();
        }
        None
    }

    /// Copies as much as there is room for, and says how much that is.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> usize {
        let mut copied = 0;
        while copied < bytes.len()
            && let Some(target) = self.next()
        {
            let count = target.len().min(bytes.len() - copied);
            target[..count].copy_from_slice(&bytes[copied..copied + count]);
            self.filled += count;
            copied += count;
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_part_that_is_left() {
        let slices = [&b"abc"[..], b"", b"de", b"fgh"].map(IoSlice::new);
        let check = |skip, bytes_max, expected: &[&[u8]]| {
            let window = window(&slices, skip, bytes_max);
            let found: Vec<&[u8]> = window.iter().map(|slice| &**slice).collect();
            assert_eq!(found, expected, "after {skip}, at most {bytes_max}");
        };
        check(0, 100, &[b"abc", b"de", b"fgh"]);
        check(1, 3, &[b"bc", b"d"]);
        check(3, 2, &[b"de"]);
        check(4, 3, &[b"e", b"fg"]);
        check(8, 3, &[]);
    }

    #[test]
    fn slices_are_filled_one_after_another() {
        let (mut first, mut second) = ([0; 2], [0; 3]);
        let slices = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let mut filling = Filling::new(slices);
        assert_eq!(filling.copy(b"abc"), 3);
        assert_eq!((filling.room(), filling.is_full()), (2, false));
        assert_eq!(filling.copy(b"defg"), 2);
        assert!(filling.is_full());
        assert_eq!((first, second), (*b"ab", *b"cde"));
    }
}
