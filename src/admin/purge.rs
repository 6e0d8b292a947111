//! Dropping what is cached: asked for in JSON, or by the method `PURGE` as other caches take it.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};

use super::api::{Purge, Purged};
use super::change::{checked, json_body, name};
use super::problem::Problem;
use super::{AdminState, Peer, guard};
use crate::cache::key;
use crate::cache::purge::{self, Scope};
use crate::clock::SystemClock;

pub(super) async fn purge(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Purged>, Problem> {
    let form = "{\"url\": \"http://…\", \"reason\": \"…\"}, or with prefix or tag";
    let purge: Purge = json_body(&headers, body, form)?;
    let reason = checked(&purge.reason)?;
    let scope = scope(&purge)?;
    let known = |name: &str| {
        state
            .caches
            .all()
            .iter()
            .any(|cache| **cache.name() == *name)
    };
    if let Some(name) = purge.cache.as_deref().filter(|name| !known(name)) {
        let detail = format!("There is no cache {name:?}.");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    let of = purge.cache.as_deref();
    let purged = drop_stored(&state, peer, of, &[scope], purge.soft, &reason).await?;
    Ok(Json(Purged { purged }))
}

/// Answers `PURGE`, to whatever path. It names no reason, so the audit log has the method in its place.
pub(super) async fn by_method(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().as_str() != purge::METHOD {
        return next.run(request).await;
    }
    let purged = purge_url(
        &state,
        peer,
        request.uri().clone(),
        request.headers().clone(),
    );
    purged.await.map(Json).into_response()
}

async fn purge_url(
    state: &AdminState,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Purged, Problem> {
    if headers.contains_key(ORIGIN) {
        let detail = "PURGE is not for pages; they have POST /api/v1/cache/purge.";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    guard::check_token(state, &Method::POST, &headers)?;
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let host = host.filter(|host| !host.is_empty()).ok_or_else(|| {
        let detail = "PURGE needs the URL that clients ask for, or its host as Host.";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    // Only a whole URL tells which of the two clients use.
    let schemes = uri
        .scheme_str()
        .map_or_else(|| vec!["http", "https"], |one| vec![one]);
    let urls = schemes.iter().map(|scheme| key::url(scheme, host, target));
    let scopes: Vec<Scope> = urls.map(Scope::Url).collect();
    let purged = drop_stored(state, peer, None, &scopes, false, purge::METHOD).await?;
    if purged == 0 {
        let detail = format!("Nothing of {host}{target} was stored.");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    Ok(Purged { purged })
}

/// Drops what `scopes` cover, of one cache or of all; how many URLs that was.
async fn drop_stored(
    state: &AdminState,
    peer: Option<Extension<Peer>>,
    of: Option<&str>,
    scopes: &[Scope],
    soft: bool,
    reason: &str,
) -> Result<usize, Problem> {
    let now = SystemClock.unix_micros() / 1_000;
    let mut caches = state.caches.all();
    caches.retain(|cache| of.is_none_or(|of| **cache.name() == *of));
    let plan = state.plan.load();
    let all = caches.iter().flat_map(|cache| {
        let config = plan.caches.iter().find(|one| one.name == *cache.name());
        let ignored = config.map_or(&[][..], |one| &one.key.ignore_query);
        let scopes = scopes.iter().map(|scope| scope.without(ignored));
        scopes.map(move |scope| cache.purge(&scope, soft, now))
    });
    let done: Vec<_> = all.collect();
    let purged = done.iter().map(|done| done.urls).sum();
    let peer = name(peer);
    tracing::info!(target: "audit", action = "purge", %peer, ?scopes, soft, reason, purged, "done");
    for on_disk in done.into_iter().filter_map(|done| done.on_disk) {
        on_disk.await.map_err(|_dropped| {
            let detail = "It is purged, but that could not be written to disk: it may come back with a restart. \
                          Ask again, or delete the cache's directory while the proxy is down.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail.to_owned())
        })?;
    }
    Ok(purged)
}

/// What a purge is about.
fn scope(purge: &Purge) -> Result<Scope, Problem> {
    let refuse = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail.to_owned());
    match (&purge.url, &purge.prefix, &purge.tag) {
        (Some(url), None, None) => {
            let url = key::normal(url).ok_or_else(|| refuse("The url must be absolute."))?;
            Ok(Scope::Url(url))
        }
        (None, Some(prefix), None) => {
            let prefix = key::normal(prefix);
            let prefix = prefix.ok_or_else(|| refuse("The prefix must begin like a URL."))?;
            Ok(Scope::Prefix(prefix))
        }
        (None, None, Some(tag)) if !tag.is_empty() => Ok(Scope::Tag(tag.clone())),
        _ => Err(refuse("Exactly one of url, prefix and tag is needed.")),
    }
}
