//! One of ten endpoints turns bad for half a minute, behind the production balancer, over 20 seeds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::policy::balance::{Member, Pick, Pool, Slot, Strategy, stand_in};
use tidegate::policy::breaker::Outcome;
use tidegate::policy::outlier::{Config, Decision, Detector, EndpointStats};

use crate::for_each_seed;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SICK: usize = 3;
const FALLS_ILL: Instant = Instant::from_nanos(10_000_000_000);
const HEALS: Instant = Instant::from_nanos(40_000_000_000);
const END: Instant = Instant::from_nanos(75_000_000_000);
/// Requests a second over the whole pool.
const RATE: f64 = 500.0;

const GIVES_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Endpoint {
    slot: Slot,
    stats: EndpointStats,
}

impl AsRef<Slot> for Endpoint {
    fn as_ref(&self) -> &Slot {
        &self.slot
    }
}

/// What is wrong with the sick endpoint.
#[derive(Clone, Copy)]
enum Illness {
    TenTimesSlower,
    FailsHalf,
}

/// A request on its way, ordered by when it ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    ends: Instant,
    began: Instant,
    index: usize,
    failed: bool,
}

struct Run {
    pool: Pool<Endpoint>,
    detector: Detector,
    rng: fastrand::Rng,
    requests: u32,
    errors: u32,
    /// When it was ejected first, and when it came back for the last time.
    ejected: Option<Instant>,
    back: Option<Instant>,
    /// Ejections of endpoints that did nothing wrong.
    wronged: u32,
}

impl Run {
    fn new(seed: u64, strategy: Strategy) -> Self {
        let member = |index: usize| Member {
            endpoint: Arc::<Endpoint>::default(),
            weight: 1.0,
            place: stand_in(&index.to_string()),
        };
        let members = (0..10).map(member).collect();
        Self {
            pool: Pool::new(members, strategy, SECOND * 10),
            detector: Detector::new(Config::default(), Instant::ZERO),
            rng: fastrand::Rng::with_seed(seed),
            requests: 0,
            errors: 0,
            ejected: None,
            back: None,
            wronged: 0,
        }
    }

    /// Requests of 10 ms on average, Poisson arrivals and exponential service.
    fn play(mut self, illness: Illness) -> Self {
        let mut underway = BinaryHeap::new();
        let (mut arrival, mut tick) = (Instant::ZERO, Instant::ZERO.after(SECOND));
        while arrival < END {
            let ends = underway.peek().map(|Reverse(Request { ends, .. })| *ends);
            let next_end = ends.unwrap_or(END);
            if tick <= arrival && tick <= next_end {
                self.evaluate(tick);
                tick = tick.after(SECOND);
            } else if next_end <= arrival {
                if let Some(Reverse(request)) = underway.pop() {
                    self.end(&request);
                }
            } else {
                underway.push(Reverse(self.begin(arrival, illness)));
                let gap = SECOND.mul_f64(self.exponential() / RATE);
                arrival = arrival.after(gap);
            }
        }
        self
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln()
    }

    fn pick(&mut self, now: Instant) -> usize {
        let members = self.pool.members();
        if self.detector.asks_in_doubt(members.len(), &mut self.rng) {
            let in_doubt = members.iter().position(|m| m.endpoint.stats.is_in_doubt());
            if let Some(index) = in_doubt {
                return index;
            }
        }
        let picked = self.pool.pick(Pick {
            now,
            rng: &mut self.rng,
            key: None,
            in_flight: 0,
            excluded: |endpoint: &Endpoint| endpoint.stats.is_out(now),
        });
        picked.unwrap()
    }

    fn begin(&mut self, now: Instant, illness: Illness) -> Request {
        let index = self.pick(now);
        let mut took = MS.mul_f64(10.0 * self.exponential());
        let mut failed = false;
        if index == SICK && (FALLS_ILL..HEALS).contains(&now) {
            match illness {
                Illness::TenTimesSlower => took *= 10,
                Illness::FailsHalf => failed = self.rng.bool(),
            }
        }
        self.pool.members()[index].endpoint.slot.enter(now);
        Request {
            ends: now.after(took),
            began: now,
            index,
            failed,
        }
    }

    fn end(&mut self, request: &Request) {
        let endpoint = Arc::clone(&self.pool.members()[request.index].endpoint);
        endpoint.slot.answered(request.ends);
        endpoint.slot.leave(true);
        self.requests += 1;
        self.errors += u32::from(request.failed);
        let took = request.ends.since(request.began);
        let (outcome, cost) = if request.failed {
            (Outcome::Failure, GIVES_UP)
        } else {
            (Outcome::Success(took), took)
        };
        endpoint.slot.latency().observe(cost, request.ends);
        if self
            .detector
            .record(&endpoint.stats, request.began, request.ends, outcome)
        {
            self.evaluate(request.ends);
        }
    }

    fn evaluate(&mut self, now: Instant) {
        let members = self.pool.members();
        let stats: Vec<_> = members.iter().map(|m| &m.endpoint.stats).collect();
        for decision in self.detector.evaluate(now, &stats) {
            match decision {
                Decision::Ejected { index: SICK, .. } => {
                    self.ejected = self.ejected.or(Some(now));
                    members[SICK].endpoint.slot.set_healthy(false, now);
                }
                Decision::Ejected { .. } => self.wronged += 1,
                Decision::Returned { index } => {
                    // Stands for the slow start that the balancer gives an endpoint coming back.
                    members[index].endpoint.slot.set_healthy(true, now);
                    if index == SICK {
                        self.back = Some(now);
                    }
                }
                Decision::Spared { .. } => {}
            }
        }
    }
}

fn assert_contained(illness: Illness, strategy: Strategy) {
    let runs = for_each_seed(|seed| Run::new(seed, strategy).play(illness));
    for (seed, run) in runs.iter().enumerate() {
        let ejected = run.ejected.unwrap().since(FALLS_ILL);
        assert!(ejected <= SECOND * 5, "seed {seed}: out after {ejected:?}");
        let back = run.back.unwrap().since(HEALS);
        assert!(back <= SECOND * 30, "seed {seed}: back after {back:?}");
        let stats = &run.pool.members()[SICK].endpoint.stats;
        assert!(!stats.is_out(END), "seed {seed}: still out");
        let errors = f64::from(run.errors) / f64::from(run.requests);
        assert!(
            errors <= 0.005,
            "seed {seed}: {errors} failed, without any retry"
        );
        assert_eq!(run.wronged, 0, "seed {seed}");
    }
}

#[test]
fn one_of_ten_that_is_ten_times_slower_is_out_in_time_and_back_in_time() {
    assert_contained(Illness::TenTimesSlower, Strategy::LeastRequest);
}

#[test]
fn so_it_is_behind_a_balancer_that_avoids_what_is_slow() {
    assert_contained(Illness::TenTimesSlower, Strategy::PeakEwma);
}

#[test]
fn one_of_ten_that_fails_half_is_out_in_time_and_back_in_time() {
    assert_contained(Illness::FailsHalf, Strategy::LeastRequest);
}

#[test]
fn so_it_is_behind_a_balancer_that_avoids_what_fails() {
    assert_contained(Illness::FailsHalf, Strategy::PeakEwma);
}
