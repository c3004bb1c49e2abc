//! Putting what was picked in the order of frames into the order of those who get it.

/// Sorts by counting, with memory that is kept from run to run.
pub(crate) struct Sorter<T> {
    sorted: Vec<T>,
    /// Where the next one for each key goes.
    places: Vec<usize>,
}

impl<T> Default for Sorter<T> {
    fn default() -> Self {
        Self {
            sorted: Vec::new(),
            places: Vec::new(),
        }
    }
}

/// With fewer items for each key than this, looking at all keys costs more than comparing items.
const ITEMS_PER_KEY_MIN: usize = 2;

impl<T: Copy + Ord> Sorter<T> {
    /// Sorts items, which are in order apart from their key, first by the key, which is below `keys`.
    ///
    /// Linear, unless there are far more keys than items.
    pub(crate) fn sort(&mut self, items: &mut Vec<T>, keys: usize, key: impl Fn(&T) -> usize) {
        if keys < 2 || items.len() < 2 {
            return;
        }
        if items.len() < keys * ITEMS_PER_KEY_MIN {
            items.sort_unstable();
            return;
        }
        self.places.clear();
        self.places.resize(keys, 0);
        items.iter().for_each(|item| self.places[key(item)] += 1);
        let mut start = 0;
        for place in &mut self.places {
            start += std::mem::replace(place, start);
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(items);
        for item in items.iter() {
            let place = &mut self.places[key(item)];
            self.sorted[*place] = *item;
            *place += 1;
        }
        std::mem::swap(items, &mut self.sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::Sorter;

    #[test]
    fn items_are_in_order_by_key_and_then_as_before() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut sorter = Sorter::default();
        for _ in 0..200 {
            let (count, keys) = (rng.usize(0..60), rng.usize(1..12));
            let mut items: Vec<_> = (0..count)
                .map(|number| (rng.usize(..keys), number))
                .collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            sorter.sort(&mut items, keys, |item| item.0);
            assert_eq!(items, expected);
        }
    }
}
