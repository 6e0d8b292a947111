//! An HTTP/2 client connection: its streams, each answered by a task of its own.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::Response;

use super::within;
use crate::proxy::body::ResponseBody;
use crate::proxy::conn::{Conn, Interim, Order};
use crate::proxy::h2stream::{H2Body, send_body};
use crate::proxy::stream::{Prefixed, Stream};
use crate::proxy::upload::Source;
use crate::proxy::{ingress, pipeline};

/// Bounds against streams that are opened only to be reset (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const H2_WINDOW: u32 = 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Serves `stream` until it closes.
pub(super) async fn serve(conn: Rc<Conn>, stream: Prefixed<Stream>) {
    let limits = &conn.listener.listener;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW);
    let Ok(Ok(mut connection)) =
        within(limits.header_timeout, builder.handshake::<_, Bytes>(stream)).await
    else {
        return;
    };
    conn.rest(conn.worker.now());
    loop {
        let next = poll_fn(|cx| {
            if let Some(order) = conn.take_order() {
                match order {
                    Order::Drain => connection.graceful_shutdown(),
                    Order::Park => {}
                    Order::HeadTimeout | Order::Close => {
                        connection.abrupt_shutdown(h2::Reason::NO_ERROR);
                    }
                }
            }
            connection.poll_accept(cx)
        })
        .await;
        match next {
            Some(Ok((request, respond))) => {
                tokio::task::spawn_local(stream_h2(Rc::clone(&conn), request, respond));
            }
            Some(Err(error)) => {
                tracing::debug!(peer = conn.peer.as_str(), %error, "an HTTP/2 connection broke");
                return;
            }
            None => return,
        }
    }
}

/// Answers one stream.
async fn stream_h2(
    conn: Rc<Conn>,
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (mut head, body) = request.into_parts();
    let no_body = head.method == http::Method::HEAD;
    let announced = ingress::content_length(&head.headers);
    let body = H2Body::new(body, announced);
    let source = if body.is_end_stream() {
        Source::Empty
    } else {
        Source::H2(body)
    };
    let interim: Rc<Interim> = Rc::default();
    let mut answer = pipeline::answer(&conn, &mut head, source, Rc::clone(&interim));
    let response = poll_fn(|cx| {
        let polled = Pin::new(&mut answer).poll(cx);
        for (status, headers) in interim.take() {
            let mut early = Response::new(());
            *early.status_mut() = status;
            *early.headers_mut() = headers;
            // A client that is gone shows itself below.
            let _gone = respond.send_informational(early);
        }
        match polled {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_reset| None),
        }
    })
    .await;
    // What waited for the upstream is large, and the body may take long.
    drop(answer);
    let Some(response) = response else { return };
    let (mut head, body): (_, ResponseBody) = response.into_parts();
    head.version = http::Version::HTTP_2;
    let end = no_body || http_body::Body::is_end_stream(&body);
    if let Ok(stream) = respond.send_response(Response::from_parts(head, ()), end)
        && !end
    {
        send_body(pin!(body), stream).await;
    }
}
