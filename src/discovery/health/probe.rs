//! One health check: HTTP, gRPC or merely a connection, over TCP or a unix socket, with or without TLS.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Tls;
use crate::config::plan::{self, EndpointAddress, Probe, Protocol};

/// Bound on a gRPC answer; a real one has two bytes.
const MAX_ANSWER: usize = 4_096;

/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Why an endpoint did not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unhealthy {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("there are no TLS settings for it")]
    NoTls,
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the check cannot be written as a request: {0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("answered gRPC status {0}")]
    GrpcStatus(String),
    #[error("answered serving status {0}, not SERVING")]
    NotServing(u64),
    #[error("the answer is not a gRPC health response: {0}")]
    Malformed(&'static str),
}

/// Checks the endpoint once. `tls` is the outer `None` for an upstream without TLS.
pub(super) async fn probe(
    address: &EndpointAddress,
    upstream: &plan::Upstream,
    health: &plan::Health,
    tls: Option<Option<Tls>>,
) -> Result<String, Unhealthy> {
    let check = check(address, upstream, health, tls);
    // Boxed: a check's state is large, and there is a task per endpoint that is idle nearly always.
    match tokio::time::timeout(health.timeout, Box::pin(check)).await {
        Ok(found) => found,
        Err(_elapsed) => Err(Unhealthy::Timeout(health.timeout)),
    }
}

async fn check(
    address: &EndpointAddress,
    upstream: &plan::Upstream,
    health: &plan::Health,
    tls: Option<Option<Tls>>,
) -> Result<String, Unhealthy> {
    let tls = tls.map(|tls| tls.ok_or(Unhealthy::NoTls)).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let stream = connect(address).await.map_err(Unhealthy::Connect)?;
    let http2 = match health.probe {
        Probe::Http { .. } => upstream.protocol == Protocol::Http2,
        Probe::Grpc { .. } => true,
        Probe::Tcp => return Ok("connected".to_owned()),
    };
    let stream = match tls {
        Some(tls) => secure(stream, tls, http2).await?,
        None => stream,
    };
    let authority = authority(address);
    match &health.probe {
        Probe::Tcp => Ok("connected".to_owned()),
        Probe::Http { path, host } => {
            let host = host.as_deref().unwrap_or(&authority);
            let status = get(stream, http2, scheme, host, path).await?;
            if (200..400).contains(&status.as_u16()) {
                Ok(format!("answered {status}"))
            } else {
                Err(Unhealthy::Status(status))
            }
        }
        Probe::Grpc { service } => {
            grpc(stream, scheme, &authority, service).await?;
            Ok("serving".to_owned())
        }
    }
}

/// What a probe is spoken over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type BoxedStream = Box<dyn Stream>;

async fn connect(address: &EndpointAddress) -> io::Result<BoxedStream> {
    let stream = match address {
        EndpointAddress::Socket(address) => TcpStream::connect(address).await?,
        EndpointAddress::Host(host, port) => TcpStream::connect((host.as_ref(), *port)).await?,
        EndpointAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
    };
    // Small messages in turns: Nagle's wait for an ACK would be counted as the endpoint's.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

async fn secure(stream: BoxedStream, tls: Tls, http2: bool) -> Result<BoxedStream, Unhealthy> {
    let mut config = Arc::unwrap_or_clone(tls.config);
    let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let secured = connector.connect(tls.server_name, stream).await;
    Ok(Box::new(secured.map_err(Unhealthy::Tls)?))
}

/// What the endpoint is called in a Host header.
fn authority(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(_) | EndpointAddress::Host(..) => address.to_string(),
        EndpointAddress::Unix(_) => "localhost".to_owned(),
    }
}

/// `GET path`; the status of the answer.
async fn get(
    stream: BoxedStream,
    http2: bool,
    scheme: &str,
    host: &str,
    path: &str,
) -> Result<StatusCode, Unhealthy> {
    let request = Request::get(if http2 {
        format!("{scheme}://{host}{path}")
    } else {
        path.to_owned()
    });
    let request = request.header(http::header::USER_AGENT, "tidegate-health");
    if http2 {
        let request = request.body(Full::default())?;
        let status = |response: Response<Incoming>| std::future::ready(Ok(response.status()));
        return exchange_http2(stream, request, status).await;
    }
    let request = request
        .header(http::header::HOST, host)
        .header(http::header::CONNECTION, "close")
        .body(Full::<Bytes>::default())?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move { Ok(sender.send_request(request).await?.status()) };
    drive(answer, connection).await
}

/// Sends `request` on a connection of its own and reads the answer with `read`.
async fn exchange_http2<T, F>(
    stream: BoxedStream,
    request: Request<Full<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, Unhealthy>
where
    F: Future<Output = Result<T, Unhealthy>>,
{
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        read(response).await
    };
    drive(answer, connection).await
}

