//! Step 6: the response cache. A request is answered from what is stored, or goes on with all that is needed to
//! store what comes of it.
//!
//! The rest of the data plane sees three functions: [`look`], which either has the answer ([`Ready`]) or says
//! what is asked ([`Asked`]), [`fetch::ask`], which brings the answer by way of the origin, and
//! [`refresh::begin`], which does so behind the client's back.

pub(super) mod dress;
pub(super) mod fetch;
mod fill;
pub(super) mod purge;
pub(super) mod refresh;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use http::header::{AUTHORIZATION, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::oneshot;

use self::dress::Kept;
use super::ingress::Fields;
use super::live::LiveRoute;
use super::pool::Timer;
use super::respond::Refusal;
use super::track::Track;
use super::{forwarding, ingress, path};
use crate::cache::content::Content;
use crate::cache::object::Object;
use crate::cache::semantics::reuse::{self, Reuse};
use crate::cache::semantics::status::{CacheStatus, Forward};
use crate::cache::semantics::{Millis, RequestControl};
use crate::cache::{Cache, Found, key};
use crate::config::plan;
use crate::model::{CacheResult, Reason};
use crate::observe::why::{Policy, Verdict};

/// How long a request waits for the disk before it goes to the origin.
const DISK_PATIENCE: Duration = Duration::from_millis(250);
const NOTHING_STORED: Refusal = Refusal::new(
    StatusCode::GATEWAY_TIMEOUT,
    Reason::Deadline,
    "nothing stored answers it, and the client wants nothing else",
);

/// A route's cache and its part of the plan.
#[derive(Clone, Debug)]
pub(crate) struct RouteCache {
    pub(crate) cache: Arc<Cache>,
    pub(crate) config: Arc<plan::Cache>,
}

/// An answer made of what is stored.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its head, or what is added to the one that is kept.
    pub(crate) head: http::response::Parts,
    pub(crate) body: Content,
    pub(crate) kept: Option<Kept>,
}

impl Ready {
    fn whole(head: http::response::Parts, body: Content) -> Box<Self> {
        let kept = None;
        Box::new(Self { head, body, kept })
    }
}

/// A request that goes on to the origin, and what the cache has to do with it.
#[derive(Debug)]
pub(crate) struct Asked {
    of: RouteCache,
    key: Arc<str>,
    /// Whether its peer is believed.
    trusted: bool,
    place: Place,
    method: Method,
    /// The request's fields as they are forwarded, the client's own conditions included.
    headers: HeaderMap,
    /// What is stored, if it is not good enough.
    stored: Option<Arc<Object>>,
    /// Whether what is stored is only a part.
    part: bool,
    forward: Forward,
    /// Whether others may wait for the same answer; how it is selected, as far as that is known.
    joins: Option<Box<str>>,
    /// Whom what is stored is charged to.
    client: u64,
    /// What the client wants of caches.
    control: RequestControl,
    /// Whether an operator wants the origin spared.
    spare: bool,
    /// Tells when what is on disk has come into memory.
    loading: Option<oneshot::Receiver<()>>,
}

/// Where a request points to, as its client sees it.
#[derive(Debug)]
struct Place {
    scheme: &'static str,
    host: Box<str>,
    target: PathAndQuery,
}

/// What the cache says of a request.
#[derive(Debug)]
pub(crate) enum Looked {
    /// This is the answer.
    Ready(Box<Ready>),
    /// This is the answer, and it is to be fetched anew.
    Stale(Box<Ready>, Box<Asked>),
    /// The origin is to be asked.
    Ask(Box<Asked>),
}

/// Takes out what the origin might answer by though no key holds it, unless who says it is believed.
pub(crate) fn strip(track: &Track, fields: Fields, headers: &mut HeaderMap) {
    if fields.has_unkeyed() && !track.conn.peer.trusted {
        key::strip_unkeyed(headers);
    }
}

/// The target that is forwarded and stored under: `target` without the parameters that are ignored.
pub(crate) fn target(of: &RouteCache, target: PathAndQuery) -> PathAndQuery {
    let kept = target
        .query()
        .and_then(|query| key::without(query, &of.config.key.ignore_query));
    let Some(kept) = kept else { return target };
    let path = target.path();
    let text = if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{kept}")
    };
    PathAndQuery::try_from(text).unwrap_or(target)
}

