//! A client's connection while it talks: one request after the other, each answered before the next is read.
//!
//! The loop that serves the connection and the body of the request it is serving share the stream, by turns and on one
//! thread: whoever wants a body reads it, and nothing is read ahead of that.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::answer::{Answer, Asked};
use super::decode::Decoder;
use super::outgoing::Outgoing;
use super::{READ, head, let_go, outbox, poll_fill};
use crate::proxy::body::ResponseBody;
use crate::proxy::conn::Conn;
use crate::proxy::guard::{Violation, bad};
use crate::proxy::io::GuardedIo;
use crate::proxy::respond;
use crate::proxy::spare::Spares;
use crate::proxy::upload::{BodyError, Source};

/// Why a connection says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All was said.
    Done,
    /// The client is gone, or was not given all of an answer.
    Broken,
}

const NOT_HTTP: Violation = bad("the request is not well-formed HTTP");

/// How much of a body that nobody wanted is read to save the connection.
const MAX_UNWANTED: usize = 256 << 10;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    conn: Rc<Conn>,
    shared: Rc<RefCell<Shared>>,
    /// The present request's.
    head: http::request::Parts,
    answer: Option<Answer>,
}

#[derive(Debug)]
pub(super) struct Shared {
    conn: Rc<Conn>,
    /// None once the connection is over.
    io: Option<GuardedIo>,
    spares: Rc<Spares>,
    /// What was read and not used.
    read: BytesMut,
    /// Counts requests: a body that outlives its own finds nothing.
    number: u64,
    /// What is to come of the present request's body.
    body: Decoder,
    /// Whether the client waits to be told to send it.
    expects: bool,
    outgoing: Outgoing,
    /// Whether what is outgoing is kept back for a moment.
    kept_back: bool,
    /// Whom to tell when the body is over, which another task may find.
    waker: Option<Waker>,
}

impl Session {
    pub(crate) fn new(conn: &Rc<Conn>, io: GuardedIo) -> Self {
        Self {
            conn: Rc::clone(conn),
            shared: Rc::new(RefCell::new(Shared {
                conn: Rc::clone(conn),
                io: Some(io),
                spares: Rc::clone(conn.worker.spares()),
                read: BytesMut::new(),
                number: 0,
                body: Decoder::Done,
                expects: false,
                outgoing: Outgoing::default(),
                kept_back: false,
                waker: None,
            })),
            head: Request::new(()).into_parts().0,
            answer: None,
        }
    }

