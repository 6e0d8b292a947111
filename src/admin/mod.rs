//! The admin HTTP API: what operators and their tools read, and the few things they may ask for.
//!
//! GET never changes anything; a change is a POST with a JSON body that gives a reason, and leaves a line in
//! the audit log. Reads from observe, config and engine's registry; what must happen in the process is sent
//! to the supervisor as a [`Command`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use self::problem::Problem;
use crate::cache::Caches;
use crate::config::plan::{Plan, Secret};
use crate::engine::breaker;
use crate::engine::circuit::Mode;
use crate::engine::isolation::{Full, Isolation, Isolations, Order};
use crate::engine::registry::Directories;
use crate::incident::bundles::Bundles;
use crate::incident::incidents::Incidents;
use crate::incident::objectives::Board;
use crate::incident::watch::Latest;
use crate::observe::collector::Metrics;
use crate::observe::events::Events;
use crate::observe::host::Host;
use crate::observe::inflight::InFlight;
use crate::observe::prometheus::{self, Exposition};
use crate::observe::snapshot::Snapshot;
use crate::observe::status::Status;
use crate::observe::timeline::Timelines;
use crate::usage::Ledger;

pub mod api;
mod assets;
mod bundle;
mod change;
mod events;
mod feed;
mod guard;
mod host;
mod isolations;
mod openapi;
mod problem;
mod profile;
mod purge;
mod serve;
mod session;
mod usage;
mod view;

pub(crate) use self::bundle::{Files, files as bundle_files, host as bundle_host};
pub use self::feed::Feed;
pub use self::serve::{Listener, Peer, serve};
pub(crate) use self::view::{action_of, told_of as diagnosis_of};

/// Bound on a request body.
const MAX_BODY: usize = 64 << 10;

/// What the API asks of the supervisor.
#[derive(Debug)]
pub enum Command {
    /// Load the configuration again. The answer is the new plan's hash, or what is wrong with the file.
    Reload {
        /// Why, in the operator's words.
        reason: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Stop accepting, finish what is in flight, exit.
    Drain {
        /// Why, in the operator's words.
        reason: String,
    },
    /// Hold the breaker of an upstream where the operator wants it.
    Breaker {
        /// The upstream's name.
        upstream: String,
        /// Where and for how long; none ends such an order.
        order: Option<breaker::Order>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), NoBreaker>>,
    },
    /// Hold somebody apart.
    Isolate {
        /// Whom, how and for how long.
        order: Order,
        /// Where the answer goes: whether that outlives the process.
        reply: oneshot::Sender<Result<bool, Full>>,
    },
    /// Let somebody go.
    Release {
        /// The isolation's.
        id: String,
        /// Why, in the operator's words.
        reason: String,
        /// Where the answer goes: what was released, if there was such an isolation.
        reply: oneshot::Sender<Option<Arc<Isolation>>>,
    },
}

/// Why a breaker takes no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBreaker {
    /// There is no such upstream.
    NoUpstream,
    /// Its breaker does not act: this is its mode.
    NotActing(Mode),
}

