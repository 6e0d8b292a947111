//! What is observed, in the API's words.

mod cache;
mod clients;
mod diagnosis;
mod feed;
mod protection;
mod requests;
mod slos;

use std::time::Duration;

use serde_json::{Value, json};

pub(super) use self::cache::caches;
pub(super) use self::clients::{Sort, clients};
pub(crate) use self::diagnosis::{action_of, told_of};
pub(super) use self::diagnosis::{diagnosis, lately, scale};
pub(super) use self::feed::{history, moment, upstream_detail};
pub(super) use self::protection::{breakers, limits};
pub(super) use self::requests::{inflight, known, why};
pub(super) use self::slos::{incidents, slos};
use super::{AdminState, api};
use crate::clock::SystemClock;
use crate::config::plan::{HostMatch, Match, PathMatch};
use crate::engine::upstream::HostLoad;
use crate::measure::sketch::FineSketch;
use crate::model::{Phase, RouteId, UpstreamId};
use crate::observe::access_log::rfc3339;
use crate::observe::snapshot::{EndpointView, ListenerView, UpstreamView};
use crate::observe::tables::{OUTCOMES, SPANS, Summary};
use crate::usage::Ledger;
use crate::usage::store::Place;

pub(super) fn status(state: &AdminState) -> api::Status {
    let status = &state.status;
    let plan = state.plan.load();
    let snapshot = (state.snapshot)();
    let totals = state.metrics.totals();
    let outcomes = OUTCOMES.iter().zip(totals.by_outcome);
    let reload = status.last_reload().map(|last| api::Reload {
        ok: last.error.is_none(),
        at: rfc3339(last.at),
        error: last.error.clone(),
    });
    api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: rfc3339(status.started_at()),
        uptime_seconds: SystemClock.now().since(status.started()).as_secs(),
        workers: plan.server.workers,
        draining: status.is_draining(),
        config: api::Config {
            source: plan.source.as_ref().map(|path| path.display().to_string()),
            hash: plan.hash.clone(),
            loaded_at: rfc3339(status.loaded_at()),
            last_reload: reload,
        },
        connections: snapshot.connections(),
        listeners: snapshot.listeners.iter().map(listener).collect(),
        exchanges: api::Exchanges {
            total: totals.exchanges,
            errors: totals.errors,
            by_outcome: outcomes
                .map(|(outcome, count)| (outcome.as_str().to_owned(), count))
                .collect(),
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
        },
        dropped: api::Dropped {
            exchanges: state.metrics.drops().exchanges(),
            access_log_lines: state.metrics.drops().lines(),
        },
        state: api::State {
            directory: plan
                .server
                .state_dir
                .as_ref()
                .map(|path| path.display().to_string()),
            error: status.state_error().map(|error| error.as_ref().clone()),
        },
        usage: usage(&state.usage),
    }
}

fn usage(ledger: &Ledger) -> api::UsageState {
    let health = &ledger.health;
    let written = Some(health.written()).filter(|at| *at > 0);
    api::UsageState {
        file: match &ledger.place {
            Place::File(path) => Some(path.display().to_string()),
            Place::Memory(_) | Place::Postgres(_) => None,
        },
        store: ledger.shown.clone(),
        written: written.map(|at| rfc3339(at * 1_000_000)),
        pending: health.pending(),
        dropped: health.dropped(),
        error: health.error(),
    }
}

fn listener(view: &ListenerView) -> api::Listener {
    api::Listener {
        name: view.name.as_ref().to_owned(),
        address: view.address.clone(),
        connections: view.connections,
    }
}

pub(super) fn upstreams(state: &AdminState) -> api::Upstreams {
    let snapshot = (state.snapshot)();
    let upstreams = snapshot.upstreams.iter();
    api::Upstreams {
        upstreams: upstreams.map(|view| upstream(state, view)).collect(),
    }
}

fn upstream(state: &AdminState, view: &UpstreamView) -> api::Upstream {
    let id = state.directories.upstreams.find(&view.name);
    let summary = id.and_then(|id| state.metrics.upstream(UpstreamId::new(id)));
    api::Upstream {
        name: view.name.as_ref().to_owned(),
        protocol: view.protocol.to_owned(),
        balance: view.balance.clone(),
        in_flight: view.in_flight,
        connections: view.connections,
        traffic: traffic(summary.unwrap_or_default()),
        windows: id.map_or_else(Vec::new, |id| windows(state, UpstreamId::new(id))),
        endpoints: view.endpoints.iter().map(endpoint).collect(),
    }
}

