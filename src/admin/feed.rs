//! The live feed: once a second everything the dashboard shows, made once for all who watch, and the minutes before.
//!
//! Nobody watches, nothing is made: the first reader starts the work and the second without one ends it. A reader that is
//! slow gets the newest moment, not all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::problem::Problem;
use super::{AdminState, api, view};
use crate::observe::timeline::SECONDS;

const EVERY: Duration = Duration::from_secs(1);
/// Moments that wait for a reader's socket.
const MAX_WAITING: usize = 2;

/// Who watches.
#[derive(Debug, Default)]
pub struct Feed {
    moments: Mutex<Option<watch::Sender<Bytes>>>,
}

impl Feed {
    /// The moments from now on.
    fn watch(self: &Arc<Self>, state: &AdminState) -> watch::Receiver<Bytes> {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moments) = moments.as_ref() {
            return moments.subscribe();
        }
        let (sender, mut receiver) = watch::channel(moment(state));
        receiver.mark_changed();
        *moments = Some(sender);
        drop(moments);
        tokio::spawn(make(Arc::clone(self), state.clone()));
        receiver
    }

    /// Hands out a moment; false: nobody is left to take it, and none need be made.
    fn send(&self, moment: impl FnOnce() -> Bytes) -> bool {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = moments
            .as_ref()
            .filter(|sender| sender.receiver_count() > 0)
        else {
            *moments = None;
            return false;
        };
        sender.send_replace(moment());
        true
    }
}

async fn make(feed: Arc<Feed>, state: AdminState) {
    let mut seconds = tokio::time::interval(EVERY);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is due at once, and was made for whoever came first.
    seconds.tick().await;
    loop {
        seconds.tick().await;
        if !feed.send(|| moment(&state)) {
            return;
        }
    }
}

fn moment(state: &AdminState) -> Bytes {
    let moment = serde_json::to_string(&view::moment(state)).unwrap_or_default();
    Bytes::from(format!("event: moment\ndata: {moment}\n\n"))
}

pub(super) async fn stream(State(state): State<AdminState>) -> Response {
    let moments = state.feed.watch(&state);
    let (sender, body) = Channel::<Bytes>::new(MAX_WAITING);
    tokio::spawn(send(moments, sender));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::new(body)).into_response()
}

/// Sends until the reader has gone.
async fn send(mut moments: watch::Receiver<Bytes>, mut to: Sender<Bytes>) {
    moments.mark_changed();
    while moments.changed().await.is_ok() {
        let moment = moments.borrow_and_update().clone();
        if to.send_data(moment).await.is_err() {
            return;
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    upstream: Option<String>,
    seconds: Option<usize>,
}

pub(super) async fn history(
    State(state): State<AdminState>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<api::Histories>, Problem> {
    let Query(asked) =
        asked.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let seconds = asked.seconds.unwrap_or(SECONDS);
    view::history(&state, asked.upstream.as_deref(), seconds).map(Json)
}

pub(super) async fn upstream(
    State(state): State<AdminState>,
    Path(upstream): Path<String>,
) -> Result<Json<api::UpstreamDetail>, Problem> {
    view::upstream_detail(&state, &upstream).map(Json)
}
