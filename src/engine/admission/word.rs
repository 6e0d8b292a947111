//! The limit, the slots in use and the number of waiters, in one atomic word.
//!
//! That they share a word is what makes admission correct without a lock: see [`super`].

use std::sync::atomic::{AtomicU64, Ordering};

/// The highest limit.
pub const MAX_LIMIT: u32 = (1 << 21) - 1;

const FIELD: u32 = 21;
const MASK: u64 = (1 << FIELD) - 1;
const SLOT: u64 = 1;
const WAITER: u64 = 1 << (2 * FIELD);

/// The counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) in_flight: u32,
    pub(super) limit: u32,
    pub(super) waiting: u32,
}

impl Counts {
    /// 21 bits for each of the first two, 22 for the waiters; a queue holds 2^20 at most.
    fn of(word: u64) -> Self {
        let field = |shift: u32, mask: u64| u32::try_from((word >> shift) & mask).unwrap_or(0);
        Self {
            in_flight: field(0, MASK),
            limit: field(FIELD, MASK),
            waiting: field(2 * FIELD, u64::MAX >> (2 * FIELD)),
        }
    }

    /// Whether a newcomer may take a slot past the queue.
    const fn is_open(self) -> bool {
        self.waiting == 0 && self.in_flight < self.limit
    }
}

/// The word, alone on its cache line: every worker writes it.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn new(limit: u32) -> Self {
        Self(AtomicU64::new(u64::from(limit.min(MAX_LIMIT)) << FIELD))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::of(self.0.load(Ordering::Acquire))
    }

    /// Takes a slot if one is free and nobody waits.
    pub(super) fn try_enter(&self) -> bool {
        self.change(|word| Counts::of(word).is_open().then(|| word + SLOT))
    }

    /// Takes a slot, or counts a waiter in; true when it was a slot.
    pub(super) fn enter_or_wait(&self) -> bool {
        let mut entered = false;
        self.change(|word| {
            entered = Counts::of(word).is_open();
            Some(if entered { word + SLOT } else { word + WAITER })
        });
        entered
    }

    /// Gives a slot back unless somebody waits for it.
    pub(super) fn try_leave(&self) -> bool {
        self.change(|word| (Counts::of(word).waiting == 0).then(|| word - SLOT))
    }

    /// Gives a slot back.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(SLOT, Ordering::AcqRel);
    }

    /// Takes a slot for a waiter, if one is free.
    pub(super) fn try_reserve(&self) -> bool {
        self.change(|word| {
            let counts = Counts::of(word);
            (counts.in_flight < counts.limit).then(|| word + SLOT)
        })
    }

    /// Counts a waiter in, whether or not a slot is free.
    pub(super) fn wait(&self) {
        self.0.fetch_add(WAITER, Ordering::AcqRel);
    }

    /// Counts waiters out.
    pub(super) fn unwait(&self, waiters: u32) {
        self.0
            .fetch_sub(u64::from(waiters) * WAITER, Ordering::AcqRel);
    }

    pub(super) fn set_limit(&self, limit: u32) {
        let limit = u64::from(limit.min(MAX_LIMIT)) << FIELD;
        self.change(|word| Some((word & !(MASK << FIELD)) | limit));
    }

    /// Applies a change unless it declines; whether it was applied.
    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_do_not_run_into_each_other() {
        let word = Word::new(u32::MAX);
        for _ in 0..3 {
            assert!(word.try_enter());
        }
        for _ in 0..1_000_000 {
            word.wait();
        }
        word.set_limit(7);
        let counts = Counts {
            in_flight: 3,
            limit: 7,
            waiting: 1_000_000,
        };
        assert_eq!(word.counts(), counts);
        assert!(!word.try_enter() && !word.try_leave());
        assert!(word.try_reserve());
        word.unwait(1);
        word.leave();
        word.set_limit(3);
        assert!(!word.try_reserve());
        let counts = Counts {
            in_flight: 3,
            limit: 3,
            waiting: 999_999,
        };
        assert_eq!(word.counts(), counts);
    }
}
