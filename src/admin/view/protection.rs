//! Limits and breakers, in the API's words.

use std::time::Duration;

use super::milliseconds;
use crate::admin::{AdminState, api};
use crate::clock::{Instant, SystemClock};
use crate::config::explain;
use crate::config::plan::Plan;
use crate::engine::breaker::{Evidence, Measure, Order, Position};
use crate::observe::snapshot::{CircuitView, Snapshot, UpstreamView};

pub(in crate::admin) fn limits(state: &AdminState) -> api::Limits {
    let snapshot = (state.snapshot)();
    api::Limits {
        limits: snapshot.upstreams.iter().map(limit).collect(),
        rate_limits: rate_limits(&state.plan.load(), &snapshot),
    }
}

fn rate_limits(plan: &Plan, snapshot: &Snapshot) -> Vec<api::RateLimit> {
    let written = explain::to_json(plan);
    let limits = plan.rate_limits.iter().enumerate();
    let limits = limits.map(|(index, limit)| {
        let mut views = snapshot.rate_limits.iter();
        let view = views.find(|view| view.name == limit.name);
        let [(_, enforced, refused), (_, observed, would_refuse)] =
            view.map(|view| view.decisions).unwrap_or_default();
        let word = |key: &str| {
            let value = written
                .get("rate_limits")
                .and_then(|all| all.get(&*limit.name)?.get(key));
            value
                .and_then(|value| value.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let settings = &limit.settings;
        let routes = plan.routes.iter();
        let routes = routes.filter(|route| route.rate_limits.contains(&index));
        let burst = settings.quota.burst() / settings.cost.parts();
        api::RateLimit {
            name: limit.name.as_ref().to_owned(),
            mode: settings.mode.as_str().to_owned(),
            per: limit.per.to_string(),
            quota: word("quota"),
            burst: (!settings.quota.is_calendar()).then_some(burst),
            cost: settings.cost.as_str().to_owned(),
            scope: word("scope"),
            count_cache_hits: settings.count_cache_hits,
            max_keys: settings.max_keys,
            routes: routes.map(|route| route.name.as_ref().to_owned()).collect(),
            passed: enforced + observed,
            refused,
            would_refuse,
            evictions: view.map_or(0, |view| view.evictions),
        }
    });
    limits.collect()
}

pub(super) fn limit(view: &UpstreamView) -> api::Limit {
    let limit = &view.limit;
    api::Limit {
        upstream: view.name.as_ref().to_owned(),
        mode: limit.mode.to_owned(),
        algorithm: limit.algorithm.to_owned(),
        limit: limit.limit,
        in_flight: limit.in_flight,
        waiting: limit.waiting,
        streams: limit.streams,
        elasticity: limit.elasticity,
        base_latency_ms: milliseconds(limit.base),
        latency_ms: milliseconds(limit.latency),
        throughput: limit.throughput,
    }
}

pub(in crate::admin) fn breakers(state: &AdminState) -> api::Breakers {
    let snapshot = (state.snapshot)();
    let now = SystemClock.now();
    let upstreams = snapshot.upstreams.iter().filter_map(breaker_of);
    let routes = snapshot.route_circuits.iter().filter_map(|route| {
        let name = route.name.as_ref().to_owned();
        breaker(route, None, Some(name), now)
    });
    api::Breakers {
        breakers: upstreams.chain(routes).collect(),
    }
}

pub(super) fn breaker_of(upstream: &UpstreamView) -> Option<api::Breaker> {
    let name = upstream.name.as_ref().to_owned();
    breaker(&upstream.circuit, Some(name), None, SystemClock.now())
}

fn breaker(
    view: &CircuitView,
    upstream: Option<String>,
    route: Option<String>,
    now: Instant,
) -> Option<api::Breaker> {
    let report = view.report.as_ref()?;
    let transitions = view.transitions.iter();
    Some(api::Breaker {
        upstream,
        route,
        mode: view.mode.to_owned(),
        state: report.state.as_str().to_owned(),
        admitted: report.admitted,
        requests: report.volume,
        failure_ratio: report.failure_ratio,
        slow_ratio: report.slow_ratio,
        evidence: report.evidence.as_ref().map(evidence),
        relapses: report.relapses,
        next_try_seconds: report.next_try.map(|at| seconds(at.since(now))),
        order: report.order.as_ref().map(|order| self::order(order, now)),
        transitions: transitions
            .map(|(from, to, count)| api::BreakerTransitions {
                from: from.as_str().to_owned(),
                to: to.as_str().to_owned(),
                count: *count,
            })
            .collect(),
    })
}

fn evidence(evidence: &Evidence) -> api::BreakerEvidence {
    let measure = match evidence.measure {
        Measure::Failures => "failures",
        Measure::SlowCalls => "slow_calls",
    };
    api::BreakerEvidence {
        measure: measure.to_owned(),
        value: evidence.ratio,
        threshold: evidence.threshold,
        requests: evidence.volume,
    }
}

fn order(order: &Order, now: Instant) -> api::BreakerOrder {
    let state = match order.position {
        Position::Open => "open",
        Position::Closed => "close",
    };
    api::BreakerOrder {
        state: state.to_owned(),
        ends_in_seconds: seconds(order.until.since(now)),
        reason: order.reason.as_ref().to_owned(),
    }
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    let millis = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    f64::from(millis) / 1e3
}
