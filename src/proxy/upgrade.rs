//! Upgraded connections: after a 101 bytes pass both ways, unread, until either side is done or nothing
//! has moved for the route's idle timeout.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::hold::Hold;
use super::pool::{H1Conn, Timer};
use super::stream::{Prefixed, Stream};
use super::track::Track;
use crate::clock::{Instant, SystemClock};
use crate::model::{Outcome, Phase};

/// An accepted upgrade, before the client's side of the connection is free.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: Box<H1Conn>,
    pub(crate) hold: Hold,
    pub(crate) track: Box<Track>,
    pub(crate) idle: Duration,
}

impl Tunnel {
    /// Carries bytes between `client`, from which `early` was read already, and the upstream.
    pub(crate) async fn run(self, client: Stream, early: Vec<u8>) {
        let Self {
            upstream,
            hold,
            mut track,
            idle,
        } = self;
        let progress = Cell::new(SystemClock.now());
        let (received, sent) = (Cell::new(0), Cell::new(0));
        let Some((stream, prefix)) = upstream.connection.into_stream() else {
            return;
        };
        let client = Prefixed::new(Bytes::from(early), client);
        let mut client = Counted {
            stream: client,
            progress: &progress,
            bytes: &received,
        };
        let upstream = Prefixed::new(prefix, stream);
        let mut upstream = Counted {
            stream: upstream,
            progress: &progress,
            bytes: &sent,
        };
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut upstream) => copied.is_ok(),
            () = idled(&progress, idle) => false,
        };
        track.exchange.bytes_in = received.get();
        track.exchange.bytes_out = sent.get();
        track.exchange.outcome = if copied {
            Outcome::Answered
        } else {
            Outcome::ClientGone
        };
        let now = SystemClock.now();
        track.phase(Phase::Body, now);
        hold.complete(&mut track);
    }
}

/// Returns when nothing has moved for `idle`.
async fn idled(progress: &Cell<Instant>, idle: Duration) {
    let mut timer = Timer::new(progress.get().after(idle));
    loop {
        let until = progress.get().after(idle);
        std::future::poll_fn(|cx| timer.poll_until(cx, until)).await;
        if progress.get().after(idle) <= until {
            return;
        }
    }
}

/// Counts what is read, and notes when something was.
struct Counted<'a, S> {
    stream: S,
    progress: &'a Cell<Instant>,
    bytes: &'a Cell<u64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let fresh = buf.filled().len().saturating_sub(before);
        if fresh > 0 {
            self.bytes.set(self.bytes.get() + fresh as u64);
            self.progress.set(SystemClock.now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
