//! The one place where a refusal becomes a response: RFC 9457 problem bodies, `Proxy-Status` (RFC 9209),
//! `Retry-After`, and gRPC's status where the client speaks gRPC.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{HeaderMap, Response, StatusCode};

use super::body::ResponseBody;
use super::rate;
use super::track::Track;
use crate::model::{Outcome, Reason, Rejection};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Tidegate's own answer to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: Reason,
    /// What happened, in words.
    pub(crate) detail: &'static str,
    /// The error type of `Proxy-Status`.
    pub(crate) proxy_status: &'static str,
    /// Whether the connection cannot carry another request.
    pub(crate) close: bool,
    /// The policy's decision, where one decided.
    pub(crate) rejection: Option<Rejection>,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, reason: Reason, detail: &'static str) -> Self {
        let proxy_status = match reason {
            Reason::ConnectFailed => "connection_refused",
            Reason::UpstreamReset => "connection_terminated",
            Reason::UpstreamTimeout | Reason::Deadline => "http_response_timeout",
            Reason::NoHealthyEndpoint => "destination_unavailable",
            Reason::NoRoute => "destination_not_found",
            Reason::BadRequest | Reason::BodyTooLarge | Reason::HeaderTooLarge => {
                "http_request_error"
            }
            Reason::Quota
            | Reason::FairShare
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::BreakerOpen
            | Reason::Quarantined
            | Reason::Blocked
            | Reason::Overload
            | Reason::Draining => "http_request_denied",
        };
        Self {
            status,
            reason,
            detail,
            proxy_status,
            close: false,
            rejection: None,
        }
    }

    /// What a policy decided against.
    pub(crate) const fn shed(rejection: Rejection) -> Self {
        let status = match rejection.reason {
            Reason::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Reason::Quota | Reason::Quarantined | Reason::Blocked => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let detail = match rejection.reason {
            Reason::Deadline => "it could not be answered before its deadline",
            Reason::FairShare => "the upstream is saturated, and this client has its share of it",
            Reason::QueueFull => "the upstream is saturated, and its queue is full",
            Reason::QueueTimeout => "the upstream is saturated, and the wait was too long",
            // What an operator ordered has no evidence.
            Reason::BreakerOpen if rejection.threshold <= 0.0 => {
                "an operator has taken the upstream out of service for now"
            }
            Reason::BreakerOpen => "the upstream is failing and is left alone for now",
            Reason::Overload => "there is no room for more at present",
            Reason::Quota => "its quota is used up for now",
            Reason::Quarantined => "it is held to a small share for now, for wanting far more",
            Reason::Blocked => "an operator keeps it out for now",
            _ => "it was refused by policy",
        };
        let mut refusal = Self::new(status, rejection.reason, detail);
        refusal.rejection = Some(rejection);
        refusal
    }

    pub(crate) const fn bad_request(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::BadRequest, detail).closing()
    }

    /// The same, and the connection is closed behind it.
    pub(crate) const fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// The problem type (RFC 9457): a registered one where there is one.
const fn problem_type(reason: Reason) -> &'static str {
    match reason {
        Reason::Quota => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        Reason::Quarantined | Reason::Blocked => {
            "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
        }
        Reason::FairShare
        | Reason::QueueFull
        | Reason::QueueTimeout
        | Reason::BreakerOpen
        | Reason::NoHealthyEndpoint
        | Reason::Overload
        | Reason::Draining => {
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
        }
        Reason::Deadline
        | Reason::ConnectFailed
        | Reason::UpstreamReset
        | Reason::UpstreamTimeout
        | Reason::BadRequest
        | Reason::NoRoute
        | Reason::BodyTooLarge
        | Reason::HeaderTooLarge => "about:blank",
    }
}