/// An answer that takes a moment.
pub type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the API shows and whom it asks.
#[derive(Clone)]
pub struct AdminState {
    /// The plan in use.
    pub plan: Arc<ArcSwap<Plan>>,
    /// The names of routes, upstreams and endpoints.
    pub directories: Arc<Directories>,
    /// The caches.
    pub caches: Arc<Caches>,
    /// Whom operators hold apart.
    pub isolations: Arc<Isolations>,
    /// What has been observed.
    pub metrics: Arc<Metrics>,
    /// What is wrong, and how much room there is.
    pub latest: Arc<Latest>,
    /// The last minutes of each upstream.
    pub timelines: Arc<Timelines>,
    /// Who watches.
    pub feed: Arc<Feed>,
    /// What is promised, and how it stands.
    pub objectives: Arc<Board>,
    /// What was missed.
    pub incidents: Arc<Incidents>,
    /// What was kept of that.
    pub bundles: Arc<Bundles>,
    /// What changes.
    pub events: Arc<Events>,
    /// The machine, second by second.
    pub host_samples: Arc<Host>,
    /// The usage ledger.
    pub usage: Ledger,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// Reads the data plane's live values now.
    pub snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// Asks the data plane for its oldest requests under way, at most so many.
    pub inflight: Arc<dyn Fn(usize) -> Asked<InFlight> + Send + Sync>,
    /// The plan as JSON, secrets left out.
    pub explain: fn(&Plan) -> serde_json::Value,
    /// The bearer token everything but the probes asks for.
    pub token: Option<Secret>,
    /// A name this API may be asked by, besides `localhost` and IP addresses, when there is no token.
    pub host: Option<Arc<str>>,
    /// Where commands go. When nobody takes them, the API answers 503.
    pub commands: mpsc::Sender<Command>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("status", &self.status)
            .field("token", &self.token)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The whole API.
pub fn router(state: AdminState) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/upstreams", get(upstreams))
        .route("/api/v1/upstreams/{upstream}", get(feed::upstream))
        .route("/api/v1/history", get(feed::history))
        .route("/api/v1/stream", get(feed::stream))
        .route("/api/v1/routes", get(routes))
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/usage", get(usage::usage))
        .route("/api/v1/usage/hours", get(usage::hours))
        .route("/api/v1/traffic", get(usage::traffic))
        .route("/api/v1/diagnosis", get(diagnosis))
        .route("/api/v1/scale/{upstream}", get(scale))
        .route("/api/v1/slos", get(slos))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/api/v1/incidents/{id}/bundle", get(bundle::download))
        .route("/api/v1/incidents/{id}/profile", get(bundle::profile))
        .route("/api/v1/limits", get(limits))
        .route("/api/v1/breakers", get(breakers))
        .route("/api/v1/breakers/{upstream}", post(change::breaker))
        .route(
            "/api/v1/isolations",
            get(isolations::list).post(isolations::isolate),
        )
        .route("/api/v1/isolations/{id}", delete(isolations::release))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/host", get(host::host))
        .route("/api/v1/cache", get(caches))
        .route("/api/v1/cache/purge", post(purge::purge))
        .route("/api/v1/inflight", get(inflight))
        .route("/api/v1/why/{request_id}", get(why))
        .route("/api/v1/config", get(config))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/debug/pprof/profile", get(profile::cpu))
        .route("/debug/pprof/heap", get(profile::heap))
        .route("/api/v1/reload", post(change::reload))
        .route("/api/v1/drain", post(change::drain))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            state.clone(),
            guard::authorize,
        ));
    // The page holds nothing of this process: what it shows it asks for, and then the token is needed.
    let page = assets::PATHS.iter().fold(Router::new(), |page, path| {
        page.route(path, get(assets::serve))
    });
    let page = page
        .route("/api/v1/session", post(session::begin).delete(session::end))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            state.clone(),
            guard::same_site,
        ));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(wrong_method)
        .merge(page)
        .merge(guarded)
        .layer(middleware::from_fn_with_state(
            state.clone(),
            purge::by_method,
        ))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(header_unless_set(
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ))
        .layer(header_unless_set(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header_unless_set(X_FRAME_OPTIONS, "DENY"))
        .layer(header_unless_set(REFERRER_POLICY, "no-referrer"))
        .layer(header_unless_set(CACHE_CONTROL, "no-store"))
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler of the admin API panicked");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "This is a defect; see the log.",
            )
            .into_response()
        }))
        .with_state(state)
}

fn header_unless_set(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    last: Option<String>,
}

async fn diagnosis(
    State(state): State<AdminState>,
    last: Result<Query<Last>, QueryRejection>,
) -> Result<Json<api::Diagnosis>, Problem> {
    let Query(Last { last }) =
        last.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let Some(last) = last else {
        return Ok(Json(view::diagnosis(&state)));
    };
    let refuse = |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("last: {why}."));
    let last = crate::config::duration(&last).map_err(refuse)?;
    let most = crate::incident::past::REMEMBERED;
    if last.as_secs() > most {
        return Err(refuse(format!("it may be {}h at most", most / 3_600)));
    }
    Ok(Json(view::lately(&state, last)))
}

