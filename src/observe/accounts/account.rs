//! The clients of one upstream: what each took, who is shown by name, and who takes too much.
//!
//! # Sums that agree
//!
//! Everything is in `total`, and what is shown under `__other__` is the total less what is shown by name. So the
//! labels sum to the total at any time, to the request. A client begins its own series at zero, with what it did
//! before left among the others; one that loses it leaves what it had there. So no series but its own ever goes
//! back, and its own only by beginning again. A counter that changes hands loses what it had counted, which
//! stays in the total.
//!
//! # Noisy
//!
//! The upstream is saturated while its limit is in use and somebody waits. A client is noisy when over five such
//! seconds it wants more than three times its share, by weight, of what the upstream did for all, and more than a
//! tenth of what all want. What was refused counts with what such a request usually holds of the upstream. While
//! its throttle acts there is no saturation to see, so then it stays noisy as long as what all want would fill the
//! limit again. Depends on measure, model and its neighbours.

use std::collections::HashSet;

use super::client::{Client, Load, SECONDS, Weight};
use super::flag::{self, Evidence, Kind, Moment};
use super::sums::Sums;
use super::{KnownClient, Sample};
use crate::engine::upstream::Throttled;
use crate::measure::peak::{self, Costs};
use crate::measure::slots::Slots;
use crate::measure::topk::{Found, TopK};
use crate::model::Outcome;
use crate::observe::exchange::Exchange;

/// Clients that have series of their own.
pub(super) const SHOWN: usize = 200;
/// Whoever is to be shown in the place of another must weigh so many times as much, in quarters.
const OUTWEIGHS: u64 = 5;
/// What any request weighs at least, in microseconds: an answer from the cache costs the proxy something too.
const LEAST: u32 = 20;
/// Seconds over which a client is judged.
const WINDOW: usize = 5;
/// The share of the samples in them that found the upstream saturated.
const SATURATED: f64 = 0.8;
/// How many times its fair share a noisy client wants,
const OVER_SHARE: f64 = 3.0;
/// and how much of what all want.
const OVER_TOTAL: f64 = 0.1;
/// Seconds for which it is still said after it was last seen.
const KEEP: u32 = 10;
/// How much of the limit all must want for a throttle to stay.
const FILLS: f64 = 0.9;

/// The clients of one upstream.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) top: TopK<Client>,
    pub(super) total: Sums,
    pub(super) load: Load,
    shown: usize,
    /// What a request that reaches the upstream holds of it, in microseconds.
    mean: f32,
    minute_cost: u64,
    pub(super) costs: Costs,
    samples: Slots<SECONDS>,
    saturated: Slots<SECONDS>,
    limit: u32,
    throttles: bool,
    /// Who is noisy.
    throttled: Vec<Throttled>,
}

impl Account {
    /// An account with room for so many clients.
    pub(super) fn new(counters: usize) -> Self {
        Self {
            top: TopK::new(counters),
            total: Sums::default(),
            load: Load::default(),
            shown: 0,
            mean: 0.0,
            minute_cost: 0,
            costs: Costs::default(),
            samples: Slots::default(),
            saturated: Slots::default(),
            limit: 0,
            throttles: false,
            throttled: Vec::new(),
        }
    }

    pub(super) fn fold(
        &mut self,
        exchange: &Exchange,
        name: &str,
        second: u32,
        known: impl FnOnce(&str) -> Option<u16>,
    ) {
        let weight = self.weigh(exchange);
        self.total.count(exchange, weight.nanos);
        self.load.add(second, weight.cost, weight.demand);
        self.minute_cost += u64::from(weight.cost);
        let counted = u64::from(weight.demand.max(LEAST));
        let client = match self.top.count(exchange.client.hash(), counted) {
            Some(Found::Known(client)) => client,
            Some(Found::New(client) | Found::Taken(client)) => {
                self.shown -= usize::from(client.shown_from.is_some());
                client.begin(name, known(name));
                if self.shown < SHOWN {
                    self.shown += 1;
                    client.shown_from = Some(Box::default());
                }
                client
            }
            None => return,
        };
        client.fold(exchange, weight, second);
    }

    /// What an exchange weighs. Learns what one usually does.
    fn weigh(&mut self, exchange: &Exchange) -> Weight {
        let time = exchange.upstream_time();
        let cost = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if exchange.attempts > 0 {
            let newest = if self.mean > 0.0 { 0.01 } else { 1.0 };
            self.mean += newest * (narrow(cost) - self.mean);
        }
        let turned_away = exchange.outcome == Outcome::Refused
            && exchange.attempts == 0
            && matches!(exchange.status, 429 | 503 | 504);
        Weight {
            nanos: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            cost,
            demand: if turned_away { whole(self.mean) } else { cost },
        }
    }

    /// Takes in how the upstream stands.
    pub(super) fn sample(&mut self, second: u32, sample: &Sample) {
        self.limit = sample.limit;
        self.throttles = sample.throttles;
        self.samples.add(second, 1);
        self.saturated.add(second, u32::from(sample.is_saturated()));
    }

