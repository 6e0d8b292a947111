//! Several policies on one request, in simulated time.

use super::*;
use crate::clock::Instant;

fn at(millis: u64) -> Moment {
    Moment {
        monotonic: Instant::ZERO.after(Duration::from_millis(millis)),
        unix: 1_795_521_600 + millis / 1_000,
    }
}

fn settings(amount: u64, period: Period, cost: Cost) -> Settings {
    let parts = cost.parts();
    Settings {
        mode: Mode::Enforce,
        quota: Quota::try_new(amount * parts, period, amount * parts).unwrap(),
        cost,
        count_cache_hits: false,
        max_keys: 64,
        shared: false,
    }
}

fn applied(limits: &Limits, all: &[(&str, &Settings)]) -> Vec<Arc<Limit>> {
    let names: Vec<Arc<str>> = all.iter().map(|(name, _)| Arc::from(*name)).collect();
    let described = names
        .iter()
        .zip(all)
        .enumerate()
        .map(|(index, (name, (_, settings)))| Described {
            name,
            id: RateLimitId::new(u32::try_from(index).unwrap()),
            per: "client".to_owned(),
            settings: (*settings).clone(),
        });
    limits.apply(described, at(0))
}

fn ask(limits: &[Arc<Limit>], now: Moment) -> (Shares, Vec<Against>) {
    let mut against = Vec::new();
    let shares = Shares::ask(
        limits.iter().map(|limit| (Arc::clone(limit), 7)),
        now,
        |one| {
            against.push(one);
        },
    );
    (shares, against)
}

fn passes(limits: &[Arc<Limit>], now: Moment) -> bool {
    ask(limits, now).0.rejection().is_none()
}

#[test]
fn the_tightest_decides_and_the_others_lose_nothing() {
    let (wide, tight) = (
        settings(10, Period::Hour, Cost::Requests),
        settings(2, Period::Second, Cost::Requests),
    );
    let limits = applied(&Limits::default(), &[("wide", &wide), ("tight", &tight)]);
    assert!(passes(&limits, at(0)) && passes(&limits, at(0)));
    for _ in 0..100 {
        let (shares, against) = ask(&limits, at(0));
        let rejection = shares.rejection().unwrap();
        assert_eq!((rejection.value, rejection.threshold), (3.0, 2.0));
        assert_eq!(rejection.retry_after, Duration::from_millis(500));
        let violated: Vec<&str> = shares
            .violated()
            .map(|share| &**share.limit.name())
            .collect();
        assert_eq!(violated, ["tight"]);
        assert_eq!(against.len(), 1);
        let left: Vec<u64> = shares
            .acting()
            .map(|share| share.standing.remaining)
            .collect();
        assert_eq!(left, [8, 0], "the wide one took nothing");
    }
    let admitted = (1..=200)
        .filter(|second| passes(&limits, at(second * 1_000)))
        .count();
    assert_eq!(admitted, 8, "of ten an hour");
    assert_eq!(limits[1].decisions(Mode::Enforce), (202, 100));
}

#[test]
fn who_only_observes_refuses_nobody_and_says_whom_it_would() {
    let mut watching = settings(1, Period::Hour, Cost::Requests);
    watching.mode = Mode::Observe;
    let limits = applied(&Limits::default(), &[("watching", &watching)]);
    assert!(ask(&limits, at(0)).1.is_empty());
    let (shares, against) = ask(&limits, at(0));
    assert_eq!((shares.rejection(), against[0].mode), (None, Mode::Observe));
    assert_eq!(shares.acting().count(), 0, "nor is it told to clients");
    assert_eq!(limits[0].decisions(Mode::Observe), (1, 1));
    assert_eq!(limits[0].decisions(Mode::Enforce), (0, 0));
}

