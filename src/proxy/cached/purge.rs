//! `PURGE`: drops what is stored of a URL, for those the listener's plan names.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::super::respond::Refusal;
use super::super::track::Track;
use super::{Ready, RouteCache};
use crate::cache::purge::{METHOD, Scope};
use crate::cache::{Cache, key};
use crate::model::Reason;

const NOT_ALLOWED: Refusal = Refusal {
    proxy_status: "http_request_denied",
    ..Refusal::new(
        StatusCode::FORBIDDEN,
        Reason::BadRequest,
        "purging is not allowed from this address",
    )
};

/// What is to be dropped.
#[derive(Debug)]
pub(crate) struct Purge {
    /// None when nothing of the URL can be stored.
    cache: Option<Arc<Cache>>,
    url: String,
}

/// Whether a request by `method` purges. On a listener where nobody may, it is a method like any other.
///
/// # Errors
/// When others may, but not who sent it.
pub(crate) fn is_asked(track: &Track, method: &Method) -> Result<bool, Refusal> {
    let from = &track.conn.listener.listener.purge_from;
    if from.is_empty() || method.as_str() != METHOD {
        return Ok(false);
    }
    let address = track.address();
    if address.is_some_and(|ip| from.iter().any(|network| network.contains(&ip))) {
        return Ok(true);
    }
    Err(NOT_ALLOWED)
}

impl Purge {
    /// Of all that is stored for `host` and `target`, on a route with this cache.
    pub(crate) fn new(
        track: &Track,
        of: Option<&RouteCache>,
        (host, target): (&str, &str),
    ) -> Box<Self> {
        Box::new(Self {
            cache: of.map(|of| Arc::clone(&of.cache)),
            url: key::url(track.conn.scheme(), host, target),
        })
    }

    /// Drops it, and says whether there was anything: 200, else 404.
    pub(crate) async fn carry_out(self: Box<Self>, track: &Track) -> Box<Ready> {
        let Self { cache, url } = *self;
        let Some(cache) = cache else {
            return answer(StatusCode::NOT_FOUND, 0);
        };
        let now = track.conn.worker.unix_millis(track.now());
        let peer = track.address().map(tracing::field::display);
        let client = track.client();
        tracing::info!(target: "audit", action = "purge", peer, client, url, reason = METHOD, "asked for");
        // It looks through the whole cache; a worker has other things to do.
        let scope = Scope::Url(url);
        let purge = tokio::task::spawn_blocking(move || cache.purge(&scope, false, now));
        let Ok(done) = purge.await else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, 0);
        };
        let lost = match done.on_disk {
            Some(on_disk) => on_disk.await.is_err(),
            None => false,
        };
        let status = match done.urls {
            // It may come back with a restart.
            _ if lost => StatusCode::INTERNAL_SERVER_ERROR,
            0 => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        answer(status, done.urls)
    }
}

fn answer(status: StatusCode, purged: usize) -> Box<Ready> {
    let body = json!({ "purged": purged }).to_string();
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    for (name, value) in [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_LENGTH, HeaderValue::from(body.len())),
    ] {
        head.headers.insert(name, value);
    }
    Ready::whole(head, Bytes::from(body).into())
}
