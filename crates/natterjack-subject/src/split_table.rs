//! A hash table that grows and shrinks a little at a time.
//!
//! An ordinary hash table doubles: one insertion in a million moves half a million entries, and whoever waits for the
//! table's lock waits for that. This one is many small tables and splits one of them when there is too much on
//! average (linear hashing: Litwin, VLDB 1980), so no operation moves more than a few hundred entries.

use hashbrown::HashTable;

/// Entries per part on average. A part not yet split in the current round holds up to twice as many, and that many
/// just fit the 448 that hashbrown puts into 512 buckets, with three standard deviations to spare.
const PART_LEN: usize = 192;
/// Parts are joined again when they hold less than this on average.
const PART_LEN_MIN: usize = PART_LEN / 4;

/// Entries found by their hash and a comparison, as in [`HashTable`]. The caller knows how to hash an entry.
#[derive(Debug)]
pub(crate) struct SplitTable<T> {
    parts: Vec<HashTable<T>>,
    len: usize,
}

impl<T> Default for SplitTable<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
        }
    }
}

impl<T> SplitTable<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts.get(self.part_of(hash))?.find(hash, is_it)
    }

    #[inline]
    pub(crate) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let part = self.part_of(hash);
        self.parts.get_mut(part)?.find_mut(hash, is_it)
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert_unique(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        if self.len >= self.parts.len() * PART_LEN {
            self.split(&hash_of);
        }
        let part = self.part_of(hash);
        self.parts[part].insert_unique(hash, entry, &hash_of);
        self.len += 1;
    }

    /// Removes the entry if it is there.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let part = self.part_of(hash);
        let part = self.parts.get_mut(part)?;
        let (entry, _) = part.find_entry(hash, is_it).ok()?.remove();
        self.len -= 1;
        if part.len() * 8 < part.capacity() {
            part.shrink_to(part.len() * 2, &hash_of);
        }
        if self.len < (self.parts.len() - 1) * PART_LEN_MIN || self.len == 0 {
            self.join(&hash_of);
        }
        Some(entry)
    }

    /// Gives to `visit` the entries of the part at `cursor`, and returns the cursor of the next. The first is at 0.
    ///
    /// Whoever goes from 0 to `None` meets every entry that was there all the time exactly once, whatever changes
    /// between two steps: the cursor runs over hashes, in an order in which each part holds consecutive ones.
    pub(crate) fn visit_part(
        &self,
        cursor: u32,
        hash_of: impl Fn(&T) -> u64,
        mut visit: impl FnMut(&T),
    ) -> Option<u32> {
        let part_number = self.part_of(hash_with_choice(cursor.reverse_bits()));
        let part = self.parts.get(part_number)?;
        // After a join, the part may begin before the cursor: that much of it has been met.
        part.iter()
            .filter(|entry| choice(hash_of(entry)).reverse_bits() >= cursor)
            .for_each(&mut visit);
        let width_bits = CHOICE_BITS - self.depth_of(part_number);
        let next = ((u64::from(cursor) >> width_bits) + 1) << width_bits;
        u32::try_from(next).ok()
    }

    /// The number of the part for `hash`; past the end if there are no parts at all.
    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        let parts = self.parts.len();
        let mask = parts.next_power_of_two() - 1;
        let part = choice(hash) as usize & mask;
        // Parts past the end are those not yet split off in this round.
        if part < parts {
            part
        } else {
            part & (mask >> 1)
        }
    }

    /// How many bits of the choice are the same for all that a part holds.
    fn depth_of(&self, part: usize) -> u32 {
        let parts = self.parts.len();
        let round = parts.next_power_of_two();
        let is_split = part >= round / 2 || part + round / 2 < parts;
        round.ilog2() - u32::from(round > 1 && !is_split)
    }

    /// Adds a part, with the half that belongs there of the part it splits.
    fn split(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let new = self.parts.len();
        self.parts.push(HashTable::new());
        if new == 0 {
            return;
        }
        let old = new ^ (1 << new.ilog2());
        let mut part = std::mem::take(&mut self.parts[old]);
        let moving = part
            .extract_if(|entry| self.part_of(hash_of(entry)) == new)
            .collect::<Vec<T>>();
        let mut split_off = HashTable::with_capacity(moving.len());
        for entry in moving {
            split_off.insert_unique(hash_of(&entry), entry, hash_of);
        }
        part.shrink_to_fit(hash_of);
        self.parts[old] = part;
        self.parts[new] = split_off;
    }

    /// Takes the last part away and puts what it holds where it came from.
    fn join(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let Some(last) = self.parts.pop() else { return };
        for entry in last {
            let hash = hash_of(&entry);
            let part = self.part_of(hash);
            self.parts[part].insert_unique(hash, entry, hash_of);
        }
        if self.parts.is_empty() {
            self.parts = Vec::new();
        }
    }
}

