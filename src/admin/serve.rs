//! Serving the API: over TCP or a unix socket, bounded in connections, heads and time, and stopped with
//! grace.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::problem::Problem;
use crate::clock::SystemClock;

/// Open connections; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 128;
/// For a request's head, and between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For an answer, the request's body included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// For connections still open when the API stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 32 << 10;

/// A bound socket for the API.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Who is connected, as the audit log names them.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket, by the process at its other end, if the kernel tells.
    Unix(Option<i32>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(Some(pid)) => write!(f, "unix pid {pid}"),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

/// Serves `router` until `stop` is done, then lets answers on their way finish. Must run within a tokio
/// runtime with time and I/O.
pub async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        let router = router.clone();
        let stopped = stopped.clone();
        match accepted {
            Ok((Stream::Tcp(stream), peer)) => {
                connections.spawn(connection(stream, peer, router, stopped));
            }
            Ok((Stream::Unix(stream), peer)) => {
                connections.spawn(connection(stream, peer, router, stopped));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept a connection");
                if is_done_soon(&mut stop).await {
                    break;
                }
            }
        }
    }
    drop(listener);
    drop(stopping);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("connections of the admin API are cut off");
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<(Stream, Peer)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Stream::Tcp(stream), Peer::Tcp(address)))
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
            Ok((Stream::Unix(stream), Peer::Unix(pid)))
        }
    }
}

/// After a failed accept (out of descriptors, mostly): leaves others a moment to close theirs, and says
/// whether it became time to stop.
async fn is_done_soon(stop: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    let until = SystemClock.now().after(Duration::from_millis(100));
    let until = tokio::time::Instant::from_std(SystemClock.to_std(until));
    tokio::time::timeout_at(until, stop).await.is_ok()
}

async fn connection<S>(stream: S, peer: Peer, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(router.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection to the admin API broke");
    }
}

async fn answer(
    router: Router,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    let Ok(answer) = tokio::time::timeout(ANSWER_TIMEOUT, router.oneshot(request)).await else {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "This took too long.");
        return Ok(problem.into_response());
    };
    answer
}
