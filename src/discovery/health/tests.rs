//! Checks of real servers in this process, in paused time.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::Instant;
use crate::config::plan::{ClientTls, Endpoint, EndpointAddress, Endpoints, Probe, Protocol};
use crate::engine::registry::Directories;
use crate::engine::upstream::fixture::{plan, upstream};

/// An origin whose answer can be changed while it runs.
#[derive(Clone, Default)]
struct Origin(Arc<Answer>);

#[derive(Default)]
struct Answer {
    /// HTTP status of plain requests; 0 means 200.
    status: AtomicU16,
    /// Serving status and gRPC status of health checks, as `serving + 256 × grpc`.
    grpc: AtomicU16,
    asked: AtomicU32,
}

impl Origin {
    /// Starts serving HTTP/2 or HTTP/1.1 over TCP.
    async fn tcp(&self, http2: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(origin.clone().serve(stream, http2));
            }
        });
        address
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
    ) {
        let io = TokioIo::new(stream);
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let ended = if http2 {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(io, service).await
        } else {
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(io, service).await
        };
        drop(ended);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if request.uri().path() == "/grpc.health.v1.Health/Check" {
            let [serving, grpc] = self.0.grpc.load(Ordering::Relaxed).to_le_bytes();
            let message = Full::new(Bytes::from(vec![0, 0, 0, 0, 2, 8, serving]));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", u16::from(grpc).into());
            let trailers = std::future::ready(Some(Ok(trailers)));
            return Response::new(message.with_trailers(trailers).boxed());
        }
        let status = match self.0.status.load(Ordering::Relaxed) {
            0 => StatusCode::OK,
            status => StatusCode::from_u16(status).unwrap(),
        };
        let expected = match request.version() {
            Version::HTTP_2 => request.uri().host() == Some("check.example"),
            _ => request.headers().get("host").unwrap() == "check.example",
        };
        let found = request.uri().path() == "/healthz" && expected;
        let mut response = Response::new(Full::default().boxed());
        *response.status_mut() = if found { status } else { StatusCode::NOT_FOUND };
        response
    }

    fn set_status(&self, status: u16) {
        self.0.status.store(status, Ordering::Relaxed);
    }

    fn set_grpc(&self, serving: u8, grpc: u8) {
        let value = u16::from_le_bytes([serving, grpc]);
        self.0.grpc.store(value, Ordering::Relaxed);
    }

    fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::Relaxed)
    }
}

fn http() -> Probe {
    Probe::Http {
        path: "/healthz?deep=1".to_owned(),
        host: Some("check.example".to_owned()),
    }
}

fn grpc() -> Probe {
    Probe::Grpc {
        service: "orders.v1.Orders".to_owned(),
    }
}

fn checked(address: EndpointAddress, probe: Probe, protocol: Protocol) -> plan::Upstream {
    let endpoint = Endpoint {
        address,
        weight: 1.0,
        zone: None,
        node: None,
    };
    let mut config = upstream("orders", Endpoints::Fixed(vec![endpoint]));
    config.protocol = protocol;
    config.health = Some(plan::Health {
        probe,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    });
    config
}

/// An upstream of one endpoint whose checks run.
struct World {
    upstreams: Upstreams,
    directories: Directories,
    checks: Checks,
}

impl World {
    fn new(config: plan::Upstream) -> Self {
        Self::with_tls(config, None)
    }

    fn with_tls(config: plan::Upstream, tls: Option<Tls>) -> Self {
        let mut world = Self {
            upstreams: Upstreams::new(),
            directories: Directories::default(),
            checks: Checks::new(move |_, _| tls.clone(), 11),
        };
        world.apply(vec![config]);
        world
    }

    fn apply(&mut self, upstreams: Vec<plan::Upstream>) {
        let plan = plan(upstreams);
        self.upstreams
            .apply(&plan, &self.directories, Instant::ZERO);
        self.checks.reconcile(&self.upstreams);
    }

    fn endpoint(&self) -> Arc<EndpointState> {
        let set = self.upstreams.get("orders").unwrap().endpoints();
        Arc::clone(&set.members()[0].endpoint)
    }

    /// Winds time forward until the endpoint's health is `healthy` and its message holds `message`.
    async fn until(&self, healthy: bool, message: &str) {
        let endpoint = self.endpoint();
        let mut last = None;
        for _ in 0..100 {
            last = endpoint.health_message();
            let said = last.as_ref().is_some_and(|said| said.contains(message));
            if said && endpoint.is_healthy() == healthy {
                return;
            }
            seconds(1).await;
        }
        panic!("healthy: {}, {last:?}", endpoint.is_healthy());
    }
}