fn windows(state: &AdminState, upstream: UpstreamId) -> Vec<api::Window> {
    let Some(latencies) = state.metrics.latencies(upstream) else {
        return Vec::new();
    };
    let names = Phase::ALL.map(Phase::as_str);
    let spans = SPANS.iter().zip(latencies.iter());
    let windows = spans.map(|(span, sketches)| {
        let requests = sketches.first().map_or(0, FineSketch::count);
        let phases = names.into_iter().chain(["total"]).zip(sketches);
        api::Window {
            over_seconds: span.as_secs(),
            requests,
            phases: phases
                .filter(|_| requests > 0)
                .map(|(phase, sketch)| quantiles(phase, sketch))
                .collect(),
        }
    });
    windows.collect()
}

fn quantiles(phase: &str, sketch: &FineSketch) -> api::Quantiles {
    let at = |q| milliseconds(sketch.quantile(q));
    api::Quantiles {
        phase: phase.to_owned(),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p98_ms: at(0.98),
        p99_ms: at(0.99),
        p99_9_ms: at(0.999),
    }
}

fn endpoint(view: &EndpointView) -> api::Endpoint {
    api::Endpoint {
        address: view.address.clone(),
        zone: view.zone.as_deref().map(str::to_owned),
        weight: view.weight,
        healthy: view.state.is_in_use(),
        state: view.state.as_str().to_owned(),
        message: view.message.clone(),
        in_flight: view.in_flight,
        latency_ms: milliseconds(view.latency),
        connections: view.connections,
        host: view.host.map(endpoint_host),
    }
}

const fn endpoint_host(host: HostLoad) -> api::EndpointHost {
    let HostLoad {
        cpu,
        iowait,
        memory,
        memory_slope,
        load,
    } = host;
    api::EndpointHost {
        cpu,
        iowait,
        memory,
        memory_slope,
        load,
    }
}

pub(super) fn routes(state: &AdminState) -> Value {
    let plan = state.plan.load();
    let routes: Vec<Value> = plan
        .routes
        .iter()
        .map(|route| {
            let id = state.directories.routes.find(&route.name);
            let summary = id.and_then(|id| state.metrics.route(RouteId::new(id)));
            let upstream = plan.upstreams.get(route.upstream);
            json!({
                "name": &*route.name,
                "match": matches(&route.matches),
                "upstream": upstream.map(|upstream| &*upstream.name),
                "timeout_ms": milliseconds(Some(route.timeout)),
                "traffic": traffic(summary.unwrap_or_default()),
            })
        })
        .collect();
    json!({ "routes": routes })
}

fn matches(matches: &Match) -> Value {
    let host = match &matches.host {
        HostMatch::Any => None,
        HostMatch::Exact(host) => Some(host.to_string()),
        HostMatch::Below(domain) => Some(format!("*.{domain}")),
    };
    let (path, prefix) = match &matches.path {
        PathMatch::Exact(path) => (Some(&**path), None),
        PathMatch::Prefix(prefix) => (None, Some(&**prefix)),
    };
    let methods: Vec<&str> = matches
        .methods
        .iter()
        .map(|method| method.as_str())
        .collect();
    let headers = matches.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), Value::from(value))
    });
    json!({
        "host": host,
        "path": path,
        "path_prefix": prefix,
        "methods": methods,
        "headers": headers.collect::<serde_json::Map<String, Value>>(),
    })
}

fn traffic(summary: Summary) -> api::Traffic {
    let recent = summary.recent;
    api::Traffic {
        total: api::Total {
            requests: summary.requests,
            errors: summary.errors,
            bytes_in: summary.bytes_in,
            bytes_out: summary.bytes_out,
        },
        recent: api::Recent {
            over_seconds: recent.over.as_secs(),
            requests: recent.requests,
            errors: recent.errors,
            p50_ms: milliseconds(recent.p50),
            p98_ms: milliseconds(recent.p98),
            p99_ms: milliseconds(recent.p99),
        },
    }
}

/// Whole microseconds, as milliseconds.
fn milliseconds(duration: Option<Duration>) -> Option<f64> {
    let micros = u32::try_from(duration?.as_micros()).unwrap_or(u32::MAX);
    Some(f64::from(micros) / 1e3)
}
