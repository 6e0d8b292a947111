//! An HTTP/2 client on hyper, with prior knowledge or over TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::client::conn::http2::SendRequest;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::client::Response;
use super::wait::PATIENCE;
use super::wire::Headers;

/// What a request carries: anything that yields frames.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// One connection and the thread-local runtime that drives it while a method is running.
#[derive(Debug)]
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Body>,
    scheme: &'static str,
    authority: String,
}

impl Http2 {
    /// Connects without TLS.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the peer accepts");
            handshake(TokioIo::new(stream)).await
        });
        Self {
            runtime,
            sender,
            scheme: "http",
            authority: address.to_string(),
        }
    }

    /// Connects over TLS, asking for the certificate of `name`. The configuration must offer `h2`.
    #[track_caller]
    pub(crate) fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Self {
        let runtime = runtime();
        let server = name.to_owned().try_into().expect("a server name");
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the peer accepts");
            let stream = tokio_rustls::TlsConnector::from(config)
                .connect(server, stream)
                .await
                .expect("the TLS handshake succeeds");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            handshake(TokioIo::new(stream)).await
        });
        Self {
            runtime,
            sender,
            scheme: "https",
            authority: name.to_owned(),
        }
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let request = self.build(method, path, headers, full(body));
        self.block_on(exchange(self.sender.clone(), request))
    }

    /// Sends GETs for all paths at once; the answers are in the order of the paths.
    #[track_caller]
    pub(crate) fn get_all(&self, paths: &[String]) -> Vec<Response> {
        self.block_on(async {
            let running: Vec<_> = paths
                .iter()
                .map(|path| {
                    let request = self.build("GET", path, &[], full(b""));
                    tokio::spawn(exchange(self.sender.clone(), request))
                })
                .collect();
            let mut responses = Vec::new();
            for one in running {
                responses.push(one.await.expect("an answer"));
            }
            responses
        })
    }

    /// A request for this connection with any body.
    pub(crate) fn build(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> http::Request<Body> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}://{}{path}", self.scheme, self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).expect("a request")
    }

    /// The sending half, for what the methods above do not do.
    pub(crate) fn sender(&self) -> SendRequest<Body> {
        self.sender.clone()
    }

    /// Drives the connection until `work` is done.
    #[track_caller]
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, work)
                .await
                .expect("it ends in time")
        })
    }
}

/// A body of these bytes.
pub(crate) fn full(bytes: &[u8]) -> Body {
    Full::new(Bytes::copy_from_slice(bytes))
        .map_err(|never| match never {})
        .boxed()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn handshake(io: impl Read + Write + Unpin + Send + 'static) -> SendRequest<Body> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io)
            .await
            .expect("the HTTP/2 handshake succeeds");
    tokio::spawn(connection);
    sender
}

async fn exchange(mut sender: SendRequest<Body>, request: http::Request<Body>) -> Response {
    sender.ready().await.expect("the connection is open");
    let response = sender.send_request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().map(Headers::from_map).unwrap_or_default();
    Response {
        status: head.status.as_u16(),
        headers: Headers::from_map(&head.headers),
        body: body.to_bytes().to_vec(),
        trailers,
        interim: Vec::new(),
    }
}
