//! A bounded family of series: packed integer keys to values.
//!
//! The first keys get a row each; once the bound is reached, whatever else comes is folded into one more
//! row, so totals stay exact and memory does not grow. Depends on nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// One value per key, up to a bound, and one for all keys beyond it.
#[derive(Clone, Debug)]
pub struct Series<V> {
    index: HashMap<u64, usize, Keyed>,
    rows: Vec<(u64, V)>,
    other: V,
    folded: u64,
    bound: usize,
}

impl<V: Default> Series<V> {
    /// An empty family of at most `bound` rows.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            index: HashMap::default(),
            rows: Vec::new(),
            other: V::default(),
            folded: 0,
            bound,
        }
    }

    /// The value of `key`, made now if there is room, or else the one that stands for all others.
    pub fn entry(&mut self, key: u64) -> &mut V {
        let known = self.index.get(&key).copied();
        let row = known.unwrap_or_else(|| self.add(key));
        if let Some((_, value)) = self.rows.get_mut(row) {
            value
        } else {
            self.folded += 1;
            &mut self.other
        }
    }

    /// The value of `key`, if it has a row of its own.
    pub fn known(&mut self, key: u64) -> Option<&mut V> {
        let row = *self.index.get(&key)?;
        Some(&mut self.rows.get_mut(row)?.1)
    }

    #[cold]
    fn add(&mut self, key: u64) -> usize {
        let row = self.rows.len();
        if row < self.bound {
            self.index.insert(key, row);
            self.rows.push((key, V::default()));
        }
        row
    }

    /// The rows in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.rows.iter().map(|(key, value)| (*key, value))
    }

    /// The value for all keys beyond the bound, and how often it was used; none if never.
    #[must_use]
    pub fn other(&self) -> Option<(&V, u64)> {
        (self.folded > 0).then_some((&self.other, self.folded))
    }
}

/// Hashes one `u64` by a multiplication. The keys are made of identities, methods and status codes, and are
/// bounded in number, so nobody gains by collisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

/// Builds a [`KeyHasher`].
pub type Keyed = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_usize(&mut self, key: usize) {
        self.write_u64(key as u64);
    }

    fn write_u64(&mut self, key: u64) {
        let mixed = (self.0 ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beyond_the_bound_share_one_row_and_nothing_is_lost() {
        let mut series: Series<u64> = Series::new(3);
        for round in 0..4 {
            for key in 0..10 {
                *series.entry(key << 40) += 1;
            }
            assert_eq!(series.other(), Some((&(7 * (round + 1)), 7 * (round + 1))));
        }
        assert_eq!(series.iter().map(|(_, n)| *n).sum::<u64>(), 12);
        assert_eq!(series.known(2 << 40), Some(&mut 4));
        assert_eq!(series.known(3 << 40), None);
        assert_eq!(
            series.iter().map(|(k, _)| k >> 40).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn within_the_bound_there_is_no_other() {
        let mut series: Series<u64> = Series::new(3);
        *series.entry(7) += 1;
        *series.entry(7) += 1;
        assert_eq!(series.iter().collect::<Vec<_>>(), [(7, &2)]);
        assert_eq!(series.other(), None);
    }
}
