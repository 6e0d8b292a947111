//! `GET /api/v1/events`: the newest state changes as a list, or all from now on as server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Duration, timeout};

use super::AdminState;
use crate::observe::events::Event;

/// A line that means nothing, so that whoever is between does not take silence for death.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that wait for a reader's socket.
const MAX_WAITING: usize = 16;

pub(super) async fn events(
    State(state): State<AdminState>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let query = uri.query().unwrap_or_default();
    if query
        .split('&')
        .any(|part| part.split('=').next() == Some("recent"))
    {
        let recent: Vec<Value> = state
            .events
            .recent()
            .iter()
            .map(|event| event.to_json())
            .collect();
        return Json(json!({ "events": recent })).into_response();
    }
    // A client that comes back says what it has seen (HTML, section 9.2.4).
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let (missed, live) = state.events.listen(last.unwrap_or(u64::MAX));
    let (sender, body) = Channel::<Bytes>::new(MAX_WAITING);
    tokio::spawn(send(missed, live, sender));
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::new(body),
    )
        .into_response()
}

/// Sends until the reader has gone.
async fn send(missed: Vec<Arc<Event>>, mut live: Receiver<Arc<Event>>, mut to: Sender<Bytes>) {
    let mut text = ": events\n\n".to_owned();
    missed.iter().for_each(|event| text.push_str(&line(event)));
    loop {
        if to.send_data(Bytes::from(text)).await.is_err() {
            return;
        }
        text = match timeout(KEEP_ALIVE, live.recv()).await {
            Ok(Ok(event)) => line(&event),
            Ok(Err(RecvError::Lagged(missed))) => {
                format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n")
            }
            Ok(Err(RecvError::Closed)) => return,
            Err(_elapsed) => ":\n\n".to_owned(),
        };
    }
}

fn line(event: &Event) -> String {
    let (id, kind, data) = (event.id, event.kind, event.to_json());
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}
