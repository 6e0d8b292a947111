//! A request's body on its way towards the upstream.
//!
//! It streams: nothing is collected but a short body, before an upstream is asked for a place. It is counted on the way,
//! and the time the upstream waits for it is told.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::h1::ClientBody;
use super::h2stream::H2Body;
use crate::clock::{Instant, SystemClock};

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The sender broke off or broke the protocol.
    Broken,
    /// The body exceeds its bound.
    TooLarge,
    /// Nothing moved for too long.
    Idle,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "the sender broke off",
            Self::TooLarge => "the body is too large",
            Self::Idle => "nothing moved for too long",
        })
    }
}

impl std::error::Error for BodyError {}

/// Where a request's body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Empty,
    H1(ClientBody),
    H2(H2Body),
    /// What was kept of one that was sent before.
    Kept(std::vec::IntoIter<Bytes>),
}

impl Source {
    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
            Self::Kept(frames) => frames.as_slice().is_empty(),
        }
    }

    /// The length, where the client announced one.
    pub(crate) fn announced(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::H1(body) => body.size_hint().exact(),
            Self::H2(body) => body.size_hint().exact(),
            Self::Kept(frames) => {
                Some(frames.as_slice().iter().map(Bytes::len).sum::<usize>() as u64)
            }
        }
    }
}

/// The longest body that is kept for sending it again.
const MAX_KEPT: u64 = 64 << 10;

/// The longest body that is gathered before an upstream is asked for a place: nginx's `client_body_buffer_size`.
const MAX_GATHERED: u64 = 16 << 10;

/// How a request's body fares, as its exchange sees it.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    bytes: Cell<u64>,
    waited: Cell<Duration>,
    waiting_since: Cell<Option<Instant>>,
    progress: Cell<Instant>,
    done: Cell<bool>,
    failure: Cell<Option<BodyError>>,
    /// What has passed so far, unless it is not to be kept or became too long.
    kept: RefCell<Option<Vec<Bytes>>>,
}

impl Upload {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Time the upstream waited for the client, up to `now`.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        let pending = self
            .waiting_since
            .get()
            .map_or(Duration::ZERO, |since| now.since(since));
        self.waited.get() + pending
    }

    /// Whether the client has sent everything, and when something last moved.
    pub(crate) fn state(&self) -> (bool, Instant) {
        (self.done.get(), self.progress.get())
    }

    pub(crate) fn failure(&self) -> Option<BodyError> {
        self.failure.get()
    }

    /// The whole body; none if it was not kept or is not all here yet.
    pub(crate) fn kept(&self) -> Option<Vec<Bytes>> {
        self.kept.borrow().clone().filter(|_| self.done.get())
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        let mut kept = self.kept.borrow_mut();
        if let Some(frames) = kept.as_mut() {
            match frame.data_ref() {
                Some(data) if self.bytes.get() <= MAX_KEPT => frames.push(data.clone()),
                // Too long, or trailers, which an HTTP/1 upstream is rarely sent: not worth keeping.
                _ => *kept = None,
            }
        }
    }

    /// What the client took so far kept nobody waiting.
    pub(crate) fn forgive(&self) {
        self.waited.set(Duration::ZERO);
    }

    fn moved(&self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.waited.set(self.waited.get() + now.since(since));
        }
        self.progress.set(now);
    }
}

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// What was [gathered](Self::poll_gather), the last frame first.
    gathered: Vec<Frame<Bytes>>,
    source: Source,
    upload: Option<Rc<Upload>>,
    limit: u64,
}

impl RequestBody {
    /// No body.
    pub(crate) const fn empty() -> Self {
        Self {
            gathered: Vec::new(),
            source: Source::Empty,
            upload: None,
            limit: 0,
        }
    }

    /// What was [kept](Upload::kept), once more.
    pub(crate) fn again(kept: Vec<Bytes>) -> Self {
        Self {
            gathered: Vec::new(),
            source: Source::Kept(kept.into_iter()),
            upload: None,
            limit: u64::MAX,
        }
    }

    /// The body of `source`, of at most `limit` bytes, with the record of how it fares. `keep`: it may have to
    /// be sent again.
    pub(crate) fn new(
        source: Source,
        limit: Option<u64>,
        now: Instant,
        keep: bool,
    ) -> (Self, Rc<Upload>) {
        let upload = Rc::new(Upload {
            kept: RefCell::new(keep.then(Vec::new)),
            ..Upload::default()
        });
        upload.progress.set(now);
        let body = Self {
            gathered: Vec::new(),
            source,
            upload: Some(Rc::clone(&upload)),
            limit: limit.unwrap_or(u64::MAX),
        };
        (body, upload)
    }

    /// Whether it is said to be short, and not all here.
    pub(crate) fn is_short(&self) -> bool {
        let announced = self.source.announced();
        !self.source.is_empty() && announced.is_some_and(|length| length <= MAX_GATHERED)
    }

    /// Ready when all of it is here; `frames` takes what comes meanwhile.
    pub(crate) fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Vec<Frame<Bytes>>,
    ) -> Poll<Result<(), BodyError>> {
        while !self.source.is_empty() {
            match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(frame) => frames.push(frame?),
                None => break,
            }
        }
        self.gathered = std::mem::take(frames);
        self.gathered.reverse();
        Poll::Ready(Ok(()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(frame) = this.gathered.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::H1(body) => body.poll_frame(cx),
            Source::H2(body) => Pin::new(body).poll_frame(cx),
            Source::Kept(frames) => {
                return Poll::Ready(frames.next().map(|data| Ok(Frame::data(data))));
            }
        };
        let Some(upload) = &this.upload else {
            return polled;
        };
        let now = SystemClock.now();
        let Poll::Ready(frame) = polled else {
            if upload.waiting_since.get().is_none() {
                upload.waiting_since.set(Some(now));
            }
            return Poll::Pending;
        };
        upload.moved(now);
        let frame = match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let bytes = upload.bytes.get() + length;
                upload.bytes.set(bytes);
                upload.keep(&frame);
                if bytes > this.limit {
                    Some(Err(BodyError::TooLarge))
                } else {
                    Some(Ok(frame))
                }
            }
            other => other,
        };
        match &frame {
            Some(Err(error)) => upload.failure.set(Some(*error)),
            Some(Ok(_)) if this.source.is_empty() => upload.done.set(true),
            Some(Ok(_)) => {}
            None => upload.done.set(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.gathered.is_empty() && self.source.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let gathered = self.gathered.iter().filter_map(Frame::data_ref);
        let gathered = gathered.map(Bytes::len).sum::<usize>() as u64;
        let announced = self.source.announced();
        announced.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(gathered + length)
        })
    }
}
