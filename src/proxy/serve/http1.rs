//! An HTTP/1 client connection.
//!
//! hyper holds two buffers of 8 KiB for as long as a connection lives. One that lies idle is therefore
//! parked: hyper's half is dropped, the guarded stream stays, and the next byte brings a new half. Idle
//! connections then cost about what their socket does, and busy ones never notice.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::within;
use crate::proxy::conn::{Conn, Order};
use crate::proxy::guard::{Guard, HeadLimits, Violation};
use crate::proxy::io::GuardedIo;
use crate::proxy::pipeline;
use crate::proxy::stream::Stream;
use crate::proxy::upload::Source;

/// How long a client that was sent the last response may go on sending.
const LINGER: Duration = Duration::from_secs(1);

/// Serves `stream`, of which `prefix` was read already, until it closes.
pub(super) async fn serve(conn: Rc<Conn>, stream: Stream, prefix: Vec<u8>) {
    let limits = &conn.listener.listener;
    let head = HeadLimits {
        bytes: limits.max_header_bytes,
        fields: limits.max_headers,
    };
    conn.rest(conn.worker.now());
    let mut io = GuardedIo::new(stream, Guard::new(head), Rc::clone(&conn), prefix);
    loop {
        // Boxed: a parked connection then carries no room for a talking one.
        let Some(idle) = Box::pin(talk(&conn, io)).await else {
            return;
        };
        io = idle;
        let parked = conn.park();
        let ordered = poll_fn(|cx| match conn.take_order() {
            Some(Order::Park) | None => io.poll_readable(cx).map(|()| false),
            Some(Order::Drain | Order::HeadTimeout | Order::Close) => Poll::Ready(true),
        })
        .await;
        drop(parked);
        if ordered {
            return;
        }
    }
}

/// How hyper's half of a connection ended.
enum Ended {
    /// Both sides said all they had to, or the connection changed protocols.
    Done,
    Broken(hyper::Error),
    Ordered(Order),
}

/// Answers requests until the connection closes or lies idle. Gives the stream back in the latter case.
async fn talk(conn: &Rc<Conn>, io: GuardedIo) -> Option<GuardedIo> {
    let limits = &conn.listener.listener;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits.max_header_bytes.max(8_192) + 400 * 1_024);
    if limits.max_headers > 100 {
        builder.max_headers(limits.max_headers);
    }
    let service = service_fn(|request: http::Request<Incoming>| {
        let (head, body) = request.into_parts();
        pipeline::answer(conn, head, Source::H1(body), Rc::clone(conn.interim()))
    });
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let ended = poll_fn(|cx| {
        match conn.take_order() {
            Some(Order::Drain) => Pin::new(&mut connection).graceful_shutdown(),
            Some(Order::Park) if !conn.is_idle() => {}
            Some(order) => return Poll::Ready(Ended::Ordered(order)),
            None => {}
        }
        Poll::Ready(match ready!(connection.poll_without_shutdown(cx)) {
            Ok(()) => Ended::Done,
            Err(error) => Ended::Broken(error),
        })
    })
    .await;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    match ended {
        Ended::Ordered(Order::Park) => {
            io.unread(&parts.read_buf);
            return Some(io);
        }
        Ended::Ordered(Order::Close | Order::Drain) => return None,
        Ended::Ordered(Order::HeadTimeout) => {
            let violation = Violation {
                status: 408,
                detail: "the request head took too long",
            };
            io.say(conn, violation).await;
        }
        Ended::Done => {
            if let Some(tunnel) = conn.take_tunnel() {
                let (client, early) = io.into_tunnel();
                tunnel.run(client, early).await;
                return None;
            }
        }
        Ended::Broken(error) => {
            tracing::debug!(peer = conn.peer.as_str(), %error, "a client connection broke");
        }
    }
    close(io).await;
    None
}

/// Closes so that the last response is not lost to a reset: the write side first, then whatever the
/// client still sends is read and dropped for a moment (RFC 9112 section 9.6).
async fn close(mut io: GuardedIo) {
    let lingering = async {
        io.shutdown().await?;
        let mut stream = io.into_tunnel().0;
        let mut sink = [0_u8; 1_024];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether it worked is of no interest any more.
    let _done = within(LINGER, lingering).await;
}
