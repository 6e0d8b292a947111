//! What was used of each key since it was last reported to whoever shares the quota.

use super::table::Table;

/// Units by key, in bounded memory: what finds no room is counted for another key of its set, and so not lost to
/// the limit.
#[derive(Debug)]
pub struct Pending(Table);

impl Pending {
    /// Nothing is pending. Room for at least `keys` keys at a time, at 16 bytes each.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self(Table::new(keys))
    }

    /// Adds to what is pending of `key`; below zero what was given back.
    pub fn add(&self, key: u64, units: i64) {
        self.0.update(key, |word| {
            Some(word_of(units_of(word).saturating_add(units)))
        });
    }

    /// What is pending of `key`.
    #[must_use]
    pub fn get(&self, key: u64) -> i64 {
        self.0.get(key).map_or(0, units_of)
    }

    /// Takes out everything that is pending, by key.
    pub fn drain(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        self.0.iter().filter_map(|(key, word)| {
            if word == 0 {
                return None;
            }
            let mut taken = 0;
            self.0.update(key, |word| {
                taken = word;
                Some(0)
            });
            (taken != 0).then(|| (key, units_of(taken)))
        })
    }
}

/// A word that is the larger the more is pending either way, so that the table keeps that longest.
const fn word_of(units: i64) -> u64 {
    (units.unsigned_abs() << 1) | units.is_negative() as u64
}

const fn units_of(word: u64) -> i64 {
    let units = (word >> 1).cast_signed();
    if word & 1 == 0 { units } else { -units }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_taken_out_once_and_may_be_less_than_nothing() {
        let pending = Pending::new(100);
        pending.add(7, 3);
        pending.add(7, -5);
        pending.add(8, 1);
        pending.add(9, 1);
        pending.add(9, -1);
        assert_eq!((pending.get(7), pending.get(8), pending.get(5)), (-2, 1, 0));
        let mut taken: Vec<_> = pending.drain().collect();
        taken.sort_unstable();
        assert_eq!(taken, [(7, -2), (8, 1)]);
        assert_eq!(pending.drain().count(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_all_the_same() {
        let pending = Pending::new(4);
        for key in 1..=100 {
            pending.add(key, 2);
        }
        let sum: i64 = pending.drain().map(|(_, units)| units).sum();
        assert_eq!(sum, 200);
    }
}
