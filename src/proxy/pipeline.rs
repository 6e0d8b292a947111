//! The way of one request, step after step.
//!
//! ingress → identify → route → rate → balance → forward → return. Every step either goes on or ends in a [`Refusal`], and
//! one place turns that into a response.

use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::body::{Passing, ResponseBody, Uncopied, Upstream};
use super::cached::fetch::{self, Answered};
use super::cached::purge::{self, Purge};
use super::cached::{self, Asked, Ready};
use super::conn::{Conn, Interim};
use super::forward::{self, Answer};
use super::forwarding;
use super::ingress::{self, Fields};
use super::live::{LiveRoute, View};
use super::onward::Onward;
use super::outbound::Outbound;
use super::respond::{self, Refusal};
use super::track::Track;
use super::upload::Source;
use super::{admit, path, rate, upgrade};
use crate::cache::content::Content;
use crate::clients::Presented;
use crate::clock::Instant;
use crate::model::Reason;
use crate::observe::why::{Policy, Verdict};

/// A response, or what becomes one. What waits for an upstream is boxed.
#[derive(Debug)]
pub(crate) enum Answering<F> {
    Now(Option<Response<ResponseBody>>),
    Later(Pin<Box<F>>),
}

impl<F: Future<Output = Response<ResponseBody>>> Future for Answering<F> {
    type Output = Response<ResponseBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(response) => response.as_mut().poll(cx),
        }
    }
}

/// Answers one request. What can be decided at once is decided before a future is made: most of what is refused, and
/// what the cache has, needs none.
pub(crate) fn answer(
    conn: &Rc<Conn>,
    head: &mut http::request::Parts,
    source: Source,
    interim: Rc<Interim>,
) -> Answering<impl Future<Output = Response<ResponseBody>> + use<>> {
    let now = conn.worker.now();
    let begun = conn.request_begins(now);
    let mut track = Track::begin(conn, begun, now);
    let fields = ingress::survey(&head.headers);
    let grpc = ingress::is_grpc(&head.headers);
    let asked = if conn.http2 {
        None
    } else {
        ingress::upgrade(&head.headers, fields)
    };
    let decided = decide(
        &mut track,
        fields,
        begun,
        head,
        source,
        interim,
        asked.as_ref(),
    );
    let (route, way) = match decided {
        Ok((route, Way::Ready(ready))) => {
            let answered = Ok((route, Answered::Ready(ready)));
            return Answering::Now(Some(finish(track, answered, asked, grpc)));
        }
        Err(refusal) => return Answering::Now(Some(finish(track, Err(refusal), asked, grpc))),
        Ok(decided) => decided,
    };
    Answering::Later(Box::pin(async move {
        let answered = go(&mut track, &route, way).await;
        finish(
            track,
            answered.map(|answered| (route, answered)),
            asked,
            grpc,
        )
    }))
}

/// How a request is answered.
pub(super) enum Way {
    /// From the cache.
    Ready(Box<Ready>),
    /// By the upstream.
    Forward(Box<Outbound>),
    /// By the upstream, and stored.
    Ask(Box<Asked>, Box<Outbound>),
    /// By dropping what is stored.
    Purge(Box<Purge>),
}

async fn go(track: &mut Track, route: &RouteRef, way: Way) -> Result<Answered, Refusal> {
    let to = route.get().ok_or(NO_ROUTE)?;
    match way {
        Way::Ready(ready) => Ok(Answered::Ready(ready)),
        Way::Forward(outbound) => {
            let answered = forward::forward(track, to, outbound).await;
            answered.map(Answered::Passed)
        }
        Way::Ask(asked, outbound) => Box::pin(fetch::ask(track, to, asked, outbound)).await,
        Way::Purge(purge) => Ok(Answered::Ready(Box::pin(purge.carry_out(track)).await)),
    }
}

/// A route of the plan the request began under.
pub(super) struct RouteRef {
    pub(super) live: Rc<View>,
    pub(super) index: usize,
}

impl RouteRef {
    pub(super) fn get(&self) -> Option<&LiveRoute> {
        self.live.routes.get(self.index)
    }
}

pub(super) const NO_ROUTE: Refusal = Refusal::new(
    StatusCode::NOT_FOUND,
    Reason::NoRoute,
    "no route matches this request",
);

