//! What each policy costs a request, in nanoseconds, on one thread without contention.
//!
//! Time is simulated and moves 10 µs an iteration, as under 100,000 requests a second, so that windows
//! turn over as they do in service.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::clock::Instant;
use tidegate::engine::admission::{Admitted, Completion, Config, Gate};
use tidegate::engine::protection::{Decision, Outcome, Protection, Settings};
use tidegate::policy::concurrency::{self, Adaptive, Totals};
use tidegate::policy::outlier::{self, Detector, EndpointStats};
use tidegate::policy::queue::{self, FairQueue, Request};
use tidegate::policy::rate::{Limiter, Moment, Period, Quota};
use tidegate::policy::{breaker, protect, retry};

const TOOK: Duration = Duration::from_millis(5);

criterion_group!(
    policies,
    breaker,
    gate,
    concurrency,
    protection,
    queue,
    retry,
    rate_limit,
    outlier,
    shedding
);
criterion_main!(policies);

/// Simulated time.
#[derive(Default)]
struct Time(Instant);

impl Time {
    fn next(&mut self) -> Instant {
        self.0 = self.0.after(Duration::from_micros(10));
        self.0
    }
}

fn dice() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

fn request(client: u64) -> Request {
    Request {
        client,
        tier: 1,
        weight: 1,
        cost: TOOK,
        deadline: None,
    }
}

fn breaker(c: &mut Criterion) {
    c.bench_function("breaker: admit and record", |b| {
        let (mut time, mut rng) = (Time::default(), dice());
        let breaker = breaker::Breaker::new(breaker::Config::default(), time.next());
        b.iter(|| {
            let now = time.next();
            let permit = breaker.admit(now, &mut rng);
            if let Ok(permit) = black_box(permit) {
                breaker.record(permit, now, breaker::Outcome::Success(TOOK), &mut rng);
            }
        });
    });
    c.bench_function("breaker: refuse while open", |b| {
        let (mut time, mut rng) = (Time::default(), dice());
        let breaker = breaker::Breaker::new(breaker::Config::default(), time.next());
        let order = breaker::Order {
            position: breaker::Position::Open,
            until: Instant::ZERO.after(Duration::from_secs(1_000_000)),
            reason: "a benchmark".into(),
        };
        breaker.force(order, time.next());
        b.iter(|| black_box(breaker.admit(time.next(), &mut rng).is_err()));
    });
}

fn gate(c: &mut Criterion) {
    c.bench_function("gate: admit and complete", |b| {
        let mut time = Time::default();
        let gate = Arc::new(Gate::new(&Config::default()));
        b.iter(|| {
            let now = time.next();
            if let Admitted::Permit(permit) = black_box(gate.admit(now, &request(1))) {
                permit.complete(now, Completion::Success, TOOK);
            }
        });
    });
    c.bench_function("gate: wait, be let in and complete", |b| {
        let mut time = Time::default();
        let config = Config::try_new(
            tidegate::engine::admission::Mode::Enforce,
            1,
            1,
            queue::Config::default(),
        );
        let gate = Arc::new(Gate::new(&config.unwrap_or_default()));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        b.iter(|| {
            let now = time.next();
            let first = gate.admit(now, &request(1));
            let second = gate.admit(now, &request(2));
            if let (Admitted::Permit(first), Admitted::Queued(mut second)) = (first, second) {
                first.complete(now, Completion::Success, TOOK);
                black_box(second.poll(now, &mut cx).is_ready());
            }
        });
    });
}

fn concurrency(c: &mut Criterion) {
    // Two hundred requests a second in ten slots, looked at every 5 ms; a window closes about every 30 looks.
    c.bench_function("limit: look at what was counted", |b| {
        let mut now = Instant::ZERO;
        let mut adaptive = Adaptive::new(concurrency::Config::default(), now);
        let mut totals = Totals::default();
        b.iter(|| {
            now = now.after(Duration::from_millis(5));
            totals.in_flight = 10;
            totals.started = now.as_nanos().wrapping_sub(25_000_000).wrapping_mul(10);
            totals.completed += 1;
            totals.busy += 50_000_000;
            totals.busy_square += 50_000 * 50_000;
            totals.limited += 5_000_000;
            black_box(adaptive.observe(now, &totals, false))
        });
    });
}

