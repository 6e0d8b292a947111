//! The two changes this API takes. Each needs a reason, and leaves a line in the audit log.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::problem::Problem;
use super::{AdminState, Command, Peer};

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

async fn send(state: &AdminState, command: Command) -> Result<(), Problem> {
    let sent = state.commands.send(command).await;
    sent.map_err(|_closed| unavailable())
}

fn unavailable() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The process is about to end.",
    )
}

fn name(peer: Option<Extension<Peer>>) -> String {
    peer.map_or_else(|| "unknown".into(), |Extension(peer)| peer.to_string())
}

/// The reason in a JSON body. A form or a plain text, which a page of another site could send unasked, is
/// refused by its content type.
fn reason(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<String, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body must be application/json: {\"reason\": \"…\"}.",
        ));
    }
    let change: Change = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("The body must be {{\"reason\": \"…\"}}: {error}.");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let reason = change.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        let detail = format!("The reason must have 1 to {MAX_REASON} characters.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(reason.to_owned())
}
