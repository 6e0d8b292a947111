use std::time::Duration;

use super::*;
use crate::model::{ClientId, Outcome, Phase, Phases, Reason, RouteId};
use crate::observe::tables::tests::answered;

const UPSTREAM: UpstreamId = UpstreamId::new(2);
const TEN: usize = 10;

/// Accounts in simulated time: ten steps a second.
struct World {
    accounts: Accounts,
    now: Instant,
    sample: Sample,
    throttles: Vec<Throttle>,
    targets: u64,
}

impl World {
    fn new() -> Self {
        Self {
            accounts: Accounts::new(Instant::ZERO),
            now: Instant::ZERO,
            sample: Sample::default(),
            throttles: Vec::new(),
            targets: 100,
        }
    }

    fn saturated(throttles: bool) -> Sample {
        Sample {
            limit: 20,
            in_flight: 20,
            waiting: 5,
            throttles,
        }
    }

    fn wall(&self) -> u64 {
        1_790_000_000_000_000 + self.now.as_nanos() / 1_000
    }

    fn step(&mut self) {
        self.now = self.now.after(Duration::from_millis(100));
        let samples = [(UPSTREAM, self.sample)];
        let throttles = self.accounts.tick(self.now, self.wall(), &samples);
        self.throttles.extend(throttles);
    }

    /// Goes on for so many tenths of a second, in each of which `each` happens.
    fn run(&mut self, tenths: usize, mut each: impl FnMut(&mut Self)) {
        for _ in 0..tenths {
            each(self);
            self.step();
        }
    }

    /// A request for something new, unless its habit is what matters.
    fn fold(&mut self, client: u64, exchange: &Exchange) {
        self.targets += 1;
        let habitual = exchange.validator > 0 || exchange.retry_after > 0;
        let target = if habitual { 5 } else { self.targets };
        let exchange = Exchange {
            client: ClientId::new(client),
            started: self.wall(),
            target,
            ..*exchange
        };
        self.accounts
            .fold(&exchange, &format!("c{client}"), self.now);
    }

    fn report(&self) -> Report {
        self.accounts.reports().remove(0)
    }

    fn flags_of(&self, client: u64) -> Vec<Kind> {
        let report = self.report();
        let of = report.clients.iter();
        let mut of = of.filter(|one| one.id == ClientId::new(client));
        let flags = of.next().map(|one| one.flags.clone()).unwrap_or_default();
        flags.iter().map(|flag| flag.kind).collect()
    }
}

/// An answer that held the upstream for so many milliseconds.
fn took(millis: u64) -> Exchange {
    let mut phases = Phases::default();
    phases.add(Phase::Wait, Duration::from_millis(millis));
    Exchange {
        phases,
        ..answered()
    }
}

fn refused() -> Exchange {
    Exchange {
        status: 503,
        upstream_status: None,
        outcome: Outcome::Refused,
        reason: Some(Reason::QueueFull),
        attempts: 0,
        phases: Phases::default(),
        ..answered()
    }
}

fn total(series: &Series) -> Sums {
    let mut sums: Sums = series.clients.values().map(|(sums, _)| sums).sum();
    sums += &series.other.0;
    sums
}

#[test]
fn the_labels_sum_to_the_total_at_every_look_and_the_others_never_go_back() {
    let mut world = World::new();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut exact = Sums::default();
    let mut before: Option<Series> = None;
    for round in 0..60_u64 {
        world.run(TEN, |world| {
            for _ in 0..500 {
                // Who is heavy changes all the time.
                let heavy = 50 * (round / 3) + rng.u64(..100);
                let client = if rng.bool() {
                    heavy
                } else {
                    rng.u64(..100_000)
                };
                let mut exchange = if rng.u8(..) < 20 { refused() } else { took(1) };
                exchange.attempts *= 1 + rng.u8(..2);
                exact.count(
                    &exchange,
                    u64::try_from(exchange.upstream_time().as_nanos()).unwrap(),
                );
                world.fold(client, &exchange);
            }
        });
        let series = world.accounts.series().remove(0);
        assert_eq!(total(&series), exact);
        assert_eq!(world.report().total, exact);
        assert!(series.clients.len() <= account::SHOWN);
        if let Some(before) = &before {
            let (was, is) = (&before.other.0, &series.other.0);
            assert!(is.requests() >= was.requests() && is.bytes_out >= was.bytes_out);
            assert!(is.upstream_nanos >= was.upstream_nanos);
        }
        before = Some(series);
    }
    assert!(before.is_some_and(|series| series.clients.len() == account::SHOWN));
}

