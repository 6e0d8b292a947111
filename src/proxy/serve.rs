//! One client connection from accept to close: PROXY header, TLS, choice of protocol, HTTP.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;

use super::body::{ResponseBody, Source};
use super::conn::{Activity, Conn, Interim, Order, Peer};
use super::guard::{Guard, HeadLimits, Violation};
use super::h2stream::{H2Body, send_body};
use super::io::GuardedIo;
use super::live::LiveListener;
use super::stream::{Prefixed, Socket, Stream};
use super::worker::Worker;
use super::{ingress, pipeline};
use crate::clock::SystemClock;

/// How an HTTP/2 connection by prior knowledge begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest PROXY header: v2 with its largest address block would be more, but nobody sends TLVs of
/// that size.
const MAX_PROXY_HEADER: usize = 4_096;

/// Serves `socket` until it closes.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<LiveListener>,
    mut socket: Socket,
    mut address: Option<SocketAddr>,
) {
    let bound = listener.listener.header_timeout;
    let greeting = greet(&listener, &mut socket, &mut address);
    let Ok(Ok(prefix)) = within(bound, greeting).await else {
        return;
    };
    let peer = Peer::new(address, &listener);
    match &listener.tls {
        Some(config) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(config));
            let handshake = acceptor.accept(Prefixed::new(prefix, socket));
            let stream = match within(bound, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(peer = peer.as_str(), %error, "a TLS handshake failed");
                    return;
                }
                Err(_late) => return,
            };
            let http2 = match stream.get_ref().1.alpn_protocol() {
                Some(protocol) => protocol == b"h2",
                None => !listener.listener.http1,
            };
            run(
                worker,
                listener,
                Stream::ServerTls(Box::new(stream)),
                peer,
                http2,
                Bytes::new(),
            )
            .await;
        }
        None => {
            let mut prefix = prefix.to_vec();
            let Ok(Ok(http2)) = within(bound, choose(&listener, &mut socket, &mut prefix)).await
            else {
                return;
            };
            run(
                worker,
                listener,
                Stream::Plain(socket),
                peer,
                http2,
                Bytes::from(prefix),
            )
            .await;
        }
    }
}

async fn within<F: Future>(
    bound: Duration,
    act: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    let until = SystemClock.to_std(SystemClock.now().after(bound));
    tokio::time::timeout_at(tokio::time::Instant::from_std(until), act).await
}

/// Reads the PROXY header, where the listener expects one; what was read behind it.
async fn greet(
    listener: &LiveListener,
    socket: &mut Socket,
    address: &mut Option<SocketAddr>,
) -> io::Result<Bytes> {
    if !listener.listener.proxy_protocol {
        return Ok(Bytes::new());
    }
    let mut buffer = Vec::with_capacity(256);
    loop {
        if socket.read_buf(&mut buffer).await? == 0 || buffer.len() > MAX_PROXY_HEADER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let parsed = ppp::HeaderResult::parse(&buffer);
        if ppp::PartialResult::is_incomplete(&parsed) {
            continue;
        }
        let (length, source) = proxied(&parsed).ok_or(io::ErrorKind::InvalidData)?;
        if source.is_some() {
            *address = source;
        }
        return Ok(Bytes::copy_from_slice(
            buffer.get(length..).unwrap_or_default(),
        ));
    }
}

