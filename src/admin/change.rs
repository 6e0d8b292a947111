//! The changes this API takes. Each needs a reason, and leaves a line in the audit log.

use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::oneshot;

use super::api::BreakerChange;
use super::problem::Problem;
use super::{AdminState, Command, NoBreaker, Peer};
use crate::clock::SystemClock;
use crate::config;
use crate::engine::breaker::{Order, Position};

/// The longest time an order may last.
const MAX_TTL: Duration = Duration::from_secs(7 * 86_400);
/// Bound on a reason, in characters.
const MAX_REASON: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    reason: String,
}

pub(super) async fn reload(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let reason = reason(&headers, body)?;
    let peer = name(peer);
    tracing::info!(target: "audit", action = "reload", %peer, reason, "asked for");
    let (reply, answer) = oneshot::channel();
    send(&state, Command::Reload { reason, reply }).await?;
    let result = answer.await.map_err(|_closed| unavailable())?;
    let error = result.as_ref().err();
    tracing::info!(target: "audit", action = "reload", %peer, ?error, "done");
    match result {
        Ok(hash) => Ok(Json(json!({ "reloaded": true, "hash": hash })).into_response()),
        Err(errors) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, errors)),
    }
}

pub(super) async fn drain(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let reason = reason(&headers, body)?;
    let already = state.status.is_draining();
    let peer = name(peer);
    tracing::info!(target: "audit", action = "drain", %peer, reason, already, "asked for");
    if !already {
        send(&state, Command::Drain { reason }).await?;
    }
    let answer = json!({ "draining": true, "already": already });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

pub(super) async fn breaker(
    State(state): State<AdminState>,
    Path(upstream): Path<String>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let form = "{\"state\": \"open\", \"ttl\": \"30m\", \"reason\": \"…\"}";
    let change: BreakerChange = json_body(&headers, body, form)?;
    let reason = checked(&change.reason)?;
    let order = order(&change, &reason)?;
    let (peer, position, ttl) = (name(peer), &change.state, change.ttl.as_deref());
    tracing::info!(target: "audit", action = "breaker", %peer, upstream, position, ttl, reason, "asked for");
    let (reply, answer) = oneshot::channel();
    let command = Command::Breaker {
        upstream: upstream.clone(),
        order,
        reply,
    };
    send(&state, command).await?;
    match answer.await.map_err(|_closed| unavailable())? {
        Ok(()) => Ok(Json(change).into_response()),
        Err(NoBreaker::NoUpstream) => {
            let detail = format!("There is no upstream {upstream:?}.");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        Err(NoBreaker::NotActing(mode)) => {
            let mode = mode.as_str();
            let detail =
                format!("The breaker of {upstream:?} refuses nothing: its mode is {mode}.");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}

/// What is asked of a breaker; none ends an order.
fn order(change: &BreakerChange, reason: &str) -> Result<Option<Order>, Problem> {
    let refuse = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let position = match change.state.as_str() {
        "open" => Position::Open,
        "close" => Position::Closed,
        "auto" => return Ok(None),
        _ => return Err(refuse("The state must be open, close or auto.".to_owned())),
    };
    let Some(ttl) = &change.ttl else {
        return Err(refuse("A ttl is needed, such as \"30m\".".to_owned()));
    };
    let ttl = self::ttl(ttl)?;
    Ok(Some(Order {
        position,
        until: SystemClock.now().after(ttl),
        reason: reason.into(),
    }))
}

/// How long an order lasts.
pub(super) fn ttl(text: &str) -> Result<Duration, Problem> {
    let refuse = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let ttl = config::duration(text).map_err(|error| refuse(format!("The ttl: {error}.")))?;
    if ttl.is_zero() || ttl > MAX_TTL {
        let days = MAX_TTL.as_secs() / 86_400;
        return Err(refuse(format!(
            "The ttl must be above 0 and at most {days}d."
        )));
    }
    Ok(ttl)
}

pub(super) async fn send(state: &AdminState, command: Command) -> Result<(), Problem> {
    let sent = state.commands.send(command).await;
    sent.map_err(|_closed| unavailable())
}

pub(super) fn unavailable() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The process is about to end.",
    )
}

pub(super) fn name(peer: Option<Extension<Peer>>) -> String {
    peer.map_or_else(|| "unknown".into(), |Extension(peer)| peer.to_string())
}

/// The reason in a JSON body that is nothing else.
fn reason(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<String, Problem> {
    let change: Change = json_body(headers, body, "{\"reason\": \"…\"}")?;
    checked(&change.reason)
}

/// A JSON body of the given `form`. A form or a plain text, which a page of another site could send unasked,
/// is refused by its content type.
pub(super) fn json_body<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    form: &str,
) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        let detail = format!("The body must be application/json: {form}.");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("The body must be {form}: {error}.");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

pub(super) fn checked(reason: &str) -> Result<String, Problem> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        let detail = format!("The reason must have 1 to {MAX_REASON} characters.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(reason.to_owned())
}
