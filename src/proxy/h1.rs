//! HTTP/1 on both sides: heads read and written, bodies taken off their framing and put into it.
//!
//! hyper would do, at 27,000 instructions an exchange of some 50,000 in all: it takes requests, responses and bodies
//! through channels, and keeps two buffers for each connection. Here whoever wants a response drives the connection that
//! brings it ([`Connection`]), and whoever sends a request's body reads it from the client itself ([`ClientBody`]). What
//! is read lies in one buffer, of which head and body are slices, and what is written goes out in one piece where it is
//! short. httparse reads the heads; what a client sends has passed the framing guard before.
//!
//! Depends on the byte streams, the guard, and the bodies of requests and responses.

mod answer;
mod decode;
mod head;
mod outbox;
mod outgoing;
mod plain;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod upstream;

use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::spare::Spares;

pub(crate) use self::outbox::Outbox;
pub(crate) use self::plain::Plain;
pub(crate) use self::request::{Head, Unsent};
pub(crate) use self::session::{ClientBody, Session};
pub(crate) use self::upstream::{Connection, Fault};

/// The least that is read at once, and the most: the whole of a small message, and what sockets usually hold of a
/// large one.
const READ: RangeInclusive<usize> = 8_192..=73_728;

/// The room that is made at once. Several messages, of whatever connection, are read into it one behind the other.
const ROOM: usize = 16_384;

/// Reads more of `stream`, with room for `wanted` bytes; how many came, 0 at the end.
fn poll_fill<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    read: &mut BytesMut,
    wanted: usize,
    spares: &Spares,
) -> Poll<io::Result<usize>> {
    let wanted = wanted.min(*READ.end());
    if read.capacity() == 0 && wanted <= ROOM {
        *read = spares.take_buffer();
    }
    if read.capacity() - read.len() <= wanted / 2 {
        read.reserve(wanted.max(ROOM));
    }
    let polled = pin!(stream.read_buf(read)).poll(cx);
    if polled.is_pending() {
        let_go(read, spares);
    }
    polled
}

/// Lets go of a buffer that nothing was read into. Who waits holds none meanwhile.
fn let_go(read: &mut BytesMut, spares: &Spares) {
    if read.is_empty() && read.capacity() > 0 {
        spares.give_buffer(std::mem::take(read));
    }
}

/// Whether a response to `method` with `status` has no body, whatever its head says (RFC 9112 section 6.3).
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
