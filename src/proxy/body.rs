//! Bodies on their way: the request's towards the upstream, the response's towards the client.
//!
//! Nothing is collected and nothing is copied: frames pass from one side's buffers to the other's, and each
//! side's flow control holds the other back. On the way they are counted, and the time they take is split
//! between whoever kept whom waiting.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::h2stream::{H2Body, UpstreamStream};
use super::hold::Hold;
use super::ingress;
use super::pool::{H1Conn, Timer};
use super::track::Track;
use crate::cache::flight::{Frame as Arrived, Reader};
use crate::clock::{Instant, SystemClock};
use crate::model::{Outcome, Phase, Reason};
use crate::observe::exchange::STREAM_AFTER;

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
    H1(Incoming),
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
    source: Source,
    upload: Option<Rc<Upload>>,
    limit: u64,
}

impl RequestBody {
    /// No body.
    pub(crate) const fn empty() -> Self {
        Self {
            source: Source::Empty,
            upload: None,
            limit: 0,
        }
    }

    /// What was [kept](Upload::kept), once more.
    pub(crate) fn again(kept: Vec<Bytes>) -> Self {
        Self {
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
            source,
            upload: Some(Rc::clone(&upload)),
            limit: limit.unwrap_or(u64::MAX),
        };
        (body, upload)
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
        let polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::H1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|r| r.map_err(|_broken| BodyError::Broken))),
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
        self.source.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.source
            .announced()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The upstream's side of a response under way.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// One exchange on an HTTP/1 connection, driven from here.
    H1(Box<H1Conn>, Incoming),
    /// One stream of an HTTP/2 connection.
    H2(UpstreamStream),
}

/// A response whose body is to be passed on.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) upstream: Upstream,
    pub(crate) hold: Hold,
    pub(crate) timer: Option<Timer>,
    pub(crate) upload: Option<Rc<Upload>>,
    /// When its head came.
    pub(crate) now: Instant,
}

/// A response's body on its way to the client. Holds the exchange's track until the last byte is handed
/// over, and the endpoint's slot until the upstream has sent it.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    track: Option<Box<Track>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Tidegate's own; `head`: only its headers are sent.
    Own { body: Option<Bytes>, head: bool },
    /// The upstream's.
    Passed(Box<Passed>),
    /// One that is being stored.
    Arriving(Arriving),
    /// Everything has been handed over.
    Done,
}

#[derive(Debug)]
struct Arriving {
    reader: Reader,
    /// Bytes to come, where the head announces them: hyper asks for nothing behind the last of them.
    left: Option<u64>,
    /// Whether the last poll found nothing.
    waiting: bool,
    /// Whether a frame has passed.
    begun: bool,
}

#[derive(Debug)]
struct Passed {
    upstream: Upstream,
    hold: Hold,
    /// When its head came.
    head: Instant,
    timer: Option<Timer>,
    idle_timeout: Duration,
    upload: Option<Rc<Upload>>,
    /// Whether the last poll found nothing: time runs on the upstream's account, not the client's.
    waiting: bool,
    /// Whether a frame has passed.
    begun: bool,
    mark: Instant,
}

impl ResponseBody {
    /// Tidegate's own answer.
    pub(crate) fn own(body: Bytes, head: bool, track: Box<Track>) -> Self {
        let body = Some(body).filter(|body| !body.is_empty());
        Self {
            track: Some(track),
            kind: Kind::Own { body, head },
        }
    }

    /// One that is being stored, as it arrives; `head`: only its headers are sent.
    pub(crate) fn arriving(
        reader: Reader,
        length: Option<u64>,
        head: bool,
        track: Box<Track>,
    ) -> Self {
        let arriving = Arriving {
            reader,
            left: length,
            waiting: false,
            begun: false,
        };
        let mut this = Self {
            track: Some(track),
            kind: Kind::Arriving(arriving),
        };
        if head || this.is_end_stream() {
            this.finish();
        }
        this
    }

