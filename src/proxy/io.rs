//! The client side of an HTTP/1 connection, between the socket and the HTTP.
//!
//! Bytes pass the framing [`Guard`] before anybody reads them as HTTP; whom it refuses is told so; and the end of a
//! flush tells the exchange that its response has left. Depends on the guard and the connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;
use super::guard::{Guard, Parts, Progress, Violation};
use super::stream::Stream;

/// A guarded client stream.
#[derive(Debug)]
pub(crate) struct GuardedIo {
    stream: Stream,
    guard: Guard,
    conn: Rc<Conn>,
    /// Bytes read and not passed on: a partial head, or what follows an upgrade's head.
    kept: Vec<u8>,
    /// How many of `kept`, from its beginning, the guard has let through.
    clean: usize,
    /// What a refused client is told.
    out: Vec<u8>,
    /// What the client is told once the responses before are out. Nothing is read any more.
    refusal: Option<Violation>,
}

impl GuardedIo {
    pub(crate) fn new(stream: Stream, guard: Guard, conn: Rc<Conn>, prefix: Vec<u8>) -> Self {
        let mut io = Self {
            stream,
            guard,
            conn,
            kept: prefix,
            clean: 0,
            out: Vec::new(),
            refusal: None,
        };
        if !io.kept.is_empty() {
            io.judge_kept();
        }
        io
    }

    /// The stream and what was read beyond the upgrade's head.
    pub(crate) fn into_tunnel(self) -> (Stream, Vec<u8>) {
        (self.stream, self.kept)
    }

    /// Room for the parts of a head, and whether they are those of the one that what was read last begins with.
    pub(crate) fn parts(&mut self) -> (&mut Parts, bool) {
        self.guard.parts()
    }

    /// Takes back what was passed on and not used.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.guard.forget_parts();
        self.kept.splice(..0, bytes.iter().copied());
        self.clean += bytes.len();
    }

    /// Ready when a read may find something, be it the end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let has_to_say = self.refusal.is_some() || self.guard.is_suspended();
        // Of what TLS has deciphered and nobody has read, the socket knows nothing.
        if self.clean > 0 || has_to_say || !self.stream.is_plain() {
            return Poll::Ready(());
        }
        self.stream.poll_readable(cx)
    }

    /// Ready when something has come to a connection that was read to the end of what there was.
    pub(crate) fn poll_wake(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.clean > 0 {
            return Poll::Ready(());
        }
        self.stream.poll_readable(cx)
    }

    /// Lets the guard judge what is kept; an error when a body in progress is malformed.
    fn judge_kept(&mut self) {
        let length = self.kept.len();
        let progress = self.guard.feed(&self.kept);
        // What is passed on may begin elsewhere.
        self.guard.forget_parts();
        match progress {
            Progress::Clean => self.clean = length,
            Progress::Partial(at) => {
                self.clean = at;
                self.conn.head_begins();
            }
            Progress::Suspended(at) => self.clean = at,
            Progress::Refused(at, violation) => {
                self.clean = at;
                self.kept.truncate(at);
                self.refusal = Some(violation);
            }
            Progress::Broken(violation) => {
                self.kept.clear();
                self.conn.break_upload(violation);
                self.refusal = Some(violation);
            }
        }
    }

    /// Judges what was just read into `buf` behind `before`; keeps back what may not pass yet.
    fn judge_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if self.kept.is_empty() {
            let progress = self.guard.feed(fresh);
            if progress == Progress::Clean {
                return Ok(());
            }
            // The rare case: let the general path below take the same bytes apart.
            let passes = match progress {
                Progress::Clean => fresh.len(),
                Progress::Partial(at) | Progress::Suspended(at) | Progress::Refused(at, _) => at,
                Progress::Broken(_) => 0,
            };
            match progress {
                Progress::Partial(_) => {
                    self.kept
                        .extend_from_slice(fresh.get(passes..).unwrap_or_default());
                    self.conn.head_begins();
                }
                Progress::Suspended(_) => {
                    self.kept
                        .extend_from_slice(fresh.get(passes..).unwrap_or_default());
                }
                Progress::Refused(_, violation) => self.refusal = Some(violation),
                Progress::Broken(violation) => {
                    self.conn.break_upload(violation);
                    self.refusal = Some(violation);
                    buf.set_filled(before);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Progress::Clean => {}
            }
            buf.set_filled(before + passes);
            return Ok(());
        }
        self.kept.extend_from_slice(fresh);
        buf.set_filled(before);
        self.judge_kept();
        Ok(())
    }

    /// Passes on what the guard has let through of the kept bytes; whether there was any.
    fn pass_kept(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.clean.min(buf.remaining());
        if length == 0 {
            return false;
        }
        buf.put_slice(self.kept.get(..length).unwrap_or_default());
        self.kept.drain(..length);
        self.clean -= length;
        true
    }

    /// Writes `out`.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the client why nothing more is read, once everything before has been said.
    fn refuse(&mut self) -> bool {
        if self.conn.is_busy() {
            return false;
        }
        if let Some(violation) = self.refusal.take() {
            self.conn.refuse_malformed(violation, &mut self.out);
        }
        true
    }
}

impl AsyncRead for GuardedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.pass_kept(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.refusal.is_some() {
                if !this.refuse() {
                    return Poll::Pending;
                }
                return this.poll_flush(cx);
            }
            if this.guard.is_suspended() {
                if !this.conn.take_resume() {
                    return Poll::Pending;
                }
                this.guard.resume();
                this.judge_kept();
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.judge_read(buf, before)?;
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl GuardedIo {
    /// Whether the stream is under no TLS.
    pub(crate) const fn is_plain(&self) -> bool {
        self.stream.is_plain()
    }

    /// The stream below, to write to.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Ready when everything written has left, which is the end of the exchanges it was for.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.conn.flushed();
        Poll::Ready(Ok(()))
    }

    /// Answers a head that never became whole.
    pub(crate) async fn say(&mut self, violation: Violation) {
        self.conn.refuse_malformed(violation, &mut self.out);
        // The sweep closes the connection whether or not the client could be told.
        let _told = poll_fn(|cx| self.poll_flush(cx)).await;
    }

    /// Reads nothing more, and tells the client why.
    pub(crate) fn refuse_all(&mut self, violation: Violation) {
        self.kept.clear();
        self.clean = 0;
        self.refusal = Some(violation);
    }
}