fn protection(c: &mut Criterion) {
    c.bench_function("protection: breaker, limit and controller", |b| {
        let (mut time, mut rng) = (Time::default(), dice());
        let protection = Protection::new(&Settings::default(), time.next());
        b.iter(|| {
            let now = time.next();
            let decision = protection.admit(now, &request(1), &mut rng);
            if let Decision::Admitted(admission) = black_box(decision) {
                protection.complete(admission, now, Outcome::Answered, TOOK, &mut rng);
            }
        });
    });
}

fn queue(c: &mut Criterion) {
    c.bench_function("queue: push and pop behind 100 waiters", |b| {
        let (mut time, mut rng) = (Time::default(), dice());
        let mut queue = FairQueue::new(queue::Config::default());
        for client in 0..100 {
            drop(queue.push(time.next(), &request(client), client));
        }
        b.iter(|| {
            let now = time.next();
            let client = rng.u64(..100);
            drop(black_box(queue.push(now, &request(client), client)));
            black_box(queue.pop(now, |_| false, |_, _| {}))
        });
    });
}

fn retry(c: &mut Criterion) {
    let failed = retry::Request {
        repeatable: true,
        replayable: true,
        answered: false,
        attempts: 1,
        deadline: None,
        usual: TOOK,
    };
    c.bench_function("retry: count a request", |b| {
        let mut time = Time::default();
        let retries = retry::Retries::new(retry::Config::default(), time.next());
        b.iter(|| retries.deposit(time.next()));
    });
    c.bench_function("retry: decide about a failure", |b| {
        let (mut time, mut rng) = (Time::default(), dice());
        let retries = retry::Retries::new(retry::Config::default(), time.next());
        b.iter(|| {
            let failure = retry::Failure::Unavailable;
            black_box(retries.decide(&failed, failure, time.next(), &mut rng))
        });
    });
}

fn outlier(c: &mut Criterion) {
    c.bench_function("outlier: record", |b| {
        let mut time = Time::default();
        let detector = Detector::new(outlier::Config::default(), time.next());
        let endpoint = EndpointStats::default();
        b.iter(|| {
            let now = time.next();
            let outcome = breaker::Outcome::Success(TOOK);
            black_box(detector.record(&endpoint, now, now.after(TOOK), outcome))
        });
    });
}

fn shedding(c: &mut Criterion) {
    c.bench_function("self-protection: admit", |b| {
        let protection = protect::Protection::new(3);
        b.iter(|| black_box(protection.admits(black_box(1)).is_ok()));
    });
}

/// A check of one of 100,000 keys, drawn at random, against governor's map of keys.
fn rate_limit(c: &mut Criterion) {
    const KEYS: u64 = 100_000;
    c.bench_function("rate limit: take", |b| {
        let (limiter, mut time, mut dice) = (Limiter::new(1 << 18), Time::default(), dice());
        let Ok(quota) = Quota::try_new(100, Period::Second, 200) else {
            return;
        };
        b.iter(|| {
            let now = Moment {
                monotonic: time.next(),
                unix: 0,
            };
            limiter.take(&quota, dice.u64(1..=KEYS), now, 1)
        });
    });
    c.bench_function("rate limit: take, by governor", |b| {
        let hundred = NonZeroU32::MIN.saturating_add(99);
        let burst = hundred.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        let quota = governor::Quota::per_second(hundred).allow_burst(burst);
        let limiter = governor::RateLimiter::dashmap_with_clock(
            quota,
            governor::clock::FakeRelativeClock::default(),
        );
        let mut dice = dice();
        b.iter(|| limiter.check_key(&dice.u64(1..=KEYS)).is_ok());
    });
}
