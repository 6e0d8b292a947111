//! What is kept of an incident: put together from what the API shows, and given out.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::problem::Problem;
use super::view::Sort;
use super::{AdminState, view};
use crate::clock::SystemClock;
use crate::incident::bundle;
use crate::incident::frozen::Frozen;
use crate::incident::incidents::Incident;
use crate::incident::recorder::{self, Recorder};
use crate::observe::inflight::InFlight;
use crate::observe::profile::Format;
use crate::observe::prometheus::{self, Exposition};

/// Decisions that are kept, the newest.
const DECISIONS: usize = 5_000;
/// Clients, the dearest.
const CLIENTS: usize = 200;
/// URLs of caches.
const URLS: usize = 100;
/// Seconds of each upstream's timeline.
const TIMELINE: usize = 300;

/// The files of a bundle, with their names.
pub(crate) type Files = Vec<(&'static str, Vec<u8>)>;

/// What there is to keep at this moment: everything but what takes its time. Takes some milliseconds itself.
pub(crate) fn files(
    state: &AdminState,
    incident: &Incident,
    frozen: Option<&Frozen>,
    in_flight: &InFlight,
    recorder: &Recorder,
) -> Files {
    let now = SystemClock.unix_micros();
    let since = now.saturating_sub(recorder::SECONDS as u64 * 1_000_000);
    let plan = state.plan.load_full();
    let events: Vec<Value> = state
        .events
        .recent()
        .iter()
        .map(|event| event.to_json())
        .collect();
    let mut files = vec![
        ("incident.json", json_of(incident)),
        ("diagnosis.json", json_of(&view::diagnosis(state))),
        ("status.json", json_of(&view::status(state))),
        (
            "config.json",
            json_of(&json!({ "hash": plan.hash, "plan": (state.explain)(&plan) })),
        ),
        ("events.json", json_of(&events)),
        ("slos.json", json_of(&view::slos(state))),
        ("samples.json", json_of(&recorder.samples())),
        ("upstreams.json", json_of(&view::upstreams(state))),
        ("limits.json", json_of(&view::limits(state))),
        ("breakers.json", json_of(&view::breakers(state))),
        ("cache.json", json_of(&view::caches(state, URLS))),
        (
            "clients.json",
            json_of(&view::clients(state, Sort::default(), CLIENTS)),
        ),
        ("inflight.json", json_of(&view::inflight(state, in_flight))),
        ("decisions.jsonl", decisions(state, frozen, since)),
    ];
    if let Ok(timelines) = view::history(state, None, TIMELINE) {
        files.push(("timelines.json", json_of(&timelines)));
    }
    if let Some(frozen) = frozen {
        files.push((bundle::FACTS, json_of(frozen)));
    }
    let snapshot = (state.snapshot)();
    let format = prometheus::Format::OpenMetrics;
    let (metrics, directories) = (&state.metrics, &state.directories);
    let text = Exposition::copy(metrics, directories, snapshot, &state.status).render(format);
    files.push(("metrics.txt", text));
    files
}

/// What can be said of requests of the last minute, one in a line.
fn decisions(state: &AdminState, frozen: Option<&Frozen>, since: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    for known in state.metrics.decided_since(since, DECISIONS) {
        let mut line =
            serde_json::to_value(view::known(state, String::new(), &known)).unwrap_or_default();
        if let Some(line) = line.as_object_mut() {
            // The id itself is not kept.
            line.remove("request_id");
            let client = frozen.and_then(|frozen| frozen.client(known.exchange.client.hash()));
            line.insert("client".to_owned(), client.into());
        }
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// The machine's seconds from `from` to now, in seconds since the Unix epoch. Reads a file.
pub(crate) fn host(state: &AdminState, from: u64) -> Vec<u8> {
    let to = SystemClock.unix_micros() / 1_000_000;
    json_of(&super::host::rows(&state.host_samples.between(from, to), 1))
}

/// Nothing that is shown fails to be written.
fn json_of(what: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(what).unwrap_or_default()
}

pub(super) async fn download(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let packed = read(&state, &id).await?;
    let name = format!("attachment; filename=\"tidegate-incident-{id}.tar.zst\"");
    let headers = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, packed).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    format: Option<Format>,
}

/// Where the processor's time went, out of the bundle.
pub(super) async fn profile(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    shown: Result<Query<Shown>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Shown { format }) =
        shown.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let format = format.unwrap_or(Format::Svg);
    let file = match format {
        Format::Pprof => bundle::PROFILE,
        Format::Svg => bundle::FLAMEGRAPH,
        Format::Folded => bundle::FOLDED,
    };
    let packed = read(&state, &id).await?;
    let unpacked = tokio::task::spawn_blocking(move || bundle::unpack(&packed)).await;
    let found = match unpacked {
        Ok(Ok(mut files)) => files.remove(file),
        Ok(Err(error)) => return Err(broken(&error)),
        Err(error) => return Err(broken(&error)),
    };
    let missing = "The bundle has no profile: another was being taken, or the process was idle.";
    let found = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, missing))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], found).into_response())
}

async fn read(state: &AdminState, id: &str) -> Result<Vec<u8>, Problem> {
    let bundles = Arc::clone(&state.bundles);
    let asked = id.to_owned();
    let read = tokio::task::spawn_blocking(move || bundles.read(&asked)).await;
    let packed = match read {
        Ok(Ok(packed)) => packed,
        Ok(Err(error)) => return Err(broken(&error)),
        Err(error) => return Err(broken(&error)),
    };
    packed.ok_or_else(|| {
        let detail = match state.incidents.find(id) {
            Some(incident) if incident.bundle.is_none() && incident.closed_at.is_none() => {
                "There is no bundle yet: it takes a profile of ten seconds first. Ask again then."
            }
            Some(_) => "There is no bundle of this incident any more: only the newest are kept.",
            None => "There is no such incident; GET /api/v1/incidents lists them.",
        };
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

fn broken(error: &impl std::fmt::Display) -> Problem {
    let detail = format!("The bundle cannot be read: {error}.");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}