/// Steps 1 to 5: what is asked for, of whom, by whom, and with which headers.
fn decide(
    track: &mut Track,
    fields: Fields,
    begun: Instant,
    head: &mut http::request::Parts,
    source: Source,
    interim: Rc<Interim>,
    asked: Option<&HeaderValue>,
) -> Result<(RouteRef, Way), Refusal> {
    track.asks(&head.method, std::mem::take(&mut head.uri));
    // 1 ingress
    if head.method == Method::CONNECT {
        return Err(Refusal::bad_request(
            "CONNECT is for forward proxies; this is a reverse proxy",
        ));
    }
    let host = ingress::host(&track.uri, &head.headers)?;
    let name = host.to_str().unwrap_or_default();
    let limit = track.conn.listener.listener.max_body_bytes;
    if limit
        .zip(source.announced())
        .is_some_and(|(limit, length)| length > limit)
    {
        return Err(forward::body_too_large());
    }
    let target = target(&track.uri)?;
    let deadline = ingress::deadline(&mut head.headers, fields, begun, || track.now());
    ingress::prepare(track, &mut head.headers, fields);
    let forwarding = forwarding::of(track, &mut head.headers, fields, &host);
    track.exchange.conditional = fields.is_conditional();
    let hasher = track.conn.worker.hasher();
    track.exchange.target = hasher.hash_one((name, target.as_str())).max(1);
    // 2 identify
    identify(track, &head.headers);

    // 3 route: a purge takes that of what it purges
    let purges = purge::is_asked(track, &head.method)?;
    let method = if purges { &Method::GET } else { &head.method };
    let live = Rc::clone(track.live());
    let index = live
        .router
        .find(name, target.path(), method, &head.headers)
        .ok_or(NO_ROUTE)?;
    let reference = RouteRef { live, index };
    let route = reference.get().ok_or(NO_ROUTE)?;
    track.set_route(index, route);
    // 4 self-protection
    protect_itself(track)?;
    // 5 rate, and whom operators hold apart
    admit::isolate(track, route)?;
    rate::admit(track, route, &head.headers)?;
    let target = match &route.cache {
        Some(cache) => {
            cached::strip(track, fields, &mut head.headers);
            cached::target(cache, target)
        }
        None => target,
    };
    if purges {
        let url = (name, target.as_str());
        let purge = Purge::new(track, route.cache.as_ref(), url);
        return Ok((reference, Way::Purge(purge)));
    }
    if let Some(cache) = &route.cache
        && source.is_empty()
        && let Some(ready) = cached::fresh(track, route, cache, (head, fields), (name, &target))
    {
        return Ok((reference, Way::Ready(ready)));
    }
    let onward = Onward {
        fields,
        source,
        interim,
        asked,
        deadline,
        host: &host,
        target,
        forwarding,
    };
    onward.go(track, reference, head)
}

/// Refuses what the process itself has no room for.
fn protect_itself(track: &mut Track) -> Result<(), Refusal> {
    match track.conn.worker.overload().admit(track.caller().tier) {
        Ok(None) => Ok(()),
        Ok(Some(rejection)) => {
            track.exchange.observed = Some(rejection.reason);
            let verdict = Verdict::WouldRefuse(rejection.reason);
            track.refused(Policy::Overload, verdict, &rejection);
            Ok(())
        }
        Err(rejection) => {
            let verdict = Verdict::Refused(rejection.reason);
            track.refused(Policy::Overload, verdict, &rejection);
            Err(Refusal::shed(rejection))
        }
    }
}

/// Says who sent the request.
fn identify(track: &mut Track, headers: &HeaderMap) {
    let live = Rc::clone(track.live());
    let conn = Rc::clone(&track.conn);
    let presented = Presented {
        headers,
        trusted: conn.peer.trusted,
        sans: &conn.peer.sans,
        address: track.address(),
        peer: track.forwarded.is_none().then_some(&conn.known),
        unix: track.exchange.started / 1_000_000,
    };
    let (identity, doubt) = live.clients.identify(&presented, &mut conn.worker.memo());
    track.set_identity(identity);
    if let Some(doubt) = doubt {
        let nothing = (f64::NAN, f64::NAN, None);
        track.decided(Policy::Identity, Verdict::NotBelieved(doubt), nothing);
    }
}

/// 10 return: the upstream's response, or ours.
fn finish(
    track: Box<Track>,
    answered: Result<(RouteRef, Answered), Refusal>,
    asked: Option<HeaderValue>,
    grpc: bool,
) -> Response<ResponseBody> {
    let closes = !track.conn.http2 && track.conn.worker.is_draining();
    let mut response = match answered {
        Ok((route, Answered::Passed(answer))) => pass(track, &route, *answer, asked),
        Ok((route, answered)) => {
            if asked.is_some() {
                track.conn.resume();
            }
            own(track, &route, answered)
        }
        Err(refusal) => {
            if asked.is_some() {
                track.conn.resume();
            }
            respond::refuse(track, &refusal, grpc)
        }
    };
    if closes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The request's target in origin form, dot segments removed.
fn target(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Err(Refusal::bad_request(
            "the request's target is neither a path nor a URL",
        ));
    }
    let given = match uri.path_and_query() {
        Some(target) if target.path().starts_with('/') => target.clone(),
        Some(_) => return Err(Refusal::bad_request("the request's target is not a path")),
        None => PathAndQuery::from_static("/"),
    };
    let normal = match path::normalise(given.path()) {
        Ok(std::borrow::Cow::Borrowed(_)) => None,
        Ok(std::borrow::Cow::Owned(normal)) => Some(normal),
        Err(_bad) => return Err(Refusal::bad_request("the request's path is malformed")),
    };
    Ok(match normal {
        Some(normal) => path::with_path(&given, &normal)
            .ok_or(Refusal::bad_request("the request's path is malformed"))?,
        None => given,
    })
}