/// Looks a request up, whose client asked `host` for `target`. `empty`: it has no body.
///
/// # Errors
/// When the client wants nothing but what is stored, and nothing is.
pub(crate) fn look(
    track: &mut Track,
    route: &LiveRoute,
    of: &RouteCache,
    head: &http::request::Parts,
    (host, target): (&str, PathAndQuery),
    empty: bool,
) -> Result<Looked, Refusal> {
    let trusted = track.conn.peer.trusted;
    let scheme = track.conn.scheme();
    let mut key = key::url(scheme, host, target.as_str());
    add_key(&mut key, of, route, (&head.headers, trusted), &target);
    let mut control = RequestControl::of(&head.headers);
    if !of.config.obeys_clients {
        control = RequestControl {
            no_store: control.no_store,
            only_if_cached: control.only_if_cached,
            ..RequestControl::default()
        };
    }
    let mut asked = Box::new(Asked {
        of: of.clone(),
        key: key.into(),
        trusted,
        place: Place {
            scheme,
            host: host.into(),
            target,
        },
        method: head.method.clone(),
        headers: HeaderMap::new(),
        stored: None,
        part: false,
        forward: Forward::UriMiss,
        joins: None,
        client: track.exchange.client.hash(),
        control,
        spare: route.upstream.is_spared(),
        loading: None,
    });
    if let Some(forward) = takes_no_part(head, control, empty) {
        asked.forward = forward;
        asked.headers = head.headers.clone();
        return Ok(Looked::Ask(asked));
    }
    let now = track.conn.worker.unix_millis(track.now());
    match asked.judge(track, &head.headers, now) {
        Some(refresh) => asked.serve(track, head, refresh, now),
        None => match asked.spare(track, &head.headers, now) {
            Some(ready) => Ok(Looked::Ready(ready)),
            None => asked.ask(head),
        },
    }
}

/// The answer to a request that asks for nothing special, where it is stored whole, is fresh, and can be sent as it is
/// kept: what nearly every hit is. The request has no body.
pub(crate) fn fresh(
    track: &mut Track,
    route: &LiveRoute,
    of: &RouteCache,
    (head, fields): (&http::request::Parts, Fields),
    (host, target): (&str, &PathAndQuery),
) -> Option<Box<Ready>> {
    let worker = Rc::clone(&track.conn.worker);
    let headers = &head.headers;
    let edits = [&route.route.request_headers, &route.route.response_headers];
    let usual = head.method == Method::GET
        && !fields.concern_caches()
        && !track.conn.http2
        && edits.iter().all(|edits| edits.is_empty());
    if !usual {
        return None;
    }
    let mut key = worker.spares().text();
    key::add_url(&mut key, track.conn.scheme(), host, target.as_str());
    let fields = (headers, track.conn.peer.trusted);
    add_key(&mut key, of, route, fields, target);
    let now = worker.unix_millis(track.now());
    let Found::Match(object) = of.cache.find(&key, headers, now) else {
        return None;
    };
    let (head, wishes) = (&object.head, RequestControl::default());
    let usual = object.part.is_none()
        && head.status == StatusCode::OK
        && head.model.is_fresh(now)
        && reuse::reuse(&head.model, &wishes, now) == Reuse::AsItIs
        && !reuse::may_renew(&head.model, head.took, now)
        // These may not be among the fields yet.
        && !head.vary.names_any(forwarding::is_forwarding)
        && !ingress::tells(&head.headers);
    if !usual {
        return None;
    }
    used(of, track, &key, &object);
    note(of, track, CacheResult::Hit, "memory");
    let headers = worker.spares().take_headers();
    Some(dress::as_kept(&object, headers, now))
}

/// Counts that `object`, stored under `key`, answers one more request.
fn used(of: &RouteCache, track: &Track, key: &str, object: &Arc<Object>) {
    let before = object.hits.fetch_add(1, Ordering::Relaxed);
    // Not the first, which for most is the last; and where it fails, not every one behind it.
    if before.is_power_of_two() && track.conn.takes_pages() {
        of.cache.settle(key, object);
    }
}

