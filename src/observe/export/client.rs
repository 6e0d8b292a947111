//! A small HTTP client for exporters: one server, one connection, kept as long as it lasts.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bound on one request, from connecting to the end of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on an answer's body.
const MAX_ANSWER: usize = 64 << 10;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// gRPC's status, from the trailers, or the headers when there is nothing else.
    pub(super) fn grpc_status(&self) -> Option<u32> {
        let trailers = self
            .trailers
            .as_ref()
            .and_then(|all| all.get("grpc-status"));
        let status = trailers.or_else(|| self.headers.get("grpc-status"))?;
        status.to_str().ok()?.parse().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("{0}")]
    Tls(String),
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer breaks off or is too long")]
    Answer,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One server.
pub(super) struct Client {
    uri: Uri,
    tls: Option<Result<Arc<ClientConfig>, String>>,
    http2: bool,
    headers: HeaderMap,
    sender: Option<Sender>,
}

impl Client {
    /// A client of the server at `uri`, over HTTP/2 or else 1.1. Reads the certificates it is checked with.
    pub(super) fn new(uri: &Uri, ca: Option<&Path>, http2: bool) -> Self {
        let secure = uri.scheme_str() == Some("https");
        let mut headers = HeaderMap::new();
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Self {
            uri: uri.clone(),
            tls: secure.then(|| client_config(ca, http2).map_err(|error| error.to_string())),
            http2,
            headers,
            sender: None,
        }
    }

    /// Every request carries `name`. What no header can carry was refused with the plan.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends `body` of the media type `kind`, compressed as `coding` says, to the server's own path.
    pub(super) async fn post(
        &mut self,
        kind: &'static str,
        coding: Option<(HeaderName, &'static str)>,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let uri = self.uri.clone();
        self.post_to(&uri, kind, coding, body).await
    }

    /// The same, to another path of the server.
    pub(super) async fn post_to(
        &mut self,
        uri: &Uri,
        kind: &'static str,
        coding: Option<(HeaderName, &'static str)>,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some((name, value)) = coding {
            headers.insert(name, HeaderValue::from_static(value));
        }
        self.send(uri, request).await
    }

    /// Sends a JSON object with these headers to the server's own path.
    pub(super) async fn post_json(
        &mut self,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let uri = self.uri.clone();
        self.send(&uri, request).await
    }

    async fn send(
        &mut self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, Broken> {
        request.headers_mut().extend(self.headers.clone());
        if self.http2 {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = uri.clone();
        } else {
            let authority = uri.authority().map(|host| host.as_str());
            let host = HeaderValue::from_str(authority.unwrap_or_default());
            request
                .headers_mut()
                .insert(HOST, host.map_err(http::Error::from)?);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = path.parse().map_err(http::Error::from)?;
        }
        let answered = tokio::time::timeout(TIMEOUT, Box::pin(self.exchange(request)));
        let answered = answered.await.unwrap_or(Err(Broken::Timeout));
        if answered.is_err() {
            self.sender = None;
        }
        answered
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let response = match &mut sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_broken| Broken::Answer)?;
        let trailers = body.trailers().cloned();
        self.sender = Some(sender);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            trailers,
            body: body.to_bytes(),
        })
    }

    async fn connect(&self) -> Result<Sender, Broken> {
        let host = self.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(usual);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(Broken::Connect)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let config = config.clone().map_err(Broken::Tls)?;
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|error| Broken::Tls(error.to_string()))?;
                let secured = TlsConnector::from(config).connect(name, stream).await;
                Box::new(secured.map_err(|error| Broken::Tls(error.to_string()))?)
            }
        };
        let io = TokioIo::new(stream);
        if self.http2 {
            let (sender, conn) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::task::spawn_local(conn);
            Ok(Sender::H2(sender))
        } else {
            let (sender, conn) = http1::handshake(io).await?;
            tokio::task::spawn_local(conn);
            Ok(Sender::H1(sender))
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }
}

/// TLS towards whoever the system trusts.
pub(crate) fn system_tls() -> io::Result<Arc<ClientConfig>> {
    client_config(None, false)
}

fn client_config(ca: Option<&Path>, http2: bool) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for one in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
                roots
                    .add(one.map_err(io::Error::other)?)
                    .map_err(io::Error::other)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    Ok(Arc::new(config))
}

/// `bytes` in gzip. Writing to memory does not fail.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let written = encoder.write_all(bytes);
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}

/// What says that a body is in gzip.
pub(super) const GZIP: Option<(HeaderName, &str)> = Some((CONTENT_ENCODING, "gzip"));
