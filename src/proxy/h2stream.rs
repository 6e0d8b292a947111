//! HTTP/2 streams, in either direction: a received body as frames, and frames sent within flow control.
//!
//! Written over the `h2` crate itself, since hyper neither sends interim responses over HTTP/2 nor says
//! when a client resets a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::pool::H2State;
use super::upload::BodyError;

/// A body received on a stream.
#[derive(Debug)]
pub(crate) struct H2Body {
    stream: RecvStream,
    announced: Option<u64>,
    /// Bytes handed on whose room in the window is not given back yet.
    owed: usize,
    data_done: bool,
    done: bool,
}

impl H2Body {
    /// The body of `stream`, whose head announced `announced` bytes.
    pub(crate) fn new(stream: RecvStream, announced: Option<u64>) -> Self {
        let done = stream.is_end_stream();
        Self {
            stream,
            announced,
            owed: 0,
            data_done: done,
            done,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.owed > 0 {
            // Asking for more says that what came before is on its way.
            let owed = std::mem::take(&mut self.owed);
            if self.stream.flow_control().release_capacity(owed).is_err() {
                return Poll::Ready(Some(Err(BodyError::Broken)));
            }
        }
        if self.done {
            return Poll::Ready(None);
        }
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.done = self.stream.is_end_stream();
                    self.data_done = self.done;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(_reset)) => return Poll::Ready(Some(Err(BodyError::Broken))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.done = true;
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(_reset) => Some(Err(BodyError::Broken)),
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.done
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.announced {
            _ if self.done => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Self::poll_frame(self.get_mut(), cx)
    }

    fn is_end_stream(&self) -> bool {
        Self::is_end_stream(self)
    }

    fn size_hint(&self) -> SizeHint {
        Self::size_hint(self)
    }
}

/// Counts one stream on its connection.
#[derive(Debug)]
pub(crate) struct StreamCount(Rc<H2State>);

impl StreamCount {
    pub(crate) fn new(state: &Rc<H2State>) -> Self {
        state.streams.set(state.streams.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

/// Ends a task with its owner.
#[derive(Debug)]
pub(crate) struct TaskGuard(pub(crate) AbortHandle);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An upstream's response on an HTTP/2 stream, with what keeps the exchange going.
#[derive(Debug)]
pub(crate) struct UpstreamStream {
    body: H2Body,
    _upload: Option<TaskGuard>,
    _count: StreamCount,
}

impl UpstreamStream {
    pub(crate) fn new(body: H2Body, upload: Option<TaskGuard>, count: StreamCount) -> Self {
        Self {
            body,
            _upload: upload,
            _count: count,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.body.poll_frame(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sends `body` on `stream` as its window allows; ends the stream with it, or resets it.
pub(crate) async fn send_body<B>(mut body: Pin<&mut B>, mut stream: SendStream<Bytes>)
where
    B: Body<Data = Bytes, Error = BodyError>,
{
    loop {
        let frame = match next_frame(body.as_mut(), &mut stream).await {
            Next::Frame(frame) => frame,
            Next::End => {
                let _closed = stream.send_data(Bytes::new(), true);
                return;
            }
            Next::Failed => {
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
                return;
            }
            Next::Reset => return,
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if !send_data(&mut stream, data, last).await || last {
                    return;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    let _closed = stream.send_trailers(trailers);
                    return;
                }
            }
        }
    }
}

enum Next {
    Frame(Frame<Bytes>),
    End,
    Failed,
    Reset,
}

/// The body's next frame, unless the other end resets the stream before.
async fn next_frame<B>(mut body: Pin<&mut B>, stream: &mut SendStream<Bytes>) -> Next
where
    B: Body<Data = Bytes, Error = BodyError>,
{
    poll_fn(|cx| {
        if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => Next::Frame(frame),
                Some(Err(_broken)) => Next::Failed,
                None => Next::End,
            });
        }
        stream.poll_reset(cx).map(|_reset| Next::Reset)
    })
    .await
}

/// Sends `data` as the window opens; whether the stream still lives.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> bool {
    if data.is_empty() {
        return !last || stream.send_data(data, true).is_ok();
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        while room == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(more)) => room = more,
                Some(Err(_)) | None => return false,
            }
        }
        let part = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        if stream.send_data(part, end).is_err() {
            return false;
        }
    }
    true
}
