//! The framing guard: reads what a client sends over HTTP/1 before the HTTP library does, and lets
//! nothing ambiguous through.
//!
//! Request smuggling lives on differences between two parsers. So the guard refuses whatever two parsers
//! could read in two ways (RFC 9112 sections 2.2, 5.2, 6.1, 6.3, 7.1 and 11.2): Content-Length beside
//! Transfer-Encoding, repeated or malformed Content-Length, any transfer coding but one `chunked`, folded
//! lines, bare CR or LF, NUL, malformed chunk sizes, more or less than one Host. What it lets through it
//! lets through unchanged; tokens and URIs stay the business of the HTTP library. It also counts: bytes and
//! fields of a head.
//!
//! Pure: bytes in, verdicts out. Depends on `memchr`.

/// Bounds on a request head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes, request line and field lines together.
    pub(crate) bytes: usize,
    /// Field lines.
    pub(crate) fields: usize,
}

/// Bound on a request target. The one hyper's URI type has, less some room.
const MAX_TARGET: usize = 65_000;
/// Bound on one chunk's extensions, and on a trailer section.
const MAX_CHUNK_EXTENSION: usize = 4_096;
/// Empty lines tolerated in front of a request (RFC 9112 section 2.2).
const MAX_LEADING_CRLF: u8 = 4;

/// Why a request was refused before it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The status it is answered with.
    pub(crate) status: u16,
    /// What was wrong, in words for the problem body and the log.
    pub(crate) detail: &'static str,
}

const fn bad(detail: &'static str) -> Violation {
    Violation {
        status: 400,
        detail,
    }
}

/// How far a call to [`Guard::feed`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Every byte is accounted for and may pass.
    Clean,
    /// Bytes from this offset on are the beginning of a head that is not complete yet. The caller keeps
    /// them and feeds them again, from their beginning, when there are more.
    Partial(usize),
    /// A head that asks for an upgrade ended at this offset. What follows belongs to nobody until
    /// [`Guard::resume`] says that it is HTTP; a tunnel takes it as it is.
    Suspended(usize),
    /// Bytes from this offset on must not pass: the message that begins there is malformed.
    Refused(usize, Violation),
    /// The body of a message whose head has already passed is malformed: none of these bytes may pass.
    Broken(Violation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between messages, or inside a head that the caller keeps for us.
    Head,
    /// Inside a body of known length.
    Sized(u64),
    /// Inside a chunked body.
    Chunked(Chunk),
    /// After a head that asks for an upgrade.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In a size line, before its extension: the size so far, and its digits.
    Size(u64, u8),
    /// In a size line's extension, with the bytes seen of it.
    Extension(u64, usize),
    /// After a size line's CR.
    SizeLf(u64),
    /// In the data.
    Data(u64),
    /// After the data.
    DataCr,
    /// After the data's CR.
    DataLf,
    /// In the trailer section: bytes seen, and bytes of the present line.
    Trailer(usize, usize),
    /// After a CR in the trailer section: the same.
    TrailerLf(usize, usize),
}

/// What a head says about the body behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Sized(u64),
    Chunked,
    Upgrade,
}

/// One connection's guard.
#[derive(Debug)]
pub(crate) struct Guard {
    state: State,
    limits: HeadLimits,
}

impl Guard {
    /// A guard at the start of a connection.
    #[must_use]
    pub(crate) const fn new(limits: HeadLimits) -> Self {
        Self {
            state: State::Head,
            limits,
        }
    }

    /// Whether the guard waits to hear what became of an upgrade.
    #[must_use]
    pub(crate) fn is_suspended(&self) -> bool {
        self.state == State::Suspended
    }

    /// The upgrade was not taken: what follows is the next request.
    pub(crate) fn resume(&mut self) {
        if self.state == State::Suspended {
            self.state = State::Head;
        }
    }

    /// Reads `bytes`, the next ones of the connection (with any partial head kept from before in front).
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        // Where the message being read began, if it began in these bytes: a violation later in it takes
        // the whole message back.
        let mut message = None;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.state {
                State::Suspended => return Progress::Suspended(at),
                State::Head => {
                    message = Some(at);
                    match self.head(rest) {
                        Ok(Some(length)) => at += length,
                        Ok(None) => return Progress::Partial(at),
                        Err(violation) => return Progress::Refused(at, violation),
                    }
                }
                State::Sized(left) => {
                    let taken = left.min(rest.len() as u64);
                    at += usize::try_from(taken).unwrap_or(rest.len());
                    self.state = if taken == left {
                        State::Head
                    } else {
                        State::Sized(left - taken)
                    };
                }
                State::Chunked(chunk) => match self.chunked(chunk, rest) {
                    Ok(taken) => at += taken,
                    Err(violation) => {
                        return message.map_or(Progress::Broken(violation), |start| {
                            Progress::Refused(start, violation)
                        });
                    }
                },
            }
        }
        Progress::Clean
    }

    /// Reads a head from the beginning of `rest`; its length, or none when it is not complete.
    fn head(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        let start = leading_crlf(rest)?;
        let head = rest.get(start..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
            return self.incomplete(head);
        };
        let head = head.get(..end + 2).unwrap_or_default();
        if head.len() > self.limits.bytes {
            return Err(TOO_LARGE);
        }
        self.state = match check_head(head, self.limits.fields)? {
            Framing::Sized(0) => State::Head,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked => State::Chunked(Chunk::Size(0, 0)),
            Framing::Upgrade => State::Suspended,
        };
        Ok(Some(start + end + 4))
    }

    /// Refuses an incomplete head as soon as it cannot become a good one.
    fn incomplete(&self, head: &[u8]) -> Result<Option<usize>, Violation> {
        if head.len() > self.limits.bytes {
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
        Ok(None)
    }

    /// Reads on in a chunked body; the bytes taken.
    fn chunked(&mut self, mut chunk: Chunk, rest: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        while let Some(&byte) = rest.get(taken) {
            let next = match chunk {
                Chunk::Data(left) => {
                    let available = rest.len() - taken;
                    let step = left.min(available as u64);
                    taken += usize::try_from(step).unwrap_or(available);
                    chunk = if step == left {
                        Chunk::DataCr
                    } else {
                        Chunk::Data(left - step)
                    };
                    continue;
                }
                other => chunk_byte(other, byte)?,
            };
            taken += 1;
            match next {
                Some(next) => chunk = next,
                None => {
                    self.state = State::Head;
                    return Ok(taken);
                }
            }
        }
        self.state = State::Chunked(chunk);
        Ok(taken)
    }
}

