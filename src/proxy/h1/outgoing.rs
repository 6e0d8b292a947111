//! What is written to a connection: heads, and bodies in whichever framing fits (RFC 9112 sections 6 and 7.1).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, TRAILER};
use tokio::io::AsyncWrite;

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

/// A body that is longer or shorter than was announced.
#[derive(Debug)]
pub(super) struct WrongLength;

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// What is written next. Heads are put here.
    pub(super) out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// What is written behind it.
    data: Bytes,
    pub(super) framing: Framing,
    /// The trailer fields that were announced, and may be sent.
    trailers: Vec<String>,
}

impl Outgoing {
    /// Whether all of it is written.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.data.is_empty()
    }

    /// Whether more should be put to it before it is written.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.out.len() < SMALL
    }

    /// Forgets what is not written.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.written = 0;
        self.data = Bytes::new();
    }

    /// Lets go of what a long head took.
    pub(super) fn rest(&mut self) {
        if self.out.capacity() > 2 * SMALL {
            self.out = Vec::new();
        }
    }

    /// The trailer fields that `headers` announce may be sent.
    pub(super) fn announce(&mut self, headers: &HeaderMap) {
        let lines = headers.get_all(TRAILER).into_iter();
        let names = lines.filter_map(|line| line.to_str().ok());
        let names = names.flat_map(|line| line.split(','));
        self.trailers = names.map(|it| it.trim().to_ascii_lowercase()).collect();
    }

    /// Puts `data`, of the body.
    ///
    /// # Errors
    /// When it is more than was announced: it would be read as the next message.
    pub(super) fn push(&mut self, data: Bytes) -> Result<(), WrongLength> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Sized(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
            }
            Framing::Chunked => {
                // Writing to a Vec cannot fail.
                let _infallible = write!(self.out, "{:x}\r\n", data.len());
            }
            Framing::UntilClose => {}
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

    /// The body has ended. Nothing of it may be waiting.
    ///
    /// # Errors
    /// When it is less than was announced.
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match self.framing {
            Framing::Sized(0) | Framing::UntilClose => Ok(()),
            Framing::Sized(_) => Err(WrongLength),
            Framing::Chunked => {
                self.out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.trailers.iter().any(|it| it == name.as_str()) {
                        self.field(name.as_str(), value.as_bytes());
                    }
                }
                self.out.extend_from_slice(b"\r\n");
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
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.out.extend_from_slice(part);
        }
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

    /// Writes some of it to `stream`; how much.
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

    fn advance(&mut self, written: usize) {
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