async fn seconds(seconds: u64) {
    let waited = timeout(Duration::from_secs(seconds), pending::<()>()).await;
    assert!(waited.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_http_endpoint_goes_out_and_comes_back() {
    let origin = Origin::default();
    let address = EndpointAddress::Socket(origin.tcp(false).await);
    let world = World::new(checked(address, http(), Protocol::Http1));
    assert!(world.endpoint().is_healthy(), "up until proven otherwise");
    world.until(true, "answered 200").await;
    origin.set_status(503);
    world.until(true, "answered 503").await;
    let asked = origin.asked();
    world.until(false, "answered 503").await;
    assert_eq!(origin.asked(), asked + 2, "the third failure takes it out");
    origin.set_status(302);
    world.until(false, "answered 302").await;
    let asked = origin.asked();
    world.until(true, "answered 302").await;
    assert_eq!(
        origin.asked(),
        asked + 1,
        "the second success brings it back"
    );
}

#[tokio::test(start_paused = true)]
async fn checks_are_an_interval_apart_with_jitter() {
    let origin = Origin::default();
    let address = EndpointAddress::Socket(origin.tcp(false).await);
    let world = World::new(checked(address, http(), Protocol::Http1));
    seconds(500).await;
    assert!((95..=106).contains(&origin.asked()), "{}", origin.asked());
    assert!(world.endpoint().is_healthy());

    let mut rng = fastrand::Rng::with_seed(4);
    let interval = Duration::from_secs(10);
    let waits: Vec<_> = (0..1_000).map(|_| jittered(interval, &mut rng)).collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!((9_000..9_050).contains(&least.as_millis()), "{least:?}");
    assert!((10_950..=11_000).contains(&most.as_millis()), "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn http2_is_checked_over_http2() {
    let origin = Origin::default();
    let address = EndpointAddress::Socket(origin.tcp(true).await);
    let world = World::new(checked(address, http(), Protocol::Http2));
    world.until(true, "answered 200").await;
    origin.set_status(500);
    world.until(false, "answered 500").await;
}

#[tokio::test(start_paused = true)]
async fn grpc_is_asked_whether_it_serves() {
    let origin = Origin::default();
    origin.set_grpc(1, 0);
    let address = EndpointAddress::Socket(origin.tcp(true).await);
    let world = World::new(checked(address, grpc(), Protocol::Http1));
    world.until(true, "serving").await;
    origin.set_grpc(2, 0);
    world.until(false, "serving status 2").await;
    origin.set_grpc(1, 12);
    world.until(false, "gRPC status 12").await;
    origin.set_grpc(1, 0);
    world.until(true, "serving").await;
}

#[tokio::test(start_paused = true)]
async fn a_tcp_check_only_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = EndpointAddress::Socket(listener.local_addr().unwrap());
    let world = World::new(checked(address, Probe::Tcp, Protocol::Http1));
    world.until(true, "connected").await;
    drop(listener);
    world.until(false, "cannot connect").await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_failure_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = EndpointAddress::Socket(listener.local_addr().unwrap());
    let world = World::new(checked(address, http(), Protocol::Http1));
    world.until(false, "no answer within 1s").await;
}

#[tokio::test(start_paused = true)]
async fn a_unix_socket_is_checked_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("origin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let origin = Origin::default();
    let serving = origin.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serving.serve(stream, false).await;
    });
    let address = EndpointAddress::Unix(path);
    let world = World::new(checked(address, http(), Protocol::Http1));
    world.until(true, "answered 200").await;
}

/// A server's and a client's TLS settings that trust each other.
fn tls_pair() -> (Arc<ServerConfig>, Tls) {
    let signed = rcgen::generate_simple_self_signed(["origin.internal".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let certificate = signed.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Tls {
        config: Arc::new(client),
        server_name: "origin.internal".try_into().unwrap(),
    };
    (Arc::new(server), tls)
}

#[tokio::test(start_paused = true)]
async fn checks_speak_tls_where_the_upstream_does() {
    let (server, tls) = tls_pair();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = EndpointAddress::Socket(listener.local_addr().unwrap());
    let origin = Origin::default();
    origin.set_grpc(1, 0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Time is paused: a segment held back by Nagle would look like silence.
            stream.set_nodelay(true).unwrap();
            if let Ok(stream) = TlsAcceptor::from(Arc::clone(&server)).accept(stream).await {
                tokio::spawn(origin.clone().serve(stream, true));
            }
        }
    });
    let mut config = checked(address, grpc(), Protocol::Http2);
    config.tls = Some(ClientTls {
        server_name: None,
        ca: None,
        client: None,
    });
    let world = World::with_tls(config.clone(), Some(tls.clone()));
    world.until(true, "serving").await;

    let stranger = Tls {
        server_name: "other.internal".try_into().unwrap(),
        ..tls
    };
    let world = World::with_tls(config.clone(), Some(stranger));
    world.until(false, "TLS failed").await;
    let world = World::with_tls(config, None);
    world.until(false, "no TLS settings").await;
}

#[tokio::test(start_paused = true)]
async fn checks_come_and_go_with_their_endpoints() {
    let origin = Origin::default();
    let address = EndpointAddress::Socket(origin.tcp(false).await);
    let config = checked(address, http(), Protocol::Http1);
    let mut world = World::new(config.clone());
    seconds(10).await;
    assert_eq!(world.checks.tasks.len(), 1);

    world.apply(vec![config.clone()]);
    assert_eq!(
        world.checks.tasks.len(),
        1,
        "the same endpoint keeps its task"
    );

    let unchecked = plan::Upstream {
        health: None,
        ..config.clone()
    };
    world.apply(vec![unchecked]);
    assert_eq!(world.checks.tasks.len(), 0);
    let asked = origin.asked();
    seconds(60).await;
    assert_eq!(origin.asked(), asked);

    world.apply(vec![config]);
    seconds(60).await;
    assert!(origin.asked() > asked);
}
