//! Heads, from bytes to fields.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use httparse::{ParserConfig, Status};

use super::plain::Plain;
use crate::proxy::guard::{Parts, Span, note_spans};

/// Bound on the bytes of a response's head. Endpoints are not clients: what browsers bear is borne here.
const MAX_HEAD: usize = 400 << 10;

/// Fields that a response may have.
const MAX_FIELDS: usize = 100;

/// What came is not HTTP.
#[derive(Debug)]
pub(super) struct Malformed;

/// A response's head.
#[derive(Debug)]
pub(super) struct Received {
    /// Without fields where they were taken in as they are.
    pub(super) head: http::response::Parts,
    pub(super) said: Said,
    pub(super) is_plain: bool,
}

/// Takes a request's head off `read`, which may have `max_fields` fields, into `head`, whose fields are empty; none while
/// it is not all there. `known`: `parts` are its parts already.
///
/// # Errors
/// When it is none.
pub(super) fn request(
    read: &mut BytesMut,
    max_fields: usize,
    (parts, known): (&mut Parts, bool),
    head: &mut http::request::Parts,
) -> Result<Option<Said>, Malformed> {
    if !known && !parts.find(read, max_fields).map_err(|_invalid| Malformed)? {
        return Ok(None);
    }
    if parts.length > read.len() {
        return Err(Malformed);
    }
    let bytes = read.split_to(parts.length).freeze();
    let [from, to] = parts.method;
    let method = bytes.get(from..to).unwrap_or_default();
    head.method = Method::from_bytes(method).map_err(|_invalid| Malformed)?;
    let [from, to] = parts.target;
    let target = part(&bytes, from, to).ok_or(Malformed)?;
    head.uri = Uri::from_maybe_shared(target).map_err(|_invalid| Malformed)?;
    head.version = version(parts.minor);
    read_fields(&bytes, &parts.fields, head.version, &mut head.headers).map(Some)
}

/// Takes a response's head off `read`; none while it is not all there. `searched`: how much of it was looked at before.
/// Its fields come into `headers`, which are empty, unless they may be and are taken in by `plain`; `spans` is where they
/// are noted meanwhile.
///
/// # Errors
/// When it is none.
pub(super) fn response(
    read: &mut BytesMut,
    searched: &mut usize,
    spans: &mut Vec<Span>,
    headers: &mut HeaderMap,
    plain: Option<&mut Plain>,
) -> Result<Option<Received>, Malformed> {
    // What comes in small pieces is not parsed from its beginning with each of them.
    let looked_at = std::mem::replace(searched, read.len());
    if looked_at > 0 && !may_end(read, looked_at.saturating_sub(2)) {
        return Ok(None);
    }
    let Some((length, status, version)) = find_response(read, spans)? else {
        return if read.len() <= MAX_HEAD {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    *searched = 0;
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.version) = (status, version);
    head.headers = std::mem::take(headers);
    let mut said = Said::default();
    let fields = read.get(..length).unwrap_or_default();
    let is_plain =
        !is_special(status) && plain.is_some_and(|plain| plain.take(fields, spans, &mut said));
    if is_plain {
        read.advance(length);
        said.judge(version);
    } else {
        let bytes = read.split_to(length).freeze();
        said = read_fields(&bytes, spans, version, &mut head.headers)?;
    }
    Ok(Some(Received {
        head,
        said,
        is_plain,
    }))
}

fn find_response(
    bytes: &[u8],
    spans: &mut Vec<Span>,
) -> Result<Option<(usize, StatusCode, Version)>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let Status::Complete(length) = parsed.map_err(|_invalid| Malformed)? else {
        return Ok(None);
    };
    let (Some(code), Some(minor)) = (response.code, response.version) else {
        return Err(Malformed);
    };
    let status = StatusCode::from_u16(code).map_err(|_invalid| Malformed)?;
    note_spans(bytes, response.headers, spans);
    Ok(Some((length, status, version(minor))))
}

/// Whether the fields of a response with this status are looked at on the way.
fn is_special(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 429 | 503)
}

