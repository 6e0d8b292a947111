//! An origin on hyper: HTTP/1.1 or HTTP/2, plain or over TLS, that remembers what it was asked.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::reply::{Reply, Scripted};
use super::wait::{PATIENCE, eventually};
use super::wire::Headers;

/// What the origin speaks.
#[derive(Clone, Debug)]
pub(crate) enum Flavour {
    Http1,
    /// HTTP/2 with prior knowledge, without TLS.
    Http2,
    /// What ALPN chooses from the configuration's list; HTTP/1.1 without a choice.
    Tls(Arc<rustls::ServerConfig>),
}

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) version: http::Version,
    /// What HTTP/2 carries in `:authority`; `Host` is among the headers.
    pub(crate) authority: Option<String>,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    /// Which connection of the origin it came on, from zero.
    pub(crate) connection: usize,
}

impl Seen {
    /// The first value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

type Handler = Box<dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// A running origin; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    _stop: oneshot::Sender<()>,
}

struct State {
    handler: Handler,
    seen: Mutex<Vec<Seen>>,
    arrived: Mutex<Vec<String>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    connections: AtomicUsize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Origin {
    /// HTTP/1.1, with an answer computed at once.
    pub(crate) fn http1(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Flavour::Http1, move |seen| {
            std::future::ready(handler(&seen))
        })
    }

    /// HTTP/2 without TLS, with an answer computed at once.
    pub(crate) fn http2(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Flavour::Http2, move |seen| {
            std::future::ready(handler(&seen))
        })
    }

    /// HTTP/1.1, always the same body.
    pub(crate) fn saying(body: &'static str) -> Self {
        Self::http1(move |_| Reply::ok(body))
    }

    /// Any flavour, with an answer that may take its time. The body is read before the handler runs.
    pub(crate) fn start<F>(
        flavour: Flavour,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let state = Arc::new(State {
            handler: Box::new(move |seen| Box::pin(handler(seen))),
            seen: Mutex::default(),
            arrived: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let (bound, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let of_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let listener = listener.expect("a free port");
                bound.send(listener.local_addr().expect("an address")).ok();
                tokio::select! {
                    () = accept(&listener, &flavour, &of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: address.recv().expect("the origin starts"),
            state,
            _stop: stop,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL over plain HTTP, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request whose body has arrived, in that order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last such request.
    #[track_caller]
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("the origin saw a request")
    }

    /// Method and target of every request whose head has arrived, whether or not its body did.
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.state
            .arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many request heads have arrived.
    pub(crate) fn count(&self) -> usize {
        self.arrived().len()
    }

    /// How many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many requests are being answered now.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// The most that were being answered at one time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests are being answered.
    #[track_caller]
    pub(crate) fn wait_for_in_flight(&self, count: usize) {
        eventually(&format!("{count} requests in flight"), PATIENCE, || {
            self.in_flight() == count
        });
    }
}

async fn accept(listener: &TcpListener, flavour: &Flavour, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let number = state.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(converse(stream, flavour.clone(), Arc::clone(state), number));
    }
}

async fn converse(stream: TcpStream, flavour: Flavour, state: Arc<State>, number: usize) {
    match flavour {
        Flavour::Http1 => serve(TokioIo::new(stream), false, state, number).await,
        Flavour::Http2 => serve(TokioIo::new(stream), true, state, number).await,
        Flavour::Tls(config) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            if let Ok(stream) = acceptor.accept(stream).await {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                serve(TokioIo::new(stream), http2, state, number).await;
            }
        }
    }
}

async fn serve(
    io: impl Read + Write + Unpin + Send + 'static,
    http2: bool,
    state: Arc<State>,
    connection: usize,
) {
    let service = service_fn(move |request| answer(Arc::clone(&state), request, connection));
    // A peer that breaks off is the business of the test.
    if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
            .ok();
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
            .ok();
    }
}

async fn answer(
    state: Arc<State>,
    request: http::Request<Incoming>,
    connection: usize,
) -> hyper::Result<http::Response<Scripted>> {
    state
        .arrived
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{} {}", request.method(), request.uri()));
    let _busy = Busy::enter(Arc::clone(&state));
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().map(Headers::from_map).unwrap_or_default();
    let seen = Seen {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        version: head.version,
        authority: head.uri.authority().map(ToString::to_string),
        headers: Headers::from_map(&head.headers),
        body: body.to_bytes().to_vec(),
        trailers,
        connection,
    };
    state
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(seen.clone());
    Ok((state.handler)(seen).await.into_response())
}

/// Counts a request as being answered, until the handler ends or is dropped with its connection.
struct Busy(Arc<State>);

impl Busy {
    fn enter(state: Arc<State>) -> Self {
        let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
