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
    circuit: Circuit,
}

impl RouteState {
    /// Of a route of which nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            costs: Default::default(),
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

    /// Takes in the upstream time that a request with this method took. Of two that meet one may be lost,
    /// which an average forgives.
    pub fn observe(&self, method: MethodLabel, time: Duration) {
        let Some(cost) = self.costs.get(method as usize) else {
            return;
        };
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let former = cost.load(Ordering::Relaxed);
        let next = if former == 0 {
            time
        } else {
            former - (former >> COST_SHIFT) + (time >> COST_SHIFT)
        };
        cost.store(next, Ordering::Relaxed);
    }
}

/// The routes of the running plan.
#[derive(Debug, Default)]
pub struct Routes(Mutex<HashMap<Arc<str>, Arc<RouteState>>>);

impl Routes {
    /// The states of the routes with these names and breakers, in this order. What was learned about a route
    /// that is gone is forgotten.
    pub fn apply<'a>(
        &self,
        routes: impl Iterator<Item = (&'a Arc<str>, Option<(Mode, breaker::Config)>)>,
        now: Instant,
    ) -> Vec<Arc<RouteState>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<_> = routes
            .map(|(name, breaker)| {
                let state = known.get(name).cloned();
                let state = state.unwrap_or_else(|| Arc::new(RouteState::new(now)));
                let (mode, config) =
                    breaker.unwrap_or_else(|| (Mode::Off, breaker::Config::default()));
                state.circuit.update(mode, config, now);
                (Arc::clone(name), state)
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
}
