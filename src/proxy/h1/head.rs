//! A response's head, from bytes to fields.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, Version};

/// Bound on the bytes of a head. Endpoints are not clients: what browsers bear is borne here.
const MAX_HEAD: usize = 400 << 10;

/// Bound on the fields of a head.
const MAX_FIELDS: usize = 100;

/// What came is not HTTP.
#[derive(Debug)]
pub(super) struct Malformed;

/// A head, and what it says of the connection.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) head: http::response::Parts,
    /// Whether the endpoint keeps the connection open.
    pub(super) keeps: bool,
}

/// Takes a head off `read`; none while it is not all there. `searched`: how much of it was looked at before.
///
/// # Errors
/// When it is none.
pub(super) fn parse(
    read: &mut BytesMut,
    searched: &mut usize,
) -> Result<Option<Received>, Malformed> {
    let begins = read.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let begins = begins.unwrap_or(read.len());
    let Some(length) = end(read, begins.max(searched.saturating_sub(2))) else {
        *searched = read.len();
        // Who speaks something else need not be waited for.
        let mut start = read.iter().skip(begins).zip(b"HTTP/1.");
        let speaks_http = start.all(|(is, should)| is == should);
        return if speaks_http && read.len() <= MAX_HEAD {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    *searched = 0;
    let bytes = read.split_to(length).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        &bytes,
        &mut fields,
    );
    if !matches!(parsed, Ok(httparse::Status::Complete(end)) if end == length) {
        return Err(Malformed);
    }
    received(&bytes, &response).map(Some).ok_or(Malformed)
}

fn received(bytes: &Bytes, response: &httparse::Response<'_, '_>) -> Option<Received> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::from_u16(response.code?).ok()?;
    head.version = match response.version? {
        1 => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    // Room for what is added on the way.
    head.headers = HeaderMap::with_capacity(response.headers.len() + 4);
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        head.headers.append(name, value);
    }
    let keeps = keeps(head.version, &head.headers);
    Some(Received { head, keeps })
}

/// RFC 9112 section 9.3.
fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).into_iter();
    let mut tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let mut says = |token: &[u8]| tokens.any(|it| it.trim_ascii().eq_ignore_ascii_case(token));
    if version == Version::HTTP_11 {
        !says(b"close")
    } else {
        says(b"keep-alive")
    }
}

/// Where the head in `bytes` ends, if it does from `from` on.
fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', rest).find_map(|at| match rest.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}
