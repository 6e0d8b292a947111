//! What happened lately: calls, failures and slow calls in a ring of ten buckets.
//!
//! Adding is one or two relaxed additions; the lock is taken once per bucket, to clear the ring ahead. A
//! thread that stalls for most of a window between reading the clock and adding puts its call into a later
//! bucket, which is one call counted late. What is read covers between nine and ten tenths of the window.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::policy::setting::nanos;

const BUCKETS: usize = 10;

#[derive(Debug, Default)]
struct Bucket {
    calls: AtomicU32,
    failures: AtomicU32,
    slow: AtomicU32,
}

impl Bucket {
    fn clear(&self) {
        self.calls.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.slow.store(0, Ordering::Relaxed);
    }
}

/// How one call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Good,
    Slow,
    Failed,
}

/// The sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

impl Totals {
    pub(super) fn failure_ratio(self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls.max(1))
    }

    pub(super) fn slow_ratio(self) -> f64 {
        f64::from(self.slow) / f64::from(self.calls.max(1))
    }
}

/// The ring, shared by all workers.
#[derive(Debug)]
pub(super) struct Window {
    buckets: [Bucket; BUCKETS],
    /// Nanoseconds a bucket covers.
    bucket: AtomicU64,
    /// The number of the newest bucket since the start of time.
    head: AtomicU64,
    clearing: Mutex<()>,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let window = Self {
            buckets: Default::default(),
            bucket: AtomicU64::new(bucket_nanos(length)),
            head: AtomicU64::new(0),
            clearing: Mutex::new(()),
        };
        window.head.store(window.number(now), Ordering::Relaxed);
        window
    }

    pub(super) fn add(&self, call: Call, now: Instant) {
        let number = self.advance(now);
        let Some(bucket) = self.buckets.get(index(number)) else {
            return;
        };
        bucket.calls.fetch_add(1, Ordering::Relaxed);
        match call {
            Call::Good => 0,
            Call::Slow => bucket.slow.fetch_add(1, Ordering::Relaxed),
            Call::Failed => bucket.failures.fetch_add(1, Ordering::Relaxed),
        };
    }

    pub(super) fn totals(&self, now: Instant) -> Totals {
        self.advance(now);
        let mut totals = Totals::default();
        for bucket in &self.buckets {
            totals.calls += bucket.calls.load(Ordering::Relaxed);
            totals.failures += bucket.failures.load(Ordering::Relaxed);
            totals.slow += bucket.slow.load(Ordering::Relaxed);
        }
        totals
    }

    pub(super) fn clear(&self) {
        let _clearing = self.clearing.lock().unwrap_or_else(PoisonError::into_inner);
        self.buckets.iter().for_each(Bucket::clear);
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
                bucket.clear();
            }
        }
        self.head.store(number.max(head), Ordering::Release);
        number
    }
}

fn bucket_nanos(length: Duration) -> u64 {
    nanos(length / u32::try_from(BUCKETS).unwrap_or(u32::MAX)).max(1)
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
    fn a_call_is_forgotten_after_ten_buckets() {
        let window = Window::new(WINDOW, at(0));
        window.add(Call::Failed, at(500));
        window.add(Call::Slow, at(9_900));
        let both = Totals {
            calls: 2,
            failures: 1,
            slow: 1,
        };
        assert_eq!(window.totals(at(9_999)), both);
        let one = Totals {
            calls: 1,
            failures: 0,
            slow: 1,
        };
        assert_eq!(window.totals(at(10_000)), one);
        assert_eq!(window.totals(at(19_000)), Totals::default());
    }

    #[test]
    fn silence_longer_than_the_window_leaves_nothing_behind() {
        let window = Window::new(WINDOW, at(0));
        for millis in (0..10_000).step_by(100) {
            window.add(Call::Failed, at(millis));
        }
        assert_eq!(window.totals(at(9_999)).calls, 100);
        window.add(Call::Good, at(3_600_000));
        let one = Totals {
            calls: 1,
            failures: 0,
            slow: 0,
        };
        assert_eq!(window.totals(at(3_600_000)), one);
    }

    #[test]
    fn only_another_length_starts_over() {
        let window = Window::new(WINDOW, at(0));
        window.add(Call::Failed, at(100));
        window.set_length(WINDOW, at(200));
        assert_eq!(window.totals(at(200)).calls, 1);
        window.set_length(WINDOW * 2, at(200));
        assert_eq!(window.totals(at(200)).calls, 0);
        window.add(Call::Failed, at(300));
        assert_eq!(window.totals(at(19_900)).calls, 1);
    }
}
