//! A response's body on its way towards the client.
//!
//! Nothing is collected and nothing is copied: frames pass from one side's buffers to the other's, and each
//! side's flow control holds the other back. On the way they are counted, and the time they take is split
//! between whoever kept whom waiting.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::cached::dress::Kept;
use super::h1::Plain;
use super::h2stream::UpstreamStream;
use super::hold::Hold;
use super::ingress;
use super::pool::{H1Conn, Timer};
use super::track::Track;
use super::upload::{BodyError, Upload};
use crate::cache::content::{Content, Pages};
use crate::cache::flight::{Frame as Arrived, Reader};
use crate::clock::{Instant, SystemClock};
use crate::model::{Outcome, Phase, Reason};
use crate::observe::exchange::STREAM_AFTER;

/// Of what is kept in pages, so much is read at once for clients who do not take pages.
const PIECE: usize = 64 << 10;

/// The upstream's side of a response under way.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// One exchange on an HTTP/1 connection, driven from here.
    H1(Box<H1Conn>),
    /// One stream of an HTTP/2 connection.
    H2(Box<UpstreamStream>),
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
    uncopied: Option<Uncopied>,
}

/// Fields of a response that never were in its map, and are written in front of those that are.
#[derive(Debug)]
pub(crate) enum Uncopied {
    /// Of a stored one.
    Kept(Kept),
    /// As an endpoint sent them.
    Plain(Box<Plain>),
}

#[derive(Debug)]
enum Kind {
    /// Tidegate's own; `head`: only its headers are sent.
    Own { body: Option<Content>, head: bool },
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
    /// Bytes to come, where the head announces them: nothing is asked for behind the last of them.
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
        Self::stored(body.into(), None, head, track)
    }

    /// What is stored, and the fields of it that are written from where they are kept.
    pub(crate) fn stored(
        body: Content,
        uncopied: Option<Uncopied>,
        head: bool,
        track: Box<Track>,
    ) -> Self {
        let body = Some(body).filter(|body| !body.is_empty());
        Self {
            track: Some(track),
            kind: Kind::Own { body, head },
            uncopied,
        }
    }

    /// The fields that are to be written in front of those in the map.
    pub(crate) fn take_uncopied(&mut self) -> Option<Uncopied> {
        self.uncopied.take()
    }

    /// What is stored in pages, for the kernel to send them.
    pub(crate) fn take_pages(&mut self) -> Option<Pages> {
        let (Kind::Own { body, .. }, Some(track)) = (&mut self.kind, self.track.as_mut()) else {
            return None;
        };
        let pages = match body.take()? {
            Content::Pages(pages) => pages,
            other @ Content::Bytes(_) => {
                *body = Some(other);
                return None;
            }
        };
        track.exchange.bytes_out = pages.len();
        self.finish();
        Some(pages)
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
            uncopied: None,
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
            uncopied: None,
        }
    }

    /// The upstream's answer.
    pub(crate) fn passed(
        answer: Passing,
        plain: Option<Box<Plain>>,
        idle_timeout: Duration,
        track: Box<Track>,
    ) -> Self {
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
            uncopied: plain.map(Uncopied::Plain),
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

    /// The next frame of what is there.
    fn next_own(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let (Kind::Own { body, .. }, Some(track)) = (&mut self.kind, self.track.as_mut()) else {
            return None;
        };
        let frame = match body.take() {
            None => None,
            Some(Content::Bytes(bytes)) => Some(bytes),
            Some(Content::Pages(mut pages)) => {
                let Ok(bytes) = pages.take(PIECE) else {
                    // Nothing else is said of an answer that broke off on this side of the client.
                    self.fail(Reason::UpstreamReset);
                    return Some(Err(BodyError::Broken));
                };
                *body = Some(Content::Pages(pages)).filter(|left| !left.is_empty());
                Some(bytes)
            }
        };
        let is_last = body.is_none();
        track.exchange.bytes_out += frame.as_ref().map_or(0, Bytes::len) as u64;
        if is_last {
            self.finish();
        }
        frame.map(|bytes| Ok(Frame::data(bytes)))
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
            worker.spares().give_timer(timer);
        }
        if let Upstream::H1(conn) = self.upstream {
            let endpoint = self.hold.lease.endpoint().id();
            worker.pools().give_back(endpoint, conn, track.mark());
        }
        self.hold.complete(track);
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.upstream {
            Upstream::H1(conn) => conn.connection.poll_frame(cx),
            Upstream::H2(stream) => stream.poll_frame(cx),
        }
    }

    /// Whether nothing has moved for the idle timeout.
    fn poll_idle(&mut self, cx: &mut Context<'_>, track: &mut Track) -> Poll<()> {
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
            self.become_stream(now, track);
        }
    }

    /// Gives the slot back once the response has lasted too long for one. What has begun is not cut off,
    /// however many streams there are.
    fn become_stream(&mut self, now: Instant, track: &mut Track) {
        if !self.hold.has_slot() || now < self.head.after(STREAM_AFTER) {
            return;
        }
        track.lasts();
        if let Err(rejection) = self.hold.detach(now) {
            tracing::debug!(?rejection, "a long-lived stream is not counted");
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.upstream {
            Upstream::H1(conn) => conn.connection.is_end_stream(),
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
            Kind::Own { .. } => return Poll::Ready(this.next_own()),
            Kind::Arriving(_) => return this.poll_arriving(cx),
            Kind::Passed(passed) => passed,
        };
        if passed.begun && !passed.waiting {
            passed.mark = SystemClock.now();
            track.phase(Phase::Deliver, passed.mark);
            passed.become_stream(passed.mark, track);
        }
        let frame = match passed.poll_source(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                passed.waiting = true;
                if passed.poll_idle(cx, track).is_pending() {
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
                // Trailers are the last there is: nothing is asked for after them.
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
            Kind::Own { body, .. } => SizeHint::with_exact(body.as_ref().map_or(0, Content::len)),
            Kind::Arriving(arriving) => {
                let left = arriving.left;
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Passed(passed) => match &passed.upstream {
                Upstream::H1(conn) => conn.connection.size_hint(),
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
