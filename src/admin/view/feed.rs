//! The dashboard's data, in the API's words.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;

use super::{milliseconds, protection};
use crate::admin::problem::Problem;
use crate::admin::{AdminState, api};
use crate::clock::SystemClock;
use crate::model::Phase;
use crate::observe::snapshot::{CircuitView, UpstreamView};
use crate::observe::timeline::{Point, QUANTILES, SECONDS, bands};

/// State changes in a moment.
const EVENTS: usize = 24;
/// Seconds that means by phase are told over.
const SPAN: usize = 10;

pub(in crate::admin) fn moment(state: &AdminState) -> api::Moment {
    let snapshot = (state.snapshot)();
    let plan = state.plan.load();
    let upstreams = snapshot.upstreams.iter();
    let ends = upstreams.clone().filter_map(|view| {
        let points = state.timelines.last(&view.name, 1);
        points.last().map(|point| point.at)
    });
    let at = ends.max();
    let events = state.events.recent();
    let newest = events.len().saturating_sub(EVENTS);
    api::Moment {
        at: at.unwrap_or_else(|| SystemClock.unix_micros() / 1_000_000),
        process: api::NowProcess {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: SystemClock.now().since(state.status.started()).as_secs(),
            draining: state.status.is_draining(),
            connections: snapshot.connections(),
            exchanges: state.metrics.totals().exchanges,
            config_hash: plan.hash.clone(),
        },
        diagnosis: super::diagnosis(state),
        upstreams: upstreams.map(|view| upstream(state, view)).collect(),
        events: events
            .iter()
            .skip(newest)
            .map(|event| event.to_json())
            .collect(),
    }
}

fn upstream(state: &AdminState, view: &UpstreamView) -> api::MomentOfUpstream {
    let points = state.timelines.last(&view.name, SPAN);
    let last = points.last().cloned().unwrap_or_default();
    let [p50, p90, p98] = last.quantiles.map(milliseconds);
    let in_use = view.endpoints.iter().filter(|one| one.state.is_in_use());
    api::MomentOfUpstream {
        name: view.name.as_ref().to_owned(),
        limit_mode: view.limit.mode.to_owned(),
        second: api::NowSecond {
            limit: last.limit,
            in_flight: tenths(last.in_flight),
            waiting: tenths(last.waiting),
            requests: last.requests,
            refused: last.refused,
            failed: last.failed,
            heat: heat(&last),
        },
        latency: api::NowLatency {
            p50_ms: p50,
            p90_ms: p90,
            p98_ms: p98,
            phases_ms: phases(&points),
        },
        breaker: breaker(&view.circuit),
        endpoints: api::NowEndpoints {
            total: view.endpoints.len(),
            in_use: in_use.count(),
        },
        scale: super::scale(state, &view.name),
        retry_budget: view.retries.budget_remaining,
    }
}

fn breaker(view: &CircuitView) -> Option<api::NowBreaker> {
    let report = view.report.as_ref()?;
    Some(api::NowBreaker {
        mode: view.mode.to_owned(),
        state: report.state.as_str().to_owned(),
        admitted: report.admitted,
        held: report.order.is_some(),
    })
}

/// Means by phase of everything served in `points`; none of nothing.
fn phases(points: &[Point]) -> BTreeMap<String, f64> {
    let served: u32 = points.iter().map(Point::served).sum();
    if served == 0 {
        return BTreeMap::new();
    }
    let names = Phase::ALL.map(Phase::as_str).into_iter().enumerate();
    names
        .map(|(index, name)| {
            let sums = points.iter().filter_map(|point| point.phases.get(index));
            let seconds: f64 = sums.map(|seconds| f64::from(*seconds)).sum();
            let mean = seconds / f64::from(served) * 1e3;
            (name.to_owned(), (mean * 1e3).round() / 1e3)
        })
        .collect()
}

fn heat(point: &Point) -> Vec<(u8, u16)> {
    let bands = (0..).zip(point.heat);
    bands.filter(|(_, count)| *count > 0).collect()
}

