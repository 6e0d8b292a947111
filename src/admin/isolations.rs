//! Isolations: who is held apart, and the two changes to it. What one would do is told from the ledger's last whole
//! minute.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::api::{Isolate, Isolated, Isolation, Isolations, Preview, Released};
use super::problem::Problem;
use super::{AdminState, Command, Peer, change, usage};
use crate::clock::SystemClock;
use crate::config;
use crate::engine::isolation::{Isolation as Held, LANE_SHARE, Order, Subject, To};
use crate::observe::access_log::{is_remarkable, rfc3339};
use crate::observe::why;
use crate::usage::report::{By, First, Question, report};

/// Rows of the ledger's minute that are looked through.
const ROWS: usize = 200_000;

pub(super) async fn list(State(state): State<AdminState>) -> Json<Isolations> {
    let all = state.isolations.all();
    Json(Isolations {
        isolations: all.iter().map(|one| view(one)).collect(),
    })
}

pub(super) async fn isolate(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Isolated>, Problem> {
    let form = "{\"kind\": \"client\", \"subject\": \"…\", \"to\": \"lane\", \"ttl\": \"30m\", \"reason\": \"…\"}";
    let asked: Isolate = change::json_body(&headers, body, form)?;
    let order = order(&state, &asked, change::name(peer))?;
    let preview = preview(&state, &order).await;
    let mut isolated = Isolated {
        id: None,
        to: order.word.to_string(),
        until: time(order.until),
        preview,
        kept: false,
    };
    if asked.preview {
        return Ok(Json(isolated));
    }
    let (id, subject, word) = (&order.id, &order.subject, &order.word);
    tracing::info!(target: "audit", action = "isolate", %id, kind = subject.kind(), %subject, to = %word, until = isolated.until, by = %order.by, reason = %order.reason, "asked for");
    isolated.id = Some(id.to_string());
    let (reply, answer) = oneshot::channel();
    change::send(&state, Command::Isolate { order, reply }).await?;
    match answer.await.map_err(|_closed| change::unavailable())? {
        Ok(kept) => isolated.kept = kept,
        Err(full) => return Err(Problem::new(StatusCode::CONFLICT, full.to_string())),
    }
    Ok(Json(isolated))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: String,
}

pub(super) async fn release(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<Json<Released>, Problem> {
    let Query(Why { reason }) =
        why.map_err(|_none| bad("A reason is needed: DELETE …/isolations/ID?reason=TEXT."))?;
    let reason = change::checked(&reason)?;
    let (reply, answer) = oneshot::channel();
    let asked = id.clone();
    change::send(&state, Command::Release { id, reason, reply }).await?;
    match answer.await.map_err(|_closed| change::unavailable())? {
        Some(released) => Ok(Json(Released {
            isolation: view(&released),
        })),
        None => {
            let detail = format!(
                "There is no isolation {asked:?}, or its time is over; GET /api/v1/isolations lists them."
            );
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

/// What fits whom.
const HOW: &str = "A client or route is put into a lane, throttled or blocked; an endpoint is blocked (taken out of \
    service), and so is a tier, with those below it; an upstream takes serve-stale or no-retries.";

fn view(held: &Held) -> Isolation {
    let order = held.order();
    let (passed, refused) = held.counts();
    Isolation {
        id: order.id.to_string(),
        kind: order.subject.kind().to_owned(),
        subject: order.subject.to_string(),
        to: order.word.to_string(),
        since: time(order.since),
        until: time(order.until),
        remaining_seconds: order.until.saturating_sub(now()),
        reason: order.reason.to_string(),
        by: order.by.to_string(),
        passed,
        refused,
    }
}

/// The order that `asked` gives, of whom it concerns known to be there.
fn order(state: &AdminState, asked: &Isolate, by: String) -> Result<Order, Problem> {
    let reason = change::checked(&asked.reason)?;
    let ttl = change::ttl(&asked.ttl)?;
    let subject = subject(state, &asked.kind, asked.subject.trim())?;
    let word = asked.to.as_deref().or_else(|| subject.usually());
    let word = word.ok_or_else(|| bad(HOW))?;
    let to = To::from_word(word, config::quota).map_err(|why| bad(format!("to: {why}.")))?;
    if !subject.takes(&to) {
        return Err(bad(HOW));
    }
    let since = now();
    Ok(Order {
        id: Order::id(SystemClock.unix_micros()),
        subject,
        to,
        word: word.into(),
        since,
        until: since + ttl.as_secs().max(1),
        reason: reason.into(),
        by: by.into(),
    })
}

fn subject(state: &AdminState, kind: &str, name: &str) -> Result<Subject, Problem> {
    let plan = state.plan.load();
    let missing = |detail: String| Problem::new(StatusCode::NOT_FOUND, detail);
    match kind {
        // A client may not have come yet.
        "client" if !name.is_empty() => Ok(Subject::Client(name.into())),
        "client" => Err(bad(
            "The subject must name a client; GET /api/v1/clients lists them.",
        )),
        "route" => {
            let mut routes = plan.routes.iter();
            let route = routes.find(|route| *route.name == *name);
            let route = route.ok_or_else(|| {
                missing(format!(
                    "There is no route {name:?}; GET /api/v1/routes lists them."
                ))
            })?;
            Ok(Subject::Route(Arc::clone(&route.name)))
        }
        "endpoint" => {
            let snapshot = (state.snapshot)();
            let found = name.split_once('/').and_then(|(upstream, address)| {
                let of = snapshot
                    .upstreams
                    .iter()
                    .find(|one| *one.name == *upstream)?;
                let at = of.endpoints.iter().find(|one| *one.address == *address)?;
                Some(Subject::Endpoint(of.name.clone(), (*at.address).into()))
            });
            found.ok_or_else(|| {
                missing(format!(
                    "There is no endpoint {name:?}; write UPSTREAM/ADDRESS as GET /api/v1/upstreams shows them."
                ))
            })
        }
        "tier" => {
            let tier = plan.tiers.iter().find(|tier| ***tier == *name);
            let tier = tier.ok_or_else(|| {
                let known = plan.tiers.join(", ");
                missing(format!("There is no tier {name:?}; there are {known}."))
            })?;
            Ok(Subject::Tier(Arc::clone(tier)))
        }
        "upstream" => {
            let mut upstreams = plan.upstreams.iter();
            let upstream = upstreams.find(|one| *one.name == *name);
            let upstream = upstream.ok_or_else(|| {
                missing(format!(
                    "There is no upstream {name:?}; GET /api/v1/upstreams lists them."
                ))
            })?;
            Ok(Subject::Upstream(Arc::clone(&upstream.name)))
        }
        _ => Err(bad(
            "The kind must be client, route, endpoint, tier or upstream.",
        )),
    }
}

/// What `order` would have done in the last whole minute.
async fn preview(state: &AdminState, order: &Order) -> Option<Preview> {
    let (by, name) = match &order.subject {
        Subject::Client(name) => (By::Client, name),
        Subject::Route(name) => (By::Route, name),
        Subject::Tier(_) | Subject::Upstream(_) => return Some(sampled(state, order)),
        Subject::Endpoint(..) => return None,
    };
    let to = now() / 60 * 60;
    let question = Question {
        from: to.checked_sub(60)?,
        to,
        by: vec![by, By::Upstream],
        first: First::Dearest,
        limit: ROWS,
    };
    let minute = time(question.from);
    let report = usage::read(state, move |ledger| report(ledger, &question));
    let report = report.await.ok()?;
    let limits: Vec<_> = (state.snapshot)()
        .upstreams
        .iter()
        .map(|one| (one.name.clone(), one.limit.limit))
        .collect();
    let (mut requests, mut over) = (0, 0.0);
    for line in report.lines {
        let of = if by == By::Client {
            &line.key.client
        } else {
            &line.key.route
        };
        if of.as_deref() != Some(&**name) {
            continue;
        }
        requests += line.sums.requests;
        let limit = limits
            .iter()
            .find(|(upstream, _)| Some(&**upstream) == line.key.upstream.as_deref());
        let slots = f64::from(limit.map_or(0, |(_, limit)| *limit)) * LANE_SHARE;
        let held = line.sums.upstream_micros as f64 / 60e6;
        over += line.sums.requests as f64 * (1.0 - slots.max(1.0) / held.max(1e-9)).max(0.0);
    }
    let would_refuse = match order.to {
        To::Block => requests,
        To::Lane => whole(over),
        To::ServeStale | To::NoRetries => 0,
        To::Throttle(quota) => {
            let allowed = quota.amount().saturating_mul(60) / quota.period().seconds().max(1);
            requests.saturating_sub(allowed)
        }
    };
    Some(Preview {
        minute,
        requests,
        would_refuse,
    })
}

/// What `order` would have turned away, or not sent again, in the last minute; by the requests that are remembered, of which
/// those that went well stand for a hundred.
fn sampled(state: &AdminState, order: &Order) -> Preview {
    let plan = state.plan.load();
    let began = SystemClock.unix_micros().saturating_sub(60_000_000);
    let directories = &state.directories;
    let cut = match &order.subject {
        Subject::Tier(name) => plan.tiers.iter().position(|tier| tier == name),
        _ => None,
    };
    let (mut requests, mut would_refuse) = (0, 0);
    for known in state.metrics.decided_since(began, ROWS) {
        let exchange = &known.exchange;
        let told = is_remarkable(exchange)
            || exchange.observed.is_some()
            || exchange.phases.total() > plan.telemetry.slow;
        let weight = if told { 1 } else { why::SAMPLE.into() };
        if let Subject::Upstream(name) = &order.subject {
            let upstream = exchange.upstream.map(crate::model::UpstreamId::index);
            if upstream
                .and_then(|index| directories.upstreams.name(index))
                .as_ref()
                == Some(name)
            {
                requests += weight;
                let again = u64::from(exchange.attempts.saturating_sub(1));
                would_refuse += if order.to == To::NoRetries {
                    again * weight
                } else {
                    0
                };
            }
            continue;
        }
        requests += weight;
        let tier = exchange.tier.map(crate::model::TierId::index);
        let tier = tier.and_then(|index| directories.tiers.name(index));
        let rank = plan.tiers.iter().position(|one| Some(one) == tier.as_ref());
        would_refuse += if rank >= cut && rank.is_some() {
            weight
        } else {
            0
        };
    }
    Preview {
        minute: rfc3339(began),
        requests,
        would_refuse,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a number of requests"
)]
fn whole(requests: f64) -> u64 {
    requests.round() as u64
}

fn now() -> u64 {
    SystemClock.unix_micros() / 1_000_000
}

fn time(seconds: u64) -> String {
    rfc3339(seconds.saturating_mul(1_000_000))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
