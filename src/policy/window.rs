//! What happened lately: counters in a ring of ten buckets, shared by all workers.
//!
//! Adding is one relaxed addition per counter; the lock is taken once per bucket, to clear the ring ahead. A
//! thread that stalls for most of a window between reading the clock and adding puts its count into a later
//! bucket, where it is late and not lost. Counters only grow until their bucket is cleared, so none can wrap
//! below zero: what is taken back is counted by a counter of its own, further back in the array, where it is
//! never seen before what it takes back. What is read covers between nine and ten tenths of the window.
//! Depends on the clock's [`Instant`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::setting::nanos;
use crate::clock::Instant;

const BUCKETS: usize = 10;

/// The last while of `N` counters. On cache lines of its own: what its owner only reads must not travel
/// between cores with each count.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Window<const N: usize> {
    buckets: [[AtomicU32; N]; BUCKETS],
    /// Nanoseconds a bucket covers.
    bucket: AtomicU64,
    /// The number of the newest bucket since the start of time.
    head: AtomicU64,
    clearing: Mutex<()>,
}

impl<const N: usize> Window<N> {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let window = Self {
            buckets: [const { [const { AtomicU32::new(0) }; N] }; BUCKETS],
            bucket: AtomicU64::new(bucket_nanos(length)),
            head: AtomicU64::new(0),
            clearing: Mutex::new(()),
        };
        window.head.store(window.number(now), Ordering::Relaxed);
        window
    }

    /// Adds to each counter; zeros cost nothing. What this thread added before is seen by whoever sees this.
    pub(super) fn add(&self, counts: [u32; N], now: Instant) {
        let number = self.advance(now);
        if let Some(bucket) = self.buckets.get(index(number)) {
            for (counter, count) in bucket.iter().zip(counts) {
                if count != 0 {
                    counter.fetch_add(count, Ordering::Release);
                }
            }
        }
    }

    /// The sums, the last counter's read first: whoever takes back what it added is seen with neither or both,
    /// or with what it added alone, and never with what it took back alone.
    pub(super) fn totals(&self, now: Instant) -> [u32; N] {
        self.advance(now);
        let mut totals = [0_u32; N];
        for (column, total) in totals.iter_mut().enumerate().rev() {
            for counter in self.buckets.iter().filter_map(|bucket| bucket.get(column)) {
                *total = total.saturating_add(counter.load(Ordering::Acquire));
            }
        }
        totals
    }

    pub(super) fn clear(&self) {
        let _clearing = self.clearing.lock().unwrap_or_else(PoisonError::into_inner);
        self.buckets.iter().for_each(clear);
    }

    /// Changes the length. Buckets of another length cannot be kept, so a real change starts over.
    pub(super) fn set_length(&self, length: Duration, now: Instant) {
        let bucket = bucket_nanos(length);
        if self.bucket.swap(bucket, Ordering::Relaxed) != bucket {
            self.clear();
            self.head.store(self.number(now), Ordering::Release);
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.as_nanos() / self.bucket.load(Ordering::Relaxed).max(1)
    }

    /// Clears the buckets between the newest and the one `now` falls into, and returns the latter's number.
    fn advance(&self, now: Instant) -> u64 {
        let number = self.number(now);
        if number <= self.head.load(Ordering::Acquire) {
            return number;
        }
        let _clearing = self.clearing.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.head.load(Ordering::Relaxed);
        let passed = number.saturating_sub(head).min(BUCKETS as u64);
        for back in 0..passed {
            if let Some(bucket) = self.buckets.get(index(number - back)) {
                clear(bucket);
            }
        }
        self.head.store(number.max(head), Ordering::Release);
        number
    }
}

fn clear<const N: usize>(bucket: &[AtomicU32; N]) {
    for counter in bucket {
        counter.store(0, Ordering::Relaxed);
    }
}

fn bucket_nanos(length: Duration) -> u64 {
    (nanos(length) / BUCKETS as u64).max(1)
}

fn index(number: u64) -> usize {
    usize::try_from(number % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn a_count_is_forgotten_after_ten_buckets() {
        let window = Window::new(WINDOW, at(0));
        window.add([1, 0], at(500));
        window.add([2, 5], at(9_900));
        assert_eq!(window.totals(at(9_999)), [3, 5]);
        assert_eq!(window.totals(at(10_000)), [2, 5]);
        assert_eq!(window.totals(at(19_000)), [0, 0]);
    }

    #[test]
    fn silence_longer_than_the_window_leaves_nothing_behind() {
        let window = Window::new(WINDOW, at(0));
        for millis in (0..10_000).step_by(100) {
            window.add([1], at(millis));
        }
        assert_eq!(window.totals(at(9_999)), [100]);
        window.add([1], at(3_600_000));
        assert_eq!(window.totals(at(3_600_000)), [1]);
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let window = Window::new(WINDOW, at(0));
        window.add([1], at(5_000));
        window.add([1], at(3_000));
        assert_eq!(window.totals(at(4_000)), [2]);
    }

    #[test]
    fn only_another_length_starts_over() {
        let window = Window::new(WINDOW, at(0));
        window.add([1], at(100));
        window.set_length(WINDOW, at(200));
        assert_eq!(window.totals(at(200)), [1]);
        window.set_length(WINDOW * 2, at(200));
        assert_eq!(window.totals(at(200)), [0]);
        window.add([1], at(300));
        assert_eq!(window.totals(at(19_900)), [1]);
    }

    #[test]
    fn threads_that_add_at_once_lose_nothing() {
        let window = Window::new(WINDOW, at(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..9_000).for_each(|millis| window.add([1], at(millis))));
            }
        });
        assert_eq!(window.totals(at(9_000)), [36_000]);
    }
}