/// The length of a PROXY header, and the client it names; none for a health check of the balancer's own.
fn proxied(header: &ppp::HeaderResult<'_>) -> Option<(usize, Option<SocketAddr>)> {
    match header {
        ppp::HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                ppp::v1::Addresses::Tcp4(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                ppp::v1::Addresses::Tcp6(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                ppp::v1::Addresses::Unknown => None,
            };
            Some((header.header.len(), source))
        }
        ppp::HeaderResult::V2(Ok(header)) => {
            let source = match header.addresses {
                ppp::v2::Addresses::IPv4(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                ppp::v2::Addresses::IPv6(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                ppp::v2::Addresses::Unix(_) | ppp::v2::Addresses::Unspecified => None,
            };
            Some((header.header.len(), source))
        }
        ppp::HeaderResult::V1(Err(_)) | ppp::HeaderResult::V2(Err(_)) => None,
    }
}

/// Whether a plain connection speaks HTTP/2; reads as little as tells.
async fn choose(
    listener: &LiveListener,
    socket: &mut Socket,
    prefix: &mut Vec<u8>,
) -> io::Result<bool> {
    if !listener.listener.http2 {
        return Ok(false);
    }
    if !listener.listener.http1 {
        return Ok(true);
    }
    loop {
        let length = prefix.len().min(PREFACE.len());
        if prefix.get(..length) != PREFACE.get(..length) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        if prefix.is_empty() {
            prefix.reserve(1_024);
        }
        if socket.read_buf(prefix).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn run(
    worker: Rc<Worker>,
    listener: Arc<LiveListener>,
    stream: Stream,
    peer: Peer,
    http2: bool,
    prefix: Bytes,
) {
    let now = worker.now();
    let conn = Rc::new(Conn::new(Rc::clone(&worker), listener, peer, http2, now));
    let _registered = worker.register(&conn);
    poll_fn(|cx| {
        conn.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    if http2 {
        Box::pin(serve_h2(conn, Prefixed::new(prefix, stream))).await;
    } else {
        serve_h1(conn, stream, prefix.to_vec()).await;
    }
}

async fn serve_h1(conn: Rc<Conn>, stream: Stream, prefix: Vec<u8>) {
    let limits = &conn.listener.listener;
    let head = HeadLimits {
        bytes: limits.max_header_bytes,
        fields: limits.max_headers,
    };
    conn.rest(conn.worker.now());
    let io = GuardedIo::new(stream, Guard::new(head), Rc::clone(&conn), prefix);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits.max_header_bytes.max(8_192) + 400 * 1_024);
    if limits.max_headers > 100 {
        builder.max_headers(limits.max_headers);
    }
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let (head, body) = request.into_parts();
        let source = Source::H1(body);
        let answer = pipeline::answer(Rc::clone(&conn), head, source, Arc::clone(conn.interim()));
        // Boxed: an idle connection then carries no room for a request.
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let ended = poll_fn(|cx| {
        if let Some(order) = conn.take_order() {
            match order {
                Order::Drain => Pin::new(&mut connection).graceful_shutdown(),
                Order::HeadTimeout | Order::Close => return Poll::Ready(Err(order)),
            }
        }
        connection.poll_without_shutdown(cx).map(Ok)
    })
    .await;
    let io = connection.into_parts().io.into_inner();
    match ended {
        Ok(Ok(())) => match conn.take_tunnel() {
            Some(tunnel) => {
                let (client, early) = io.into_tunnel();
                tunnel.run(client, early).await;
            }
            None => close(io).await,
        },
        Ok(Err(error)) => {
            tracing::debug!(peer = conn.peer.as_str(), %error, "a client connection broke");
            close(io).await;
        }
        Err(Order::HeadTimeout) => {
            let mut io = io;
            io.say(
                &conn,
                Violation {
                    status: 408,
                    detail: "the request head took too long",
                },
            )
            .await;
            close(io).await;
        }
        Err(Order::Close | Order::Drain) => {}
    }
}

/// Closes so that the last response is not lost to a reset: the write side first, then whatever the
/// client still sends is read and dropped for a moment (RFC 9112 section 9.6).
async fn close(mut io: GuardedIo) {
    let lingering = async {
        tokio::io::AsyncWriteExt::shutdown(&mut io).await?;
        let mut stream = io.into_tunnel().0;
        let mut sink = [0_u8; 1_024];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether it worked is of no interest any more.
    let _done = within(LINGER, lingering).await;
}

const LINGER: Duration = Duration::from_secs(1);

/// Bounds against streams that are opened only to be reset (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const H2_WINDOW: u32 = 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

async fn serve_h2(conn: Rc<Conn>, stream: Prefixed<Stream>) {
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
    let (head, body) = request.into_parts();
    let no_body = head.method == http::Method::HEAD;
    let announced = ingress::content_length(&head.headers);
    let body = H2Body::new(body, announced);
    let source = if body.is_end_stream() {
        Source::Empty
    } else {
        Source::H2(body)
    };
    let interim: Arc<Interim> = Arc::default();
    let mut answer = pin!(pipeline::answer(conn, head, source, Arc::clone(&interim)));
    let response = poll_fn(|cx| {
        let polled = answer.as_mut().poll(cx);
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

/// What the sweep asks of a connection that has been doing the same for `since`.
pub(crate) fn overdue(conn: &Conn, now: crate::clock::Instant) -> Option<Order> {
    let limits = &conn.listener.listener;
    let (activity, since) = conn.activity();
    let spent = now.since(since);
    match activity {
        Activity::Head if spent >= limits.header_timeout => Some(Order::HeadTimeout),
        Activity::Idle if spent >= limits.idle_timeout => Some(if conn.http2 {
            Order::Drain
        } else {
            Order::Close
        }),
        Activity::Greeting | Activity::Idle | Activity::Head | Activity::Busy => None,
    }
}
