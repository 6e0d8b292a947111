//! The byte streams of the data plane: TCP or unix, plain or under TLS, as one type, so that the HTTP code
//! above is compiled once. Depends on tokio and rustls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::cache::content::Pages;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection, under TLS or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    ServerTls(Box<tokio_rustls::server::TlsStream<Prefixed<Socket>>>),
    ClientTls(Box<tokio_rustls::client::TlsStream<Socket>>),
}

impl Stream {
    /// Writes `bytes`, behind which pages follow at once: the kernel sends both together.
    pub(crate) fn poll_begin(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        self.poll_act(cx, |socket| Ok(send(socket, bytes, flags)?))
    }

    /// Has the kernel send some of `pages`.
    pub(crate) fn poll_pages(
        &self,
        cx: &mut Context<'_>,
        pages: &mut Pages,
    ) -> Poll<io::Result<usize>> {
        self.poll_act(cx, |socket| pages.send(socket))
    }

    fn poll_act(
        &self,
        cx: &mut Context<'_>,
        act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_act(cx, act),
            // What TLS has not seen must not pass it by.
            Self::ServerTls(_) | Self::ClientTls(_) => {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// Whether it is under no TLS.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Ready when the socket has something to read, be it its end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::ServerTls(stream) => &stream.get_ref().0.stream,
            Self::ClientTls(stream) => stream.get_ref().0,
        };
        match socket {
            Socket::Tcp(socket) => socket.poll_read_ready(cx),
            Socket::Unix(socket) => socket.poll_read_ready(cx),
        }
        .map(|_readable_or_broken| ())
    }
}

impl Socket {
    /// Has `act` write something, as soon as there is room.
    fn poll_act(
        &self,
        cx: &mut Context<'_>,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let done = match self {
                Self::Tcp(socket) => {
                    ready!(socket.poll_write_ready(cx))?;
                    socket.try_io(Interest::WRITABLE, || act(socket.as_fd()))
                }
                Self::Unix(socket) => {
                    ready!(socket.poll_write_ready(cx))?;
                    socket.try_io(Interest::WRITABLE, || act(socket.as_fd()))
                }
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Hands a call to whichever stream there is.
macro_rules! each {
    ($self:ident, $kind:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            $($kind::$variant(stream) => {
                let $stream = Pin::new(stream);
                $call
            })+
        }
    };
}

/// Implements both directions of I/O for an enum of streams.
macro_rules! delegate_io {
    ($kind:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!(self, $kind { $($variant),+ }, stream => stream.poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                each!(self, $kind { $($variant),+ }, stream => stream.poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!(self, $kind { $($variant),+ }, stream => stream.poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $kind { $($variant),+ }, stream => stream.poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $kind { $($variant),+ }, stream => stream.poll_shutdown(cx))
            }
        }
    };
}

delegate_io!(Socket { Tcp, Unix });
delegate_io!(Stream {
    Plain,
    ServerTls,
    ClientTls
});

/// A stream with bytes already read in front of it.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    pub(crate) fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.prefix.len().min(buf.remaining());
        buf.put_slice(self.prefix.get(..length).unwrap_or_default());
        self.prefix.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