/// Whether a line that ends behind `from` may be the last of a head.
fn may_end(bytes: &[u8], from: usize) -> bool {
    let rest = bytes.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', rest)
        .any(|at| matches!(rest.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

const fn version(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

/// This part of `bytes`, if it is one.
fn part(bytes: &Bytes, from: usize, to: usize) -> Option<Bytes> {
    (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
}

/// Puts the fields at `spans` of `bytes` into `headers`, as slices of them.
fn read_fields(
    bytes: &Bytes,
    spans: &[Span],
    version: Version,
    headers: &mut HeaderMap,
) -> Result<Said, Malformed> {
    // Room for what is added on the way.
    headers.reserve(spans.len() + 6);
    let mut said = Said::default();
    for span in spans {
        let [name, name_end, value, value_end] = span.map(|at| at as usize);
        let name = bytes.get(name..name_end).unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(|_invalid| Malformed)?;
        let value = part(bytes, value, value_end).ok_or(Malformed)?;
        said.note(name.as_str().as_bytes(), &value)?;
        if name == CONNECTION && names_no_field(&value) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_invalid| Malformed)?;
        headers.append(name, value);
    }
    said.judge(version);
    Ok(said)
}

/// Whether a Connection is one of the usual two, which concern this hop and nobody else.
pub(super) fn names_no_field(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// What a head's fields say to this hop.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    marks: u8,
    length: Option<u64>,
}

impl Said {
    const CLOSE: u8 = 1;
    const KEEP_ALIVE: u8 = 2;
    const KEEPS: u8 = 4;
    const EXPECTS: u8 = 8;
    const TRAILERS: u8 = 16;
    const CODED: u8 = 32;
    const CHUNKED: u8 = 64;
    const REPEATED: u8 = 128;

    const fn has(self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Whether the connection is kept open.
    pub(super) const fn keeps(self) -> bool {
        self.has(Self::KEEPS)
    }

    /// Whether the client waits to be told to send its body. HTTP/1.0 knows of no such thing.
    pub(super) const fn expects(self) -> bool {
        self.has(Self::EXPECTS)
    }

    /// Whether trailers are taken.
    pub(super) const fn trailers(self) -> bool {
        self.has(Self::TRAILERS)
    }

    /// Whether there is a transfer coding; whether the last one is chunked.
    pub(super) fn coding(self) -> Option<bool> {
        self.has(Self::CODED).then_some(self.has(Self::CHUNKED))
    }

    /// The announced length.
    pub(super) const fn length(self) -> Option<u64> {
        self.length
    }

    /// Whether the length was announced more than once.
    pub(super) const fn repeated(self) -> bool {
        self.has(Self::REPEATED)
    }

    /// Draws the conclusions, once every field is noted.
    fn judge(&mut self, version: Version) {
        // RFC 9112 section 9.3.
        let asks = version == Version::HTTP_11 || self.has(Self::KEEP_ALIVE);
        if asks && !self.has(Self::CLOSE) {
            self.marks |= Self::KEEPS;
        }
        if version == Version::HTTP_10 {
            self.marks &= !Self::EXPECTS;
        }
    }

    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let tokens = || value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let mark = |token: &[u8], mark| {
            if tokens().any(|it| it.eq_ignore_ascii_case(token)) {
                mark
            } else {
                0
            }
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            10 if is("connection") => {
                self.marks |= mark(b"close", Self::CLOSE) | mark(b"keep-alive", Self::KEEP_ALIVE);
            }
            6 if is("expect") => self.marks |= mark(b"100-continue", Self::EXPECTS),
            2 if is("te") => self.marks |= mark(b"trailers", Self::TRAILERS),
            17 if is("transfer-encoding") => {
                let last = tokens().next_back().unwrap_or_default();
                self.marks |= Self::CODED;
                if last.eq_ignore_ascii_case(b"chunked") {
                    self.marks |= Self::CHUNKED;
                } else {
                    self.marks &= !Self::CHUNKED;
                }
            }
            14 if is("content-length") => {
                for length in tokens().map(length) {
                    let length = length.ok_or(Malformed)?;
                    if let Some(before) = self.length.replace(length) {
                        self.marks |= Self::REPEATED;
                        // Several must agree.
                        if before != length {
                            return Err(Malformed);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
