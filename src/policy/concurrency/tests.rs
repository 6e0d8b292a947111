//! Each rule of the limit by hand: snapshots of an upstream that was not there.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what is made up here is small and positive"
)]

use super::*;

/// An upstream whose completions, latency and waiters are made up.
struct Made {
    totals: Totals,
    now: Instant,
    adaptive: Adaptive,
}

/// What happens from now on.
#[derive(Clone, Copy)]
struct Course {
    /// Completions and failures a second.
    completed: f64,
    failed: f64,
    latency: Duration,
    /// The share of time in which somebody waits.
    limited: f64,
}

const STEP: Duration = Duration::from_millis(10);

fn course(completed: f64, millis: u64, limited: f64) -> Course {
    Course {
        completed,
        failed: 0.0,
        latency: Duration::from_millis(millis),
        limited,
    }
}

impl Made {
    fn new() -> Self {
        let now = Instant::ZERO;
        Self {
            totals: Totals::default(),
            now,
            adaptive: Adaptive::new(Config::default(), now),
        }
    }

    fn limit(&self) -> f64 {
        self.adaptive.report().limit
    }

    /// Ten milliseconds of `course`; in flight is what Little's law says.
    fn step(&mut self, course: Course, frozen: bool) {
        self.now = self.now.after(STEP);
        let completed = (course.completed * STEP.as_secs_f64()).round() as u64;
        let totals = &mut self.totals;
        totals.completed += completed;
        totals.failed += (course.failed * STEP.as_secs_f64()).round() as u64;
        totals.busy += completed * course.latency.as_nanos() as u64;
        let micros = course.latency.as_micros() as u64;
        totals.busy_square += completed * micros * micros;
        totals.limited += (course.limited * STEP.as_nanos() as f64) as u64;
        totals.in_flight = (course.completed * course.latency.as_secs_f64()).round() as u32;
        let age = course.latency.as_nanos() as u64 / 2;
        let started = self.now.as_nanos().saturating_sub(age);
        totals.started = u64::from(totals.in_flight).wrapping_mul(started);
        if self.now >= self.adaptive.next_check() {
            self.adaptive.observe(self.now, &self.totals, frozen);
        }
    }

    fn run(&mut self, seconds: u64, course: Course) {
        for _ in 0..seconds * 100 {
            self.step(course, false);
        }
    }

    /// Runs an upstream of so many slots that is asked for more than it carries.
    fn saturate(&mut self, seconds: u64, slots: f64) {
        self.saturate_at(200.0, seconds, slots);
    }

    /// The same, where a slot serves `rate` requests a second.
    fn saturate_at(&mut self, rate: f64, seconds: u64, slots: f64) {
        for _ in 0..seconds * 100 {
            let inside = f64::from(self.adaptive.effective());
            let throughput = inside.min(slots) * rate;
            let latency = Duration::from_secs_f64(inside / throughput);
            let course = Course {
                completed: throughput,
                failed: 0.0,
                latency,
                limited: 1.0,
            };
            self.step(course, false);
        }
    }
}

#[test]
fn a_limit_that_is_not_used_stays() {
    let mut made = Made::new();
    made.run(60, course(500.0, 20, 0.0));
    assert!((made.limit() - 32.0).abs() < 1e-9);
    let report = made.adaptive.report();
    assert_eq!(report.base, Some(Duration::from_millis(20)));
    assert!(report.starting);
}

#[test]
fn bursts_that_the_upstream_carries_are_given_room() {
    let mut made = Made::new();
    made.run(5, course(500.0, 20, 0.0));
    made.run(10, course(1_000.0, 20, 0.3));
    assert!(made.limit() > 40.0, "{}", made.limit());
}

#[test]
fn the_order_of_magnitude_is_found_upwards_and_downwards() {
    for slots in [10.0, 100.0, 1_000.0] {
        let mut made = Made::new();
        made.saturate(20, slots);
        let limit = made.limit();
        assert!(
            (0.8 * slots..2.0 * slots).contains(&limit),
            "{limit} for {slots}"
        );
        assert!(!made.adaptive.report().starting);
    }
}

#[test]
fn a_fast_upstream_keeps_a_millisecond_of_its_throughput() {
    let mut made = Made::new();
    made.saturate_at(10_000.0, 20, 2.0);
    assert!((made.limit() - 20.0).abs() < 1.0, "{}", made.limit());
    assert!(!made.adaptive.report().starting);
}

#[test]
fn the_limit_in_force_alternates_around_the_limit() {
    let mut made = Made::new();
    made.saturate(20, 100.0);
    let (mut above, mut below) = (0, 0);
    for _ in 0..200 {
        made.saturate(1, 100.0);
        if f64::from(made.adaptive.effective()) > made.limit() {
            above += 1;
        } else {
            below += 1;
        }
        if above > 5 && below > 5 {
            return;
        }
    }
    panic!("{above} above, {below} below");
}

#[test]
fn capacity_that_falls_or_returns_is_followed() {
    let mut made = Made::new();
    made.saturate(20, 100.0);
    made.saturate(2, 50.0);
    assert!(made.limit() < 75.0, "{}", made.limit());
    made.saturate(20, 50.0);
    made.saturate(10, 100.0);
    assert!(made.limit() > 90.0, "{}", made.limit());
}

#[test]
fn a_plateau_of_timeouts_is_no_reason_to_grow() {
    let mut made = Made::new();
    made.saturate(20, 100.0);
    let before = made.limit();
    let failing = Course {
        failed: 2_000.0,
        ..course(100.0, 1_000, 1.0)
    };
    made.run(20, failing);
    assert!(made.limit() < before, "{} of {before}", made.limit());
}

#[test]
fn errors_that_have_nothing_to_do_with_load_leave_most_of_the_limit() {
    let mut made = Made::new();
    made.saturate(20, 100.0);
    let before = made.limit();
    let failing = Course {
        failed: 150.0,
        ..course(1_000.0, 50, 0.0)
    };
    made.run(60, failing);
    assert!(made.limit() > 0.5 * before, "{} of {before}", made.limit());
}

#[test]
fn nothing_is_learned_while_frozen() {
    let mut made = Made::new();
    made.saturate(20, 100.0);
    let before = made.adaptive.report();
    for _ in 0..1_000 {
        made.step(course(10.0, 500, 1.0), true);
    }
    let after = made.adaptive.report();
    assert_eq!((after.limit, after.base), (before.limit, before.base));
    assert!(after.starting, "what comes back is searched for anew");
}

#[test]
fn the_limit_keeps_to_its_bounds_and_a_reload_moves_it_into_them() {
    let mut made = Made::new();
    made.saturate(60, 1.0);
    assert!((made.limit() - 4.0).abs() < 1e-9);
    made.saturate(60, 10_000.0);
    assert!((made.limit() - 2_000.0).abs() < 1e-9);
    made.adaptive.update(Config::try_new(1, 5, 50).unwrap());
    assert!((made.limit() - 50.0).abs() < 1e-9);
}

#[test]
fn bounds_of_nothing_are_refused() {
    for (min, initial, max) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
        assert!(Config::try_new(min, initial, max).is_err());
    }
    let crossed = Config::try_new(10, 1, 5).unwrap();
    let adaptive = Adaptive::new(crossed, Instant::ZERO);
    assert_eq!(adaptive.effective(), 10);
}
