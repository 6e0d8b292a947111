//! A small bounded table of sums by key: who or what took part in a stretch of time.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi 2005) by time: a key that finds no room takes the place of the one
//! with the least, and what that one had goes to the rest, so that the sum over all stays exact. Depends on nothing.

use serde::{Deserialize, Serialize};

/// Requests, the time they took in seconds, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: f64,
    /// Those among them that took the upstream's time.
    pub sent: f64,
    /// Their time, seconds.
    pub time: f64,
    /// Those that failed.
    pub failed: f64,
    /// Those of the failed that never got through: no connection.
    pub unreachable: f64,
    /// Those that were refused for want of room.
    #[serde(default)]
    pub refused: f64,
    /// Those whose client gave up before they were answered, and the time they took until then.
    #[serde(default)]
    pub abandoned: f64,
    /// Seconds.
    #[serde(default)]
    pub abandoned_time: f64,
    /// Those that the cache was asked for, and those among them that it had.
    #[serde(default)]
    pub lookups: f64,
    /// Hits.
    #[serde(default)]
    pub hits: f64,
}

impl Tally {
    /// The mean time of those that took any; zero of none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.sent > 0.0 {
            self.time / self.sent
        } else {
            0.0
        }
    }

    /// The time that would have been taken, had none been refused, each as dear as those that were not: what is asked for,
    /// where what is had is bounded.
    #[must_use]
    pub fn asked(&self) -> f64 {
        self.time + self.refused * self.mean()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sent += other.sent;
        self.time += other.time;
        self.failed += other.failed;
        self.unreachable += other.unreachable;
        self.refused += other.refused;
        self.abandoned += other.abandoned;
        self.abandoned_time += other.abandoned_time;
        self.lookups += other.lookups;
        self.hits += other.hits;
    }

    fn times(&self, by: f64) -> Self {
        Self {
            count: self.count * by,
            sent: self.sent * by,
            time: self.time * by,
            failed: self.failed * by,
            unreachable: self.unreachable * by,
            refused: self.refused * by,
            abandoned: self.abandoned * by,
            abandoned_time: self.abandoned_time * by,
            lookups: self.lookups * by,
            hits: self.hits * by,
        }
    }

    fn weight(&self) -> f64 {
        // A request that took no time counts too: a client that is only refused is a client.
        self.time + self.count * 1e-3
    }
}

/// Tallies by key, of at most so many keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    rows: Vec<(u64, Tally)>,
    rest: Tally,
    bound: usize,
}

impl Table {
    /// An empty table of at most `bound` keys.
    #[must_use]
    pub const fn new(bound: usize) -> Self {
        Self {
            rows: Vec::new(),
            rest: Tally {
                count: 0.0,
                sent: 0.0,
                time: 0.0,
                failed: 0.0,
                unreachable: 0.0,
                refused: 0.0,
                abandoned: 0.0,
                abandoned_time: 0.0,
                lookups: 0.0,
                hits: 0.0,
            },
            bound,
        }
    }

    /// Adds `tally` to what `key` has.
    pub fn add(&mut self, key: u64, tally: &Tally) {
        if let Some((_, sum)) = self.rows.iter_mut().find(|(known, _)| *known == key) {
            sum.add(tally);
        } else if self.rows.len() < self.bound {
            self.rows.push((key, *tally));
        } else {
            let by_weight = |a: &&mut (u64, Tally), b: &&mut (u64, Tally)| {
                a.1.weight().total_cmp(&b.1.weight())
            };
            match self.rows.iter_mut().min_by(by_weight) {
                Some(least) if least.1.weight() < tally.weight() => {
                    let former = std::mem::replace(least, (key, *tally));
                    self.rest.add(&former.1);
                }
                _ => self.rest.add(tally),
            }
        }
    }

    /// Adds everything in `other`, `by` times.
    pub fn merge(&mut self, other: &Self, by: f64) {
        for (key, tally) in &other.rows {
            self.add(*key, &tally.times(by));
        }
        self.rest.add(&other.rest.times(by));
    }

    /// What `key` has; zeros if it is not among the rows.
    #[must_use]
    pub fn get(&self, key: u64) -> Tally {
        let found = self.rows.iter().find(|(known, _)| *known == key);
        found.map(|(_, tally)| *tally).unwrap_or_default()
    }

    /// The keys with what they have.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Tally)> {
        self.rows.iter().map(|(key, tally)| (*key, tally))
    }

    /// The sum over all keys, those beyond the bound among them.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = self.rest;
        for (_, tally) in &self.rows {
            total.add(tally);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_takes_the_place_of_the_least_and_the_sum_stays_exact() {
        let mut table = Table::new(2);
        let taking = |time| Tally {
            count: 1.0,
            time,
            ..Tally::default()
        };
        for (key, time) in [(1, 5.0), (2, 1.0), (3, 2.0), (4, 0.5), (1, 1.0)] {
            table.add(key, &taking(time));
        }
        let mut rows: Vec<_> = table.iter().map(|(key, tally)| (key, tally.time)).collect();
        rows.sort_by_key(|row| row.0);
        assert_eq!(rows, [(1, 6.0), (3, 2.0)]);
        assert_eq!(
            table.total(),
            Tally {
                count: 5.0,
                time: 9.5,
                ..Tally::default()
            }
        );
        let mut sum = Table::new(2);
        sum.merge(&table, 0.5);
        sum.merge(&table, 0.5);
        assert_eq!(sum, table);
        assert_eq!(table.get(2), Tally::default());
    }
}
