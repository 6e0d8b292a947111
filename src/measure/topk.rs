//! The heaviest of any number of keys, in the space of a few: Filtered Space-Saving.
//!
//! Homem and Carvalho, "Finding top-k elements in data streams" (2010), with weights. A key that has no counter is
//! weighed in a cell of a filter, which it shares with others; once the cell outweighs the counter that counts least, the
//! key takes that over and starts from what the cell had, which is noted as its possible error. (In Space-Saving
//! itself, of Metwally, Agrawal and El Abbadi, 2005, every key takes a counter over at once: of a million keys that
//! come once, each would.) So a count is too high by at most its error, no error exceeds the total ÷ the number of
//! counters, and every key that weighs more than that has one. Of what each key did besides, its counter carries a
//! value; the value of a counter that changes hands is left in place for its owner to take in.
//!
//! Weights are arbitrary, so the counters stand in a heap of four children a node and not in the paper's list
//! of equal counts. A count only grows, hence a counter only sinks, and a heavy one seldom moves at all.
//! [`TopK::halve`] lets what is newer count for more: it keeps the order of everything.
//!
//! What it does badly: keys that weigh about as much as the least counters take one from another now and then. The
//! keys must be hashes already, of a kind that nobody outside can choose. Depends on nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Children of a node of the heap.
const ARITY: usize = 4;

/// Cells of the filter for each counter: of many keys that come once, about one in four takes a counter over.
const CELLS: usize = 8;

/// Counters of the heaviest keys.
#[derive(Debug)]
pub struct TopK<V> {
    capacity: usize,
    /// What the heap touches of the counters, apart from the values, which are large.
    counters: Vec<Counter>,
    values: Vec<V>,
    /// The counters, each not above its children.
    heap: Vec<Node>,
    index: HashMap<u64, u32, Hashed>,
    /// What keys without a counter weigh together, at most, by some bits of the key; none before one has none.
    filter: Vec<u64>,
    total: u64,
}

/// One key's counter.
#[derive(Debug)]
struct Counter {
    key: u64,
    /// By how much its count may be too high.
    error: u64,
    /// Its place in the heap, where its count stands.
    place: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    count: u64,
    counter: u32,
}

/// What [`TopK::count`] found.
#[derive(Debug)]
pub enum Found<'a, V> {
    /// The key's own value.
    Known(&'a mut V),
    /// The key is new and so is its value.
    New(&'a mut V),
    /// The key is new and took a counter over from another, whose value this still is.
    Taken(&'a mut V),
}

/// A key, as it stands.
#[derive(Debug)]
pub struct Standing<'a, V> {
    /// The key.
    pub key: u64,
    /// Its weight, by at most `error` too high.
    pub count: u64,
    /// By how much `count` may be too high.
    pub error: u64,
    /// What is kept for it.
    pub value: &'a V,
}

impl<V: Default> TopK<V> {
    /// No keys, and room for `capacity`; at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            counters: Vec::new(),
            values: Vec::new(),
            heap: Vec::new(),
            index: HashMap::default(),
            filter: Vec::new(),
            total: 0,
        }
    }

    /// Counts `weight` for `key`; none: it has no counter, and what it brought is in the total only.
    pub fn count(&mut self, key: u64, weight: u64) -> Option<Found<'_, V>> {
        self.total = self.total.saturating_add(weight);
        if let Some(&at) = self.index.get(&key) {
            let place = self.counters.get(at as usize)?.place;
            self.grow(place, weight);
            return Some(Found::Known(self.values.get_mut(at as usize)?));
        }
        let at = u32::try_from(self.counters.len()).unwrap_or(u32::MAX);
        if self.counters.len() < self.capacity {
            self.index.insert(key, at);
            let place = u32::try_from(self.heap.len()).unwrap_or(u32::MAX);
            let error = 0;
            self.counters.push(Counter { key, error, place });
            self.values.push(V::default());
            self.heap.push(Node {
                count: weight,
                counter: at,
            });
            self.rise(place);
            return Some(Found::New(self.values.get_mut(at as usize)?));
        }
        let least = *self.heap.first()?;
        if self.filter.is_empty() {
            let cells = (self.capacity * CELLS).next_power_of_two();
            self.filter.resize(cells, 0);
        }
        let cell = self.cell(key);
        let before = self.filter.get(cell).copied()?;
        let weighs = before.saturating_add(weight);
        if weighs < least.count {
            *self.filter.get_mut(cell)? = weighs;
            return None;
        }
        let counter = self.counters.get_mut(least.counter as usize)?;
        self.index.remove(&counter.key);
        self.index.insert(key, least.counter);
        let former = std::mem::replace(&mut counter.key, key);
        counter.error = before;
        let cell = self.cell(former);
        let left = self.filter.get_mut(cell)?;
        *left = (*left).max(least.count);
        self.grow(0, weighs - least.count);
        let value = self.values.get_mut(least.counter as usize)?;
        Some(Found::Taken(value))
    }
}

