//! Checks of the policies that protect an upstream, and of the tiers.
//!
//! Each value is checked here, where its place is known, by the rules of the policy it is for; so what a
//! policy's own check still refuses has been reported, and the default stands in for it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{Check, report_duplicates};
use crate::config::diagnostic::suggest;
use crate::config::plan::{HedgeAfter, Outlier, Retry, RouteBreaker};
use crate::config::raw::{
    RawAlgorithm, RawBreaker, RawConcurrency, RawFairness, RawHedge, RawMode, RawOutlier, RawQueue,
    RawRetry, RawTier, RawUpstream, Spanned,
};
use crate::config::units::{Ratio, Time};
use crate::engine::protection::{Algorithm, Mode, Settings};
use crate::policy::queue::{self, Fairness};
use crate::policy::{breaker, concurrency, outlier, retry};

/// The tiers of a file without any.
const DEFAULT_TIERS: [&str; 3] = ["critical", "standard", "batch"];

/// The share of the upstream that each tier but the first is sure of, where that leaves half to the first.
const FLOOR: f64 = 0.05;

/// Limits: at least one request, at most what the gate can count.
const LIMITS: RangeInclusive<u32> = 1..=1_000_000;

impl Check<'_> {
    /// The tiers' names, most important first; at least one.
    pub(super) fn tiers(&mut self, raw: &[Spanned<RawTier>]) -> Vec<Arc<str>> {
        if raw.is_empty() {
            return DEFAULT_TIERS.map(Arc::from).into();
        }
        let named = raw.iter().filter_map(|tier| tier.name.as_ref());
        let named = named.map(|name| (name.as_str(), name.span()));
        report_duplicates(self, "a tier", named);
        if let Some(beyond) = raw.get(usize::from(queue::MAX_TIERS)) {
            let message = format!("there are more than {} tiers", queue::MAX_TIERS);
            self.error(beyond.span(), message);
        }
        let mut names = Vec::with_capacity(raw.len());
        for tier in raw {
            let hint = "write `name = \"critical\"`, most important tier first";
            if let Some(name) = self.required(tier.name.as_ref(), &tier.span(), "name", hint) {
                names.push(self.name(name));
            }
        }
        names
    }

    /// The position of the tier that is named; of none, the middle one.
    pub(super) fn tier(&mut self, name: Option<&Spanned<String>>, tiers: &[Arc<str>]) -> u8 {
        let middle = tiers.len() / 2;
        let position = name.map_or(Some(middle), |name| {
            let found = tiers.iter().position(|known| **known == **name);
            if found.is_none() && !self.was_any_lost("tiers") {
                let known: Vec<&str> = tiers.iter().map(|tier| &**tier).collect();
                self.error_hint(
                    name.span(),
                    format!("there is no tier `{}`", name.escape_debug()),
                    suggest(name, &known).hint,
                );
            }
            found
        });
        u8::try_from(position.unwrap_or_default()).unwrap_or(u8::MAX)
    }

    /// Breaker, limit and queue of an upstream with `tiers` tiers.
    pub(super) fn protection(&mut self, raw: &RawUpstream, tiers: usize) -> Settings {
        let concurrency = &raw.concurrency;
        let breaker = self.breaker(&raw.breaker);
        let most = 0..=1_000_000_u32;
        let streams = concurrency.max_streams.as_ref();
        let usual = Settings::default().max_streams;
        Settings {
            limit: mode(concurrency.mode),
            algorithm: self.algorithm(concurrency),
            max_streams: streams.map_or(usual, |bound| self.whole(bound, "max_streams", most)),
            queue_mode: mode(raw.queue.mode),
            queue: self.queue(&raw.queue, tiers),
            breaker: breaker.mode,
            breaker_config: breaker.config,
        }
    }

    fn algorithm(&mut self, raw: &RawConcurrency) -> Algorithm {
        let usual = concurrency::Config::default();
        let mut given = |value: &Option<Spanned<i64>>, key| {
            let value = value.as_ref();
            value.map(|value| (self.whole(value, key, LIMITS), value.span()))
        };
        let min = given(&raw.min, "min");
        let initial = given(&raw.initial, "initial");
        let max = given(&raw.max, "max");
        if raw.algorithm == RawAlgorithm::Fixed {
            let limit = max.or(initial).map(|(limit, _)| limit);
            return Algorithm::Fixed(limit.unwrap_or_else(|| usual.initial()));
        }
        if let (Some((min, _)), Some((max, place))) = (&min, &max)
            && min > max
        {
            let message = format!("`max` is {max}, below `min`, which is {min}");
            self.error(place.clone(), message);
            return Algorithm::default();
        }
        let least = min.as_ref().map_or_else(
            || {
                let bound = max.as_ref().map_or(u32::MAX, |(max, _)| *max);
                usual.min().min(bound)
            },
            |(min, _)| *min,
        );
        let most = max.map_or_else(|| usual.max().max(least), |(max, _)| max.max(least));
        if let Some((initial, place)) = &initial
            && !(least..=most).contains(initial)
        {
            self.error(
                place.clone(),
                format!(
                    "`initial` is {initial}, which is not between `min` {least} and `max` {most}"
                ),
            );
        }
        let initial = initial.map_or_else(|| usual.initial(), |(initial, _)| initial);
        let config = concurrency::Config::try_new(least, initial, most);
        Algorithm::Adaptive(config.unwrap_or_default())
    }

    fn queue(&mut self, raw: &RawQueue, tiers: usize) -> queue::Config {
        let max_wait = self.above_zero(&raw.max_wait, "max_wait");
        let max_length = self.whole(&raw.max_length, "max_length", 0..=queue::MAX_LENGTH);
        let fairness = match raw.fairness {
            RawFairness::Client => Fairness::Client,
            RawFairness::None => Fairness::None,
        };
        let share = self.share(&raw.max_client_share, "max_client_share");
        let tiers = u8::try_from(tiers)
            .unwrap_or(u8::MAX)
            .clamp(1, queue::MAX_TIERS);
        let floor = FLOOR.min(0.5 / f64::from(tiers));
        let config = queue::Config::try_new(max_wait, max_length, fairness, share)
            .and_then(|config| config.with_tiers(tiers, floor));
        config.unwrap_or_default()
    }

    pub(super) fn breaker(&mut self, raw: &RawBreaker) -> RouteBreaker {
        let slow_call = raw.slow_call.as_ref();
        let settings = breaker::Settings {
            failure_ratio: self.share(&raw.failure_ratio, "failure_ratio"),
            slow_ratio: self.share(&raw.slow_ratio, "slow_ratio"),
            slow_call: slow_call.map(|bound| self.above_zero(bound, "slow_call")),
            min_requests: self.whole(&raw.min_requests, "min_requests", 1..=1_000_000),
            window: self.above_zero(&raw.window, "window"),
            open_for: self.above_zero(&raw.open_for, "open_for"),
        };
        RouteBreaker {
            mode: mode(raw.mode),
            config: breaker::Config::try_new(settings).unwrap_or_default(),
        }
    }

    pub(super) fn outlier(&mut self, raw: &RawOutlier) -> Outlier {
        let failures = &raw.consecutive_failures;
        let factor = &raw.slow_factor;
        if !(factor.is_finite() && **factor > 1.0) {
            let message = format!("`slow_factor` must be above 1, not {}", **factor);
            self.error(factor.span(), message);
        }
        let settings = outlier::Settings {
            consecutive_failures: self.whole(failures, "consecutive_failures", 1..=1_000_000),
            slow_factor: **factor,
            max_ejected: self.share(&raw.max_ejected, "max_ejected"),
        };
        Outlier {
            mode: mode(raw.mode),
            config: outlier::Config::try_new(settings).unwrap_or_default(),
        }
    }

    pub(super) fn retry(&mut self, raw: &RawRetry) -> Retry {
        let per_try = raw.per_try_timeout.as_ref();
        let hedge = raw.hedge.as_ref();
        let settings = retry::Settings {
            attempts: self.whole(&raw.attempts, "attempts", 1..=10),
            budget: self.share(&raw.budget, "budget"),
            hedge: hedge.map(|hedge| self.share(&hedge.budget, "budget")),
        };
        Retry {
            mode: mode(raw.mode),
            config: retry::Config::try_new(settings).unwrap_or_default(),
            per_try_timeout: per_try.map(|bound| self.above_zero(bound, "per_try_timeout")),
            hedge_after: hedge.and_then(|hedge| self.hedge_after(hedge)),
        }
    }

    fn hedge_after(&mut self, raw: &RawHedge) -> Option<HedgeAfter> {
        let text = raw.after.as_str();
        let quantile = text.strip_prefix('p').map(str::parse::<f64>);
        let after = match quantile {
            Some(Ok(percent)) if (50.0..100.0).contains(&percent) => {
                Some(HedgeAfter::Quantile(percent / 100.0))
            }
            Some(_) => None,
            None => match text.parse::<Time>() {
                Ok(time) if !time.0.is_zero() => Some(HedgeAfter::Time(time.0)),
                _ => None,
            },
        };
        if after.is_none() {
            self.error_hint(
                raw.after.span(),
                format!("`{}` does not say when", text.escape_debug()),
                "write a quantile from p50 to p99.9, such as \"p95\", or a duration",
            );
        }
        after
    }

    /// A ratio that must be above zero.
    fn share(&mut self, value: &Spanned<Ratio>, key: &str) -> f64 {
        if value.0 <= 0.0 {
            self.error(value.span(), format!("`{key}` must be above zero"));
            return 1.0;
        }
        value.0
    }
}

pub(super) const fn mode(raw: RawMode) -> Mode {
    match raw {
        RawMode::Enforce => Mode::Enforce,
        RawMode::Observe => Mode::Observe,
        RawMode::Off => Mode::Off,
    }
}