#[test]
fn what_was_shed_or_came_from_the_cache_costs_nothing() {
    let mut counting = settings(2, Period::Day, Cost::Requests);
    counting.count_cache_hits = true;
    let quota = settings(2, Period::Day, Cost::Requests);
    let limits = applied(
        &Limits::default(),
        &[("quota", &quota), ("counting", &counting)],
    );
    let only = |at: usize| &limits[at..=at];
    for _ in 0..5 {
        ask(&limits, at(0)).0.give_back(at(0));
        let mut shares = ask(only(0), at(0)).0;
        shares.settle(at(0), Spent::default(), true);
        shares.give_back(at(0));
    }
    assert!(passes(&limits, at(0)));
    ask(only(1), at(0)).0.settle(at(0), Spent::default(), true);
    assert!(passes(only(0), at(0)) && !passes(only(0), at(0)));
    assert!(!passes(only(1), at(0)), "hits count here");
}

#[test]
fn time_and_bytes_are_settled_when_they_are_known() {
    let time = settings(2, Period::Second, Cost::UpstreamTime);
    let bytes = settings(1_000, Period::Second, Cost::Bytes);
    let spent = |millis, bytes| Spent {
        time: Duration::from_millis(millis),
        bytes,
    };
    for (settings, spent, unit) in [
        (time, spent(3_000, 0), Unit::Seconds),
        (bytes, spent(0, 1_500), Unit::Bytes),
    ] {
        let limits = applied(&Limits::default(), &[("one", &settings)]);
        let mut first = ask(&limits, at(0)).0;
        assert!(first.rejection().is_none());
        first.settle(at(0), spent, false);
        first.settle(at(0), spent, false);
        let (shares, _) = ask(&limits, at(0));
        let rejection = shares.rejection().unwrap();
        assert_eq!(rejection.unit, unit);
        // One and a half of what a second allows: half a second until anything is left.
        assert!(
            (500..502).contains(&rejection.retry_after.as_millis()),
            "{rejection:?}"
        );
        assert!(!passes(&limits, at(499)) && passes(&limits, at(502)));
    }
}

#[test]
fn a_reload_keeps_what_was_used_until_something_else_is_counted() {
    let registry = Limits::default();
    let mut quota = settings(5, Period::Day, Cost::Requests);
    let mut limits = applied(&registry, &[("quota", &quota)]);
    for _ in 0..4 {
        assert!(passes(&limits, at(0)));
    }
    quota.quota = Quota::try_new(6, Period::Day, 6).unwrap();
    quota.max_keys = 1_024;
    limits = applied(&registry, &[("quota", &quota)]);
    assert!(passes(&limits, at(0)) && passes(&limits, at(0)) && !passes(&limits, at(0)));
    assert_eq!(limits[0].decisions(Mode::Enforce), (6, 1), "counted on");
    quota.quota = Quota::try_new(6, Period::Month, 6).unwrap();
    limits = applied(&registry, &[("quota", &quota)]);
    assert!(passes(&limits, at(0)), "months are not days");
}

#[test]
fn only_what_does_not_come_back_soon_is_kept() {
    let kept = |amount, period| {
        let settings = settings(amount, period, Cost::Requests);
        applied(&Limits::default(), &[("one", &settings)])[0].is_kept()
    };
    assert!(kept(5, Period::Day) && kept(5, Period::Month) && kept(5, Period::Minute));
    assert!(!kept(100, Period::Second));
}

#[test]
fn eight_threads_share_two_quotas_to_the_request() {
    let (one, other) = (
        settings(500, Period::Day, Cost::Requests),
        settings(300, Period::Month, Cost::Requests),
    );
    let limits = applied(&Limits::default(), &[("one", &one), ("other", &other)]);
    let passed: usize = std::thread::scope(|scope| {
        let work = || (0..200).filter(|_| passes(&limits, at(0))).count();
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    assert!((299..=300).contains(&passed), "{passed}");
    let used: Vec<u64> = limits
        .iter()
        .flat_map(|limit| limit.used(at(0)))
        .map(|(_, used)| used)
        .collect();
    assert!(
        used.iter()
            .all(|used| *used == u64::try_from(passed).unwrap()),
        "{used:?}"
    );
}
