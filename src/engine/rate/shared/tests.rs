//! Fleets in simulated time: the server between them is a map that does what the script does.

use std::collections::HashMap;

use super::super::{Cost, Described, Limits, Mode, Period, Settings};
use super::*;
use crate::clock::Instant;
use crate::model::RateLimitId;

/// Who asks for everything here.
const KEY: u64 = 7;

fn at(millis: u64) -> Moment {
    Moment {
        monotonic: Instant::ZERO.after(Duration::from_millis(millis)),
        unix: 1_795_521_600 + millis / 1_000,
    }
}

/// What is known of each key where all meet: an instant, or a count.
#[derive(Default)]
struct Server(HashMap<u64, i64>);

impl Server {
    fn told(&mut self, calendar: bool, report: &Report, now: Moment) -> u64 {
        let ahead = if calendar { 0 } else { nanos(now) };
        let used = match self.0.get(&report.key) {
            Some(known) => (known - ahead).max(0) + report.change,
            None => i64::try_from(report.used).unwrap(),
        };
        let used = used.max(0);
        self.0.insert(report.key, ahead + used);
        u64::try_from(used).unwrap()
    }
}

fn nanos(now: Moment) -> i64 {
    i64::try_from(now.monotonic.as_nanos()).unwrap()
}

/// Processes under one quota.
struct World {
    processes: Vec<(Limits, Arc<Limit>)>,
    server: Server,
}

impl World {
    fn new(count: u32, quota: Quota) -> Self {
        let name = Arc::from("one");
        let process = |_| {
            let limits = Limits::default();
            let described = Described {
                name: &name,
                id: RateLimitId::new(0),
                per: "client".to_owned(),
                settings: Settings {
                    mode: Mode::Enforce,
                    quota,
                    cost: Cost::Requests,
                    count_cache_hits: false,
                    max_keys: 64,
                    shared: true,
                },
            };
            let limit = limits.apply(std::iter::once(described), at(0)).remove(0);
            limits.fleet().set_processes(count);
            (limits, limit)
        };
        Self {
            processes: (0..count).map(process).collect(),
            server: Server::default(),
        }
    }

    fn asks(&self, process: usize, now: Moment) -> bool {
        self.processes[process].1.ask(KEY, now).passed
    }

    fn meets(&mut self, process: usize, now: Moment) {
        let limit = &self.processes[process].1;
        for report in limit.report(now) {
            let calendar = limit.settings().quota.is_calendar();
            let used = self.server.told(calendar, &report, now);
            limit.learn(report.key, now, used);
        }
    }

    /// Lets `seconds` pass in which each process is asked `rate` times a second on average; how many passed.
    fn run(&mut self, from: u64, seconds: u64, rate: u64, rng: &mut fastrand::Rng) -> u64 {
        let count = self.processes.len();
        let mut passed = 0;
        for millis in from..from + seconds * 1_000 {
            for process in 0..count {
                if rng.u64(..1_000) < rate {
                    passed += u64::from(self.asks(process, at(millis)));
                }
                // They do not meet all at once.
                if millis % 100 == (process as u64 * 37) % 100 {
                    self.meets(process, at(millis));
                }
            }
        }
        passed
    }
}

#[test]
fn a_fleet_lets_pass_what_one_process_would_and_less_than_a_burst_more() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        for (count, amount, burst) in [(2, 100, 100), (5, 100, 20), (5, 10, 1), (16, 50, 100)] {
            let quota = Quota::try_new(amount, Period::Second, burst).unwrap();
            let mut world = World::new(count, quota);
            let passed = world.run(0, 20, 200, &mut rng);
            let (due, more) = (20 * amount + burst, burst + u64::from(count));
            let range = due * 95 / 100..due + more;
            assert!(
                range.contains(&passed),
                "{count} {amount}/{burst}: {passed}"
            );
            // What was too much is paid off: over the next time nothing is.
            let passed = world.run(20_000, 20, 200, &mut rng);
            let range = 20 * amount * 97 / 100..=20 * amount + u64::from(count);
            assert!(
                range.contains(&passed),
                "{count} {amount}/{burst}: {passed}"
            );
        }
    }
}

