//! What happens to a request's and a response's headers on their way through: hop-by-hop fields go,
//! forwarding fields are appended or replaced, the request id and the deadline are settled.
//!
//! Only trusted peers are believed: what anybody else says of where a request came from is dropped.

use std::hash::BuildHasher;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, PRAGMA, RANGE, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::uri::{Authority, Uri};

use super::conn::Peer;
use super::id::RequestId;
use super::respond::Refusal;
use super::tracing;
use super::track::Track;
use crate::cache::key;
use crate::clock::Instant;
use crate::config::plan::HeaderEdits;
use crate::model::Phase;
use crate::observe::accounts::label;
use crate::observe::components::{self, Told, Took};
use crate::observe::readings::{self, Reading};

#[cfg(test)]
mod tests;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const X_TIDEGATE_METRIC: HeaderName = HeaderName::from_static("x-tidegate-metric");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The longest request id believed.
const MAX_REQUEST_ID: usize = 128;

/// Which of the fields that a proxy must attend to a message carries. Most carry next to none, and one pass
/// over the names is cheaper than a look-up for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(u16);

impl Fields {
    /// `Connection`, which names further ones.
    const CONNECTION: u16 = 1;
    const UPGRADE: u16 = 1 << 1;
    /// Any other hop-by-hop field (RFC 9110 section 7.6.1).
    const HOP_BY_HOP: u16 = 1 << 2;
    const TE: u16 = 1 << 3;
    const EXPECT: u16 = 1 << 4;
    /// What only a trusted peer may say, beside what is overwritten anyway.
    const CLAIMS: u16 = 1 << 5;
    const DEADLINE: u16 = 1 << 6;
    /// What makes a request conditional on news.
    const CONDITION: u16 = 1 << 7;
    /// What later requests can be conditional on.
    const VALIDATOR: u16 = 1 << 8;
    /// Where a request belongs in a trace.
    const TRACE: u16 = 1 << 9;
    /// What a response says of the service that made it.
    const TOLD: u16 = 1 << 10;
    /// What an origin may answer by though no cache's key holds it.
    const UNKEYED: u16 = 1 << 11;
    /// What a cache must attend to: its client's wishes and conditions, and what it takes no part in.
    const CACHING: u16 = 1 << 12;
    /// What a [`Forwarding`](super::forwarding::Forwarding) says.
    const FORWARDING: u16 = 1 << 13;

    const fn has(self, field: u16) -> bool {
        self.0 & field != 0
    }

    /// Whether a request carries what an origin may answer by though no cache's key holds it.
    pub(crate) const fn has_unkeyed(self) -> bool {
        self.has(Self::UNKEYED)
    }

    /// Whether a cache has to attend to a request's fields.
    pub(crate) const fn concern_caches(self) -> bool {
        self.has(Self::CACHING | Self::CONDITION | Self::UPGRADE)
    }

    /// Whether a request says itself what [`Forwarding`](super::forwarding::Forwarding) says.
    pub(crate) const fn has_forwarding(self) -> bool {
        self.has(Self::FORWARDING)
    }

    /// Whether a client waits to be told before it sends its body.
    pub(crate) const fn expects(self) -> bool {
        self.has(Self::EXPECT)
    }

    /// Whether a request asks for news only.
    pub(crate) const fn is_conditional(self) -> bool {
        self.has(Self::CONDITION)
    }

    fn of(name: &HeaderName) -> u16 {
        match *name {
            CONNECTION => Self::CONNECTION,
            UPGRADE => Self::UPGRADE,
            TRANSFER_ENCODING | PROXY_AUTHORIZATION | PROXY_AUTHENTICATE => Self::HOP_BY_HOP,
            TE => Self::TE,
            EXPECT => Self::EXPECT,
            FORWARDED => Self::CLAIMS | Self::UNKEYED,
            IF_NONE_MATCH | IF_MODIFIED_SINCE => Self::CONDITION,
            CACHE_CONTROL | CONTENT_TYPE | IF_MATCH | IF_RANGE | IF_UNMODIFIED_SINCE | PRAGMA
            | RANGE => Self::CACHING,
            VIA => Self::FORWARDING,
            ETAG | LAST_MODIFIED => Self::VALIDATOR,
            _ => match name.as_str() {
                "keep-alive" | "proxy-connection" | "http2-settings" => Self::HOP_BY_HOP,
                "x-real-ip" => Self::CLAIMS,
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-request-id" => {
                    Self::FORWARDING
                }
                name if tracing::is_context(name) => Self::CLAIMS | Self::TRACE,
                "server-timing" | "x-tidegate-metric" => Self::TOLD,
                "grpc-timeout" | "x-envoy-expected-rq-timeout-ms" => Self::DEADLINE,
                _ if key::is_unkeyed(name) => Self::UNKEYED,
                _ => 0,
            },
        }
    }
}

/// Looks a message's fields over.
pub(crate) fn survey(headers: &HeaderMap) -> Fields {
    Fields(headers.keys().fold(0, |seen, name| seen | Fields::of(name)))
}