const TOO_LARGE: Violation = Violation {
    status: 431,
    detail: "the request head is too large",
};
const TARGET_TOO_LONG: Violation = Violation {
    status: 414,
    detail: "the request target is too long",
};
const BARE_LF: Violation = bad("a line ends in LF without CR");
const BARE_CR: Violation = bad("a CR stands without LF");

fn ends_in_cr(bytes: &[u8], lf: usize) -> bool {
    lf.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\r')
}

/// The length of the empty lines in front of a request.
fn leading_crlf(mut rest: &[u8]) -> Result<usize, Violation> {
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
fn check_head(head: &[u8], max_fields: usize) -> Result<Framing, Violation> {
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
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => fields.hosts += 1,
        7 if name.eq_ignore_ascii_case(b"upgrade") => {
            // h2c by upgrade is obsolete (RFC 9113 section 3.1) and not offered.
            fields.upgrade = !value.eq_ignore_ascii_case(b"h2c");
        }
        10 if name.eq_ignore_ascii_case(b"connection") => {
            fields.connection_upgrade |= value
                .split(|&byte| byte == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
        14 if name.eq_ignore_ascii_case(b"content-length")
            && fields
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
            if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(unknown_coding(value));
            }
            fields.chunked = true;
        }
        _ => {}
    }
    Ok(())
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
    // hyper keeps the two highest values for itself.
    digits
        .parse()
        .ok()
        .filter(|&length| length <= u64::MAX - 2)
        .ok_or(MALFORMED)
}

impl Fields {
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

/// One byte of chunked framing, outside of data; none when the message ends with it.
fn chunk_byte(chunk: Chunk, byte: u8) -> Result<Option<Chunk>, Violation> {
    const SIZE: Violation = bad("a chunk size is malformed");
    let next = match (chunk, byte) {
        (Chunk::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
            if digits >= 15 {
                return Err(bad("a chunk size is too large"));
            }
            Chunk::Size(size << 4 | digit, digits + 1)
        }
        (Chunk::Size(_, 0), _) => return Err(SIZE),
        (Chunk::Size(size, _), b';') => Chunk::Extension(size, 0),
        (Chunk::Size(size, _) | Chunk::Extension(size, _), b'\r') => Chunk::SizeLf(size),
        (Chunk::Size(..), _) => return Err(SIZE),
        (Chunk::Extension(_, seen), _) if seen >= MAX_CHUNK_EXTENSION => {
            return Err(bad("a chunk extension is too long"));
        }
        (Chunk::Extension(..), 0..=8 | 10..=31 | 127) => return Err(SIZE),
        (Chunk::Extension(size, seen), _) => Chunk::Extension(size, seen + 1),
        (Chunk::SizeLf(0), b'\n') => Chunk::Trailer(0, 0),
        (Chunk::SizeLf(size), b'\n') => Chunk::Data(size),
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Size(0, 0),
        (Chunk::DataCr | Chunk::DataLf, _) => {
            return Err(bad("a chunk is longer than its size says"));
        }
        (Chunk::Trailer(seen, line), b'\r') => Chunk::TrailerLf(seen, line),
        (Chunk::Trailer(_, 0), b' ' | b'\t') => return Err(bad("a trailer field is folded")),
        (Chunk::Trailer(..), 0 | b'\n') => return Err(bad("a trailer field is malformed")),
        (Chunk::Trailer(seen, _), _) if seen >= MAX_CHUNK_EXTENSION => {
            return Err(Violation {
                status: 431,
                detail: "the trailer section is too large",
            });
        }
        (Chunk::Trailer(seen, line), _) => Chunk::Trailer(seen + 1, line + 1),
        (Chunk::TrailerLf(_, 0), b'\n') => return Ok(None),
        (Chunk::TrailerLf(seen, _), b'\n') => Chunk::Trailer(seen, 0),
        (Chunk::SizeLf(_) | Chunk::TrailerLf(..), _) => return Err(BARE_CR),
        (Chunk::Data(left), _) => Chunk::Data(left),
    };
    Ok(Some(next))
}

#[cfg(test)]
mod tests;