async fn scale(
    State(state): State<AdminState>,
    Path(upstream): Path<String>,
) -> Result<Json<api::Scale>, Problem> {
    let known = state.directories.upstreams.find(&upstream).is_some();
    if !known {
        let detail = "There is no upstream of that name; GET /api/v1/upstreams lists them.";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    Ok(Json(view::scale(&state, &upstream)))
}

async fn slos(State(state): State<AdminState>) -> Json<api::Slos> {
    Json(view::slos(&state))
}

async fn incidents(State(state): State<AdminState>) -> Json<api::Incidents> {
    Json(view::incidents(&state))
}

async fn incident(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<api::Incident>, Problem> {
    let found = state.incidents.find(&id);
    let found = found.ok_or_else(|| {
        let detail = "There is no incident of that id; GET /api/v1/incidents lists them.";
        Problem::new(StatusCode::NOT_FOUND, detail)
    })?;
    Ok(Json((*found).clone()))
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<AdminState>) -> (StatusCode, &'static str) {
    if state.status.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(
    State(state): State<AdminState>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let accept = headers.get_all(header::ACCEPT).into_iter();
    let format = prometheus::format(accept.filter_map(|field| field.to_str().ok()));
    let snapshot = (state.snapshot)();
    let exposition = Exposition::copy(&state.metrics, &state.directories, snapshot, &state.status);
    // A hundred thousand series take some ten milliseconds: on a thread that gives way to the workers.
    let rendered = tokio::task::spawn_blocking(move || exposition.render(format));
    let body = rendered.await.map_err(|error| {
        let detail = format!("The metrics could not be rendered: {error}.");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], body))
}

async fn status(State(state): State<AdminState>) -> Json<api::Status> {
    Json(view::status(&state))
}

async fn upstreams(State(state): State<AdminState>) -> Json<api::Upstreams> {
    Json(view::upstreams(&state))
}

async fn routes(State(state): State<AdminState>) -> Json<serde_json::Value> {
    Json(view::routes(&state))
}

/// How many clients are shown unless told, and at most.
const CLIENTS: (usize, usize) = (50, 1_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranked {
    #[serde(default)]
    sort: view::Sort,
    limit: Option<usize>,
}

async fn clients(
    State(state): State<AdminState>,
    ranked: Result<Query<Ranked>, QueryRejection>,
) -> Result<Json<api::Clients>, Problem> {
    let (usual, most) = CLIENTS;
    let Query(Ranked { sort, limit }) =
        ranked.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let limit = limit.unwrap_or(usual).min(most);
    Ok(Json(view::clients(&state, sort, limit)))
}

async fn limits(State(state): State<AdminState>) -> Json<api::Limits> {
    Json(view::limits(&state))
}

async fn breakers(State(state): State<AdminState>) -> Json<api::Breakers> {
    Json(view::breakers(&state))
}

async fn caches(
    State(state): State<AdminState>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Result<Json<api::Caches>, Problem> {
    let (usual, most) = TOP_URLS;
    let Query(Limit { limit }) =
        limit.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    Ok(Json(view::caches(&state, limit.unwrap_or(usual).min(most))))
}

/// How many URLs of a cache are shown unless told, and at most.
const TOP_URLS: (usize, usize) = (10, 1_000);

/// How many requests `inflight` shows unless told, and at most.
const IN_FLIGHT: (usize, usize) = (50, 1_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<usize>,
}

async fn inflight(
    State(state): State<AdminState>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Result<Json<api::InFlight>, Problem> {
    let (usual, most) = IN_FLIGHT;
    let Query(Limit { limit }) =
        limit.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let in_flight = (state.inflight)(limit.unwrap_or(usual).min(most)).await;
    Ok(Json(view::inflight(&state, &in_flight)))
}

async fn why(
    State(state): State<AdminState>,
    Path(request_id): Path<String>,
) -> Result<Json<api::Why>, Problem> {
    view::why(&state, &request_id).map(Json)
}

async fn config(State(state): State<AdminState>) -> Json<serde_json::Value> {
    let plan = state.plan.load_full();
    Json((state.explain)(&plan))
}

async fn openapi() -> Json<serde_json::Value> {
    Json(openapi::document())
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "This path does not take this method.",
    )
}

#[cfg(test)]
mod tests;
