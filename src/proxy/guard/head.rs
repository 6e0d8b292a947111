//! One request head: its line, its fields, and what they say about the body. Depends on `memchr`.

use super::{BARE_CR, BARE_LF, HeadLimits, Parts, TOO_LARGE, Violation, bad};

/// Bound on a request target. The one the URI type has, less some room.
const MAX_TARGET: usize = 65_000;
/// Empty lines tolerated in front of a request (RFC 9112 section 2.2).
const MAX_LEADING_CRLF: u8 = 4;

const TARGET_TOO_LONG: Violation = Violation {
    status: 414,
    detail: "the request target is too long",
};

/// What a head says about the body behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sized(u64),
    Chunked,
    Upgrade,
}

/// Refuses an incomplete head as soon as it cannot become a good one.
pub(super) fn incomplete_head(head: &[u8], limits: HeadLimits) -> Result<(), Violation> {
    if head.len() > limits.bytes {
        return Err(TOO_LARGE);
    }
    let mut lines = memchr::memchr_iter(b'\n', head);
    match lines.next() {
        Some(first) => request_line(head.get(..=first).unwrap_or_default()).map(|_| ())?,
        None if head.len() > MAX_TARGET => return Err(TARGET_TOO_LONG),
        None => {}
    }
    // A line end that is no CRLF would hide the head's end for ever.
    if memchr::memchr_iter(b'\n', head).any(|lf| !ends_in_cr(head, lf)) {
        return Err(BARE_LF);
    }
    Ok(())
}

fn ends_in_cr(bytes: &[u8], lf: usize) -> bool {
    lf.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\r')
}

/// The length of the empty lines in front of a request.
pub(super) fn leading_crlf(mut rest: &[u8]) -> Result<usize, Violation> {
    let mut length = 0;
    for _ in 0..MAX_LEADING_CRLF {
        match rest {
            [b'\r', b'\n', tail @ ..] => {
                length += 2;
                rest = tail;
            }
            [b'\n', ..] => return Err(BARE_LF),
            [b'\r', other, ..] if *other != b'\n' => return Err(BARE_CR),
            [b' ' | b'\t', ..] => {
                return Err(bad("white space stands in front of the request line"));
            }
            _ => return Ok(length),
        }
    }
    Err(bad(
        "too many empty lines stand in front of the request line",
    ))
}

/// Checks a request line with its CRLF; whether it is HTTP/1.1 (else HTTP/1.0).
fn request_line(line: &[u8]) -> Result<bool, Violation> {
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(BARE_LF);
    };
    if memchr::memchr2(b'\r', 0, line).is_some() {
        return Err(bad("the request line has a CR or NUL in it"));
    }
    let mut spaces = memchr::memchr_iter(b' ', line);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(bad(
            "the request line is not `METHOD TARGET VERSION` with single spaces",
        ));
    };
    if first == 0 || second == first + 1 {
        return Err(bad("the request line lacks a method or a target"));
    }
    if second - first > MAX_TARGET {
        return Err(TARGET_TOO_LONG);
    }
    let target = line.get(first + 1..second).unwrap_or_default();
    if !is_target(target) && line.get(..first) != Some(b"CONNECT") {
        return Err(bad("the request target is neither a path nor a URL"));
    }
    match line.get(second + 1..).unwrap_or_default() {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Violation {
                status: 505,
                detail: "only HTTP/1.1 and HTTP/1.0 are spoken here",
            })
        }
        _ => Err(bad("the request line does not end in an HTTP version")),
    }
}

/// Whether `target` is in origin, absolute or asterisk form (RFC 9112 section 3.2).
fn is_target(target: &[u8]) -> bool {
    let begins = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    target.first() == Some(&b'/') || target == b"*" || begins(b"http://") || begins(b"https://")
}

/// What the framing fields of a head said so far.
#[derive(Debug, Default)]
struct Fields {
    content_length: Option<u64>,
    chunked: bool,
    hosts: usize,
    connection_upgrade: bool,
    upgrade: bool,
}

/// Checks a complete head, last field line's CRLF included, the empty line not.
pub(super) fn check_head(head: &[u8], max_fields: usize) -> Result<Framing, Violation> {
    let mut ends = memchr::memchr_iter(b'\n', head);
    let Some(first) = ends.next() else {
        return Err(BARE_LF);
    };
    let http11 = request_line(head.get(..=first).unwrap_or_default())?;
    let mut fields = Fields::default();
    let mut start = first + 1;
    for (count, end) in ends.enumerate() {
        if count >= max_fields {
            return Err(Violation {
                status: 431,
                detail: "the request has too many header fields",
            });
        }
        if !ends_in_cr(head, end) {
            return Err(BARE_LF);
        }
        field_line(
            head.get(start..end - 1).unwrap_or_default(),
            http11,
            &mut fields,
        )?;
        start = end + 1;
    }
    fields.framing(http11)
}

