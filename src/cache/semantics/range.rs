//! Parts of a response (RFC 9110 section 14, RFC 9111 sections 3.3 and 3.4).

use http::header::{CONTENT_RANGE, ETAG, RANGE};
use http::{HeaderMap, HeaderValue};

/// What of a whole representation a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, one that is malformed, several, or in another unit.
    Whole,
    /// From the first byte to before the second.
    Part(u64, u64),
    /// A range beyond its end.
    Unsatisfiable,
}

/// What `request` asks for of a representation of `length` bytes.
#[must_use]
pub fn wanted(request: &HeaderMap, length: u64) -> Wanted {
    let Some((first, last)) = single(request) else {
        return Wanted::Whole;
    };
    let (start, end) = match (first, last) {
        (Some(first), last) => {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            (first, end)
        }
        (None, Some(0)) => return Wanted::Unsatisfiable,
        (None, Some(suffix)) => (length.saturating_sub(suffix), length),
        (None, None) => return Wanted::Whole,
    };
    if start < end {
        Wanted::Part(start, end)
    } else {
        Wanted::Unsatisfiable
    }
}

/// The one range of bytes that a request asks for: the first byte and the last, or of a suffix only its
/// length. None when there is none, or several.
fn single(request: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, range) = only.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let sane = match (first, last) {
        (None, None) => false,
        (Some(first), Some(last)) => first <= last,
        _ => true,
    };
    sane.then_some((first, last))
}

/// Digits, or nothing.
#[expect(clippy::option_option, reason = "outer: well formed; inner: given")]
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// The part that a 206 carries: from the first byte to before the second, of so many in all.
#[must_use]
pub fn carried(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let mut lines = headers.get_all(CONTENT_RANGE).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (range, length) = only
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length) = (number(first)??, number(last)??, number(length)??);
    (first <= last && last < length).then(|| (first, last.saturating_add(1), length))
}

/// `Content-Range` of a part.
#[must_use]
pub fn content_range(start: u64, end: u64, length: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("bytes {start}-{}/{length}", end.saturating_sub(1))).ok()
}

/// Whether two parts with these fields are of the same representation: they have the same strong validator.
#[must_use]
pub fn may_combine(one: &HeaderMap, other: &HeaderMap) -> bool {
    let tag = one.get(ETAG).filter(|tag| super::condition::is_strong(tag));
    tag.is_some_and(|tag| other.get(ETAG) == Some(tag))
}