/// Runs `answer` while `connection` moves its bytes. A connection that ends first has either delivered the
/// answer or made it fail.
async fn drive<T>(
    answer: impl Future<Output = Result<T, Unhealthy>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<T, Unhealthy> {
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        found = &mut answer => found,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

/// `grpc.health.v1.Health/Check` for `service`.
async fn grpc(
    stream: BoxedStream,
    scheme: &str,
    authority: &str,
    service: &str,
) -> Result<(), Unhealthy> {
    let request = Request::post(format!(
        "{scheme}://{authority}/grpc.health.v1.Health/Check"
    ))
    .header(http::header::CONTENT_TYPE, "application/grpc")
    .header(http::header::TE, "trailers")
    .header(http::header::USER_AGENT, "tidegate-health")
    .body(Full::new(Bytes::from(encode_request(service))))?;
    exchange_http2(stream, request, read_serving).await
}

async fn read_serving(response: Response<Incoming>) -> Result<(), Unhealthy> {
    if response.status() != StatusCode::OK {
        return Err(Unhealthy::Status(response.status()));
    }
    let (head, body) = response.into_parts();
    // An error without a message comes with its status in the head.
    grpc_status(&head.headers)?;
    let answer = collect(body).await?;
    if let Some(trailers) = &answer.1 {
        grpc_status(trailers)?;
    }
    match decode_response(&answer.0)? {
        SERVING => Ok(()),
        other => Err(Unhealthy::NotServing(other)),
    }
}

async fn collect<B>(body: B) -> Result<(Bytes, Option<HeaderMap>), Unhealthy>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Limited::new(body, MAX_ANSWER).collect().await;
    let Ok(collected) = collected else {
        return Err(Unhealthy::Malformed("its body broke off or is too long"));
    };
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

fn grpc_status(headers: &HeaderMap) -> Result<(), Unhealthy> {
    match headers.get("grpc-status") {
        None => Ok(()),
        Some(status) if status == "0" => Ok(()),
        Some(status) => Err(Unhealthy::GrpcStatus(
            String::from_utf8_lossy(status.as_bytes()).into_owned(),
        )),
    }
}

/// A length-prefixed `HealthCheckRequest`: field 1, the service's name.
fn encode_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            let [low, ..] = length.to_le_bytes();
            message.push(low | 0x80);
            length >>= 7;
        }
        let [low, ..] = length.to_le_bytes();
        message.push(low);
        message.extend(service.bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

/// The serving status in a length-prefixed `HealthCheckResponse`: field 1, 0 when it is left out. Fields that
/// are not known are skipped.
fn decode_response(frame: &[u8]) -> Result<u64, Unhealthy> {
    let [compressed, length @ ..] = frame else {
        return Err(Unhealthy::Malformed("it is empty"));
    };
    let Some((length, message)) = length.split_first_chunk::<4>() else {
        return Err(Unhealthy::Malformed("its prefix is cut short"));
    };
    if *compressed != 0 {
        return Err(Unhealthy::Malformed("it is compressed"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    let mut message = message
        .get(..length)
        .ok_or(Unhealthy::Malformed("it is cut short"))?;
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, kind) => skip(&mut message, kind)?,
        }
    }
    Ok(status)
}

/// Skips a field that is not a number.
fn skip(message: &mut &[u8], kind: u64) -> Result<(), Unhealthy> {
    let length = match kind {
        1 => 8,
        2 => usize::try_from(varint(message)?).unwrap_or(usize::MAX),
        5 => 4,
        _ => return Err(Unhealthy::Malformed("it has a field of unknown kind")),
    };
    let (_, rest) = message
        .split_at_checked(length)
        .ok_or(Unhealthy::Malformed("it is cut short"))?;
    *message = rest;
    Ok(())
}

fn varint(message: &mut &[u8]) -> Result<u64, Unhealthy> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = message.split_first() else {
            return Err(Unhealthy::Malformed("it is cut short"));
        };
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unhealthy::Malformed("it has a number that does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_service() {
        assert_eq!(encode_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode_request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode_request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn a_response_tells_its_serving_status() {
        assert_eq!(decode_response(&[0, 0, 0, 0, 2, 8, 1]).unwrap(), SERVING);
        assert_eq!(decode_response(&[0, 0, 0, 0, 0]).unwrap(), 0);
        let with_unknown_fields = [0, 0, 0, 0, 8, 0x10, 5, 0x1a, 2, 9, 9, 8, 2];
        assert_eq!(decode_response(&with_unknown_fields).unwrap(), 2);
    }

    #[test]
    fn a_response_that_is_cut_short_or_odd_is_refused() {
        let whole = [0, 0, 0, 0, 2, 8, 1];
        for length in 0..whole.len() {
            assert!(decode_response(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(decode_response(&[1, 0, 0, 0, 0]).is_err());
        assert!(decode_response(&[0, 0, 0, 0, 1, 0x0b]).is_err());
        let endless = [[0, 0, 0, 0, 12, 8].as_slice(), &[0xff; 11]].concat();
        assert!(decode_response(&endless).is_err());
    }
}