/// Checks one field line, without its CRLF.
fn field_line(line: &[u8], http11: bool, fields: &mut Fields) -> Result<(), Violation> {
    let first = match line.first() {
        Some(b' ' | b'\t') => return Err(bad("a header field is folded over two lines")),
        Some(first) => first.to_ascii_lowercase(),
        None => return Err(BARE_CR),
    };
    if memchr::memchr2(b'\r', 0, line).is_some() {
        return Err(bad("a header field has a CR or NUL in it"));
    }
    if !matches!(first, b'c' | b't' | b'h' | b'u') {
        return Ok(());
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(bad("a header field has no colon"));
    };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    fields.note(name, value, http11)
}

/// The length of the body behind the head that `bytes` begin with and `parts` are those of, where nothing is remarkable
/// about it; none for any other, which [`check_head`] is to judge. Of what that refuses, nothing passes here.
pub(super) fn plain(bytes: &[u8], parts: &Parts, limits: HeadLimits) -> Option<u64> {
    let head = bytes.get(..parts.length)?;
    let [from, to] = parts.target;
    let target = head.get(from..to)?;
    let usual = parts.method.first() == Some(&0)
        && parts.minor == 1
        && head.len() <= limits.bytes
        && target.first() == Some(&b'/')
        && target.len() <= MAX_TARGET
        && head.ends_with(b"\r\n\r\n");
    if !usual {
        return None;
    }
    let mut fields = Fields::default();
    for span in &parts.fields {
        let [name, name_end, value, value_end] = span.map(|at| at as usize);
        // The line before may have ended in LF alone; httparse would not mind.
        if head.get(name.checked_sub(2)?..name) != Some(b"\r\n") {
            return None;
        }
        let (name, value) = (head.get(name..name_end)?, head.get(value..value_end)?);
        fields.note(name, value, true).ok()?;
    }
    match fields.framing(true) {
        Ok(Framing::Sized(length)) => Some(length),
        Ok(Framing::Chunked | Framing::Upgrade) | Err(_) => None,
    }
}

fn unknown_coding(value: &[u8]) -> Violation {
    let is_coding = |coding: &[u8]| {
        [
            &b"gzip"[..],
            b"x-gzip",
            b"deflate",
            b"compress",
            b"x-compress",
        ]
        .iter()
        .any(|known| coding.eq_ignore_ascii_case(known))
    };
    let mut codings: Vec<&[u8]> = value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .collect();
    let last_is_chunked = codings
        .pop()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    if last_is_chunked && !codings.is_empty() && codings.iter().all(|coding| is_coding(coding)) {
        return Violation {
            status: 501,
            detail: "no transfer coding but `chunked` is understood here",
        };
    }
    bad("Transfer-Encoding is something else than one `chunked`")
}

fn content_length(value: &[u8]) -> Result<u64, Violation> {
    const MALFORMED: Violation = bad("Content-Length is not a number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let digits = std::str::from_utf8(value).map_err(|_not_ascii| MALFORMED)?;
    // The highest are nobody's length, and what is added to one must not overflow.
    digits
        .parse()
        .ok()
        .filter(|&length| length <= u64::MAX - 2)
        .ok_or(MALFORMED)
}

impl Fields {
    /// Notes what a field says of the framing.
    fn note(&mut self, name: &[u8], value: &[u8], http11: bool) -> Result<(), Violation> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                // h2c by upgrade is obsolete (RFC 9113 section 3.1) and not offered.
                self.upgrade = !value.eq_ignore_ascii_case(b"h2c");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= value
                    .split(|&byte| byte == b',')
                    .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length")
                && self
                    .content_length
                    .replace(content_length(value)?)
                    .is_some() =>
            {
                return Err(bad("Content-Length is given twice"));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if !http11 {
                    return Err(bad("Transfer-Encoding does not exist in HTTP/1.0"));
                }
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(unknown_coding(value));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, http11: bool) -> Result<Framing, Violation> {
        if self.hosts > 1 {
            return Err(bad("Host is given twice"));
        }
        if http11 && self.hosts == 0 {
            return Err(bad("an HTTP/1.1 request must have a Host"));
        }
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(bad("Content-Length stands beside Transfer-Encoding")),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) if length > 0 => Ok(Framing::Sized(length)),
            (false, _) if http11 && self.upgrade && self.connection_upgrade => Ok(Framing::Upgrade),
            (false, _) => Ok(Framing::Sized(0)),
        }
    }
}
