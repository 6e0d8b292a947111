//! A client of the admin API: one request over hyper's client connection, bounded in time and size.
//!
//! The runtime is made for the one request and ends with it, for a command asks once. No pool, no redirects
//! and no TLS: the API has none; a remote one is reached through a tunnel or a proxy of the operator's.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::uri::Authority;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// For the whole of a request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on an answer: a thousand upstreams of a hundred endpoints.
const MAX_BODY: usize = 32 << 20;
/// The port of a URL that names none.
const DEFAULT_PORT: u16 = 80;

/// Where an admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    /// At a host and port.
    Tcp(Authority),
    /// At a unix socket.
    Unix(PathBuf),
}

impl FromStr for Admin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected http://HOST:PORT or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(EXPECTED)
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let uri: Uri = text.parse().map_err(|_invalid| EXPECTED)?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("https"), _) => Err("the admin API speaks http, not https"),
            (Some("http") | None, Some(authority)) => {
                let is_bare = uri.path().len() <= 1 && uri.query().is_none();
                // No user, and a port that is a number if there is one.
                let host = authority.host();
                let is_place = authority.as_str() == host || authority.port_u16().is_some();
                let is_place = is_place && authority.as_str().starts_with(host);
                if is_bare && is_place && !host.is_empty() {
                    Ok(Self::Tcp(authority.clone()))
                } else {
                    Err(EXPECTED)
                }
            }
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("nothing answers at {0}: is tidegate running? pass --admin URL ({1})")]
    Unreachable(Admin, io::Error),
    #[error("{admin} did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut { admin: Admin },
    #[error("{0} broke off: {1}; is it the admin address?")]
    Broken(Admin, hyper::Error),
    #[error("{admin} answers with more than {} MiB", MAX_BODY >> 20)]
    TooLarge { admin: Admin },
    #[error("{admin} answers {status}: {detail}{}", hint(*.status))]
    Refused {
        admin: Admin,
        status: StatusCode,
        detail: String,
    },
    #[error("what {admin} answers to {path} is not what tidegate {} would: {source}; is it the admin address, of the same version?", env!("CARGO_PKG_VERSION"))]
    Unexpected {
        admin: Admin,
        path: String,
        source: serde_json::Error,
    },
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        " Set TIDEGATE_TOKEN to it."
    } else {
        ""
    }
}

/// What is asked of a path.
#[derive(Clone, Debug)]
enum Ask {
    Get,
    Post(Bytes),
    Delete,
}

/// Asks one admin API.
#[derive(Debug)]
pub(super) struct Client {
    admin: Admin,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Asks `admin`, with `authorization` if there is one.
    pub(super) const fn new(admin: Admin, authorization: Option<HeaderValue>) -> Self {
        Self {
            admin,
            authorization,
        }
    }

    /// The JSON at `path`: the bytes as they came, once they have proved to be a `T`.
    pub(super) fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<(T, Bytes), Error> {
        self.call(path, Ask::Get)
    }

