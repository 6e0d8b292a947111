//! Fetches one answer, bounded in size and time, with no connection kept: for what is asked for now and then.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock::SystemClock;
use crate::proxy;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFetched {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Tls(#[from] proxy::live::TlsError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("this is no URL to fetch from")]
    Url,
    #[error("it did not answer within {0:?}")]
    Late(Duration),
}

/// The body of `url`'s answer, of at most `most` bytes, within `patience`.
///
/// # Errors
/// When it cannot be reached, or does not answer 200.
pub(super) async fn get(
    url: &str,
    accept: &str,
    most: usize,
    patience: Duration,
) -> Result<Bytes, NotFetched> {
    let until = SystemClock.to_std(SystemClock.now().after(patience));
    let fetched = connect(url, accept, most);
    let fetched = tokio::time::timeout_at(tokio::time::Instant::from_std(until), fetched).await;
    fetched.unwrap_or(Err(NotFetched::Late(patience)))
}

async fn connect(url: &str, accept: &str, most: usize) -> Result<Bytes, NotFetched> {
    let uri: Uri = url.parse().map_err(|_invalid| NotFetched::Url)?;
    let host = uri.host().ok_or(NotFetched::Url)?;
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((bare, port)).await?;
    if !is_tls {
        return ask(socket, &uri, accept, most).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_invalid| NotFetched::Url)?;
    let connector = TlsConnector::from(proxy::system_tls()?);
    ask(connector.connect(name, socket).await?, &uri, accept, most).await
}

async fn ask<S>(stream: S, uri: &Uri, accept: &str, most: usize) -> Result<Bytes, NotFetched>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(http::header::HOST, authority)
        .header(http::header::ACCEPT, accept)
        .body(Empty::<Bytes>::new())
        .map_err(|_invalid| NotFetched::Url)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(NotFetched::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), most).collect().await;
    connection.abort();
    Ok(body.map_err(NotFetched::Body)?.to_bytes())
}
