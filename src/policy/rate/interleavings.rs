//! Every interleaving of two threads on the table: nothing is lost, and no key is entered twice.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::clock::Instant;

const NOW: Moment = Moment {
    monotonic: Instant::ZERO,
    unix: 0,
};

/// Runs `work` for each of `keys` in a thread of its own, and sums what passed.
fn race(limiter: Limiter, quota: Quota, keys: &[u64]) -> (Arc<Limiter>, u64) {
    let limiter = Arc::new(limiter);
    let workers: Vec<_> = keys
        .iter()
        .map(|&key| {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || u64::from(limiter.take(&quota, key, NOW, 1).passed))
        })
        .collect();
    let passed = workers
        .into_iter()
        .map(|worker| worker.join().unwrap())
        .sum();
    (limiter, passed)
}

#[test]
fn two_that_enter_the_same_key_share_its_quota() {
    loom::model(|| {
        let quota = Quota::try_new(1, Period::Day, 1).unwrap();
        let (limiter, passed) = race(Limiter::new(1), quota, &[1, 1]);
        assert_eq!(passed, 1);
        assert_eq!(limiter.used(&quota, NOW).collect::<Vec<_>>(), [(1, 1)]);
    });
}

#[test]
fn two_that_enter_at_once_lose_nothing() {
    loom::model(|| {
        let quota = Quota::try_new(2, Period::Day, 1).unwrap();
        let (limiter, passed) = race(Limiter::new(1), quota, &[1, 2]);
        assert_eq!(passed, 2);
        assert_eq!(
            limiter.used(&quota, NOW).map(|(_, used)| used).sum::<u64>(),
            2
        );
    });
}

#[test]
fn who_is_evicted_while_it_takes_leaves_what_it_took() {
    loom::model(|| {
        let quota = Quota::try_new(3, Period::Day, 1).unwrap();
        let limiter = Limiter::new(1);
        for (key, used) in [(1, 1), (2, 3), (3, 3), (4, 3)] {
            limiter.charge(&quota, key, NOW, used);
        }
        // The fifth takes over from the first, which has two left: they share them, whoever comes first.
        let (_, passed) = race(limiter, quota, &[1, 5]);
        assert_eq!(passed, 2);
    });
}
