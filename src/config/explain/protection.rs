//! The policies that protect an upstream, written out again.

use crate::config::plan::{HedgeAfter, Outlier, Retry, RouteBreaker};
use crate::config::raw::{
    RawAlgorithm, RawBreaker, RawConcurrency, RawFairness, RawHedge, RawMode, RawNoisy, RawOutlier,
    RawQueue, RawRetry, Spanned,
};
use crate::config::units::{Ratio, Time};
use crate::engine::protection::{Algorithm, Mode, Settings};
use crate::policy::queue::Fairness;

pub(super) fn concurrency(settings: &Settings) -> RawConcurrency {
    let number = |value: u32| Some(Spanned::from(i64::from(value)));
    let (algorithm, min, initial, max) = match &settings.algorithm {
        Algorithm::Adaptive(config) => {
            let min = number(config.min());
            let initial = number(config.initial());
            (RawAlgorithm::Adaptive, min, initial, number(config.max()))
        }
        Algorithm::Fixed(limit) => (RawAlgorithm::Fixed, None, None, number(*limit)),
    };
    RawConcurrency {
        mode: mode(settings.limit),
        algorithm,
        min,
        initial,
        max,
        max_streams: number(settings.max_streams),
    }
}

pub(super) fn queue(settings: &Settings) -> RawQueue {
    let queue = &settings.queue;
    RawQueue {
        mode: mode(settings.queue_mode),
        max_wait: Time(queue.max_wait()).into(),
        max_length: i64::from(queue.max_length()).into(),
        fairness: match queue.fairness() {
            Fairness::Client => RawFairness::Client,
            Fairness::None => RawFairness::None,
        },
        max_client_share: Ratio(queue.max_client_share()).into(),
    }
}

pub(super) fn breaker(breaker: &RouteBreaker) -> RawBreaker {
    let settings = breaker.config.settings();
    RawBreaker {
        mode: mode(breaker.mode),
        failure_ratio: Ratio(settings.failure_ratio).into(),
        slow_ratio: Ratio(settings.slow_ratio).into(),
        slow_call: settings.slow_call.map(|bound| Time(bound).into()),
        min_requests: i64::from(settings.min_requests).into(),
        window: Time(settings.window).into(),
        open_for: Time(settings.open_for).into(),
    }
}

pub(super) fn outlier(outlier: &Outlier) -> RawOutlier {
    let settings = outlier.config.settings();
    RawOutlier {
        mode: mode(outlier.mode),
        consecutive_failures: i64::from(settings.consecutive_failures).into(),
        slow_factor: settings.slow_factor.into(),
        max_ejected: Ratio(settings.max_ejected).into(),
    }
}

pub(super) const fn noisy(noisy: Mode) -> RawNoisy {
    RawNoisy { mode: mode(noisy) }
}

pub(super) fn retry(retry: &Retry) -> RawRetry {
    let settings = retry.config.settings();
    let hedge = retry.hedge_after.zip(settings.hedge);
    RawRetry {
        mode: mode(retry.mode),
        attempts: i64::from(settings.attempts).into(),
        budget: Ratio(settings.budget).into(),
        per_try_timeout: retry.per_try_timeout.map(|bound| Time(bound).into()),
        hedge: hedge.map(|(after, budget)| {
            let after = match after {
                HedgeAfter::Quantile(quantile) => format!("p{}", percent(quantile)),
                HedgeAfter::Time(time) => Time(time).to_string(),
            };
            RawHedge {
                after: after.into(),
                budget: Ratio(budget).into(),
            }
            .into()
        }),
    }
}

/// Without what a division by 100 leaves behind the last digit.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

pub(super) const fn mode(mode: Mode) -> RawMode {
    match mode {
        Mode::Enforce => RawMode::Enforce,
        Mode::Observe => RawMode::Observe,
        Mode::Off => RawMode::Off,
    }
}