    /// Waits for the next request: the rest of it is its [head](Self::head). `last`: none is wanted that has not begun.
    ///
    /// # Errors
    /// When there will be none.
    pub(crate) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        last: bool,
    ) -> Poll<Result<(Source, Asked), Ended>> {
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        if last {
            shared.kept_back = false;
        }
        // Whether what is read begins with what was read last.
        let mut fresh = false;
        loop {
            if !shared.outgoing.is_empty() && ready!(shared.poll_settle(cx)).is_err() {
                return Poll::Ready(Err(Ended::Broken));
            }
            // With nothing under way, there is nothing to wait for.
            if last && !fresh && self.conn.is_idle() {
                return Poll::Ready(Err(Ended::Done));
            }
            if !shared.read.is_empty()
                && let Some(io) = &mut shared.io
            {
                let (parts, known) = io.parts();
                let max_fields = self.conn.listener.listener.max_headers;
                let head = &mut self.head;
                if head.headers.capacity() == 0 {
                    head.headers = self.conn.worker.spares().take_headers();
                }
                head.headers.clear();
                let parts = (parts, known && fresh);
                match head::request(&mut shared.read, max_fields, parts, head) {
                    Ok(Some(said)) => {
                        shared.body = Decoder::of_request(said);
                        shared.number += 1;
                        shared.expects = said.expects();
                        let asked = Asked::new(head, said);
                        let source = if shared.body.is_done() {
                            Source::Empty
                        } else {
                            Source::H1(ClientBody {
                                shared: Rc::clone(&self.shared),
                                number: shared.number,
                            })
                        };
                        return Poll::Ready(Ok((source, asked)));
                    }
                    Ok(None) => {}
                    Err(_malformed) => shared.refuse(),
                }
            }
            fresh = shared.read.is_empty();
            match ready!(shared.poll_fill(cx, *READ.start())) {
                Ok(0) => return Poll::Ready(Err(Ended::Done)),
                Ok(_) => {}
                Err(_broken) => return Poll::Ready(Err(Ended::Broken)),
            }
        }
    }

    /// The request's head, for whoever answers it to take.
    pub(crate) fn head(&mut self) -> &mut http::request::Parts {
        &mut self.head
    }

    /// While an answer is awaited: sends interim responses, and watches whether the client is still there. Ready when it
    /// is not.
    pub(crate) fn poll_watch(&mut self, cx: &mut Context<'_>, asked: &Asked) -> Poll<Ended> {
        let mut shared = self.shared.borrow_mut();
        shared.put_interim(&self.conn, asked);
        if let Poll::Ready(Err(_gone)) = shared.poll_write(cx) {
            return Poll::Ready(Ended::Broken);
        }
        shared.poll_gone(cx)
    }

    /// Begins an answer. `last`: no request is taken behind it.
    pub(crate) fn begin(&mut self, asked: &Asked, response: Response<ResponseBody>, last: bool) {
        let mut shared = self.shared.borrow_mut();
        shared.put_interim(&self.conn, asked);
        // Who has its answer is not told to go on.
        shared.expects = false;
        let outgoing = &mut shared.outgoing;
        self.answer = Some(Answer::begin(outgoing, asked, response, !last, &self.conn));
    }

    /// Sends the answer; whether the connection takes another request behind it.
    ///
    /// # Errors
    /// When it could not be sent.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Ended>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(Ended::Done));
        };
        loop {
            // What brings the answer's body may read the request's.
            let mut outgoing = std::mem::take(&mut self.shared.borrow_mut().outgoing);
            let waits = answer.gather(cx, &mut outgoing);
            let mut shared = self.shared.borrow_mut();
            shared.outgoing = outgoing;
            if !shared.outgoing.is_empty() {
                let is_over = !waits && answer.is_taken() && answer.keeps && !answer.broken;
                if is_over && shared.keeps_back(&self.shared) {
                    self.answer = None;
                    return Poll::Ready(Ok(true));
                }
                match shared.poll_write(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(_gone)) => return Poll::Ready(Err(Ended::Broken)),
                    Poll::Pending if !waits && !answer.is_taken() && shared.outgoing.block() => {
                        continue;
                    }
                    Poll::Pending => {}
                }
            } else if let Poll::Ready(flushed) = shared.poll_flush(cx) {
                // What came before it broke off has been passed on.
                if flushed.is_err() || answer.broken {
                    return Poll::Ready(Err(Ended::Broken));
                }
                if !waits {
                    let keeps = answer.keeps && shared.drop_body(cx);
                    self.answer = None;
                    return Poll::Ready(Ok(keeps));
                }
            }
            return shared.poll_gone(cx).map(Err);
        }
    }

    /// The stream, with what was read and not used given back to it; none when the connection is over.
    pub(crate) fn into_io(self) -> Option<GuardedIo> {
        let mut shared = self.shared.borrow_mut();
        let mut io = shared.io.take()?;
        io.unread(&shared.read);
        Some(io)
    }
}

