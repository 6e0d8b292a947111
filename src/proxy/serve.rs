//! One client connection from accept to close: PROXY header, TLS, choice of protocol, HTTP.

mod http1;
mod http2;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::conn::{Activity, Conn, Order, Peer};
use super::live::LiveListener;
use super::stream::{Prefixed, Socket, Stream};
use super::tls;
use super::worker::Worker;
use crate::clock::{Instant, SystemClock};

/// How an HTTP/2 connection by prior knowledge begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest PROXY header: v2 with its largest address block would be more, but nobody sends TLVs of
/// that size.
const MAX_PROXY_HEADER: usize = 4_096;

/// How long an HTTP/1 connection lies idle before it is parked.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// Serves `socket` until it closes.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<LiveListener>,
    socket: Socket,
    address: Option<SocketAddr>,
) {
    // Boxed: a connection that got this far carries no room for handshakes.
    let Some(greeted) = Box::pin(greet(&listener, socket, address)).await else {
        return;
    };
    let Greeted {
        stream,
        peer,
        http2,
        prefix,
    } = greeted;
    let now = worker.now();
    let conn = Rc::new(Conn::new(Rc::clone(&worker), listener, peer, http2, now));
    let _registered = worker.register(&conn);
    poll_fn(|cx| {
        conn.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    if http2 {
        Box::pin(http2::serve(conn, Prefixed::new(prefix, stream))).await;
    } else {
        http1::serve(conn, stream, prefix.into()).await;
    }
}

/// A connection that is ready to speak HTTP.
struct Greeted {
    stream: Stream,
    peer: Peer,
    http2: bool,
    /// What was read of HTTP already.
    prefix: Bytes,
}

/// Takes `socket` through what comes before HTTP; none when the client did not come through it.
async fn greet(
    listener: &LiveListener,
    mut socket: Socket,
    mut address: Option<SocketAddr>,
) -> Option<Greeted> {
    let bound = listener.listener.header_timeout;
    let proxied = proxied_for(listener, &mut socket, &mut address);
    let prefix = within(bound, proxied).await.ok()?.ok()?;
    let mut peer = Peer::new(address, listener);
    let Some(config) = &listener.tls else {
        let mut prefix = prefix.to_vec();
        let choice = choose(listener, &mut socket, &mut prefix);
        let http2 = within(bound, choice).await.ok()?.ok()?;
        return Some(Greeted {
            stream: Stream::Plain(socket),
            peer,
            http2,
            prefix: prefix.into(),
        });
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(config));
    let handshake = acceptor.accept(Prefixed::new(prefix, socket));
    let stream = match within(bound, handshake).await.ok()? {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(peer = peer.as_str(), %error, "a TLS handshake failed");
            return None;
        }
    };
    let shown = stream.get_ref().1.peer_certificates();
    peer.sans = shown
        .and_then(<[_]>::first)
        .map_or_else(Box::default, tls::dns_names);
    let http2 = match stream.get_ref().1.alpn_protocol() {
        Some(protocol) => protocol == b"h2",
        None => !listener.listener.http1,
    };
    Some(Greeted {
        stream: Stream::ServerTls(Box::new(stream)),
        peer,
        http2,
        prefix: Bytes::new(),
    })
}

async fn within<F: Future>(
    bound: Duration,
    act: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    let until = SystemClock.to_std(SystemClock.now().after(bound));
    tokio::time::timeout_at(tokio::time::Instant::from_std(until), act).await
}

/// Reads the PROXY header, where the listener expects one; what was read behind it.
async fn proxied_for(
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

/// What the sweep asks of a connection that has been doing the same for `since`.
pub(crate) fn overdue(conn: &Conn, now: Instant) -> Option<Order> {
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
        Activity::Idle if spent >= PARK_AFTER && !conn.http2 && !conn.is_parked() => {
            Some(Order::Park)
        }
        Activity::Greeting | Activity::Idle | Activity::Head | Activity::Busy => None,
    }
}
