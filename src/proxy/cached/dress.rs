//! Responses made of what is stored: whole, in part, or only the word that the client has it already.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderName, HeaderValue,
};
use http::{HeaderMap, Method, Response, StatusCode};

use super::super::ingress::X_REQUEST_ID;
use super::Ready;
use crate::cache::content::Content;
use crate::cache::object::{Head, Object};
use crate::cache::semantics::range::{self, Wanted};
use crate::cache::semantics::status::CacheStatus;
use crate::cache::semantics::{Millis, condition};

/// `object` as the answer to a request by `method` with these fields.
pub(super) fn stored(
    object: &Object,
    method: &Method,
    request: &HeaderMap,
    status: CacheStatus,
    now: Millis,
) -> Box<Ready> {
    let mut head = begin(&object.head, status, now);
    let mut body = object.body.clone();
    if object.head.status == StatusCode::OK && is_unmodified(&object.head, request, now) {
        unmodified(&mut head);
        return Ready::whole(head, Content::default());
    }
    let (start, length) = object.part.unwrap_or((0, body.len()));
    let ranged = *method == Method::GET
        && (object.head.status == StatusCode::OK || object.part.is_some())
        && condition::range_holds(request, &object.head.headers, seconds(now));
    let wanted = if ranged {
        range::wanted(request, length)
    } else {
        Wanted::Whole
    };
    match wanted {
        Wanted::Whole => {}
        Wanted::Part(first, last) => {
            let (from, to) = (first.saturating_sub(start), last.saturating_sub(start));
            body = body.slice(from, to);
            head.status = StatusCode::PARTIAL_CONTENT;
            if let Some(value) = range::content_range(first, last, length) {
                head.headers.insert(CONTENT_RANGE, value);
            }
        }
        Wanted::Unsatisfiable => {
            body = Content::default();
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{length}")) {
                head.headers.insert(CONTENT_RANGE, value);
            }
        }
    }
    if head.status != StatusCode::NO_CONTENT {
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    if *method == Method::HEAD {
        body = Content::default();
    }
    Ready::whole(head, body)
}

/// The head of a response whose body still arrives.
pub(super) fn arriving(stored: &Head, status: CacheStatus, now: Millis) -> http::response::Parts {
    begin(stored, status, now)
}

/// The word that the client has `stored` already, if it does.
pub(super) fn if_unmodified(
    stored: &Head,
    request: &HeaderMap,
    status: CacheStatus,
    now: Millis,
) -> Option<Box<Ready>> {
    let known = stored.status == StatusCode::OK && is_unmodified(stored, request, now);
    known.then(|| {
        let mut head = begin(stored, status, now);
        unmodified(&mut head);
        Ready::whole(head, Content::default())
    })
}

fn is_unmodified(stored: &Head, request: &HeaderMap, now: Millis) -> bool {
    condition::is_conditional(request)
        && condition::is_unmodified(request, &stored.headers, seconds(now))
}

/// `object`, which is whole and fresh, to a request that asks for all of it: its head is written from where it is kept.
pub(super) fn as_kept(object: &Object, headers: HeaderMap, now: Millis) -> Box<Ready> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = object.head.status;
    head.headers = headers;
    Box::new(Ready {
        head,
        body: object.body.clone(),
        kept: Some(Kept {
            head: Arc::clone(&object.head),
            age: object.head.model.age(now) / 1_000,
            ttl: object.head.model.ttl(now),
        }),
    })
}

/// The head of a stored response on its way to a client, uncopied.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) head: Arc<Head>,
    /// In seconds.
    pub(crate) age: u64,
    /// Of the freshness that is left, in seconds.
    ttl: i64,
}

impl Kept {
    /// Its fields, but those that each answer has anew.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let fields = self.head.headers.iter();
        fields.filter(|(name, _)| *name != AGE && *name != X_REQUEST_ID)
    }

    /// What its `Cache-Status` says.
    pub(crate) fn status(&self) -> String {
        hit(self.ttl).text()
    }
}

/// The account of a hit.
pub(super) fn hit(ttl: i64) -> CacheStatus {
    CacheStatus {
        hit: true,
        ttl: Some(ttl),
        ..CacheStatus::default()
    }
}

fn begin(stored: &Head, status: CacheStatus, now: Millis) -> http::response::Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = stored.status;
    head.headers = stored.headers.clone();
    let age = stored.model.age(now) / 1_000;
    head.headers.insert(AGE, HeaderValue::from(age));
    status.append(&mut head.headers);
    head
}

/// What a 304 does not repeat (RFC 9110 section 15.4.5).
fn unmodified(head: &mut http::response::Parts) {
    head.status = StatusCode::NOT_MODIFIED;
    for name in [
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_RANGE,
    ] {
        head.headers.remove(name);
    }
}

fn seconds(now: Millis) -> i64 {
    i64::try_from(now / 1_000).unwrap_or(i64::MAX)
}
