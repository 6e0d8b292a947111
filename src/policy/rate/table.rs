//! One word for each of many keys, in bounded memory; a key that is there is read and changed without a lock.
//!
//! A key has a set of four ways, a cache line, and is in one of them or none. When all are taken, a new key
//! takes over the way with the least word, **and its word**: whoever used least is forgotten, and whoever
//! comes instead, or comes back, begins no better than that. Words of one set only rise (but for refunds), so
//! to be evicted is never a gift.

#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

/// Ways of a set: with a key and a word each, one cache line.
const WAYS: usize = 4;

#[derive(Debug, Default)]
struct Way {
    /// The key; zero in a way that nobody has.
    key: AtomicU64,
    word: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

/// Locks that newcomers share, so that those of different sets seldom meet.
const LOCKS: usize = if cfg!(loom) { 1 } else { 64 };

/// A word for each key. Bounded: what finds no room takes over the least.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    /// Held to enter a key, so that no key is ever entered twice; never to change a word.
    entering: Box<[Mutex<()>]>,
    evictions: AtomicU64,
}

impl Table {
    /// Room for at least `keys` keys, 16 bytes each.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            entering: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            evictions: AtomicU64::new(0),
        }
    }

    /// How often a key had to make room for another while its word still counted for something.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn index(&self, key: u64) -> usize {
        // Keys are hashes already; the multiplication spreads those of tests too.
        let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(spread).unwrap_or(0) & (self.sets.len() - 1)
    }

    /// The key's word, if it has one.
    pub(super) fn get(&self, key: u64) -> Option<u64> {
        let key = key.max(1);
        let way = find(self.sets.get(self.index(key))?, key)?;
        Some(way.word.load(Ordering::Acquire))
    }

    /// Changes the key's word, which is zero for one that was never there, as `change` says, if it says
    /// anything. `change` may be asked more than once; the last answer counts. Whoever takes the way over
    /// meanwhile gets the changed word: nothing is lost to the limit.
    pub(super) fn update(&self, key: u64, mut change: impl FnMut(u64) -> Option<u64>) {
        let key = key.max(1);
        let index = self.index(key);
        let Some(set) = self.sets.get(index) else {
            return;
        };
        let Some(way) = find(set, key).or_else(|| self.enter(index, set, key)) else {
            return;
        };
        let mut word = way.word.load(Ordering::Acquire);
        while let Some(changed) = change(word) {
            let exchanged =
                way.word
                    .compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Takes over the way with the least word for `key`, one that nobody has before others, unless another
    /// thread has just done so.
    fn enter<'s>(&self, index: usize, set: &'s Set, key: u64) -> Option<&'s Way> {
        let lock = self.entering.get(index % LOCKS)?;
        let _entering = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = find(set, key) {
            return Some(way);
        }
        let (way, word) = set
            .0
            .iter()
            .map(|way| (way, way.word.load(Ordering::Acquire)))
            .min_by_key(|(way, word)| (*word, way.key.load(Ordering::Acquire)))?;
        let former = way.key.swap(key, Ordering::AcqRel);
        if former != 0 && word > 0 {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Some(way)
    }

    /// Every key with its word.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.sets.iter().flat_map(|set| {
            set.0.iter().filter_map(|way| {
                let key = way.key.load(Ordering::Acquire);
                (key != 0).then(|| (key, way.word.load(Ordering::Acquire)))
            })
        })
    }
}

fn find(set: &Set, key: u64) -> Option<&Way> {
    set.0
        .iter()
        .find(|way| way.key.load(Ordering::Acquire) == key)
}
