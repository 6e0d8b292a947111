//! An HTTP/1 client connection.
//!
//! A session holds buffers for as long as it lives. A connection that lies idle is therefore parked: its session is
//! dropped, the guarded stream stays, and the next byte brings a new one. Idle connections then cost about what their
//! socket does, and busy ones never notice.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::within;
use crate::proxy::conn::{Conn, Order};
use crate::proxy::guard::{Guard, HeadLimits, Violation};
use crate::proxy::h1::Session;
use crate::proxy::io::GuardedIo;
use crate::proxy::pipeline;
use crate::proxy::stream::Stream;

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
            Some(Order::Park) | None => io.poll_wake(cx).map(|()| false),
            Some(Order::Drain | Order::HeadTimeout | Order::Close) => Poll::Ready(true),
        })
        .await;
        drop(parked);
        if ordered {
            return;
        }
    }
}

/// Answers requests until the connection closes or lies idle. Gives the stream back in the latter case.
async fn talk(conn: &Rc<Conn>, io: GuardedIo) -> Option<GuardedIo> {
    let mut session = Session::new(conn, io);
    let mut last = false;
    let ordered = loop {
        let next = match attend(conn, &mut last, |cx, last| session.poll_request(cx, last)).await {
            Ok(next) => next,
            Err(order) => break Some(order),
        };
        let Ok((source, asked)) = next else {
            break None;
        };
        let interim = Rc::clone(conn.interim());
        let mut answering = pipeline::answer(conn, session.head(), source, interim);
        let answered = attend(conn, &mut last, |cx, _last| {
            match Pin::new(&mut answering).poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => session.poll_watch(cx, &asked).map(Err),
            }
        });
        let response = match answered.await {
            Ok(Ok(response)) => response,
            Ok(Err(_gone)) => break None,
            Err(order) => break Some(order),
        };
        // What waited for the upstream is large, and the body may take long.
        drop(answering);
        session.begin(&asked, response, last);
        match attend(conn, &mut last, |cx, _last| session.poll_answer(cx)).await {
            Ok(Ok(true)) if !conn.has_tunnel() => {}
            Ok(Ok(_)) | Ok(Err(_)) => break None,
            Err(order) => break Some(order),
        }
    };
    let mut io = session.into_io()?;
    match ordered {
        Some(Order::Park) => return Some(io),
        Some(Order::Close | Order::Drain) => return None,
        Some(Order::HeadTimeout) => {
            let violation = Violation {
                status: 408,
                detail: "the request head took too long",
            };
            io.say(violation).await;
        }
        None => {
            if let Some(tunnel) = conn.take_tunnel() {
                let (client, early) = io.into_tunnel();
                tunnel.run(client, early).await;
                return None;
            }
        }
    }
    close(io).await;
    None
}

/// Polls `act` until it is ready, or the worker orders the connection otherwise. `last`: the worker drains.
async fn attend<T>(
    conn: &Conn,
    last: &mut bool,
    mut act: impl FnMut(&mut Context<'_>, bool) -> Poll<T>,
) -> Result<T, Order> {
    poll_fn(|cx| {
        match conn.take_order() {
            Some(Order::Drain) => *last = true,
            Some(Order::Park) if !conn.is_idle() => {}
            Some(order) => return Poll::Ready(Err(order)),
            None => {}
        }
        act(cx, *last).map(Ok)
    })
    .await
}

/// Closes so that the last response is not lost to a reset: the write side first, then whatever the
/// client still sends is read and dropped for a moment (RFC 9112 section 9.6).
async fn close(io: GuardedIo) {
    let lingering = async {
        let mut stream = io.into_tunnel().0;
        stream.shutdown().await?;
        let mut sink = [0_u8; 1_024];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether it worked is of no interest any more.
    let _done = within(LINGER, lingering).await;
}
