//! A request on its way to an endpoint: its head, and its body in whichever framing fits (RFC 9112 section 6).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, Method, Uri};
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::proxy::stream::Stream;
use crate::proxy::upload::RequestBody;

/// Frames up to this length are sent in one piece with what stands before them: to copy them costs less than the system
/// takes to gather pieces.
const SMALL: usize = 8_192;

/// A request's method, target and fields.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

/// Why sending ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Before a byte was written.
    Unsent,
    /// The endpoint took no more.
    Midway,
    /// The body broke off.
    Source,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// By its length; the bytes of it to come.
    Sized(u64),
    /// In chunks.
    #[default]
    Chunked,
}

/// What is being sent.
#[derive(Debug, Default)]
pub(super) struct Sender {
    method: Method,
    /// What is written next.
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// What is written behind it.
    data: Bytes,
    /// What comes behind that; none once it has ended.
    body: Option<RequestBody>,
    framing: Framing,
    /// The trailer fields that were announced.
    trailers: Vec<String>,
    /// Whether anything was written.
    begun: bool,
    /// Whether what was written has left.
    flushed: bool,
    cut: bool,
}

/// A request of which nothing was sent.
#[derive(Debug)]
pub(crate) struct Unsent(Box<Sender>);

impl Sender {
    /// Nothing was begun, or all of it was sent.
    pub(super) fn is_done(&self) -> bool {
        let empty = self.out.is_empty() && self.data.is_empty() && self.body.is_none();
        empty && self.flushed && !self.cut
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn begin(&mut self, head: &Head, body: RequestBody) {
        self.method.clone_from(&head.method);
        self.begun = false;
        self.flushed = false;
        self.cut = false;
        self.written = 0;
        self.out.clear();
        let target = head.uri.path_and_query();
        let target = target.map_or("/", http::uri::PathAndQuery::as_str);
        for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        write_fields(&mut self.out, &head.headers);
        if body.is_end_stream() {
            self.body = None;
        } else {
            self.frame(head, &body);
            self.body = Some(body);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Settles how `body` is framed, and says so where the head does not yet.
    fn frame(&mut self, head: &Head, body: &RequestBody) {
        let announced = head.headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
        let known = body.size_hint().exact();
        self.framing = match announced.or(known) {
            Some(length) => Framing::Sized(length),
            None => Framing::Chunked,
        };
        match self.framing {
            Framing::Sized(length) if announced.is_none() => {
                let mut digits = itoa::Buffer::new();
                self.out.extend_from_slice(b"content-length: ");
                self.out.extend_from_slice(digits.format(length).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
            Framing::Sized(_) => {}
            Framing::Chunked => {
                self.out
                    .extend_from_slice(b"transfer-encoding: chunked\r\n");
                let lines = head.headers.get_all(TRAILER).into_iter();
                let names = lines.filter_map(|line| line.to_str().ok());
                let names = names.flat_map(|line| line.split(','));
                self.trailers = names.map(|it| it.trim().to_ascii_lowercase()).collect();
            }
        }
    }

    pub(super) fn begin_again(&mut self, unsent: Unsent) {
        *self = *unsent.0;
        self.written = 0;
        self.flushed = false;
        self.cut = false;
    }

    /// The request, if nothing of it was written.
    pub(super) fn take_unsent(&mut self) -> Option<Unsent> {
        (!self.begun).then(|| Unsent(Box::new(std::mem::take(self))))
    }

    /// What was allocated for a long head is let go.
    pub(super) fn rest(&mut self) {
        if self.out.capacity() > 2 * SMALL {
            self.out = Vec::new();
        }
    }

    /// Sends what there is. Ready when the request is over.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), Cut>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        if self.cut {
            return Poll::Ready(Err(Cut::Midway));
        }
        let polled = self.poll_parts(cx, stream);
        if let Poll::Ready(Err(_)) = polled {
            self.cut = true;
        }
        polled
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Cut>> {
        loop {
            let waits = self.gather(cx)?;
            if self.out.is_empty() && self.data.is_empty() {
                // Under TLS, what was written may not be sent.
                let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
                flushed.map_err(|_broken| self.cut())?;
                self.flushed = !waits;
                return if waits {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            let written = ready!(self.poll_write(cx, stream)).map_err(|_broken| self.cut())?;
            self.advance(written);
        }
    }

    fn cut(&self) -> Cut {
        if self.begun { Cut::Midway } else { Cut::Unsent }
    }

    /// Takes of the body what is there, as long as it is small. Whether more of it is awaited.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        while self.data.is_empty() && self.out.len() < SMALL {
            let Some(body) = &mut self.body else {
                return Ok(false);
            };
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(_broken))) => return Err(Cut::Source),
                Poll::Ready(Some(Ok(frame))) => {
                    let last = body.is_end_stream();
                    match frame.into_data() {
                        Ok(data) => self.push(data)?,
                        Err(frame) => {
                            self.end(frame.trailers_ref())?;
                            continue;
                        }
                    }
                    if last && self.data.is_empty() {
                        self.end(None)?;
                    }
                }
                Poll::Ready(None) => self.end(None)?,
            }
        }
        Ok(false)
    }

    fn push(&mut self, data: Bytes) -> Result<(), Cut> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Sized(left) => {
                // More than was announced would be read as the next request.
                *left = left.checked_sub(data.len() as u64).ok_or(Cut::Source)?;
            }
            Framing::Chunked => {
                let _infallible = write!(self.out, "{:x}\r\n", data.len());
            }
        }
        if data.len() > SMALL {
            self.data = data;
            return Ok(());
        }
        self.out.extend_from_slice(&data);
        self.end_chunk();
        Ok(())
    }

    fn end_chunk(&mut self) {
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// The body has ended.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Cut> {
        self.body = None;
        match self.framing {
            Framing::Sized(0) => Ok(()),
            Framing::Sized(_) => Err(Cut::Source),
            Framing::Chunked => {
                self.out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.trailers.iter().any(|it| it == name.as_str()) {
                        write_field(&mut self.out, name.as_str(), value.as_bytes());
                    }
                }
                self.out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        let out = self.out.get(self.written..).unwrap_or_default();
        let stream = Pin::new(stream);
        let written = if self.data.is_empty() {
            ready!(stream.poll_write(cx, out))
        } else if out.is_empty() {
            ready!(stream.poll_write(cx, &self.data))
        } else {
            let both = [IoSlice::new(out), IoSlice::new(&self.data)];
            ready!(stream.poll_write_vectored(cx, &both))
        };
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        })
    }

    fn advance(&mut self, written: usize) {
        self.begun = true;
        let of_out = written.min(self.out.len() - self.written);
        self.written += of_out;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        if !self.data.is_empty() {
            self.data.advance(written - of_out);
            if self.data.is_empty() {
                self.end_chunk();
            }
        }
    }
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        write_field(out, name.as_str(), value.as_bytes());
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