/// Sends what is stored, or is being stored.
fn own(mut track: Box<Track>, route: &RouteRef, answered: Answered) -> Response<ResponseBody> {
    let (mut head, body, kept) = match answered {
        Answered::Ready(ready) => (ready.head, Ok(ready.body), ready.kept),
        Answered::Arriving(arriving) => (arriving.head, Err(arriving.reader), None),
        Answered::Passed(answer) => (answer.head, Ok(Content::default()), None),
    };
    track.exchange.status = head.status.as_u16();
    if let Some(kept) = &kept {
        let made = || ingress::validator(&track, ingress::validator_of(&kept.head.headers));
        let validator = *kept.head.validator.get_or_init(made);
        ingress::answer_plain(&mut track, validator, &mut head.headers);
    } else {
        ingress::answer(&mut track, &mut head.headers);
        if let Some(route) = route.get() {
            ingress::edit(&mut head.headers, &route.route.response_headers);
        }
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let only_head = track.method == Method::HEAD;
    let body = match body {
        Ok(body) => {
            let uncopied = kept.map(Uncopied::Kept);
            ResponseBody::stored(body, uncopied, only_head, track)
        }
        Err(reader) => {
            let length = ingress::content_length(&head.headers);
            ResponseBody::arriving(reader, length, only_head, track)
        }
    };
    Response::from_parts(head, body)
}

/// Passes the upstream's response on.
fn pass(
    mut track: Box<Track>,
    route: &RouteRef,
    answer: Answer,
    asked: Option<HeaderValue>,
) -> Response<ResponseBody> {
    let Answer { mut head, passing } = answer;
    let Passing {
        mut upstream,
        mut hold,
        timer,
        upload,
        now,
    } = passing;
    track.exchange.status = head.status.as_u16();
    let protocol = head.headers.get(http::header::UPGRADE).cloned();
    let plain = match &mut upstream {
        Upstream::H1(conn) => conn.connection.take_plain(),
        Upstream::H2(_) => None,
    };
    if let Some(plain) = &plain {
        let validator = ingress::validator(&track, plain.validator());
        ingress::answer_plain(&mut track, validator, &mut head.headers);
    } else {
        ingress::answer(&mut track, &mut head.headers);
    }
    let idle = route
        .get()
        .map_or(DEFAULT_IDLE, |route| route.route.idle_timeout);
    rate::tell(&track, &mut head.headers);
    if let Some(route) = route.get() {
        ingress::edit(&mut head.headers, &route.route.response_headers);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let upgrades = head.status == StatusCode::SWITCHING_PROTOCOLS;
    if upgrades || forward::is_event_stream(&head.headers) {
        track.lasts();
        if let Err(rejection) = hold.detach(now) {
            track.conn.resume();
            return respond::refuse(track, &Refusal::shed(rejection), false);
        }
    }
    if upgrades {
        let (Some(_), Upstream::H1(conn)) = (&asked, upstream) else {
            track.conn.resume();
            let refusal = Refusal::new(
                StatusCode::BAD_GATEWAY,
                Reason::UpstreamReset,
                "the upstream changed protocols unasked",
            );
            return respond::refuse(track, &refusal, false);
        };
        let headers = &mut head.headers;
        headers.insert(
            http::header::CONNECTION,
            HeaderValue::from_static("upgrade"),
        );
        if let Some(protocol) = protocol {
            headers.insert(http::header::UPGRADE, protocol);
        }
        let client = Rc::clone(&track.conn);
        client.set_tunnel(Box::new(upgrade::Tunnel {
            upstream: conn,
            hold,
            track,
            idle,
        }));
        return Response::from_parts(head, ResponseBody::none());
    }
    if asked.is_some() {
        track.conn.resume();
    }
    let passing = Passing {
        upstream,
        hold,
        timer,
        upload,
        now,
    };
    let body = ResponseBody::passed(passing, plain, idle, track);
    Response::from_parts(head, body)
}

/// What a stream without a route would be bounded by.
pub(super) const DEFAULT_IDLE: Duration = Duration::from_secs(300);
