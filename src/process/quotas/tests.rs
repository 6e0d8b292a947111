//! What is written comes back as far as it still counts, and nothing that is damaged does.

use super::*;
use crate::clock::Instant;
use crate::engine::circuit::Mode;
use crate::engine::rate::{Cost, Described, Limits, Period, Quota, Settings, Shares};
use crate::model::RateLimitId;

/// 2026-11-24 12:00:00, and so many seconds.
fn at(seconds: u64) -> Moment {
    Moment {
        monotonic: Instant::ZERO.after(Duration::from_secs(seconds)),
        unix: 1_795_521_600 + seconds,
    }
}

fn limits(per: &str) -> Vec<Arc<Limit>> {
    let all = [("day", Period::Day), ("hour", Period::Hour)];
    let names = all.map(|(name, _)| Arc::from(name));
    let described = names.iter().zip(all).map(|(name, (_, period))| Described {
        name,
        id: RateLimitId::new(0),
        per: per.to_owned(),
        settings: Settings {
            mode: Mode::Enforce,
            quota: Quota::try_new(3_600, period, 3_600).unwrap(),
            cost: Cost::Requests,
            count_cache_hits: false,
            max_keys: 64,
            shared: false,
        },
    });
    Limits::default().apply(described, at(0))
}

fn take(limits: &[Arc<Limit>], key: u64, times: usize) {
    for _ in 0..times {
        Shares::ask(
            limits.iter().map(|limit| (Arc::clone(limit), key)),
            at(0),
            |_| {},
        );
    }
}

/// What each limit says is used, in its units.
fn used(limits: &[Arc<Limit>], now: Moment) -> Vec<Vec<(u64, u64)>> {
    let scale = |limit: &Limit, used| {
        if limit.settings().quota.is_calendar() {
            used
        } else {
            used / 1_000_000_000
        }
    };
    let all = limits.iter().map(|limit| {
        let mut keys: Vec<_> = limit
            .used(now)
            .map(|(key, used)| (key, scale(limit, used)))
            .collect();
        keys.sort_unstable();
        keys
    });
    all.collect()
}

#[test]
fn what_is_kept_counts_on_as_far_as_its_time_has_not_passed() {
    let before = limits("client");
    take(&before, 1, 5);
    take(&before, 2, 30);
    let kept = encode(&before, at(0));
    for (seconds, day, hour) in [
        (0, vec![(1, 5), (2, 30)], vec![(1, 5), (2, 30)]),
        // One comes back each second.
        (10, vec![(1, 5), (2, 30)], vec![(2, 20)]),
        (43_200, vec![], vec![]),
    ] {
        let after = limits("client");
        decode(&kept, &after, at(seconds)).unwrap();
        assert_eq!(used(&after, at(seconds)), [day, hour], "{seconds} s later");
    }
    let other = limits("address");
    decode(&kept, &other, at(0)).unwrap();
    assert_eq!(
        used(&other, at(0)),
        [vec![], vec![]],
        "other keys mean others"
    );
}

#[test]
fn no_damaged_file_is_taken_for_a_quota() {
    let before = limits("client");
    take(&before, 1, 5);
    let kept = encode(&before, at(0));
    for length in 0..kept.len() {
        assert!(decode(&kept[..length], &before, at(0)).is_none());
    }
    for place in 0..kept.len() {
        let mut damaged = kept.clone();
        damaged[place] ^= 1;
        assert!(
            decode(&damaged, &limits("client"), at(0)).is_none(),
            "{place}"
        );
    }
    // Nor one that is whole and says nonsense.
    let mut nonsense = [MAGIC, &[255; 40]].concat();
    nonsense.extend_from_slice(digest(&SHA256, &nonsense.clone()).as_ref());
    assert!(decode(&nonsense, &before, at(0)).is_none());
}
