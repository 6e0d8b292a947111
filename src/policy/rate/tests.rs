//! Quotas in simulated time, by many keys and many threads.

use std::thread;

use proptest::prelude::*;

use super::*;
use crate::clock::Instant;

const KEY: u64 = 7;

fn quota(amount: u64, period: Period, burst: u64) -> Quota {
    Quota::try_new(amount, period, burst).unwrap()
}

fn at(elapsed: Duration) -> Moment {
    Moment {
        monotonic: Instant::ZERO.after(elapsed),
        // 2026-11-24 12:00:00
        unix: 1_795_521_600 + elapsed.as_secs(),
    }
}

fn millis(millis: u64) -> Moment {
    at(Duration::from_millis(millis))
}

fn passed(limiter: &Limiter, quota: &Quota, now: Moment, asked: u64) -> u64 {
    (0..asked)
        .map(|_| u64::from(limiter.take(quota, KEY, now, 1).passed))
        .sum()
}

#[test]
fn a_burst_passes_at_once_and_then_only_the_rate() {
    let (limiter, quota) = (Limiter::new(16), quota(100, Period::Second, 20));
    assert_eq!(passed(&limiter, &quota, millis(0), 50), 20);
    assert_eq!(passed(&limiter, &quota, millis(9), 50), 0);
    assert_eq!(passed(&limiter, &quota, millis(10), 50), 1);
    assert_eq!(passed(&limiter, &quota, millis(110), 50), 10);
    assert_eq!(passed(&limiter, &quota, millis(10_000), 50), 20);
}

#[test]
fn a_standing_says_what_is_left_and_when_it_is_whole_again() {
    let (limiter, quota) = (Limiter::new(16), quota(10, Period::Second, 5));
    let first = limiter.take(&quota, KEY, millis(0), 2);
    assert!(first.passed);
    assert_eq!(
        (first.remaining, first.reset),
        (3, Duration::from_millis(200))
    );
    assert_eq!(first.retry_after, Some(Duration::ZERO));
    let refused = limiter.take(&quota, KEY, millis(0), 4);
    assert!(!refused.passed);
    assert_eq!(
        (refused.remaining, refused.reset),
        (3, Duration::from_millis(200))
    );
    assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
    assert!(limiter.take(&quota, KEY, millis(100), 4).passed);
    let never = limiter.take(&quota, KEY, millis(0), 6);
    assert_eq!(never.retry_after, None, "more than a burst never passes");
    assert_eq!(limiter.peek(&quota, 8, millis(0)).remaining, 5);
}

#[test]
fn a_day_is_a_day_of_the_calendar() {
    let (limiter, quota) = (Limiter::new(16), quota(10, Period::Day, 1));
    let noon = at(Duration::ZERO);
    assert_eq!(passed(&limiter, &quota, noon, 15), 10, "and has no burst");
    let standing = limiter.take(&quota, KEY, noon, 1);
    assert_eq!(standing.retry_after, Some(Duration::from_secs(12 * 3_600)));
    assert_eq!(standing.remaining, 0);
    assert_eq!(
        passed(&limiter, &quota, at(Duration::from_secs(43_199)), 15),
        0
    );
    assert_eq!(
        passed(&limiter, &quota, at(Duration::from_secs(43_200)), 15),
        10
    );
}

#[test]
fn what_was_used_comes_off_the_month_after_the_day() {
    let (limiter, quota) = (Limiter::new(16), quota(10, Period::Month, 1));
    assert_eq!(passed(&limiter, &quota, at(Duration::ZERO), 15), 10);
    let december = Duration::from_secs(6 * 86_400 + 43_200);
    assert_eq!(
        passed(&limiter, &quota, at(december - Duration::from_secs(1)), 15),
        0
    );
    assert_eq!(passed(&limiter, &quota, at(december), 15), 10);
}

#[test]
fn a_debt_is_paid_off_before_anything_passes() {
    let (limiter, quota) = (Limiter::new(16), quota(100, Period::Second, 10));
    assert!(limiter.peek(&quota, KEY, millis(0)).passed);
    limiter.charge(&quota, KEY, millis(0), 110);
    let standing = limiter.peek(&quota, KEY, millis(0));
    assert!(!standing.passed);
    assert_eq!(standing.retry_after, Some(Duration::from_millis(1_010)));
    assert!(!limiter.peek(&quota, KEY, millis(1_009)).passed);
    assert!(limiter.peek(&quota, KEY, millis(1_010)).passed);
}

#[test]
fn a_refund_gives_back_and_never_more_than_was_taken() {
    for period in [Period::Hour, Period::Day] {
        let (limiter, quota) = (Limiter::new(16), quota(5, period, 5));
        assert_eq!(passed(&limiter, &quota, millis(0), 9), 5);
        limiter.refund(&quota, KEY, millis(0), 2);
        assert_eq!(passed(&limiter, &quota, millis(0), 9), 2);
        limiter.refund(&quota, KEY, millis(0), 100);
        assert_eq!(passed(&limiter, &quota, millis(0), 9), 5);
    }
}

#[test]
fn an_evicted_key_gets_no_gift() {
    for period in [Period::Hour, Period::Day] {
        // One set: the fifth key of a limiter for four evicts somebody.
        let (limiter, quota) = (Limiter::new(4), quota(10, period, 10));
        for key in 1..=4 {
            for _ in 0..10 {
                assert!(limiter.take(&quota, key, millis(0), 1).passed);
            }
        }
        for key in 1..=1_000 {
            assert!(!limiter.take(&quota, key, millis(0), 1).passed, "{key}");
        }
        assert!(limiter.evictions() > 0);
    }
}

