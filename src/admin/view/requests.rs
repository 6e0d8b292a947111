//! Single requests, in the API's words.

use axum::http::StatusCode;

use super::milliseconds;
use crate::admin::problem::Problem;
use crate::admin::{AdminState, api};
use crate::engine::registry::Directory;
use crate::model::{Phase, Reason, TierId};
use crate::observe::access_log::rfc3339;
use crate::observe::inflight::{InFlight, View};
use crate::observe::why::{Decision, Policy, Why};

pub(in crate::admin) fn inflight(state: &AdminState, in_flight: &InFlight) -> api::InFlight {
    let requests = in_flight.oldest.iter();
    api::InFlight {
        total: in_flight.total,
        silent_workers: in_flight.silent_workers,
        requests: requests.map(|view| request(state, view)).collect(),
    }
}

fn request(state: &AdminState, view: &View) -> api::InFlightRequest {
    let upstream = view.upstream.map(crate::model::UpstreamId::index);
    let upstream = name(&state.directories.upstreams, upstream);
    let endpoint = view.endpoint.map(crate::model::EndpointId::index);
    let route = view.route.map(crate::model::RouteId::index);
    api::InFlightRequest {
        request_id: view.request_id.clone(),
        method: view.method.clone(),
        path: view.path.clone(),
        age_ms: milliseconds(Some(view.age)),
        phase: view.phase.as_str().to_owned(),
        route: name(&state.directories.routes, route),
        endpoint: address(state, upstream.as_deref(), endpoint),
        upstream,
        attempts: view.attempts,
    }
}

/// What is known of the request with this id.
///
/// # Errors
/// When nothing is.
pub(in crate::admin) fn why(state: &AdminState, request_id: &str) -> Result<api::Why, Problem> {
    let Some(known) = state.metrics.why(request_id) else {
        let since = state.metrics.known_since().map(rfc3339);
        let since = since.unwrap_or_else(|| "now".to_owned());
        let detail = format!(
            "Nothing is known of this request. Known are, since {since}: what was refused or failed or slow, \
             and of the rest one in a hundred, once they have ended."
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    Ok(self::known(state, request_id.to_owned(), &known))
}

/// What is known of a request.
pub(in crate::admin) fn known(state: &AdminState, request_id: String, known: &Why) -> api::Why {
    let exchange = &known.exchange;
    let directories = &state.directories;
    let upstream = exchange.upstream.map(crate::model::UpstreamId::index);
    let upstream = name(&directories.upstreams, upstream);
    let endpoint = exchange.endpoint.map(crate::model::EndpointId::index);
    let route = exchange.route.map(crate::model::RouteId::index);
    let word = |reason: Reason| reason.as_str().to_owned();
    api::Why {
        request_id,
        started_at: rfc3339(exchange.started),
        method: exchange.method.as_str().to_owned(),
        route: name(&directories.routes, route),
        endpoint: address(state, upstream.as_deref(), endpoint),
        upstream,
        tier: name(&directories.tiers, exchange.tier.map(TierId::index)),
        status: exchange.status,
        upstream_status: exchange.upstream_status,
        outcome: exchange.outcome.as_str().to_owned(),
        reason: exchange.reason.map(word),
        would_refuse: exchange.observed.map(word),
        attempts: exchange.attempts,
        total_ms: milliseconds(Some(exchange.phases.total())),
        phases: Phase::ALL
            .map(|phase| api::WhyPhase {
                phase: phase.as_str().to_owned(),
                ms: milliseconds(Some(exchange.phases.get(phase))),
            })
            .into(),
        decisions: known
            .decisions
            .iter()
            .map(|one| decision(state, one))
            .collect(),
    }
}

fn decision(state: &AdminState, decision: &Decision) -> api::WhyDecision {
    let number = |value: f32| (!value.is_nan()).then(|| f64::from(value));
    api::WhyDecision {
        at_ms: f64::from(decision.at) / 1e3,
        policy: decision.policy.as_str().to_owned(),
        name: match decision.policy {
            Policy::RateLimit(id) => name(&state.directories.rate_limits, Some(id.index())),
            _ => None,
        },
        decision: decision.verdict.as_str().to_owned(),
        reason: decision.verdict.reason().map(str::to_owned),
        value: number(decision.value),
        threshold: number(decision.threshold),
        unit: decision.unit.map(|unit| unit.as_str().to_owned()),
    }
}

pub(super) fn name(directory: &Directory, index: Option<usize>) -> Option<String> {
    let name = directory.name(index?)?;
    Some(name.as_ref().to_owned())
}

/// An endpoint's address: the directory's names are `upstream/address`.
fn address(state: &AdminState, upstream: Option<&str>, endpoint: Option<usize>) -> Option<String> {
    let name = name(&state.directories.endpoints, endpoint)?;
    let address = name.strip_prefix(upstream?)?.strip_prefix('/')?;
    Some(address.to_owned())
}
