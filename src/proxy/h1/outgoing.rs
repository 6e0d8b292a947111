//! What is written to a connection: heads, and bodies in whichever framing fits (RFC 9112 sections 6 and 7.1).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, TRAILER};
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::cache::content::Pages;
use crate::proxy::stream::Stream;

/// Frames up to this length are sent in one piece with what stands before them: to copy them costs less than the system
/// takes to gather pieces.
const SMALL: usize = 8_192;

/// How a body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length; the bytes of it to come.
    Sized(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    #[default]
    UntilClose,
}

/// What is taken of a body while its receiver takes nothing. Behind a slow client, a response of this size leaves its
/// upstream free for others.
const AHEAD: usize = 256 << 10;

/// A body that broke off, or is longer or shorter than was announced.
#[derive(Debug)]
pub(super) struct BrokenOff;

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// What is written next. Heads are put here.
    pub(super) out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// What is written behind it, as it came.
    data: Bytes,
    /// The same in pages, which the kernel sends.
    pages: Option<Pages>,
    /// What is written behind that.
    later: Vec<u8>,
    /// Whether the receiver took nothing last.
    blocked: bool,
    pub(super) framing: Framing,
    /// The trailer fields that were announced, and may be sent.
    trailers: Vec<String>,
}

impl Outgoing {
    /// Whether all of it is written.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && !self.has_long() && self.later.is_empty()
    }

    /// Whether it is short and all in one piece.
    pub(super) fn is_short(&self) -> bool {
        !self.blocked && !self.has_long() && self.later.is_empty() && self.out.len() <= 2 * SMALL
    }

    /// Whether more should be put to it before it is written.
    fn has_room(&self) -> bool {
        if self.blocked {
            self.out.len() + self.later.len() < AHEAD
        } else {
            !self.has_long() && self.out.len() < SMALL
        }
    }

    /// The receiver takes nothing: whether more should be put to it all the same.
    pub(super) fn block(&mut self) -> bool {
        self.blocked = true;
        self.has_room()
    }

    /// Forgets what is not written.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.written = 0;
        self.data = Bytes::new();
        self.pages = None;
        self.later.clear();
        self.blocked = false;
    }

    /// Lets go of what a long message took.
    pub(super) fn rest(&mut self) {
        for part in [&mut self.out, &mut self.later] {
            if part.capacity() > 2 * SMALL {
                *part = Vec::new();
            }
        }
    }

    /// The trailer fields that `headers` announce may be sent.
    pub(super) fn announce(&mut self, headers: &HeaderMap) {
        let lines = headers.get_all(TRAILER).into_iter();
        let names = lines.filter_map(|line| line.to_str().ok());
        let names = names.flat_map(|line| line.split(','));
        self.trailers = names.map(|it| it.trim().to_ascii_lowercase()).collect();
    }

    /// Takes of `body` what is there, as long as there is room; none is left of it at its end. Whether more of it is
    /// awaited.
    ///
    /// # Errors
    /// When there will be no more although there should.
    pub(super) fn gather<B>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Option<B>,
    ) -> Result<bool, BrokenOff>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        while self.has_room() {
            let Some(source) = body else {
                return Ok(false);
            };
            match Pin::new(source).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(_broken))) => return Err(BrokenOff),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push(data)?,
                    Err(frame) => {
                        *body = None;
                        self.end(frame.trailers_ref())?;
                    }
                },
                Poll::Ready(None) => {
                    *body = None;
                    self.end(None)?;
                }
            }
        }
        Ok(false)
    }

    /// Where what comes next is put.
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.has_long() {
            &mut self.later
        } else {
            &mut self.out
        }
    }

    /// Whether something stands behind `out` that was not copied there.
    fn has_long(&self) -> bool {
        !self.data.is_empty() || self.pages.is_some()
    }

    /// Counts bytes of the body. More than was announced would be read as the next message.
    fn count(&mut self, length: u64) -> Result<(), BrokenOff> {
        if let Framing::Sized(left) = &mut self.framing {
            *left = left.checked_sub(length).ok_or(BrokenOff)?;
        }
        Ok(())
    }

    /// Puts the whole body, behind its head.
    ///
    /// # Errors
    /// When it is longer than was announced.
    pub(super) fn put_pages(&mut self, pages: Pages) -> Result<(), BrokenOff> {
        self.count(pages.len())?;
        self.pages = Some(pages);
        Ok(())
    }

    /// Puts `data`, of the body.
    fn push(&mut self, data: Bytes) -> Result<(), BrokenOff> {
        if data.is_empty() {
            return Ok(());
        }
        let chunked = self.framing == Framing::Chunked;
        self.count(data.len() as u64)?;
        let is_long = data.len() > SMALL && !self.has_long();
        let tail = self.tail();
        if chunked {
            // Writing to a Vec cannot fail.
            let _infallible = write!(tail, "{:x}\r\n", data.len());
        }
        if is_long {
            self.data = data;
        } else {
            tail.extend_from_slice(&data);
        }
        if chunked {
            self.tail().extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), BrokenOff> {
        match self.framing {
            Framing::Sized(0) | Framing::UntilClose => Ok(()),
            Framing::Sized(_) => Err(BrokenOff),
            Framing::Chunked => {
                let announced = std::mem::take(&mut self.trailers);
                let tail = self.tail();
                tail.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.iter().any(|it| it == name.as_str()) {
                        put_field(tail, name.as_str(), value.as_bytes());
                    }
                }
                tail.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Puts `text`, of a head.
    pub(super) fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Puts a field.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        put_field(&mut self.out, name, value);
    }

    /// Puts the field that announces the body's framing.
    pub(super) fn frame(&mut self) {
        match self.framing {
            Framing::Sized(length) => {
                let mut digits = itoa::Buffer::new();
                self.field("content-length", digits.format(length).as_bytes());
            }
            Framing::Chunked => self.field("transfer-encoding", b"chunked"),
            Framing::UntilClose => {}
        }
    }

    /// Writes some of it to `stream`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let out = self.out.get(self.written..).unwrap_or_default();
        let stream = Pin::new(stream);
        let written = if self.data.is_empty() {
            ready!(stream.poll_write(cx, out))?
        } else if out.is_empty() {
            ready!(stream.poll_write(cx, &self.data))?
        } else {
            let both = [IoSlice::new(out), IoSlice::new(&self.data)];
            ready!(stream.poll_write_vectored(cx, &both))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    /// Writes some of it to a `stream` under no TLS, if there are pages of it.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<()>> {
        let Some(pages) = &mut self.pages else {
            return self.poll_write(cx, stream);
        };
        let head = self.out.get(self.written..).unwrap_or_default();
        if !head.is_empty() {
            let written = ready!(stream.poll_begin(cx, head))?;
            self.advance(written);
            return Poll::Ready(Ok(()));
        }
        if ready!(stream.poll_pages(cx, pages))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if pages.is_empty() {
            self.pages = None;
        }
        self.advance(0);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_out = written.min(self.out.len() - self.written);
        self.written += of_out;
        self.data.advance(written - of_out);
        self.blocked = false;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            if !self.has_long() {
                std::mem::swap(&mut self.out, &mut self.later);
            }
        }
    }
}

fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