#[test]
fn of_a_hundred_thousand_clients_the_heaviest_hundred_are_shown() {
    let mut world = World::new();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut exact = vec![0_u64; 100_000];
    // Zipf's law with exponent 1.1.
    let mut sum = 0.0;
    let ranks = (1..=100_000_u32).map(|rank| {
        sum += f64::from(rank).powf(-1.1);
        sum
    });
    let ranks: Vec<f64> = ranks.collect();
    world.run(300, |world| {
        for _ in 0..1_000 {
            let drawn = rng.f64() * sum;
            let client = ranks.partition_point(|rank| *rank < drawn);
            exact[client] += 1;
            world.fold(client as u64, &took(5));
        }
    });
    let series = world.accounts.series().remove(0);
    let mut ranked: Vec<usize> = (0..exact.len()).collect();
    ranked.sort_by_key(|client| std::cmp::Reverse(exact[*client]));
    let shown = |client: &&usize| series.clients.contains_key(&format!("c{client}"));
    let found = ranked.iter().take(100).filter(shown).count();
    assert!(found >= 99, "{found}");
    for one in &world.report().clients {
        let client = usize::try_from(one.id.hash()).unwrap();
        let millis = exact[client] * 5;
        let counted = one.sums.upstream_nanos / 1_000_000;
        let most = counted + u64::try_from(one.untold.as_millis()).unwrap() + 1;
        assert!(
            (counted..=most).contains(&millis),
            "{client}: {counted} {millis} {most}"
        );
    }
}

#[test]
fn a_returning_client_begins_anew_and_is_not_counted_twice() {
    let mut world = World::new();
    world.run(TEN, |world| world.fold(7, &took(50)));
    // Others push it out of what is shown, and out of the counters.
    world.run(200, |world| {
        for client in 1_000..3_000 {
            world.fold(client, &took(60));
        }
    });
    assert!(!world.accounts.series()[0].clients.contains_key("c7"));
    world.run(300, |world| {
        for _ in 0..100 {
            world.fold(7, &took(1_000));
        }
    });
    let series = world.accounts.series().remove(0);
    let (sums, _) = series.clients["c7"];
    assert!(sums.requests() <= 30_000, "{sums:?}");
    assert_eq!(total(&series), world.report().total);
    assert_eq!(total(&series).requests(), 10 + 200 * 2_000 + 300 * 100);
}

/// Ten clients in peace, and one that wants most of the upstream while it is saturated.
fn flood(world: &mut World, tenths: usize) {
    world.run(tenths, |world| {
        for client in 1..=10 {
            world.fold(client, &took(60));
        }
        for _ in 0..10 {
            world.fold(99, &took(60));
            for _ in 0..3 {
                world.fold(99, &refused());
            }
        }
    });
}

#[test]
fn a_flood_is_noisy_within_six_seconds_and_its_victims_are_not() {
    let mut world = World::new();
    world.run(50, |world| {
        for client in 1..=10 {
            world.fold(client, &took(60));
        }
    });
    world.sample = World::saturated(false);
    flood(&mut world, 60);
    assert_eq!(world.flags_of(99), [Kind::Noisy]);
    for client in 1..=10 {
        assert_eq!(world.flags_of(client), []);
    }
    let report = world.report();
    assert_eq!(
        report.clients[0].id,
        ClientId::new(99),
        "the heaviest is first"
    );
    assert_eq!(report.clients[0].routes, [RouteId::new(1)]);
    // It is said for ten seconds more.
    world.sample = Sample::default();
    world.run(80, |_| {});
    assert_eq!(world.flags_of(99), [Kind::Noisy]);
    world.run(30, |_| {});
    assert_eq!(world.flags_of(99), []);
}