const CHOICE_BITS: u32 = u32::BITS;

/// The bits of a hash that choose the part: not those that choose the place in it.
#[inline]
fn choice(hash: u64) -> u32 {
    (hash >> 12) as u32
}

fn hash_with_choice(choice: u32) -> u64 {
    u64::from(choice) << 12
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Spreads the numbers over the bits that choose parts.
    fn hash(number: &u32) -> u64 {
        u64::from(*number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn insert(table: &mut SplitTable<u32>, number: u32) {
        table.insert_unique(hash(&number), number, hash);
    }

    fn remove(table: &mut SplitTable<u32>, number: u32) -> Option<u32> {
        table.remove(hash(&number), |entry| *entry == number, hash)
    }

    #[test]
    fn grows_and_shrinks_a_part_at_a_time() {
        let mut table = SplitTable::default();
        for number in 0..50_000 {
            insert(&mut table, number);
        }
        assert_eq!(table.len(), 50_000);
        assert_eq!(table.parts.len(), 50_000_usize.div_ceil(PART_LEN));
        let longest = table.parts.iter().map(HashTable::len).max();
        assert!(
            longest < Some(4 * PART_LEN),
            "the parts are of similar length"
        );
        for number in 0..50_000 {
            assert_eq!(
                table.find(hash(&number), |entry| *entry == number),
                Some(&number)
            );
        }
        for number in 0..50_000 {
            assert_eq!(remove(&mut table, number), Some(number));
            assert_eq!(remove(&mut table, number), None);
            assert_eq!(table.len(), 49_999 - number as usize);
        }
        assert_eq!(table.parts.capacity(), 0);
    }

    proptest! {
        #[test]
        fn a_walk_meets_what_stays_exactly_once(
            stays in 0_u32..3000,
            steps in prop::collection::vec((any::<bool>(), 0_u32..1500), 0..40)
        ) {
            let mut table = SplitTable::default();
            (0..stays).for_each(|number| insert(&mut table, number));
            // Others come and go between two steps of the walk.
            let (mut lowest, mut highest) = (1_000_000, 1_000_000);
            let mut steps = steps.into_iter();
            let mut met = Vec::new();
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = table.visit_part(at, hash, |entry| met.push(*entry));
                match steps.next() {
                    Some((true, count)) => {
                        (highest..highest + count).for_each(|number| insert(&mut table, number));
                        highest += count;
                    }
                    Some((false, count)) => {
                        let until = highest.min(lowest + count);
                        for number in lowest..until {
                            prop_assert_eq!(remove(&mut table, number), Some(number));
                        }
                        lowest = until;
                    }
                    None => {}
                }
            }
            let met_once: BTreeSet<u32> = met.iter().copied().collect();
            prop_assert_eq!(met_once.len(), met.len(), "nothing is met twice");
            prop_assert!((0..stays).all(|number| met_once.contains(&number)));
        }
    }
}