    /// Asks for a change at `path`, as `change` says in JSON; the answer, like that of [`Self::get`].
    pub(super) fn post<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        change: Vec<u8>,
    ) -> Result<(T, Bytes), Error> {
        self.call(path, Ask::Post(change.into()))
    }

    /// Asks for what is at `path` to be gone; the answer, like that of [`Self::get`].
    pub(super) fn delete<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
    ) -> Result<(T, Bytes), Error> {
        self.call(path, Ask::Delete)
    }

    fn call<T: for<'a> Deserialize<'a>>(&self, path: &str, what: Ask) -> Result<(T, Bytes), Error> {
        let body = self.bytes_of(path, what)?;
        let value = serde_json::from_slice(&body).map_err(|source| Error::Unexpected {
            admin: self.admin.clone(),
            path: path.to_owned(),
            source,
        })?;
        Ok((value, body))
    }

    /// What is at `path`, whatever it is.
    pub(super) fn bytes(&self, path: &str) -> Result<Bytes, Error> {
        self.bytes_of(path, Ask::Get)
    }

    fn bytes_of(&self, path: &str, what: Ask) -> Result<Bytes, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (status, body) = runtime.block_on(self.ask_in_time(path, what))?;
        if !status.is_success() {
            return Err(Error::Refused {
                admin: self.admin.clone(),
                status,
                detail: detail(&body),
            });
        }
        Ok(body)
    }

    async fn ask_in_time(&self, path: &str, what: Ask) -> Result<(StatusCode, Bytes), Error> {
        let asked = tokio::time::timeout(TIMEOUT, self.ask(path, what)).await;
        asked.unwrap_or_else(|_elapsed| {
            Err(Error::TimedOut {
                admin: self.admin.clone(),
            })
        })
    }

    async fn ask(&self, path: &str, what: Ask) -> Result<(StatusCode, Bytes), Error> {
        let unreachable = |error| Error::Unreachable(self.admin.clone(), error);
        match &self.admin {
            Admin::Tcp(authority) => {
                // A URL has brackets around an IPv6 address, a resolver does not.
                let host = authority.host().trim_matches(['[', ']']);
                let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
                let stream = TcpStream::connect((host, port)).await;
                let stream = stream.map_err(unreachable)?;
                self.exchange(stream, authority.as_str(), path, what).await
            }
            Admin::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                self.exchange(stream, "localhost", path, what).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        host: &str,
        path: &str,
        what: Ask,
    ) -> Result<(StatusCode, Bytes), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error| Error::Broken(self.admin.clone(), error);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        // Its failure is the request's, and ends with the runtime.
        tokio::spawn(connection);
        let (mut request, body) = match what {
            Ask::Get => (Request::get(path), Bytes::new()),
            Ask::Delete => (Request::delete(path), Bytes::new()),
            Ask::Post(body) => (
                Request::post(path).header(CONTENT_TYPE, "application/json"),
                body,
            ),
        };
        request = request.header(HOST, host);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        Ok((status, self.collect(response.into_body()).await?))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Error> {
        let collected = Limited::new(body, MAX_BODY).collect().await;
        let collected = collected.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => Error::Broken(self.admin.clone(), *error),
            Err(other) if other.is::<LengthLimitError>() => Error::TooLarge {
                admin: self.admin.clone(),
            },
            Err(other) => Error::Io(io::Error::other(other)),
        })?;
        Ok(collected.to_bytes())
    }
}

/// What a refusal says: the `detail` of problem details (RFC 9457), or its first line.
fn detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        return problem.detail;
    }
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_is_a_url_an_address_or_a_socket() {
        for (text, shown) in [
            ("http://127.0.0.1:9900", "http://127.0.0.1:9900"),
            ("http://gate.internal/", "http://gate.internal"),
            ("http://[::1]:9900", "http://[::1]:9900"),
            ("localhost:9900", "http://localhost:9900"),
            ("unix:/run/tidegate.sock", "unix:/run/tidegate.sock"),
        ] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_admin_is_refused() {
        for text in [
            "",
            "/path",
            "unix:",
            "https://127.0.0.1:9900",
            "http://127.0.0.1:9900/api",
            "http://127.0.0.1:9900/?a",
            "ftp://127.0.0.1",
            "http://a b",
            "http://:9900",
            "127.0.0.1:port",
            "http://user@127.0.0.1:9900",
        ] {
            assert!(text.parse::<Admin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_gives_its_detail_or_its_first_line() {
        assert_eq!(detail(br#"{"title":"x","detail":"why"}"#), "why");
        assert_eq!(detail(b"no\nmore"), "no");
        assert_eq!(detail(b""), "");
    }

    #[tokio::test(start_paused = true)]
    async fn an_admin_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = Admin::from_str(&silent.local_addr().unwrap().to_string()).unwrap();
        let asked = Client::new(admin, None).ask_in_time("/", Ask::Get).await;
        assert!(matches!(asked, Err(Error::TimedOut { .. })), "{asked:?}");
    }
}