impl<V> TopK<V> {
    /// The sum of all weights; halved with the counts.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How many keys have a counter.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether none has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// What is kept for `key`, if it has a counter.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<&V> {
        let at = *self.index.get(&key)?;
        self.values.get(at as usize)
    }

    /// Every key that has a counter, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Standing<'_, V>> {
        let counters = self.counters.iter().zip(&self.values);
        counters.map(|(counter, value)| Standing {
            key: counter.key,
            count: self.count_at(counter.place),
            error: counter.error,
            value,
        })
    }

    /// Every key that has a counter with its count and its value, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, u64, &mut V)> {
        let heap = &self.heap;
        let counters = self.counters.iter().zip(&mut self.values);
        counters.map(|(counter, value)| {
            let node = heap.get(counter.place as usize);
            let count = node.map_or(0, |node| node.count);
            (counter.key, count, value)
        })
    }

    /// Which cell of the filter `key` shares: by other bits than the index goes by.
    fn cell(&self, key: u64) -> usize {
        let bits = usize::try_from(key >> 24 & 0xFFFF_FFFF).unwrap_or(0);
        bits & self.filter.len().wrapping_sub(1)
    }

    /// Forgets half of every weight.
    pub fn halve(&mut self) {
        self.total /= 2;
        self.filter.iter_mut().for_each(|weight| *weight /= 2);
        for node in &mut self.heap {
            node.count /= 2;
        }
        for counter in &mut self.counters {
            counter.error /= 2;
        }
    }

    fn count_at(&self, place: u32) -> u64 {
        self.heap.get(place as usize).map_or(0, |node| node.count)
    }

    /// Adds to the count at `place`, and lets it sink to where it belongs.
    fn grow(&mut self, place: u32, weight: u64) {
        let mut place = place as usize;
        let Some(mut node) = self.heap.get(place).copied() else {
            return;
        };
        node.count = node.count.saturating_add(weight);
        loop {
            let first = place * ARITY + 1;
            let children = self.heap.get(first..).unwrap_or_default();
            let children = children.iter().take(ARITY).zip(first..);
            let Some((least, at)) = children.min_by_key(|(child, _)| child.count) else {
                break;
            };
            if least.count >= node.count {
                break;
            }
            let least = *least;
            self.settle(place, least);
            place = at;
        }
        self.settle(place, node);
    }

    /// Lets the new node at `place` rise to where it belongs.
    fn rise(&mut self, place: u32) {
        let mut place = place as usize;
        let Some(node) = self.heap.get(place).copied() else {
            return;
        };
        while let Some(parent) = place.checked_sub(1).map(|below| below / ARITY)
            && let Some(above) = self.heap.get(parent).copied()
            && above.count > node.count
        {
            self.settle(place, above);
            place = parent;
        }
        self.settle(place, node);
    }

    fn settle(&mut self, place: usize, node: Node) {
        if let Some(slot) = self.heap.get_mut(place) {
            *slot = node;
        }
        if let Some(counter) = self.counters.get_mut(node.counter as usize) {
            counter.place = u32::try_from(place).unwrap_or(u32::MAX);
        }
    }
}

/// For maps whose keys are hashes already, of a kind that nobody outside can choose.
pub type Hashed = BuildHasherDefault<AsIs>;