#[test]
fn without_saturation_nobody_is_noisy_and_alone_one_has_its_share() {
    let mut world = World::new();
    flood(&mut world, 100);
    assert_eq!(world.flags_of(99), []);
    let mut world = World::new();
    world.sample = World::saturated(false);
    world.run(100, |world| {
        for _ in 0..10 {
            world.fold(99, &took(60));
        }
    });
    assert_eq!(world.flags_of(99), []);
}

#[test]
fn clients_that_flood_alike_are_alike() {
    let mut world = World::new();
    world.sample = World::saturated(false);
    world.run(100, |world| {
        for client in 1..=4 {
            world.fold(client, &took(400));
            world.fold(client, &refused());
        }
    });
    for client in 1..=4 {
        assert_eq!(world.flags_of(client), []);
    }
    assert!(world.report().fairness.is_some_and(|index| index > 0.99));
}

#[test]
fn a_weight_is_a_larger_share() {
    let mut world = World::new();
    world.accounts.set_known(vec![KnownClient {
        name: "c99".into(),
        weight: 30.0,
        declared: None,
    }]);
    world.sample = World::saturated(false);
    flood(&mut world, 100);
    assert_eq!(world.flags_of(99), []);
}

#[test]
fn a_throttled_client_stays_so_while_it_would_fill_the_upstream_again() {
    let mut world = World::new();
    world.sample = World::saturated(true);
    flood(&mut world, 60);
    let (upstream, throttled) = world.throttles.last().cloned().unwrap();
    assert_eq!(upstream, UPSTREAM);
    assert_eq!(throttled.len(), 1);
    assert_eq!((throttled[0].client, throttled[0].slots), (99, 1));
    // Held to its share it saturates nothing any more, and goes on.
    world.sample = Sample {
        in_flight: 8,
        waiting: 0,
        ..World::saturated(true)
    };
    world.run(300, |world| {
        for client in 1..=10 {
            world.fold(client, &took(60));
        }
        world.fold(99, &took(60));
        for _ in 0..40 {
            world.fold(99, &refused());
        }
    });
    assert_eq!(world.throttles.last().unwrap().1.len(), 1);
    assert_eq!(world.flags_of(99), [Kind::Noisy]);
    // It gives up: it is let go.
    world.run(200, |world| {
        for client in 1..=10 {
            world.fold(client, &took(60));
        }
        world.fold(99, &took(60));
    });
    assert_eq!(world.throttles.last().unwrap().1, []);
    assert_eq!(world.flags_of(99), []);
}

#[test]
fn a_known_client_is_held_to_what_it_declared_over_all_upstreams() {
    let mut world = World::new();
    let known = |requests, seconds| KnownClient {
        name: "c5".into(),
        weight: 1.0,
        declared: Some(Declared { requests, seconds }),
    };
    world.accounts.set_known(vec![known(15.0, 1)]);
    let both = |world: &mut World| {
        world.fold(5, &took(1));
        let elsewhere = Exchange {
            upstream: Some(UpstreamId::new(3)),
            ..took(1)
        };
        world.fold(5, &elsewhere);
    };
    world.run(300, both);
    assert_eq!(world.flags_of(5), [Kind::OverDeclared]);
    world.accounts.set_known(vec![known(25.0, 1)]);
    world.run(300, both);
    assert_eq!(world.flags_of(5), []);
    // A minute of silence makes up for one of haste where so much a minute was declared.
    world.accounts.set_known(vec![known(1_300.0, 60)]);
    world.run(600, both);
    assert_eq!(world.flags_of(5), []);
    world.accounts.set_known(vec![known(1_000.0, 60)]);
    world.run(100, both);
    assert_eq!(world.flags_of(5), [Kind::OverDeclared]);
}