impl Shared {
    fn poll_fill(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Ok(0));
        };
        if io.poll_readable(cx).is_pending() {
            let_go(&mut self.read, &self.spares);
            return Poll::Pending;
        }
        poll_fill(cx, io, &mut self.read, wanted, &self.spares)
    }

    fn put_interim(&mut self, conn: &Conn, asked: &Asked) {
        for (status, headers) in conn.interim().take() {
            if asked.takes_interim() {
                respond::write_interim(&mut self.outgoing.out, status, &headers);
            }
        }
    }

    /// Writes all there is.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !self.outgoing.is_empty() {
            ready!(self.outgoing.poll_send(cx, io.stream()))?;
            if self.outgoing.is_empty() {
                ready!(Pin::new(io.stream()).poll_flush(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Keeps back the end of an answer, if nothing speaks against it: to be sent in a moment.
    fn keeps_back(&mut self, this: &Rc<RefCell<Self>>) -> bool {
        let may = self.body.is_done()
            && self.outgoing.is_short()
            && self.io.as_ref().is_some_and(GuardedIo::is_plain)
            && !self.conn.has_tunnel();
        self.kept_back = may
            && self
                .spares
                .outbox()
                .put(outbox::Sender::Client(Rc::downgrade(this)));
        self.kept_back
    }

    /// Sends what was kept back.
    pub(super) fn send(&mut self) {
        if !std::mem::take(&mut self.kept_back) {
            return;
        }
        let conn = Rc::clone(&self.conn);
        let sent = conn.in_its_place(|cx| self.poll_sent(cx));
        if !matches!(sent, Poll::Ready(Ok(()))) {
            conn.wake();
        }
    }

    /// Sends the rest of an answer, unless that was kept back and nothing else is to be done.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept_back
            && self.read.is_empty()
            && let Some(io) = &self.io
            && io.poll_readable(cx).is_pending()
        {
            let_go(&mut self.read, &self.spares);
            return Poll::Pending;
        }
        self.kept_back = false;
        self.poll_sent(cx)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        ready!(self.poll_flush(cx))?;
        self.outgoing.rest();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        io.poll_flush(cx)
    }

    /// What was let through is no request after all: nothing more is read.
    fn refuse(&mut self) {
        self.read.clear();
        if let Some(io) = &mut self.io {
            io.refuse_all(NOT_HTTP);
        }
    }

    /// Ready when the client is gone, as far as that can be seen: behind a body that nobody reads, or a request sent
    /// ahead, it cannot.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !self.body.is_done() {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.read.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_fill(cx, *READ.start())) {
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(Ended::Broken),
        }
    }

    /// Reads what is there of a body that nobody wanted; whether that was all of it.
    fn drop_body(&mut self, cx: &mut Context<'_>) -> bool {
        let mut dropped = 0;
        loop {
            while let Ok(Some(frame)) = self.body.decode(&mut self.read) {
                dropped += frame.data_ref().map_or(0, Bytes::len);
            }
            if self.body.is_done() {
                self.outgoing.rest();
                return true;
            }
            let fills = dropped < MAX_UNWANTED && self.read.is_empty();
            if !fills || !matches!(self.poll_fill(cx, *READ.end()), Poll::Ready(Ok(1..))) {
                return false;
            }
        }
    }
}

/// A request's body, as it comes from the client.
pub(crate) struct ClientBody {
    shared: Rc<RefCell<Shared>>,
    number: u64,
}

impl std::fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBody").finish_non_exhaustive()
    }
}

impl ClientBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        if shared.number != self.number {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        loop {
            match shared.body.decode(&mut shared.read) {
                Ok(frame) => {
                    if shared.body.is_done()
                        && let Some(waker) = shared.waker.take()
                    {
                        waker.wake();
                    }
                    if frame.is_some() || shared.body.is_done() {
                        return Poll::Ready(frame.map(Ok));
                    }
                }
                Err(_malformed) => return Poll::Ready(Some(Err(BodyError::Broken))),
            }
            if std::mem::take(&mut shared.expects) {
                shared.outgoing.text("HTTP/1.1 100 Continue\r\n\r\n");
            }
            if let Poll::Ready(Err(_gone)) = shared.poll_write(cx) {
                return Poll::Ready(Some(Err(BodyError::Broken)));
            }
            let wanted = shared.body.left().unwrap_or(*READ.end() as u64);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            match ready!(shared.poll_fill(cx, wanted)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Broken))),
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        shared.number != self.number || shared.body.is_done()
    }

    /// How much of it is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        let left = shared.body.left().filter(|_| shared.number == self.number);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