/// Adds to the URL that `key` is what else makes the key of a request whose target is `target` there.
fn add_key(
    key: &mut String,
    of: &RouteCache,
    route: &LiveRoute,
    (headers, trusted): (&HeaderMap, bool),
    target: &PathAndQuery,
) {
    key::add_fields(key, headers, trusted, &of.config.key);
    let rewrite = route.route.rewrite.as_ref();
    let rewritten = rewrite.map(|rule| path::rewrite(target, rule));
    let rewritten = rewritten.as_ref().map(PathAndQuery::path);
    key::add_origin(key, route.upstream.name(), rewritten);
}

/// Accounts for what became of a request.
fn note(of: &RouteCache, track: &mut Track, result: CacheResult, why: &'static str) {
    of.cache.count(result);
    track.exchange.cache = Some(result);
    let nothing = (f64::NAN, f64::NAN, None);
    track.decided(Policy::Cache, Verdict::Cached(result, why), nothing);
}

/// Why a request neither is answered from the cache nor stored.
fn takes_no_part(
    head: &http::request::Parts,
    control: RequestControl,
    empty: bool,
) -> Option<Forward> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Some(Forward::Method);
    }
    // A body, or a condition that only the origin can judge.
    let own = [IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE];
    let apart = !empty
        || control.no_store
        || own.iter().any(|name| head.headers.contains_key(name))
        || ingress::is_grpc(&head.headers);
    apart.then_some(Forward::Bypass)
}

impl Asked {
    /// Whether what is stored answers the request, and then whether it is to be fetched anew.
    fn judge(&mut self, track: &Track, request: &HeaderMap, now: Millis) -> Option<bool> {
        match self.of.cache.find(&self.key, request, now) {
            Found::Match(object) => {
                let model = &object.head.model;
                let refresh = match reuse::reuse(model, &self.control, now) {
                    Reuse::AsItIs => {
                        let took = object.head.took;
                        let early = reuse::may_renew(model, took, now)
                            && reuse::renews(model, took, track.conn.worker.rng().f64(), now);
                        Some(early)
                    }
                    Reuse::WhileRevalidated => Some(true),
                    why => {
                        self.forward = if why == Reuse::Asked {
                            Forward::Request
                        } else {
                            Forward::Stale
                        };
                        None
                    }
                };
                let usable = refresh.is_some() || object.part.is_none();
                self.stored = Some(object).filter(|_| usable);
                return refresh;
            }
            Found::OtherVariant(selection) => {
                self.forward = Forward::VaryMiss;
                self.joins = Some(selection);
            }
            Found::Part(part) => {
                self.forward = Forward::Partial;
                self.stored = Some(part);
                self.part = true;
            }
            Found::Unshareable => {}
            Found::Nothing => {
                self.loading = self.of.cache.load(&self.key);
                self.joins = Some("".into());
            }
        }
        None
    }

    /// What is stored and stale, where an operator wants the origin spared.
    fn spare(&self, track: &mut Track, request: &HeaderMap, now: Millis) -> Option<Box<Ready>> {
        let stored = self.stored.as_ref().filter(|_| self.spare && !self.part)?;
        let stale = self.forward == Forward::Stale;
        if !stale || !reuse::may_stand_in(&stored.head.model, self.grace(), now) {
            return None;
        }
        let account = CacheStatus {
            detail: Some("serve-stale"),
            ..dress::hit(stored.head.model.ttl(now))
        };
        self.note(track, CacheResult::Stale, "serve_stale");
        Some(dress::stored(stored, &self.method, request, account, now))
    }

    /// Answers from what is stored, which is to be fetched anew if `refresh`.
    fn serve(
        mut self: Box<Self>,
        track: &mut Track,
        head: &http::request::Parts,
        refresh: bool,
        now: Millis,
    ) -> Result<Looked, Refusal> {
        let Some(object) = self.stored.clone() else {
            return self.ask(head);
        };
        let ready = self.dress(track, &object, &head.headers, refresh, now);
        if !refresh {
            return Ok(Looked::Ready(ready));
        }
        self.take_fields(head);
        Ok(Looked::Stale(ready, self))
    }