/// The protocol a message asks to change to, unless it is HTTP/2 (obsolete by upgrade).
pub(crate) fn upgrade(headers: &HeaderMap, fields: Fields) -> Option<HeaderValue> {
    if !fields.has(Fields::UPGRADE) {
        return None;
    }
    let protocol = headers.get(UPGRADE)?;
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    (asked && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// The lines of a field that are text.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).into_iter();
    lines.filter_map(|value| value.to_str().ok())
}

/// The members of a comma-separated field.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let members = texts(headers, name).flat_map(|value| value.split(','));
    members.map(str::trim)
}

/// Takes out what concerns only this hop.
fn strip_hop_by_hop(headers: &mut HeaderMap, fields: Fields) {
    if fields.has(Fields::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::try_from(token).ok())
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TE | UPGRADE | TRAILER))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if fields.has(Fields::UPGRADE) {
        headers.remove(UPGRADE);
    }
    if fields.has(Fields::HOP_BY_HOP) {
        for name in [
            KEEP_ALIVE,
            PROXY_CONNECTION,
            PROXY_AUTHORIZATION,
            PROXY_AUTHENTICATE,
            TRANSFER_ENCODING,
            HTTP2_SETTINGS,
        ] {
            headers.remove(name);
        }
    }
}

/// The announced length of a body.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a request is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The host a request is for; refused when it is missing, repeated, malformed or contradicts itself.
pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::bad_request("Host is given twice"));
    }
    if field.is_some_and(|value| !is_authority(value.as_bytes())) {
        return Err(Refusal::bad_request("Host is not a host"));
    }
    let Some(target) = uri.authority().map(Authority::as_str) else {
        return Ok(field.map_or(const { HeaderValue::from_static("") }, Clone::clone));
    };
    if target.contains('@') {
        return Err(Refusal::bad_request(
            "the request target carries user information",
        ));
    }
    if field.is_some_and(|field| !field.as_bytes().eq_ignore_ascii_case(target.as_bytes())) {
        return Err(Refusal::bad_request("Host contradicts the request target"));
    }
    HeaderValue::from_str(target)
        .map_err(|_invalid| Refusal::bad_request("the request's target is not a host"))
}

/// Whether `text` is a host with or without a port (RFC 9110 section 7.2). Stricter than the grammar of
/// registered names: what no resolver would take is not let through to origins that might.
fn is_authority(text: &[u8]) -> bool {
    let is_name =
        |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let length = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let literal = rest.get(..end).and_then(|it| std::str::from_utf8(it).ok());
            if literal.is_none_or(|it| it.parse::<std::net::Ipv6Addr>().is_err()) {
                return false;
            }
            end + 2
        }
        _ => text.iter().take_while(|byte| is_name(byte)).count(),
    };
    match text.get(length..) {
        Some([]) => length > 0,
        Some([b':', port @ ..]) => length > 0 && is_port(port),
        Some(_) | None => false,
    }
}

/// Whether `digits` is a port; none at all is one too.
fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.is_some()
}

/// Settles the request's own headers before it goes upstream, but for its [`Forwarding`](super::forwarding::Forwarding).
pub(crate) fn prepare(track: &mut Track, headers: &mut HeaderMap, fields: Fields) {
    let conn = std::rc::Rc::clone(&track.conn);
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::TE) {
        let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if fields.has(Fields::EXPECT) {
        headers.remove(EXPECT);
    }
    if fields.has(Fields::CLAIMS) && !conn.peer.trusted {
        for name in [FORWARDED, X_REAL_IP] {
            headers.remove(name);
        }
        tracing::strip(headers);
    }
    identify(track, headers, &conn.peer);
    tracing::settle(
        track,
        headers,
        fields.has(Fields::TRACE) && conn.peer.trusted,
    );
}

/// Takes over request id and client from a trusted peer.
fn identify(track: &mut Track, headers: &HeaderMap, peer: &Peer) {
    if !peer.trusted {
        return;
    }
    let given = headers.get(X_REQUEST_ID);
    let given = given.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.to_str().is_ok());
    if let Some(id) = given {
        track.set_request_id(RequestId::given(id.clone()));
    }
    let listener = &track.conn.listener;
    let hops: Vec<std::net::IpAddr> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|hop| hop.trim().parse().ok())
        .collect();
    let client = hops
        .iter()
        .rev()
        .find(|hop| !listener.trusts(**hop))
        .or_else(|| hops.first());
    track.forwarded = client.copied();
}