fn tenths(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}

/// The last `seconds` of the upstream of that name, or of every one.
pub(in crate::admin) fn history(
    state: &AdminState,
    name: Option<&str>,
    seconds: usize,
) -> Result<api::Histories, Problem> {
    let snapshot = (state.snapshot)();
    let meant = |view: &&UpstreamView| name.is_none_or(|name| *view.name == *name);
    let upstreams: Vec<_> = snapshot
        .upstreams
        .iter()
        .filter(meant)
        .map(|view| past(state, view, seconds.min(SECONDS), name.is_some()))
        .collect();
    if name.is_some() && upstreams.is_empty() {
        return Err(unknown());
    }
    let bands = bands().map(|begin| milliseconds(Some(begin)).unwrap_or_default());
    Ok(api::Histories {
        bands_ms: bands.collect(),
        upstreams,
    })
}

fn past(state: &AdminState, view: &UpstreamView, seconds: usize, fully: bool) -> api::History {
    // The oldest shown has means over those before it.
    let points = state.timelines.last(&view.name, seconds + SPAN - 1);
    let skipped = points.len().saturating_sub(seconds);
    let mut past = api::History {
        upstream: view.name.as_ref().to_owned(),
        ..api::History::default()
    };
    for (index, point) in points.iter().enumerate().skip(skipped) {
        past.at.push(point.at);
        past.limit.push(point.limit);
        past.in_flight.push(tenths(point.in_flight));
        past.waiting.push(tenths(point.waiting));
        past.requests.push(point.requests);
        past.refused.push(point.refused);
        past.failed.push(point.failed);
        let [p50, p90, p98] = point.quantiles.map(milliseconds);
        past.p50_ms.push(p50);
        past.p90_ms.push(p90);
        past.p98_ms.push(p98);
        if fully {
            let recent = points.get((index + 1).saturating_sub(SPAN)..=index);
            let means = phases(recent.unwrap_or_default());
            for phase in Phase::ALL.map(Phase::as_str) {
                let column = past.phases_ms.entry(phase.to_owned()).or_default();
                column.push(means.get(phase).copied().unwrap_or_default());
            }
            past.heat.push(heat(point));
        }
    }
    past
}

pub(in crate::admin) fn upstream_detail(
    state: &AdminState,
    name: &str,
) -> Result<api::UpstreamDetail, Problem> {
    let snapshot = (state.snapshot)();
    let mut upstreams = snapshot.upstreams.iter();
    let view = upstreams
        .find(|view| *view.name == *name)
        .ok_or_else(unknown)?;
    let retries = view.retries.counts.iter();
    Ok(api::UpstreamDetail {
        upstream: super::upstream(state, view),
        limit: protection::limit(view),
        breaker: protection::breaker_of(view),
        scale: super::scale(state, name),
        components: components(state, name),
        retries: retries
            .map(|(what, sent, _)| ((*what).to_owned(), *sent))
            .collect(),
        retry_budget: view.retries.budget_remaining,
    })
}

fn components(state: &AdminState, upstream: &str) -> Vec<api::Component> {
    let id = state.directories.upstreams.find(upstream);
    let told = id.map_or_else(Vec::new, |id| state.metrics.components(id as usize));
    let told = told.into_iter().map(|(name, histogram)| {
        let count = histogram.count();
        let mean = histogram.sum_nanos().checked_div(u128::from(count));
        let mean = mean.and_then(|nanos| u64::try_from(nanos).ok());
        api::Component {
            name,
            count,
            mean_ms: milliseconds(mean.map(Duration::from_nanos)),
            p50_ms: milliseconds(histogram.quantile(QUANTILES[0])),
            p98_ms: milliseconds(histogram.quantile(QUANTILES[2])),
        }
    });
    told.collect()
}

fn unknown() -> Problem {
    let detail = "There is no upstream of that name; GET /api/v1/upstreams lists them.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