    /// `object` as the answer, out of a hit.
    fn dress(
        &self,
        track: &mut Track,
        object: &Arc<Object>,
        request: &HeaderMap,
        refresh: bool,
        now: Millis,
    ) -> Box<Ready> {
        used(&self.of, track, &self.key, object);
        let stale = !object.head.model.is_fresh(now);
        let status = CacheStatus {
            detail: (stale && refresh).then_some("swr"),
            ..dress::hit(object.head.model.ttl(now))
        };
        let result = if stale {
            CacheResult::Stale
        } else {
            CacheResult::Hit
        };
        let tier = if self.loading.is_some() {
            "disk"
        } else {
            "memory"
        };
        self.note(track, result, tier);
        dress::stored(object, &self.method, request, status, now)
    }

    fn ask(mut self: Box<Self>, head: &http::request::Parts) -> Result<Looked, Refusal> {
        if self.control.only_if_cached && self.loading.is_none() {
            return Err(NOTHING_STORED);
        }
        self.take_fields(head);
        Ok(Looked::Ask(self))
    }

    /// Keeps the request's fields, and says whether others may wait with it.
    fn take_fields(&mut self, head: &http::request::Parts) {
        self.headers = head.headers.clone();
        self.join();
    }

    /// Says whether others may wait with it: a crowd that wants the same.
    fn join(&mut self) {
        if let Some(stored) = &self.stored {
            self.joins = Some(stored.head.selection.clone());
        }
        let conditional = crate::cache::semantics::condition::is_conditional(&self.headers);
        let alone = self.method != Method::GET
            || self.headers.contains_key(AUTHORIZATION)
            || self.headers.contains_key(RANGE)
            || (conditional && self.stored.is_none());
        if alone {
            self.joins = None;
        }
    }

    /// Waits until what is on disk has come into memory, and answers from that if it is good enough. A disk that
    /// takes its time has nothing.
    ///
    /// # Errors
    /// When the client wants nothing but what is stored, and nothing is.
    async fn load(&mut self, track: &mut Track) -> Result<Option<Box<Ready>>, Refusal> {
        let Some(mut loading) = self.loading.take() else {
            return Ok(None);
        };
        let until = track.now().after(DISK_PATIENCE);
        let worker = &track.conn.worker;
        let mut timer = worker
            .spares()
            .take_timer()
            .unwrap_or_else(|| Timer::new(until));
        poll_fn(|cx| match Pin::new(&mut loading).poll(cx) {
            Poll::Ready(_done) => Poll::Ready(()),
            Poll::Pending => timer.poll_until(cx, until),
        })
        .await;
        worker.spares().give_timer(timer);
        let now = track.conn.worker.unix_millis(track.now());
        let headers = std::mem::take(&mut self.headers);
        let judged = self.judge(track, &headers, now);
        self.headers = headers;
        if let (Some(_), Some(object)) = (judged, self.stored.clone()) {
            self.loading = Some(loading);
            // If it is to be fetched anew, that begins with the next who asks.
            return Ok(Some(self.dress(track, &object, &self.headers, false, now)));
        }
        if let Some(ready) = self.spare(track, &self.headers, now) {
            self.loading = Some(loading);
            return Ok(Some(ready));
        }
        if self.control.only_if_cached {
            return Err(NOTHING_STORED);
        }
        self.loading = None;
        self.join();
        Ok(None)
    }

    /// The key of another target of the same host.
    fn key_of(&self, route: &LiveRoute, mut url: String, target: &str) -> String {
        let fields = (&self.headers, self.trusted);
        if let Ok(target) = PathAndQuery::try_from(target) {
            add_key(&mut url, &self.of, route, fields, &target);
        }
        url
    }

    /// Whether the cache takes part in the request at all.
    const fn takes_part(&self) -> bool {
        !matches!(self.forward, Forward::Bypass | Forward::Method)
    }

    /// Accounts for what became of the request.
    fn note(&self, track: &mut Track, result: CacheResult, why: &'static str) {
        note(&self.of, track, result, why);
    }

    /// How long past its freshness a response may stand in for a failing origin.
    fn grace(&self) -> Millis {
        let grace = self.of.config.stale_if_unhealthy.as_millis();
        u64::try_from(grace).unwrap_or(u64::MAX)
    }
}
