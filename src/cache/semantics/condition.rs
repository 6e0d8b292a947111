//! Validators and the conditions that use them (RFC 9110 sections 8.8 and 13, RFC 9111 section 4.3).

use http::header::{
    ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::date;

/// Fields that make a request depend on what the client has.
pub const CONDITIONS: [HeaderName; 6] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
];

/// Makes `request` ask whether `stored` still holds, in the place of what the client wanted to know. Whether
/// there is anything to ask by.
pub fn validate(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    for name in CONDITIONS {
        request.remove(name);
    }
    let mut asks = false;
    for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value.clone());
            asks = true;
        }
    }
    asks
}

/// Whether `request` has a condition that a stored response answers.
#[must_use]
pub fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether the client already has `stored`, a 200: it is to be sent a 304.
#[must_use]
pub fn is_unmodified(request: &HeaderMap, stored: &HeaderMap, now: i64) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let tag = stored.get(ETAG).map(HeaderValue::as_bytes);
        let mut lines = request.get_all(IF_NONE_MATCH).iter();
        return lines.any(|line| {
            super::control::members(line).any(|member| match member.trim_ascii() {
                b"*" => true,
                member => tag.is_some_and(|tag| same_weakly(tag, member)),
            })
        });
    }
    let since = request
        .get(IF_MODIFIED_SINCE)
        .and_then(|value| date::parse(value, now));
    let Some(since) = since else {
        return false;
    };
    let modified = stored
        .get(LAST_MODIFIED)
        .or_else(|| stored.get(http::header::DATE));
    modified
        .and_then(|value| date::parse(value, now))
        .is_some_and(|modified| modified <= since)
}

/// Whether two entity tags are the same, weak or not.
#[must_use]
pub fn same_weakly(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    opaque(one) == opaque(other)
}

/// Whether `tag` is a strong entity tag.
#[must_use]
pub fn is_strong(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"\"")
}

/// Whether a request's `If-Range`, if it has one, still holds of `stored` (RFC 9110 section 13.1.5).
#[must_use]
pub fn range_holds(request: &HeaderMap, stored: &HeaderMap, now: i64) -> bool {
    let Some(given) = request.get(IF_RANGE) else {
        return true;
    };
    if given.as_bytes().ends_with(b"\"") {
        return is_strong(given) && stored.get(ETAG) == Some(given);
    }
    let (Some(given), Some(modified)) = (date::parse(given, now), stored.get(LAST_MODIFIED)) else {
        return false;
    };
    let made = stored
        .get(http::header::DATE)
        .and_then(|it| date::parse(it, now));
    // A date is strong only if nothing could change within the same second any more.
    date::parse(modified, now)
        .is_some_and(|modified| modified == given && made.is_some_and(|made| made > modified))
}
