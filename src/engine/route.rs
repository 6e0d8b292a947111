//! What is learned about each route, keyed by its name over reloads: what its requests cost, and whether they
//! fail.
//!
//! Depends on the model and the circuit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::circuit::{Circuit, Mode};
use crate::clock::Instant;
use crate::model::MethodLabel;
use crate::policy::breaker;

/// The weight of one request in the average cost: one in 2^4.
const COST_SHIFT: u32 = 4;

/// One route, shared by all workers.
#[derive(Debug)]
pub struct RouteState {
    costs: [AtomicU64; MethodLabel::COUNT],
    late: Late,
    circuit: Circuit,
}

impl RouteState {
    /// Of a route of which nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            costs: Default::default(),
            late: Late::default(),
            circuit: Circuit::new(Mode::Off, breaker::Config::default(), now),
        }
    }

    /// The route's own breaker.
    #[must_use]
    pub const fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// The upstream time a request with this method is expected to take; zero before the first.
    #[must_use]
    pub fn cost(&self, method: MethodLabel) -> Duration {
        let cost = self.costs.get(method as usize);
        Duration::from_nanos(cost.map_or(0, |cost| cost.load(Ordering::Relaxed)))
    }

    /// The latency that as few exceed as [`Routes::apply`] was told; none before there were enough, or when it
    /// was not told.
    #[must_use]
    pub fn late(&self) -> Option<Duration> {
        self.late.value()
    }

    /// Takes in the upstream time that a request with this method took. Of two that meet one may be lost,
    /// which an average forgives.
    pub fn observe(&self, method: MethodLabel, time: Duration) {
        let Some(cost) = self.costs.get(method as usize) else {
            return;
        };
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.late.observe(time);
        let former = cost.load(Ordering::Relaxed);
        let next = if former == 0 {
            time
        } else {
            former - (former >> COST_SHIFT) + (time >> COST_SHIFT)
        };
        cost.store(next, Ordering::Relaxed);
    }
}

/// A quantile of latency, followed by small steps: up by its share after a sample above it, down by the rest
/// after one below (Robbins and Monro, "A Stochastic Approximation Method", on a logarithmic scale). One word,
/// no window, and near enough to tell what is late from what is not.
#[derive(Debug, Default)]
struct Late {
    /// The bits of an `f64` between 0 and 1; zero turns it off.
    quantile: AtomicU64,
    /// In nanoseconds.
    value: AtomicU64,
    samples: AtomicU64,
}

impl Late {
    /// The largest step, as a share of the value.
    const STEP: f64 = 0.05;
    /// Samples before it is believed.
    const ENOUGH: u64 = 100;

    fn set(&self, quantile: Option<f64>) {
        let quantile = quantile.unwrap_or(0.0).to_bits();
        if self.quantile.swap(quantile, Ordering::Relaxed) != quantile {
            self.samples.store(0, Ordering::Relaxed);
            self.value.store(0, Ordering::Relaxed);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of a request, multiplied by about one"
    )]
    fn observe(&self, time: u64) {
        let quantile = f64::from_bits(self.quantile.load(Ordering::Relaxed));
        if quantile <= 0.0 {
            return;
        }
        let former = self.value.load(Ordering::Relaxed);
        let next = if former == 0 {
            time
        } else if time > former {
            // At least one more, so that it leaves small values.
            (former as f64 * Self::STEP.mul_add(quantile, 1.0)) as u64 + 1
        } else {
            (former as f64 * Self::STEP.mul_add(quantile - 1.0, 1.0)) as u64
        };
        self.value.store(next.max(1), Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> Option<Duration> {
        let known = self.samples.load(Ordering::Relaxed) >= Self::ENOUGH;
        known.then(|| Duration::from_nanos(self.value.load(Ordering::Relaxed)))
    }
}

/// What a plan says of a route.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its own breaker.
    pub breaker: Option<(Mode, breaker::Config)>,
    /// The quantile of its latency to follow.
    pub late: Option<f64>,
}

/// The routes of the running plan.
#[derive(Debug, Default)]
pub struct Routes(Mutex<HashMap<Arc<str>, Arc<RouteState>>>);

impl Routes {
    /// The states of these routes, in this order. What was learned about a route that is gone is forgotten.
    pub fn apply<'a>(
        &self,
        routes: impl Iterator<Item = Described<'a>>,
        now: Instant,
    ) -> Vec<Arc<RouteState>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<_> = routes
            .map(|route| {
                let state = known.get(route.name).cloned();
                let state = state.unwrap_or_else(|| Arc::new(RouteState::new(now)));
                let off = || (Mode::Off, breaker::Config::default());
                let (mode, config) = route.breaker.unwrap_or_else(off);
                state.circuit.update(mode, config, now);
                state.late.set(route.late);
                (Arc::clone(route.name), state)
            })
            .collect();
        let states = kept.iter().map(|(_, state)| Arc::clone(state)).collect();
        *known = kept.into_iter().collect();
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_method_follows_what_it_takes() {
        let state = RouteState::new(Instant::ZERO);
        assert_eq!(state.cost(MethodLabel::Get), Duration::ZERO);
        state.observe(MethodLabel::Get, Duration::from_millis(100));
        assert_eq!(state.cost(MethodLabel::Get), Duration::from_millis(100));
        for _ in 0..100 {
            state.observe(MethodLabel::Get, Duration::from_millis(10));
        }
        let cost = state.cost(MethodLabel::Get);
        assert!(
            cost.abs_diff(Duration::from_millis(10)) < Duration::from_millis(1),
            "{cost:?}"
        );
        assert_eq!(state.cost(MethodLabel::Post), Duration::ZERO);
    }

    #[test]
    fn a_quantile_of_latency_is_found_and_followed() {
        let late = Late::default();
        late.set(Some(0.95));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut feed = |scale: f64| {
            for _ in 0..5_000 {
                // Exponential of this mean, in microseconds: its p95 is three times the mean.
                let micros = -scale * (1.0 - rng.f64()).ln();
                let time = Duration::from_secs_f64(micros / 1e6);
                late.observe(u64::try_from(time.as_nanos()).unwrap());
            }
            let found = late.value().unwrap().as_secs_f64() * 1e6;
            assert!(
                (0.7..1.4).contains(&(found / (3.0 * scale))),
                "{found} of {scale}"
            );
        };
        feed(10_000.0);
        feed(100_000.0);
        feed(1_000.0);
    }

    #[test]
    fn nothing_is_late_before_there_are_samples_or_unasked() {
        let late = Late::default();
        late.observe(5);
        assert_eq!(late.value(), None);
        late.set(Some(0.5));
        for _ in 0..99 {
            late.observe(5);
        }
        assert_eq!(late.value(), None);
        late.observe(5);
        assert!(late.value().is_some());
    }
}