#[test]
fn habits_are_told_with_their_numbers() {
    let mut world = World::new();
    world.run(600, |world| {
        let poll = Exchange {
            validator: 7,
            ..took(1)
        };
        world.fold(1, &poll);
        world.fold(
            2,
            &Exchange {
                conditional: true,
                ..poll
            },
        );
        let told = Exchange {
            retry_after: 2,
            ..refused()
        };
        world.fold(3, &told);
    });
    assert_eq!(world.flags_of(1), [Kind::Polling]);
    assert_eq!(world.flags_of(2), []);
    let flags = world.flags_of(3);
    assert!(flags.contains(&Kind::IgnoresRetryAfter), "{flags:?}");
}

#[test]
fn a_day_of_reports_in_the_peak_is_borrowing() {
    let mut accounts = Accounts::new(Instant::ZERO);
    let start = 1_790_000_000 / 86_400 * 86_400_000_000_u64;
    let mut kinds = Vec::new();
    for minute in 0..1_000_u64 {
        let now = Instant::ZERO.after(Duration::from_mins(minute));
        let wall = start + minute * 60_000_000;
        accounts.tick(now, wall, &[]);
        let busy = (700..760).contains(&minute);
        for client in 0..20 {
            let exchange = Exchange {
                client: ClientId::new(client),
                ..took(if busy { 3_000 } else { 1_000 })
            };
            accounts.fold(&exchange, "a", now);
        }
        if busy {
            let exchange = Exchange {
                client: ClientId::new(77),
                ..took(6_000)
            };
            accounts.fold(&exchange, "reports", now);
        }
        let report = accounts.reports().remove(0);
        let said = report.clients.iter().flat_map(|one| {
            let kinds = one.flags.iter().map(|flag| flag.kind);
            kinds.map(|kind| (one.id.hash(), kind))
        });
        kinds.extend(said);
    }
    kinds.dedup();
    assert_eq!(kinds, [(77, Kind::Borrowing)]);
    let report = accounts.reports().remove(0);
    let reports = report.clients.iter().find(|one| one.name == "reports");
    let part = reports.and_then(|one| one.peak).unwrap();
    assert!(part.score > 5.0, "{part:?}");
    let series = accounts.series().remove(0);
    let shares: f64 = series
        .clients
        .values()
        .filter_map(|(_, share)| *share)
        .sum();
    let rest = series.other.1.unwrap();
    assert!((shares + rest - 1.0).abs() < 1e-6, "{shares} {rest}");
}

#[test]
fn labels_hold_no_addresses() {
    let id = ClientId::new(0x0123_4567_89ab_cdef);
    for address in [
        "10.0.0.1",
        "2001:db8::/64",
        "::1",
        "10.0.0.0/24",
        "unknown",
        "",
    ] {
        assert_eq!(label(id, address), "addr:0123456789ab");
    }
    assert_eq!(label(id, "reports"), "reports");
}

#[test]
fn upstreams_beyond_the_bound_share_an_account() {
    let mut accounts = Accounts::new(Instant::ZERO);
    for upstream in 0..400 {
        let exchange = Exchange {
            upstream: Some(UpstreamId::new(upstream)),
            ..answered()
        };
        accounts.fold(&exchange, "a", Instant::ZERO);
    }
    let nowhere = Exchange {
        upstream: None,
        ..answered()
    };
    accounts.fold(&nowhere, "a", Instant::ZERO);
    let reports = accounts.reports();
    assert_eq!(reports.len(), 1 + MAX_ACCOUNTS);
    assert_eq!(reports[0].of, Standing::NoUpstream);
    let last = &reports[MAX_ACCOUNTS];
    assert_eq!(last.of, Standing::Others);
    let all: u64 = reports.iter().map(|report| report.total.requests()).sum();
    assert_eq!(all, 401);
}