/// Hashes a key that is a hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Counts `stream`, and beside it what is exact; a value sums the weights its key brought since it has
    /// its counter.
    fn counted(capacity: usize, stream: &[(u64, u64)]) -> (TopK<u64>, BTreeMap<u64, u64>, u64) {
        let mut top = TopK::new(capacity);
        let mut exact = BTreeMap::new();
        let mut other = 0;
        for (key, weight) in stream {
            *exact.entry(*key).or_default() += weight;
            match top.count(*key, *weight) {
                Some(Found::Known(value) | Found::New(value)) => *value += weight,
                Some(Found::Taken(value)) => other += std::mem::replace(value, *weight),
                None => other += weight,
            }
        }
        (top, exact, other)
    }

    #[test]
    fn with_room_for_all_every_count_is_exact() {
        let (top, exact, other) = counted(4, &[(1, 5), (2, 7), (1, 1), (9, 0)]);
        let found: BTreeMap<u64, u64> = top.iter().map(|one| (one.key, one.count)).collect();
        assert_eq!(found, exact);
        assert_eq!((top.total(), other, top.len()), (13, 0, 3));
        assert_eq!((top.get(2), top.get(3)), (Some(&7), None));
    }

    #[test]
    fn the_heaviest_of_many_are_found_among_a_million_light_ones() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut top = TopK::<u64>::new(200);
        let mut taken = 0;
        for _ in 0..200_000 {
            let key = if rng.bool() {
                rng.u64(..10)
            } else {
                rng.u64(..)
            };
            taken += u32::from(matches!(top.count(key, 3), Some(Found::Taken(_))));
        }
        // Of a hundred thousand that came once.
        assert!((10_000..40_000).contains(&taken), "{taken}");
        let mut all: Vec<_> = top.iter().map(|one| (one.count, one.key)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut heaviest: Vec<u64> = all.iter().take(10).map(|(_, key)| *key).collect();
        heaviest.sort_unstable();
        assert_eq!(heaviest, (0..10).collect::<Vec<u64>>());
    }

    #[test]
    fn what_was_heavy_long_ago_makes_room() {
        let mut top = TopK::<()>::new(2);
        for (key, weight) in [(1, 1_000), (2, 10)] {
            assert!(top.count(key, weight).is_some());
        }
        for _ in 0..10 {
            top.halve();
        }
        assert!(top.count(3, 5).is_some());
        assert!(top.count(4, 5).is_some());
        assert_eq!((top.get(1), top.get(2)), (None, None));
    }

    proptest! {
        #[test]
        fn counts_hold_what_the_paper_promises(
            capacity in 1_usize..12,
            stream in proptest::collection::vec((0_u64..40, 0_u64..100), 0..300),
        ) {
            let (top, exact, other) = counted(capacity, &stream);
            let total: u64 = exact.values().sum();
            prop_assert_eq!(top.total(), total);
            prop_assert!(top.iter().map(|one| one.count).sum::<u64>() <= total);
            prop_assert_eq!(top.iter().map(|one| one.value).sum::<u64>() + other, total);
            let bound = total / capacity as u64;
            for one in top.iter() {
                let true_weight = exact[&one.key];
                prop_assert!(one.error <= bound);
                prop_assert!(one.count - one.error <= *one.value);
                prop_assert!(*one.value <= true_weight);
                prop_assert!(true_weight <= one.count);
            }
            for (key, weight) in exact {
                prop_assert!(weight <= bound || top.get(key).is_some());
            }
        }

        #[test]
        fn the_least_is_always_on_top(
            stream in proptest::collection::vec((0_u64..30, 1_u64..50), 1..200),
            halve_at in 0_usize..200,
        ) {
            let mut top = TopK::<()>::new(9);
            for (at, (key, weight)) in stream.into_iter().enumerate() {
                if at == halve_at {
                    top.halve();
                }
                top.count(key, weight);
                let least = top.iter().map(|one| one.count).min();
                prop_assert_eq!(top.heap.first().map(|node| node.count), least);
                for one in top.iter() {
                    prop_assert!(one.error <= one.count);
                }
            }
        }
    }
}
