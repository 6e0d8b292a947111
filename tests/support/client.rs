//! A small blocking HTTP/1.1 client that can also say what no client should.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::wait::{Deadline, PATIENCE};
use super::wire::{self, Headers};

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    /// The 1xx answers that came before it.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The first value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The problem details that every answer of Tidegate's own carries, checked for completeness.
    #[track_caller]
    pub(crate) fn problem(&self) -> serde_json::Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "status {}: {}",
            self.status,
            self.text()
        );
        let problem = self.json();
        for member in [
            "type",
            "title",
            "status",
            "detail",
            "request_id",
            "policy",
            "reason",
        ] {
            assert!(problem.get(member).is_some(), "no {member} in {problem}");
        }
        assert_eq!(problem["status"], self.status);
        let proxy_status = self.header("proxy-status").unwrap_or_default();
        assert!(
            proxy_status.starts_with("tidegate"),
            "Proxy-Status: {proxy_status}"
        );
        if matches!(self.status, 429 | 503) {
            let after = self.header("retry-after").unwrap_or_default();
            assert!(
                after.parse::<u32>().is_ok_and(|seconds| seconds >= 1),
                "Retry-After: {after}"
            );
        }
        problem
    }
}

/// What a stream to the proxy can do, over TCP, a Unix socket or TLS.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// One connection, kept alive over any number of requests.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
    tcp: Option<TcpStream>,
    host: String,
}

impl Client {
    /// Connects over TCP.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the peer accepts")
    }

    /// Connects over TCP, if anybody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let tcp = dial(address)?;
        let stream = tcp.try_clone()?;
        let host = address.to_string();
        Ok(Self::over(Box::new(stream), Some(tcp), &host))
    }

    /// Connects over TCP and TLS, asking for the certificate of `name`.
    #[track_caller]
    pub(crate) fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Self {
        let tcp = dial(address).expect("the peer accepts");
        let stream = tcp.try_clone().expect("a second handle");
        let server = name.to_owned().try_into().expect("a server name");
        let session = rustls::ClientConnection::new(config, server).expect("a TLS session");
        let stream = rustls::StreamOwned::new(session, stream);
        Self::over(Box::new(stream), Some(tcp), name)
    }

    /// Connects to a Unix socket.
    #[track_caller]
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the socket accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout is set");
        Self::over(Box::new(stream), None, "localhost")
    }

    fn over(stream: Box<dyn Stream>, tcp: Option<TcpStream>, host: &str) -> Self {
        Self {
            stream: BufReader::new(stream),
            tcp,
            host: host.to_owned(),
        }
    }

    /// Uses another `Host` in the requests that follow.
    #[must_use]
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Waits less than [`PATIENCE`] for each answer: for tests that collect many failures.
    #[must_use]
    pub(crate) fn patience(self, patience: Duration) -> Self {
        if let Some(tcp) = &self.tcp {
            tcp.set_read_timeout(Some(patience)).ok();
        }
        self
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// Sends a request and reads the answer. `Host` and `Content-Length` are added where missing.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let has = |wanted: &str| {
            headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let mut field = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if !has("host") {
            field("host", &self.host);
        }
        let framed = has("content-length") || has("transfer-encoding");
        if !framed && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
            field("content-length", &body.len().to_string());
        }
        for (name, value) in headers {
            field(name, value);
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        self.send(&message);
        self.response(method)
    }

    /// Sends a GET and reads the answer, if one comes.
    pub(crate) fn try_request(&mut self, path: &str) -> Option<Response> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.send(head.as_bytes());
        self.try_response("GET")
    }

    /// Sends bytes as they are. The peer may have closed already; reading tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        if stream.write_all(bytes).is_ok() {
            stream.flush().ok();
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) {
        if let Some(tcp) = &self.tcp {
            tcp.shutdown(Shutdown::Write).ok();
        }
    }

    /// Reads the answer to a request with `method`.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method)
            .expect("the proxy closed instead of answering")
    }

    /// Reads the answer to a request with `method`; `None` when the peer closes instead, or in its midst.
    #[track_caller]
    pub(crate) fn try_response(&mut self, method: &str) -> Option<Response> {
        let mut interim = Vec::new();
        loop {
            let head = match wire::read_head(&mut self.stream) {
                Ok(head) => head?,
                Err(error) if is_close(&error) => return None,
                Err(error) => panic!("no answer to {method}: {error}"),
            };
            assert!(head.word(0).starts_with("HTTP/1."), "{}", head.line);
            let status: u16 = head.word(1).parse().expect("a status");
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = if bodiless {
                wire::Body::default()
            } else {
                match wire::read_body(&mut self.stream, &head.headers, true) {
                    Ok(body) => body,
                    Err(error) if is_close(&error) => return None,
                    Err(error) => panic!("no whole body: {error}"),
                }
            };
            return Some(Response {
                status,
                headers: head.headers,
                body: body.bytes,
                trailers: body.trailers,
                interim,
            });
        }
    }

    /// Whether the peer closes without sending anything more, within [`PATIENCE`].
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        self.rest().is_some_and(|bytes| bytes.is_empty())
    }

    /// Everything up to the close by the peer; `None` when it does not close within [`PATIENCE`].
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        let deadline = Deadline::after(PATIENCE);
        let mut bytes = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(bytes),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_close(&error) => return Some(bytes),
                Err(_) => return None,
            }
            if deadline.remaining().is_zero() {
                return None;
            }
        }
    }
}

/// Sends `bytes` on a connection of their own and returns all that comes back until the peer closes;
/// panics when it does not close.
#[track_caller]
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(address);
    client.send(bytes);
    client.rest().expect("the peer closes the connection")
}

/// One GET on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    Client::connect(address).get(path)
}

fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// A peer that closes while bytes are under way to it resets the connection.
fn is_close(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::UnexpectedEof
    )
}
