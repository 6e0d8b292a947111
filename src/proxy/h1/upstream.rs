//! A connection to an endpoint: one exchange after the other.
//!
//! An exchange is three calls: [`Connection::begin`], [`Connection::poll_head`] until the head is there,
//! [`Connection::poll_frame`] until the body is over. Between exchanges nothing is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::decode::Decoder;
use super::head::{Malformed, Received};
use super::plain::Plain;
use super::request::{Cut, Head, Sender, Unsent};
use super::{READ, head, let_go, outbox, poll_fill};
use crate::proxy::conn::Interim;
use crate::proxy::spare::Spares;
use crate::proxy::stream::Stream;
use crate::proxy::upload::{BodyError, RequestBody};

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The endpoint closed the connection before it answered; the request, if nothing of it was written.
    Closed(Option<Unsent>),
    /// What came is no response, or what was to be sent broke off.
    Broken,
}

/// The sending side of a connection, and the stream.
#[derive(Debug)]
pub(super) struct Wire {
    /// None once it is a tunnel's.
    stream: Option<Stream>,
    sender: Sender,
    /// Whom to tell when what was kept back cannot be sent; none when nothing is kept back.
    kept_back: Option<Waker>,
}

impl Wire {
    /// Sends what there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        match &mut self.stream {
            Some(stream) => self.sender.poll(cx, stream),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Sends what was kept back.
    pub(super) fn send(&mut self) {
        let Some(waker) = self.kept_back.take() else {
            return;
        };
        if let Poll::Ready(Err(_)) = self.poll_send(&mut Context::from_waker(&waker)) {
            waker.wake();
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.stream.as_ref();
        stream.map_or(Poll::Ready(()), |stream| stream.poll_readable(cx))
    }
}

/// One connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Rc<RefCell<Wire>>,
    /// Whether it is under no TLS.
    is_plain: bool,
    spares: Rc<Spares>,
    /// What was read and not passed on.
    read: BytesMut,
    /// How much of `read` is known not to end a head.
    searched: usize,
    /// How long the last response was, head and body, as far as one read could have held it.
    usual: usize,
    seen: usize,
    body: Decoder,
    /// The fields of the response, if they are to be passed on as they are.
    plain: Option<Box<Plain>>,
    /// Whether the endpoint keeps the connection open.
    keeps: bool,
    /// Whether an exchange is under way.
    busy: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream, spares: &Rc<Spares>) -> Self {
        Self {
            is_plain: stream.is_plain(),
            wire: Rc::new(RefCell::new(Wire {
                stream: Some(stream),
                sender: Sender::default(),
                kept_back: None,
            })),
            spares: Rc::clone(spares),
            read: BytesMut::new(),
            searched: 0,
            usual: *READ.start(),
            seen: 0,
            body: Decoder::Done,
            plain: None,
            keeps: true,
            busy: false,
        }
    }

    /// Begins an exchange: `head`, and `body` behind it.
    pub(crate) fn begin(&mut self, head: &Head, body: RequestBody) {
        self.wire.borrow_mut().sender.begin(head, body);
        self.expect();
    }

    /// Begins with what another connection could not send.
    pub(crate) fn begin_again(&mut self, unsent: Unsent) {
        self.wire.borrow_mut().sender.begin_again(unsent);
        self.expect();
    }

    fn expect(&mut self) {
        self.busy = true;
        self.keeps = false;
        self.seen = 0;
        self.searched = 0;
    }

    /// Sends, and waits for the response's head, whose fields come into `headers`, which are empty, or, if `may_be_plain`
    /// and they are, are kept for [`take_plain`](Self::take_plain). Interim responses are left in `interim`.
    ///
    /// # Errors
    /// When there will be none.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim: &Interim,
        headers: &mut HeaderMap,
        may_be_plain: bool,
    ) -> Poll<Result<http::response::Parts, Fault>> {
        match self.poll_send(cx) {
            Poll::Ready(Err(Cut::Source)) => return Poll::Ready(Err(Fault::Broken)),
            Poll::Ready(Err(Cut::Unsent)) => return Poll::Ready(Err(self.closed())),
            // What the endpoint said before it stopped listening may still be there to read.
            Poll::Ready(Err(Cut::Midway) | Ok(())) | Poll::Pending => {}
        }
        loop {
            let found = if self.read.is_empty() {
                Ok(None)
            } else {
                self.read_head(headers, may_be_plain)
            };
            let Ok(found) = found else {
                return Poll::Ready(Err(Fault::Broken));
            };
            let Some(mut received) = found else {
                match ready!(self.poll_fill(cx, self.usual)) {
                    Ok(0) => return Poll::Ready(Err(self.closed())),
                    Ok(_) => continue,
                    Err(error) => return Poll::Ready(Err(self.failed(&error))),
                }
            };
            let status = received.head.status;
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                interim.leave(status, &received.head.headers);
                continue;
            }
            let body = {
                let wire = self.wire.borrow();
                Decoder::of_response(&mut received, wire.sender.method())
            };
            let Ok(body) = body else {
                return Poll::Ready(Err(Fault::Broken));
            };
            self.keeps = received.said.keeps()
                && !body.ends_with_the_connection()
                && status != StatusCode::SWITCHING_PROTOCOLS;
            self.body = body;
            return Poll::Ready(Ok(received.head));
        }
    }

    /// Sends, at once or in a moment.
    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let mut wire = self.wire.borrow_mut();
        if wire.kept_back.is_some() {
            return Poll::Pending;
        }
        if self.is_plain && wire.sender.is_ready(cx)? {
            let sender = outbox::Sender::Endpoint(Rc::downgrade(&self.wire));
            if self.spares.outbox().put(sender) {
                wire.kept_back = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        wire.poll_send(cx)
    }

    fn read_head(
        &mut self,
        headers: &mut HeaderMap,
        may_be_plain: bool,
    ) -> Result<Option<Received>, Malformed> {
        let mut plain = may_be_plain.then(|| self.spares.take_plain());
        let (read, searched) = (&mut self.read, &mut self.searched);
        let spans = &mut self.spares.spans();
        let found = head::response(read, searched, spans, headers, plain.as_deref_mut())?;
        if let Some(plain) = plain {
            if found.as_ref().is_some_and(|found| found.is_plain) {
                self.plain = Some(plain);
            } else {
                self.spares.give_plain(plain);
            }
        }
        Ok(found)
    }

    /// The fields of the response, if they are to be passed on as they are.
    pub(crate) fn take_plain(&mut self) -> Option<Box<Plain>> {
        self.plain.take()
    }

    /// The endpoint closed the connection instead of answering.
    fn closed(&mut self) -> Fault {
        // A head that breaks off is an answer that broke off.
        if self.read.is_empty() {
            let unsent = self.wire.borrow_mut().sender.take_unsent();
            Fault::Closed(unsent)
        } else {
            Fault::Broken
        }
    }

    fn failed(&mut self, error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => self.closed(),
            _ => Fault::Broken,
        }
    }

    /// Reads more, into room for `wanted` bytes; how many came, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        if self.is_plain && wire.poll_readable(cx).is_pending() {
            let_go(&mut self.read, &self.spares);
            return Poll::Pending;
        }
        let Some(stream) = &mut wire.stream else {
            return Poll::Ready(Ok(0));
        };
        let read = &mut self.read;
        let polled = poll_fill(cx, stream, read, wanted, &self.spares);
        if let Poll::Ready(Ok(length)) = &polled {
            self.seen = self.seen.saturating_add(*length);
        }
        polled
    }

    /// The next frame of the response's body; none at its end.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        {
            let mut wire = self.wire.borrow_mut();
            if !wire.sender.is_done() {
                // A response may begin before its request has ended. If that breaks off, the response need not.
                let _sent_or_not = wire.poll_send(cx);
            }
        }
        loop {
            match self.body.decode(&mut self.read) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_malformed) => return Poll::Ready(Some(Err(BodyError::Broken))),
            }
            let wanted = self.body.left().unwrap_or(self.usual as u64);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            match ready!(self.poll_fill(cx, wanted)) {
                Ok(0) if self.body.ends_with_the_connection() => {
                    self.body = Decoder::Done;
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Broken))),
                Ok(_) => {}
            }
        }
    }

    /// Whether the response's body is over.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_done()
    }

    /// How much of the response's body is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body
            .left()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Ends an exchange; whether the connection can carry another.
    pub(crate) fn rest(&mut self) -> bool {
        let mut wire = self.wire.borrow_mut();
        let whole = wire.sender.is_done() && self.body.is_done() && self.read.is_empty();
        if whole {
            self.busy = false;
            self.usual = self.seen.next_power_of_two();
            let_go(&mut self.read, &self.spares);
            wire.sender.rest();
            self.plain = None;
        }
        whole && self.keeps
    }

    /// Whether a connection at rest is still open at the other end. An endpoint has nothing to say that it was not asked.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.busy || !self.keeps {
            return false;
        }
        let mut asleep = Context::from_waker(Waker::noop());
        let mut wire = self.wire.borrow_mut();
        if wire.poll_readable(&mut asleep).is_pending() {
            return true;
        }
        let Some(stream) = &mut wire.stream else {
            return false;
        };
        // Its end, something unasked, or only a ticket of TLS.
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        Pin::new(stream)
            .poll_read(&mut asleep, &mut read)
            .is_pending()
    }

    /// The stream below, and what was read of it beyond the response's head.
    pub(crate) fn into_stream(self) -> Option<(Stream, Bytes)> {
        let stream = self.wire.borrow_mut().stream.take()?;
        Some((stream, self.read.freeze()))
    }
}