/// The client's own deadline, if it gave one. What is passed on is shortened by the time spent.
pub(crate) fn deadline(
    headers: &mut HeaderMap,
    fields: Fields,
    begun: Instant,
    now: impl FnOnce() -> Instant,
) -> Option<Instant> {
    if !fields.has(Fields::DEADLINE) {
        return None;
    }
    let now = now();
    let grpc = headers
        .get(GRPC_TIMEOUT)
        .and_then(|value| grpc_timeout(value.to_str().ok()?));
    let envoy = headers
        .get(EXPECTED_TIMEOUT)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_millis);
    let spent = now.since(begun);
    if let Some(timeout) = grpc {
        let left = timeout
            .saturating_sub(spent)
            .as_micros()
            .clamp(1, 99_999_999);
        let unit = if timeout.as_micros() > 99_999_999 {
            format!(
                "{}m",
                timeout
                    .saturating_sub(spent)
                    .as_millis()
                    .clamp(1, 99_999_999)
            )
        } else {
            format!("{left}u")
        };
        if let Ok(value) = HeaderValue::try_from(unit) {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }
    if let Some(timeout) = envoy {
        let left = u64::try_from(timeout.saturating_sub(spent).as_millis()).unwrap_or(u64::MAX);
        headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(left));
    }
    let timeout = match (grpc, envoy) {
        (Some(grpc), Some(envoy)) => Some(grpc.min(envoy)),
        (one, other) => one.or(other),
    };
    timeout.map(|timeout| begun.after(timeout))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Applies a route's edits.
pub(crate) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
}

/// Settles the response's headers before it goes to the client, and notes what it says about the next one.
pub(crate) fn answer(track: &mut Track, headers: &mut HeaderMap) {
    let fields = survey(headers);
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::VALIDATOR) {
        track.exchange.validator = validator(track, validator_of(headers));
    }
    if matches!(track.exchange.status, 429 | 503) {
        let asked = headers.get(RETRY_AFTER);
        let seconds = asked.and_then(|value| value.to_str().ok()?.parse().ok());
        track.exchange.retry_after = seconds.unwrap_or(0);
    }
    if fields.has(Fields::TOLD) {
        told(track, headers);
    }
    if track.conn.peer.trusted {
        own_timing(track, headers);
    }
    headers.insert(X_REQUEST_ID, track.request_id().value());
}

/// The same of a response whose fields are not among `headers` and have nothing to say but that they have this
/// `validator`.
pub(crate) fn answer_plain(track: &mut Track, validator: u32, headers: &mut HeaderMap) {
    track.exchange.validator = validator;
    if track.conn.peer.trusted {
        own_timing(track, headers);
    }
    headers.insert(X_REQUEST_ID, track.request_id().value());
}

/// Whether a stored response tells something that is for nobody else.
pub(crate) fn tells(stored: &HeaderMap) -> bool {
    stored.contains_key(X_TIDEGATE_METRIC)
}

/// What later requests can be conditional on.
pub(crate) fn validator_of(headers: &HeaderMap) -> Option<&[u8]> {
    let validator = headers.get(ETAG).or_else(|| headers.get(LAST_MODIFIED));
    validator.map(HeaderValue::as_bytes)
}

/// A hash of a response's validator; 0 when it has none.
pub(crate) fn validator(track: &Track, validator: Option<&[u8]>) -> u32 {
    validator.map_or(0, |validator| {
        let hash = track.conn.worker.hasher().hash_one(validator);
        // Half of it suffices to tell two of the same client apart.
        u32::try_from(hash >> 32).unwrap_or(0).max(1)
    })
}

/// Takes in what the upstream says of itself, in its headers or trailers. Its metrics are for nobody else.
pub(crate) fn told(track: &mut Track, headers: &mut HeaderMap) {
    // What is stored tells of a time long ago.
    if let Some(upstream) = track.exchange.upstream
        && track.exchange.attempts > 0
    {
        let took = texts(headers, &SERVER_TIMING).flat_map(components::read);
        let took = took.map(|(name, nanos)| {
            let name = name.into();
            Told::Took(Took {
                upstream,
                name,
                nanos,
            })
        });
        let route = track.exchange.route;
        let client = || label(track.exchange.client, track.client()).into();
        let metrics = texts(headers, &X_TIDEGATE_METRIC).flat_map(readings::read);
        let metrics = metrics.map(|(name, kind, value)| {
            let (client, name) = (client(), name.into());
            Told::Metric(Reading {
                route,
                client,
                name,
                kind,
                value,
            })
        });
        let room = components::MAX_READ.saturating_sub(track.told.len());
        let told: Vec<Told> = took.chain(metrics).take(room).collect();
        track.told.extend(told);
    }
    headers.remove(X_TIDEGATE_METRIC);
}

/// Tells a trusted peer where the time went so far.
fn own_timing(track: &Track, headers: &mut HeaderMap) {
    let phases = [Phase::Decide, Phase::Queue, Phase::Connect, Phase::Wait];
    let told = phases.map(|phase| {
        let milliseconds = track.exchange.phases.get(phase).as_secs_f64() * 1e3;
        format!("tidegate-{};dur={milliseconds:.3}", phase.as_str())
    });
    if let Ok(value) = HeaderValue::try_from(told.join(", ")) {
        headers.append(SERVER_TIMING, value);
    }
}