#[test]
fn a_burst_is_left_to_who_asks_for_it_and_is_everybodys() {
    let quota = Quota::try_new(10, Period::Hour, 10).unwrap();
    let mut world = World::new(2, quota);
    let passed = |world: &World, process| (0..20).filter(|_| world.asks(process, at(0))).count();
    // At once no more than its part; after it was told, a part of the rest.
    assert_eq!(passed(&world, 0), 5);
    world.meets(0, at(100));
    assert_eq!(passed(&world, 0), 2);
    world.meets(0, at(200));
    // The other has heard nothing yet; then both know.
    assert!(world.asks(1, at(200)));
    world.meets(1, at(200));
    assert_eq!(passed(&world, 1), 1);
    world.meets(1, at(300));
    assert_eq!(passed(&world, 1), 1);
    world.meets(1, at(400));
    assert_eq!(passed(&world, 1), 0, "all ten are gone");
    assert_eq!(passed(&world, 0), 1, "of what it knows, three are left");
    world.meets(0, at(500));
    assert_eq!(passed(&world, 0), 0);
}

#[test]
fn what_is_given_back_is_everybodys_again() {
    let quota = Quota::try_new(4, Period::Day, 4).unwrap();
    let mut world = World::new(2, quota);
    assert!(world.asks(0, at(0)));
    assert!(world.asks(0, at(0)));
    world.meets(0, at(0));
    world.processes[0].1.give_back(KEY, at(50));
    world.meets(0, at(100));
    assert!(world.asks(1, at(100)));
    world.meets(1, at(100));
    let used = |process: usize| {
        let (key, used) = world.processes[process].1.used(at(200)).next().unwrap();
        assert_eq!(key, KEY);
        used
    };
    assert_eq!((used(1), used(0)), (2, 1));
}

#[test]
fn while_nobody_can_be_told_each_goes_by_its_part() {
    let mut rng = fastrand::Rng::with_seed(1);
    let quota = Quota::try_new(100, Period::Second, 20).unwrap();
    let mut world = World::new(4, quota);
    for (limits, _) in &world.processes {
        limits.fleet().set_away(true);
    }
    let passed: usize = (0..4)
        .map(|process| {
            let mut times = 0..10_000_u64;
            times
                .by_ref()
                .filter(|millis| world.asks(process, at(*millis)))
                .count()
        })
        .sum();
    assert!((980..=1_025).contains(&passed), "{passed}");
    // Nothing of it is told later: it has come back by itself.
    assert!(world.processes[0].1.report(at(10_000)).is_empty());
    for (limits, _) in &world.processes {
        limits.fleet().set_away(false);
    }
    let passed = world.run(10_000, 10, 200, &mut rng);
    assert!((960..=1_044).contains(&passed), "{passed}");
}

#[test]
fn a_calendars_count_that_could_not_be_told_is_told_later() {
    let quota = Quota::try_new(100, Period::Day, 100).unwrap();
    let mut world = World::new(2, quota);
    (0..10).for_each(|_| assert!(world.asks(0, at(0))));
    let limit = Arc::clone(&world.processes[0].1);
    let reports = limit.report(at(50));
    limit.unreported(&reports);
    world.processes[0].0.fleet().set_away(true);
    let passed = (0..100).filter(|_| world.asks(0, at(60))).count();
    assert_eq!(passed, 40, "half of what was left when it was told last");
    world.processes[0].0.fleet().set_away(false);
    world.meets(0, at(100));
    assert!(world.asks(1, at(100)));
    world.meets(1, at(100));
    let used: Vec<_> = world.processes[1].1.used(at(100)).collect();
    assert_eq!(used, [(KEY, 51)]);
}
