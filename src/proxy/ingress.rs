//! What happens to a request's and a response's headers on their way through: hop-by-hop fields go,
//! forwarding fields are appended or replaced, the request id and the deadline are settled.
//!
//! Only trusted peers are believed: what anybody else says of where a request came from is dropped.

use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;

use super::conn::Peer;
use super::respond::Refusal;
use super::track::Track;
use crate::clock::Instant;
use crate::config::plan::HeaderEdits;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The longest request id believed.
const MAX_REQUEST_ID: usize = 128;

/// Hop-by-hop fields of either direction (RFC 9110 section 7.6.1). `Connection` names further ones.
const HOP_BY_HOP: [HeaderName; 6] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATE,
    TRANSFER_ENCODING,
    HTTP2_SETTINGS,
];

/// The protocol a message asks to change to, unless it is HTTP/2 (obsolete by upgrade).
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        });
    (asked && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Takes out what concerns only this hop.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| HeaderName::try_from(token.trim()).ok())
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TE | UPGRADE | TRAILER))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(UPGRADE);
    for name in &HOP_BY_HOP {
        headers.remove(name);
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
pub(crate) fn host(head: &Parts) -> Result<String, Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::bad_request("Host is given twice"));
    }
    let field = match field {
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .filter(|text| is_authority(text))
                .ok_or(Refusal::bad_request("Host is not a host"))?,
        ),
        None => None,
    };
    let target = head.uri.authority();
    if target.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Refusal::bad_request(
            "the request target carries user information",
        ));
    }
    match (target, field) {
        (Some(target), Some(field)) if !target.as_str().eq_ignore_ascii_case(field) => {
            Err(Refusal::bad_request("Host contradicts the request target"))
        }
        (Some(target), _) => Ok(target.as_str().to_owned()),
        (None, Some(field)) => Ok(field.to_owned()),
        (None, None) => Ok(String::new()),
    }
}

/// Whether `text` is a host with or without a port (RFC 9110 section 7.2). Stricter than the grammar of
/// registered names: what no resolver would take is not let through to origins that might.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => {
            let (host, rest) = text.split_at(end + 1);
            match (rest, rest.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                (_, None) => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_fits = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        }
    };
    port_fits && host_fits
}

/// Settles the request's own headers before it goes upstream; `host` is what it was asked for.
pub(crate) fn prepare(track: &mut Track, head: &mut Parts, host: &str) {
    let conn = std::rc::Rc::clone(&track.conn);
    let headers = &mut head.headers;
    let trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("trailers"))
        });
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
    if !conn.peer.trusted {
        for name in [FORWARDED, X_REAL_IP, TRACEPARENT, TRACESTATE, B3] {
            headers.remove(name);
        }
    }
    identify(track, headers, &conn.peer);
    let scheme = if conn.listener.tls.is_some() {
        "https"
    } else {
        "http"
    };
    forwarded(headers, &conn.peer, scheme, host);
    let via = if conn.http2 {
        "2.0 tidegate"
    } else {
        "1.1 tidegate"
    };
    headers.append(VIA, HeaderValue::from_static(via));
    if let Ok(value) = HeaderValue::from_str(track.request_id()) {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// Takes over request id, trace and client from a trusted peer.
fn identify(track: &mut Track, headers: &HeaderMap, peer: &Peer) {
    if !peer.trusted {
        return;
    }
    let given = headers
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    if let Some(id) = given.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID) {
        track.set_request_id(id);
    }
    track.trace_id = headers
        .get(TRACEPARENT)
        .and_then(|value| value.as_bytes().get(3..35))
        .and_then(|id| <[u8; 32]>::try_from(id).ok())
        .filter(|id| id.iter().all(u8::is_ascii_hexdigit));
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
    track.client = client.map(|client| client.to_string().into());
}

fn forwarded(headers: &mut HeaderMap, peer: &Peer, scheme: &'static str, host: &str) {
    let host = HeaderValue::from_str(host).ok();
    if !peer.trusted {
        headers.insert(X_FORWARDED_FOR, peer.text.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
        return;
    }
    let before: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let chain = if before.is_empty() {
        peer.text.clone()
    } else {
        let chain = format!("{}, {}", before.join(", "), peer.as_str());
        HeaderValue::try_from(chain).unwrap_or_else(|_invalid| peer.text.clone())
    };
    headers.insert(X_FORWARDED_FOR, chain);
    headers
        .entry(X_FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
}

/// The client's own deadline, if it gave one. What is passed on is shortened by the time spent.
pub(crate) fn deadline(headers: &mut HeaderMap, begun: Instant, now: Instant) -> Option<Instant> {
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

/// Settles the response's headers before it goes to the client.
pub(crate) fn answer(headers: &mut HeaderMap, request_id: &str) {
    strip_hop_by_hop(headers);
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_follow_their_grammar() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("1H"), Some(Duration::from_secs(3_600)));
        for bad in ["", "m", "123456789m", "1x", "-1m", "é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_ports() {
        for good in [
            "a",
            "a.b:80",
            "a_b",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "a:",
        ] {
            assert!(is_authority(good), "{good:?}");
        }
        for bad in [
            "", ":80", "a:99999", "a:x", "a:-1", "[a]", "[::1]x", "a,b", "a@b", "a/b", "a b",
        ] {
            assert!(!is_authority(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("x-secret, close"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        headers.insert("x-open", HeaderValue::from_static("2"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-open"));
    }
}