    /// Nothing: the connection changes protocols.
    pub(crate) const fn none() -> Self {
        Self {
            track: None,
            kind: Kind::Done,
        }
    }

    /// The upstream's answer.
    pub(crate) fn passed(answer: Passing, idle_timeout: Duration, track: Box<Track>) -> Self {
        let Passing {
            upstream,
            hold,
            timer,
            upload,
            now,
        } = answer;
        let passed = Passed {
            upstream,
            hold,
            head: now,
            timer,
            idle_timeout,
            upload,
            waiting: false,
            begun: false,
            mark: now,
        };
        let mut this = Self {
            track: Some(track),
            kind: Kind::Passed(Box::new(passed)),
        };
        if this.is_end_stream() {
            this.finish();
        }
        this
    }

    /// Everything was handed over: gives the upstream's connection back and lets the track go.
    fn finish(&mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Done);
        let Some(mut track) = self.track.take() else {
            return;
        };
        if let Kind::Passed(passed) = kind {
            passed.settle(&mut track);
        }
        if track.is_silent() {
            return;
        }
        let conn = Rc::clone(&track.conn);
        conn.finish(track);
    }

    fn poll_arriving(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (Kind::Arriving(arriving), Some(track)) = (&mut self.kind, self.track.as_mut()) else {
            return Poll::Ready(None);
        };
        if arriving.begun && !arriving.waiting {
            track.phase(Phase::Deliver, SystemClock.now());
        }
        let Poll::Ready(frame) = arriving.reader.poll(cx) else {
            arriving.waiting = true;
            return Poll::Pending;
        };
        if std::mem::take(&mut arriving.waiting) {
            track.phase(Phase::Body, SystemClock.now());
        }
        arriving.begun = true;
        match frame {
            Arrived::Data(data) => {
                let length = data.len() as u64;
                track.exchange.bytes_out += length;
                arriving.left = arriving.left.map(|left| left.saturating_sub(length));
                if arriving.is_at_end() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Arrived::Trailers(trailers) => {
                self.finish();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Arrived::End => {
                self.finish();
                Poll::Ready(None)
            }
            Arrived::Broken => {
                self.fail(Reason::UpstreamReset);
                Poll::Ready(Some(Err(BodyError::Broken)))
            }
        }
    }

    /// The upstream broke off.
    fn fail(&mut self, reason: Reason) {
        let kind = std::mem::replace(&mut self.kind, Kind::Done);
        if let Some(mut track) = self.track.take() {
            track.exchange.outcome = Outcome::UpstreamBroke;
            track.exchange.reason = Some(reason);
            track.phase(Phase::Body, track.conn.worker.now());
            if let Kind::Passed(passed) = kind {
                passed.hold.fail(&mut track);
            }
        }
    }
}

impl Arriving {
    fn is_at_end(&self) -> bool {
        self.left == Some(0) || self.reader.is_at_end()
    }
}

impl Passed {
    /// Gives back what the exchange held.
    fn settle(self, track: &mut Track) {
        let worker = Rc::clone(&track.conn.worker);
        if let Some(upload) = &self.upload {
            track.exchange.bytes_in = upload.bytes();
        }
        if let Some(timer) = self.timer {
            worker.give_timer(timer);
        }
        if let Upstream::H1(conn, _) = self.upstream {
            let endpoint = self.hold.lease.endpoint().id();
            worker.pools().give_back(endpoint, conn);
        }
        self.hold.complete(track);
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.upstream {
            Upstream::H1(conn, incoming) => {
                // Only driving the connection can bring a frame, so the body need not know whom to wake.
                let mut asleep = Context::from_waker(Waker::noop());
                let mut frame = Pin::new(&mut *incoming).poll_frame(&mut asleep);
                if frame.is_pending() {
                    conn.drive(cx);
                    frame = Pin::new(incoming).poll_frame(&mut asleep);
                }
                if frame.is_pending() && conn.is_finished() {
                    return Poll::Ready(Some(Err(BodyError::Broken)));
                }
                frame.map(|frame| frame.map(|r| r.map_err(|_broken| BodyError::Broken)))
            }
            Upstream::H2(stream) => stream.poll_frame(cx),
        }
    }

    /// Whether nothing has moved for the idle timeout.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let sent = self
                .upload
                .as_ref()
                .map_or(self.mark, |upload| upload.state().1);
            let until = self.mark.max(sent).after(self.idle_timeout);
            let wake = if self.hold.has_slot() {
                until.min(self.head.after(STREAM_AFTER))
            } else {
                until
            };
            let timer = self.timer.get_or_insert_with(|| Timer::new(wake));
            ready!(timer.poll_until(cx, wake));
            let now = SystemClock.now();
            if now >= until {
                return Poll::Ready(());
            }
            self.become_stream(now);
        }
    }

    /// Gives the slot back once the response has lasted too long for one. What has begun is not cut off,
    /// however many streams there are.
    fn become_stream(&mut self, now: Instant) {
        if self.hold.has_slot()
            && now >= self.head.after(STREAM_AFTER)
            && let Err(rejection) = self.hold.detach(now)
        {
            tracing::debug!(?rejection, "a long-lived stream is not counted");
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.upstream {
            Upstream::H1(_, incoming) => incoming.is_end_stream(),
            Upstream::H2(stream) => stream.is_end_stream(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(track) = this.track.as_mut() else {
            return Poll::Ready(None);
        };
        let passed = match &mut this.kind {
            Kind::Done => return Poll::Ready(None),
            Kind::Own { body, .. } => {
                let frame = body
                    .take()
                    .inspect(|body| track.exchange.bytes_out = body.len() as u64);
                this.finish();
                return Poll::Ready(frame.map(|body| Ok(Frame::data(body))));
            }
            Kind::Arriving(_) => return this.poll_arriving(cx),
            Kind::Passed(passed) => passed,
        };
        if passed.begun && !passed.waiting {
            passed.mark = SystemClock.now();
            track.phase(Phase::Deliver, passed.mark);
            passed.become_stream(passed.mark);
        }
        let frame = match passed.poll_source(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                passed.waiting = true;
                if passed.poll_idle(cx).is_pending() {
                    return Poll::Pending;
                }
                this.fail(Reason::UpstreamTimeout);
                return Poll::Ready(Some(Err(BodyError::Idle)));
            }
        };
        if passed.waiting {
            passed.waiting = false;
            passed.mark = SystemClock.now();
            track.phase(Phase::Body, passed.mark);
        }
        passed.begun = true;
        match frame {
            Some(Ok(mut frame)) => {
                // Trailers are the last there is: hyper asks for nothing after them.
                let last = match frame.trailers_mut() {
                    Some(trailers) => {
                        ingress::told(track, trailers);
                        passed.hold.trailers(trailers);
                        true
                    }
                    None => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        track.exchange.bytes_out += length as u64;
                        passed.is_end_stream()
                    }
                };
                if last {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.fail(Reason::UpstreamReset);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Done => true,
            Kind::Own { body, .. } => body.is_none(),
            Kind::Arriving(arriving) => arriving.is_at_end(),
            Kind::Passed(passed) => passed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Done => SizeHint::with_exact(0),
            Kind::Own { body, .. } => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Arriving(arriving) => {
                let left = arriving.left;
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Passed(passed) => match &passed.upstream {
                Upstream::H1(_, incoming) => incoming.size_hint(),
                Upstream::H2(stream) => stream.size_hint(),
            },
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        match &self.kind {
            // A response without a body, or to HEAD, is whole although nobody asked for its frames.
            Kind::Own { body, head } if *head || body.is_none() => self.finish(),
            Kind::Done | Kind::Own { .. } | Kind::Arriving(_) => {}
            Kind::Passed(passed) => {
                if let (Some(upload), Some(track)) = (&passed.upload, self.track.as_mut()) {
                    track.exchange.bytes_in = upload.bytes();
                }
            }
        }
    }
}
