//! Values by number, in chunks: growing never moves what is there.

use std::ops::{Index, IndexMut};

/// Values in a chunk.
const CHUNK_LEN: usize = 128;

/// Values by the number `insert` gave them. A removed value leaves its default behind until the number is used again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// Every chunk but the last holds exactly `CHUNK_LEN` values.
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Values inserted and not removed.
    pub(crate) fn len(&self) -> usize {
        self.end() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        let number =
            u32::try_from(self.end()).expect("four thousand million values do not fit in memory");
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_LEN => chunk.push(value),
            _ => self.chunks.push(vec![value]),
        }
        number
    }

    pub(crate) fn remove(&mut self, number: u32) -> T
    where
        T: Default,
    {
        self.free.push(number);
        std::mem::take(&mut self[number])
    }

    /// The numbers and values of a chunk, removed values among them. `None` past the end.
    pub(crate) fn chunk(&self, chunk: usize) -> Option<impl Iterator<Item = (u32, &T)>> {
        let first = u32::try_from(chunk * CHUNK_LEN).ok()?;
        Some((first..).zip(self.chunks.get(chunk)?))
    }

    fn end(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK_LEN + last.len(),
            None => 0,
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK_LEN][number as usize % CHUNK_LEN]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK_LEN][number as usize % CHUNK_LEN]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut slab = Slab::default();
        for value in 0..1000_u32 {
            assert_eq!(slab.insert(value), value);
        }
        assert_eq!(slab.remove(500), 500);
        assert_eq!(slab.remove(7), 7);
        assert_eq!(slab.len(), 998);
        assert_eq!(slab.insert(2000), 7);
        assert_eq!(slab.insert(2001), 500);
        assert_eq!(
            (slab[7], slab[500], slab[999], slab.len()),
            (2000, 2001, 999, 1000)
        );
        let walked = (0..)
            .map_while(|chunk| slab.chunk(chunk))
            .flatten()
            .collect::<Vec<_>>();
        assert_eq!(walked.len(), 1000);
        assert!(walked.iter().all(|&(number, value)| slab[number] == *value));
    }
}