#[test]
fn what_was_used_survives_being_kept_and_put_back() {
    for period in [Period::Minute, Period::Day] {
        let quota = quota(100, period, 100);
        let before = Limiter::new(16);
        assert_eq!(passed(&before, &quota, millis(0), 30), 30);
        let kept: Vec<_> = before.used(&quota, millis(0)).collect();
        let after = Limiter::new(16);
        for (key, used) in kept {
            after.restore(&quota, key, millis(0), used);
            after.restore(&quota, key, millis(0), used);
        }
        assert_eq!(passed(&after, &quota, millis(0), 200), 70);
    }
}

#[test]
fn a_changed_quota_goes_by_what_was_used_before() {
    let limiter = Limiter::new(16);
    assert_eq!(
        passed(&limiter, &quota(10, Period::Day, 1), millis(0), 20),
        10
    );
    assert_eq!(
        passed(&limiter, &quota(15, Period::Day, 1), millis(0), 20),
        5
    );
}

#[test]
fn quotas_of_nothing_or_beyond_counting_are_refused() {
    for (amount, burst) in [(0, 1), (1, 0), (u64::MAX, 1), (1, u64::MAX)] {
        assert!(Quota::try_new(amount, Period::Second, burst).is_err());
    }
    assert_eq!(
        Quota::try_new(1, Period::Hour, MOST),
        Err(Invalid),
        "takes 10^9 years"
    );
    let limiter = Limiter::new(4);
    let slowest = quota(1, Period::Hour, 1_000);
    limiter.charge(&slowest, KEY, millis(0), u64::MAX);
    assert!(!limiter.take(&slowest, KEY, millis(0), u64::MAX).passed);
}

#[test]
fn eight_threads_never_pass_more_than_the_quota_nor_less() {
    const KEYS: usize = 3;
    let (limiter, quota) = (Limiter::new(4), quota(1_000, Period::Second, 100));
    let mut total = [0; KEYS];
    for now in (0..1_000).step_by(50).map(millis) {
        let counts = thread::scope(|scope| {
            let work = || {
                [1, 2, 3].map(|key| {
                    (0..200)
                        .map(|_| u64::from(limiter.take(&quota, key, now, 1).passed))
                        .sum::<u64>()
                })
            };
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            let counts = workers.into_iter().map(|worker| worker.join().unwrap());
            counts.collect::<Vec<_>>()
        });
        for count in counts {
            total
                .iter_mut()
                .zip(count)
                .for_each(|(total, passed)| *total += passed);
        }
    }
    assert_eq!(total, [100 + 950; KEYS]);
}

#[test]
fn eight_threads_of_more_keys_than_there_is_room_give_no_gift() {
    let (limiter, quota) = (Limiter::new(8), quota(10, Period::Day, 1));
    let passed: u64 = thread::scope(|scope| {
        let work = |thread: u64| {
            let (limiter, quota) = (&limiter, &quota);
            move || {
                let keys =
                    (0..20_000).map(|round| fastrand::Rng::with_seed(round * 8 + thread).u64(..64));
                keys.map(|key| u64::from(limiter.take(quota, key, millis(0), 1).passed))
                    .sum::<u64>()
            }
        };
        let workers: Vec<_> = (0..8).map(|thread| scope.spawn(work(thread))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    // Whatever way a key is in, nothing in it passes beyond its quota.
    assert!(passed <= 8 * 10, "{passed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// In any window the admitted count is within burst + rate x length, and one whose demand never ends gets
    /// that to within 1 %.
    #[test]
    fn any_window_is_within_the_quota(
        amount in 1_u64..5_000,
        burst in 1_u64..500,
        gaps in prop::collection::vec(0_u64..40_000, 1..40),
    ) {
        let (limiter, quota) = (Limiter::new(4), quota(amount, Period::Minute, burst));
        let mut now = 0_u64;
        let mut admitted = Vec::new();
        for gap in gaps {
            now += gap;
            for _ in 0..60 {
                if limiter.take(&quota, KEY, millis(now), 1).passed {
                    admitted.push(now);
                }
            }
        }
        for (first, start) in admitted.iter().enumerate() {
            for (last, end) in admitted.iter().enumerate().skip(first) {
                let count = u64::try_from(last - first + 1).unwrap();
                let most = amount * (end - start) / 60_000 + burst + 1;
                prop_assert!(count <= most, "{count} of {most} in {} ms", end - start);
            }
        }
    }

    #[test]
    fn constant_demand_gets_its_quota(amount in 100_u64..1_000, burst in 1_u64..500) {
        let (limiter, quota) = (Limiter::new(4), quota(amount, Period::Minute, burst));
        // Two hundred times the quota for two minutes: without a burst what is late for its turn is late by a step,
        // and nothing makes up for it.
        let step = 60_000_000 / (amount * 200);
        let steps = 120_000_000 / step;
        let admitted: u64 = (0..steps)
            .map(|at_step| {
                let now = at(Duration::from_micros(at_step * step));
                u64::from(limiter.take(&quota, KEY, now, 1).passed)
            })
            .sum();
        prop_assert!(admitted <= amount * 2 + burst + 1);
        prop_assert!(admitted * 100 >= amount * 2 * 99, "{admitted} of {}", amount * 2);
    }
}