    /// Judges the seconds up to `at`, which has just ended. What is to be throttled, if that changed.
    pub(super) fn judge(&mut self, at: Moment, known: &[KnownClient]) -> Option<&[Throttled]> {
        let samples = flag::count(self.samples.sum(at.second, WINDOW));
        let saturated = flag::count(self.saturated.sum(at.second, WINDOW));
        let saturated = samples > 0.0 && saturated >= SATURATED * samples;
        let served = seconds(self.load.cost.sum(at.second, WINDOW));
        let wanted = seconds(self.load.demand.sum(at.second, WINDOW));
        let window = flag::count(WINDOW as u64);
        let room = f64::from(self.limit) * window;
        let holds = saturated || (self.throttles && wanted >= FILLS * room);
        if !holds && self.throttled.is_empty() {
            return None;
        }
        let weight_of = |client: &Client| {
            let known = client.known.and_then(|at| known.get(usize::from(at)));
            known.map_or(1.0, |known| known.weight)
        };
        let mut weights = 0.0;
        if holds {
            for one in self.top.iter() {
                if one.value.load.demand.sum(at.second, WINDOW) > 0 {
                    weights += weight_of(one.value);
                }
            }
        }
        let mut throttled = Vec::new();
        for (id, _, client) in self.top.iter_mut() {
            let was = client.flags.has(Kind::Noisy);
            if !holds && !was {
                continue;
            }
            let share = weight_of(client) / f64::max(weights, 1.0);
            let demand = seconds(client.load.demand.sum(at.second, WINDOW));
            let fair = served * share;
            let noisy = holds
                && (saturated || was)
                && demand > OVER_SHARE * fair
                && demand > OVER_TOTAL * wanted;
            let evidence = noisy.then(|| {
                vec![
                    Evidence::new(
                        "upstream time wanted, and its fair share, in a second",
                        demand / window,
                        Some(fair / window),
                        "seconds",
                    ),
                    Evidence::new(
                        "share of what all want",
                        demand / wanted,
                        Some(OVER_TOTAL),
                        "ratio",
                    ),
                ]
            });
            client.flags.set(Kind::Noisy, evidence, at, KEEP);
            if client.flags.has(Kind::Noisy) {
                let slots = whole(narrow(self.limit) * reduced(share)).max(1);
                throttled.push(Throttled { client: id, slots });
            }
        }
        throttled.sort_unstable_by_key(|one| one.client);
        if throttled == self.throttled {
            return None;
        }
        self.throttled = throttled;
        Some(&self.throttled)
    }

    /// Ends ten seconds: habits, and who is shown.
    pub(super) fn judge_habits(&mut self, at: Moment) {
        for (_, _, client) in self.top.iter_mut() {
            client.judge_habits(at);
        }
        self.choose_shown();
    }

    /// Gives the series of the lightest that are shown to the heaviest that are not, where these weigh clearly
    /// more: a series that comes and goes is of no use to anybody.
    fn choose_shown(&mut self) {
        let (mut shown, mut hidden) = (Vec::with_capacity(SHOWN), Vec::new());
        for one in self.top.iter() {
            let is_shown = one.value.shown_from.is_some();
            let list = if is_shown { &mut shown } else { &mut hidden };
            list.push((one.count, one.key));
        }
        shown.sort_unstable();
        hidden.sort_unstable_by(|a, b| b.cmp(a));
        let pairs = shown.iter().zip(&hidden);
        let pairs = pairs.take_while(|((light, _), (heavy, _))| *heavy > *light / 4 * OUTWEIGHS);
        let changing: HashSet<u64> = pairs
            .flat_map(|((_, out), (_, into))| [*out, *into])
            .collect();
        for (key, _, client) in self.top.iter_mut() {
            if changing.contains(&key) {
                client.shown_from = match client.shown_from {
                    Some(_) => None,
                    None => Some(Box::new(client.sums)),
                };
            }
        }
    }

    /// Ends the minute with this number.
    pub(super) fn minute(&mut self, minute: u64, at: Moment) {
        let total = std::mem::take(&mut self.minute_cost);
        let mut costs = Vec::new();
        for (id, _, client) in self.top.iter_mut() {
            let cost = std::mem::take(&mut client.minute_cost);
            if cost > 0 {
                costs.push((id, reduced(seconds(cost))));
            }
        }
        self.costs.minute(minute, reduced(seconds(total)), costs);
        let peak = self.costs.peak();
        let borrowers = peak.as_ref().map(peak::Peak::borrowers).unwrap_or_default();
        for (id, _, client) in self.top.iter_mut() {
            let part = borrowers.iter().find(|(borrower, _)| *borrower == id);
            let evidence = part.map(|(_, part)| flag::borrowing(part));
            client.flags.set(Kind::Borrowing, evidence, at, 0);
        }
    }

    /// Lets what is newer count for more.
    pub(super) fn age(&mut self, halve: bool) {
        for (_, _, client) in self.top.iter_mut() {
            client.latency.halve();
        }
        if halve {
            self.top.halve();
        }
    }
}

/// Microseconds, in seconds.
pub(super) fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement of more than seven digits needs no more"
)]
const fn narrow(count: u32) -> f32 {
    count as f32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a measurement of more than seven digits needs no more"
)]
const fn reduced(value: f64) -> f32 {
    value as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float stays within the bounds of the integer"
)]
const fn whole(value: f32) -> u32 {
    value as u32
}