fn problem(
    status: StatusCode,
    reason: Reason,
    detail: &str,
    request_id: &str,
    rejection: Option<&Rejection>,
    violated: &[&str],
) -> Vec<u8> {
    let mut value = serde_json::json!({
        "type": problem_type(reason),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "request_id": request_id,
        "policy": reason.policy(),
        "reason": reason.as_str(),
    });
    let evident = rejection.filter(|rejection| rejection.threshold > 0.0);
    if let Some((rejection, value)) = evident.zip(value.as_object_mut()) {
        value.insert("value".into(), rejection.value.into());
        value.insert("threshold".into(), rejection.threshold.into());
        value.insert("unit".into(), rejection.unit.as_str().into());
        if !violated.is_empty() {
            value.insert("violated-policies".into(), violated.into());
        }
    }
    value.to_string().into_bytes()
}

/// Turns `refusal` into the response to `track`'s request. `grpc`: the request was gRPC.
pub(crate) fn refuse(
    mut track: Box<Track>,
    refusal: &Refusal,
    grpc: bool,
) -> Response<ResponseBody> {
    track.exchange.outcome = Outcome::Refused;
    track.exchange.reason = Some(refusal.reason);
    let mut headers = HeaderMap::with_capacity(8);
    let error = format!("tidegate; error={}", refusal.proxy_status);
    if let Ok(value) = HeaderValue::try_from(error) {
        headers.insert(PROXY_STATUS, value);
    }
    headers.insert(X_REQUEST_ID, track.request_id().value());
    if refusal.close && !track.conn.http2 {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    if matches!(refusal.status.as_u16(), 429 | 503) {
        let wait = refusal.rejection.map_or(Duration::ZERO, |r| r.retry_after);
        let seconds = match refusal.reason {
            Reason::Quota => track.conn.worker.quota_after(wait),
            _ => track.conn.worker.retry_after(wait),
        };
        track.exchange.retry_after = u32::try_from(seconds).unwrap_or(u32::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    rate::tell(&track, &mut headers);
    let (status, body) = if grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc_status(refusal)));
        headers.insert("grpc-message", HeaderValue::from_static(refusal.detail));
        (StatusCode::OK, Bytes::new())
    } else {
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let id = track.request_id().as_str();
        let (reason, detail) = (refusal.reason, refusal.detail);
        let violated = track.shares().violated();
        let violated: Vec<&str> = violated.map(|share| &**share.limit.name()).collect();
        let body = problem(
            refusal.status,
            reason,
            detail,
            id,
            refusal.rejection.as_ref(),
            &violated,
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        (refusal.status, Bytes::from(body))
    };
    track.exchange.status = status.as_u16();
    let head = track.method == http::Method::HEAD;
    let mut response = Response::new(ResponseBody::own(body, head, track));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// gRPC status codes: UNAVAILABLE for what was shed, `RESOURCE_EXHAUSTED` for a quota, `DEADLINE_EXCEEDED`.
const fn grpc_status(refusal: &Refusal) -> u16 {
    match refusal.reason {
        Reason::Quota | Reason::Quarantined | Reason::Blocked => 8,
        Reason::Deadline | Reason::UpstreamTimeout => 4,
        Reason::NoRoute => 12,
        Reason::BadRequest | Reason::BodyTooLarge | Reason::HeaderTooLarge => 13,
        Reason::FairShare
        | Reason::QueueFull
        | Reason::QueueTimeout
        | Reason::BreakerOpen
        | Reason::NoHealthyEndpoint
        | Reason::Overload
        | Reason::ConnectFailed
        | Reason::UpstreamReset
        | Reason::Draining => 14,
    }
}

/// Writes a whole HTTP/1.1 problem response for something that never became a request; the length of its
/// body.
pub(crate) fn write_raw(
    out: &mut Vec<u8>,
    status: u16,
    reason: Reason,
    detail: &str,
    request_id: &str,
) -> u64 {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = problem(status, reason, detail, request_id, None, &[]);
    // Writing to a Vec cannot fail.
    let _infallible = write!(
        out,
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         proxy-status: tidegate; error=http_request_error\r\nx-request-id: {request_id}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        body.len(),
    );
    out.extend_from_slice(&body);
    body.len() as u64
}

/// Writes an interim response head.
pub(crate) fn write_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or_default();
    let _infallible = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
