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
//! Most heads have nothing remarkable about them. They are taken apart once, and where their parts lie is kept for whoever
//! reads them next.
//!
//! Pure: bytes in, verdicts out. Depends on `memchr` and `httparse`.

pub(super) mod chunk;
mod head;
mod parts;
#[cfg(test)]
mod tests;

use self::chunk::{Chunk, chunk_byte};
use self::head::{Framing, check_head, incomplete_head, leading_crlf, plain};
pub(crate) use self::parts::{Parts, Span, note_spans};

/// Bounds on a request head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes, request line and field lines together.
    pub(crate) bytes: usize,
    /// Field lines.
    pub(crate) fields: usize,
}

/// Why a request was refused before it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The status it is answered with.
    pub(crate) status: u16,
    /// What was wrong, in words for the problem body and the log.
    pub(crate) detail: &'static str,
}

pub(super) const fn bad(detail: &'static str) -> Violation {
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

/// One connection's guard.
#[derive(Debug)]
pub(crate) struct Guard {
    state: State,
    limits: HeadLimits,
    parts: Parts,
    /// Whether `parts` are those of the head that the bytes last fed begin with.
    parted: bool,
}

impl Guard {
    /// A guard at the start of a connection.
    #[must_use]
    pub(crate) const fn new(limits: HeadLimits) -> Self {
        Self {
            state: State::Head,
            limits,
            parts: Parts::new(),
            parted: false,
        }
    }

    /// Room for the parts of a head, and whether they are those of the one that the bytes last fed begin with.
    pub(crate) fn parts(&mut self) -> (&mut Parts, bool) {
        (&mut self.parts, self.parted)
    }

    pub(crate) fn forget_parts(&mut self) {
        self.parts = Parts::new();
        self.parted = false;
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
        self.parted = false;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.state {
                State::Suspended => return Progress::Suspended(at),
                State::Head => {
                    message = Some(at);
                    let judged = match self.plain_head(rest, at == 0) {
                        Some(length) => Ok(Some(length)),
                        None => self.head(rest),
                    };
                    match judged {
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

    /// Reads a head from the beginning of `rest`, if nothing is remarkable about it; its length. `first`: its parts are
    /// those that are kept.
    fn plain_head(&mut self, rest: &[u8], first: bool) -> Option<usize> {
        if !first || self.parts.find(rest, self.limits.fields) != Ok(true) {
            return None;
        }
        self.state = match plain(rest, &self.parts, self.limits)? {
            0 => State::Head,
            length => State::Sized(length),
        };
        self.parted = true;
        Some(self.parts.length)
    }

    /// Reads a head from the beginning of `rest`; its length, or none when it is not complete.
    fn head(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        let start = leading_crlf(rest)?;
        let head = rest.get(start..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
            return incomplete_head(head, self.limits).map(|()| None);
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
const BARE_LF: Violation = bad("a line ends in LF without CR");
const BARE_CR: Violation = bad("a CR stands without LF");
