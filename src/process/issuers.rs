//! Fetches the keys of those who issue tokens, again and again. What was fetched last stays while an issuer
//! cannot be reached.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsConnector;

use crate::clients::Issuer;
use crate::clock::{Instant, SystemClock};
use crate::proxy;
use crate::proxy::worker::Shared;

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);
/// Bound on one fetch.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a fetch that failed, or that a token asked for.
const PAUSE: Duration = Duration::from_secs(5);
/// The least time between two fetches because of a token that names an unknown key.
const LEAST: Duration = Duration::from_secs(30);
/// The largest answer.
const MOST_BYTES: usize = 1 << 20;

/// Why an issuer's keys were not fetched.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
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
    #[error("{0}")]
    Keys(#[from] crate::clients::NoKeySet),
    #[error("this is no URL to fetch from")]
    Url,
    #[error("it did not answer within {PATIENCE:?}")]
    Late,
}

/// When an issuer was asked, and when it will be.
#[derive(Clone, Copy)]
struct Times {
    asked: Instant,
    due: Instant,
}

/// Keeps the keys of the issuers in the running plan fresh until the runtime ends.
pub(super) async fn fetch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times: HashMap<Arc<str>, Times> = HashMap::new();
    loop {
        ticks.tick().await;
        let live = shared.live.load_full();
        let mut kept = HashMap::new();
        for (url, refresh, issuer) in live.clients.issuers() {
            let now = SystemClock.now();
            let known = times.get(url).copied();
            let wanted = issuer.is_wanted();
            let is_due = known.is_none_or(|times| {
                now >= times.due || (wanted && now >= times.asked.after(LEAST))
            });
            let mut next = known.unwrap_or(Times {
                asked: now,
                due: now,
            });
            if is_due {
                let fetched = renew(url, issuer).await;
                next = Times {
                    asked: now,
                    due: now.after(if fetched { refresh } else { PAUSE.min(refresh) }),
                };
            }
            kept.insert(Arc::clone(url), next);
        }
        times = kept;
    }
}

/// Fetches once; whether that succeeded.
async fn renew(url: &str, issuer: &Issuer) -> bool {
    let until = SystemClock.to_std(SystemClock.now().after(PATIENCE));
    let fetched = tokio::time::timeout_at(tokio::time::Instant::from_std(until), get(url)).await;
    let fetched = fetched.unwrap_or(Err(NotFetched::Late));
    match fetched.and_then(|text| Ok(issuer.replace(&text)?)) {
        Ok(()) => true,
        Err(error) => {
            issuer.failed();
            tracing::warn!(url, %error, "keys of an issuer of tokens were not fetched; what was known stays");
            false
        }
    }
}

async fn get(url: &str) -> Result<Bytes, NotFetched> {
    let uri: Uri = url.parse().map_err(|_invalid| NotFetched::Url)?;
    let host = uri.host().ok_or(NotFetched::Url)?;
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((bare, port)).await?;
    if !is_tls {
        return ask(socket, &uri).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_invalid| NotFetched::Url)?;
    let connector = TlsConnector::from(proxy::system_tls()?);
    ask(connector.connect(name, socket).await?, &uri).await
}

async fn ask<S>(stream: S, uri: &Uri) -> Result<Bytes, NotFetched>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(http::header::HOST, authority)
        .header(
            http::header::ACCEPT,
            "application/jwk-set+json, application/json",
        )
        .body(Empty::<Bytes>::new())
        .map_err(|_invalid| NotFetched::Url)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(NotFetched::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MOST_BYTES)
        .collect()
        .await;
    connection.abort();
    Ok(body.map_err(NotFetched::Body)?.to_bytes())
}
