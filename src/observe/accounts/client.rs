//! One client of one upstream. Depends on measure and the exchange.

use super::flag::{Flags, Kind, Moment, ignoring, polling, retrying};
use super::sums::Sums;
use crate::measure::habits::{Call, Habits};
use crate::measure::sketch::SmallSketch;
use crate::measure::slots::Slots;
use crate::model::{MethodLabel, RouteId};
use crate::observe::exchange::Exchange;

/// Seconds that are told apart.
pub(super) const SECONDS: usize = 10;
/// Tens of seconds that make a minute, and the one that is filling.
pub(super) const TENS: usize = 7;
/// Routes of a client that are remembered.
const ROUTES: usize = 4;

/// What was held of the upstream lately, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// By second.
    pub(super) cost: Slots<SECONDS>,
    /// By second, with what refused requests would have cost.
    pub(super) demand: Slots<SECONDS>,
    /// By ten seconds.
    pub(super) minute: Slots<TENS>,
}

impl Load {
    pub(super) fn add(&mut self, second: u32, cost: u32, demand: u32) {
        self.cost.add(second, cost);
        self.demand.add(second, demand);
        self.minute.add(second / 10, cost);
    }
}

/// One client of one upstream.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) name: String,
    /// Its place among the known clients.
    pub(super) known: Option<u16>,
    pub(super) sums: Sums,
    /// What it had when its own series began; none while it is part of the others'.
    pub(super) shown_from: Option<Box<Sums>>,
    pub(super) latency: SmallSketch,
    pub(super) load: Load,
    /// Its cost in the minute that is running, in microseconds.
    pub(super) minute_cost: u64,
    pub(super) habits: Habits,
    pub(super) flags: Flags,
    routes: [(u32, u32); ROUTES],
}

/// What an exchange weighs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// What it held of the upstream, in nanoseconds.
    pub(super) nanos: u64,
    /// The same in microseconds.
    pub(super) cost: u32,
    /// What it would have held besides, had it not been refused.
    pub(super) demand: u32,
}

impl Client {
    /// Becomes another client's.
    pub(super) fn begin(&mut self, name: &str, known: Option<u16>) {
        self.name.clear();
        self.name.push_str(name);
        self.known = known;
        self.sums = Sums::default();
        self.shown_from = None;
        self.latency.clear();
        self.load = Load::default();
        self.minute_cost = 0;
        self.habits = Habits::default();
        self.flags.clear();
        self.routes = Default::default();
    }

    pub(super) fn fold(&mut self, exchange: &Exchange, weight: Weight, second: u32) {
        self.sums.count(exchange, weight.nanos);
        let took = exchange.phases.total();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.record(nanos);
        self.load.add(second, weight.cost, weight.demand);
        self.minute_cost += u64::from(weight.cost);
        let is_get = exchange.method == MethodLabel::Get && exchange.status == 200;
        let call = Call {
            began: exchange.started,
            ended: exchange.started.saturating_add(nanos / 1_000),
            target: exchange.target,
            failed: exchange.status >= 500 || exchange.status == 429,
            retry_after: exchange.retry_after,
            validator: if is_get && !exchange.conditional {
                exchange.validator
            } else {
                0
            },
        };
        self.habits.observe(&call, second / 10);
        if let Some(route) = exchange.route {
            self.pass(route, weight.demand);
        }
    }

    /// Remembers the routes it takes most, by Misra and Gries.
    fn pass(&mut self, route: RouteId, demand: u32) {
        let own = u32::try_from(route.index() + 1).unwrap_or(u32::MAX);
        let demand = demand.max(1);
        if let Some((_, count)) = self.routes.iter_mut().find(|(route, _)| *route == own) {
            *count = count.saturating_add(demand);
            return;
        }
        if let Some(least) = self.routes.iter_mut().min_by_key(|(_, count)| *count) {
            if least.1 <= demand {
                *least = (own, demand);
            } else {
                least.1 -= demand;
            }
        }
    }

    /// The routes it takes most, the first of them first.
    pub(super) fn routes(&self) -> Vec<RouteId> {
        let mut routes = self.routes;
        routes.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let taken = routes.into_iter().filter(|(route, _)| *route > 0);
        taken.map(|(route, _)| RouteId::new(route - 1)).collect()
    }

    /// Ends ten seconds: what its habits show.
    pub(super) fn judge_habits(&mut self, at: Moment) {
        let slot = at.second / 10;
        self.habits.turn(slot);
        let shown = self.habits.retrying(slot).as_ref().map(retrying);
        self.flags.set(Kind::Retrying, shown, at, 0);
        let shown = self.habits.polling(at.wall).as_ref().map(polling);
        self.flags.set(Kind::Polling, shown, at, 0);
        let shown = self.habits.ignoring(slot).as_ref().map(ignoring);
        self.flags.set(Kind::IgnoresRetryAfter, shown, at, 0);
    }

    /// What is counted in its own series.
    pub(super) fn shown(&self) -> Option<Sums> {
        let from = self.shown_from.as_deref()?;
        Some(self.sums - from)
    }
}
