//! Where time and chance come in: the policies behind are handed both.
//!
//! Time is tokio's, so that the timers agree with it, also when a test has paused it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Sleep;

use crate::clock::Instant;

/// The odd number nearest to 2^64 ÷ φ: multiples of it are spread evenly, and so make unlike seeds.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The time since a layer was made, and its dice.
#[derive(Debug)]
pub(super) struct Edge {
    epoch: tokio::time::Instant,
    seed: AtomicU64,
}

impl Edge {
    /// With a seed from the system.
    pub(super) fn new() -> Self {
        Self::with_seed(RandomState::new().hash_one(GOLDEN))
    }

    pub(super) fn with_seed(seed: u64) -> Self {
        Self {
            epoch: tokio_now(),
            seed: AtomicU64::new(seed),
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::ZERO.after(tokio_now().saturating_duration_since(self.epoch))
    }

    /// A timer for `at`.
    pub(super) fn timer(&self, at: Instant) -> Sleep {
        tokio::time::sleep_until(self.to_tokio(at))
    }

    /// `at` as timers know it; what is too far away for them is now.
    pub(super) fn to_tokio(&self, at: Instant) -> tokio::time::Instant {
        let since = at.since(Instant::ZERO);
        self.epoch.checked_add(since).unwrap_or(self.epoch)
    }

    /// Dice for one decision, without a lock for them.
    pub(super) fn dice(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.fetch_add(GOLDEN, Ordering::Relaxed))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a layer reads the clock"
)]
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
