//! Which fields of a response are kept, and what a 304 changes in them (RFC 9111 sections 3.1, 3.2).

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

use super::control::Control;
use super::date;

/// Fields of the connection, not of the response.
const OF_THE_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What is kept of a response's fields: all but those of the hop and those that the response itself
/// withholds. A response without a date gets that of its arrival, in seconds since the Unix epoch.
#[must_use]
pub fn kept(headers: &HeaderMap, control: &Control, arrived: i64) -> HeaderMap {
    let mut kept = headers.clone();
    strip(&mut kept);
    for name in &control.withheld {
        kept.remove(name);
    }
    let dated = kept
        .get(DATE)
        .is_some_and(|at| date::parse(at, arrived).is_some());
    if let (false, Some(now)) = (dated || kept.contains_key(DATE), date::format(arrived)) {
        kept.insert(DATE, now);
    }
    kept
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(super::control::members)
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&OF_THE_HOP) {
        headers.remove(name);
    }
}

/// The stored fields as a 304 (or the head of a 200 to HEAD, or a 206 that completes them) leaves them.
#[must_use]
pub fn freshened(stored: &HeaderMap, fresh: &HeaderMap, control: &Control) -> HeaderMap {
    let mut fresh = fresh.clone();
    strip(&mut fresh);
    for name in [&CONTENT_LENGTH, &CONTENT_RANGE] {
        fresh.remove(name);
    }
    for name in &control.withheld {
        fresh.remove(name);
    }
    let mut merged = stored.clone();
    // An age is that of one transfer.
    merged.remove(http::header::AGE);
    for name in fresh.keys() {
        merged.remove(name);
    }
    for (name, value) in &fresh {
        merged.append(name, value.clone());
    }
    merged
}

/// Whether a 304 is about the stored response that was asked about (RFC 9111 section 4.3.4): a strong
/// validator, where it has one, is the stored one's.
#[must_use]
pub fn is_about(stored: &HeaderMap, fresh: &HeaderMap) -> bool {
    let tag = fresh
        .get(ETAG)
        .filter(|tag| super::condition::is_strong(tag));
    tag.is_none_or(|tag| stored.get(ETAG) == Some(tag))
}

/// Whether the answer to HEAD is of the same representation as the stored one (RFC 9111 section 4.3.5): what
/// it says of validators and length is what is stored.
#[must_use]
pub fn is_same(stored: &HeaderMap, fresh: &HeaderMap) -> bool {
    [ETAG, LAST_MODIFIED, CONTENT_LENGTH].iter().all(|name| {
        let (stored, fresh) = (stored.get(name), fresh.get(name));
        fresh.is_none() || stored.is_none() || fresh == stored
    })
}
