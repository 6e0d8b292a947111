//! Makes connections to endpoints: resolve, connect, TLS, within one bound of time.
//!
//! Depends on the plan, tokio and rustls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::stream::{Socket, Stream};
use super::tls::{self, TlsError};
use crate::clock::{Instant, SystemClock};
use crate::config::plan::{EndpointAddress, Protocol, Upstream};

/// How connections to one upstream are made. A changed plan makes a new one, and with it a new pool.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) protocol: Protocol,
    pub(crate) idle_timeout: Duration,
    connect_timeout: Duration,
    tls: Option<(Arc<ClientConfig>, Option<Arc<str>>)>,
}

/// Why no connection came about. RFC 9209 section 2.3 names the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectError {
    Dns,
    Refused,
    Unreachable,
    TimedOut,
    Tls,
}

impl ConnectError {
    /// The error type of `Proxy-Status`.
    pub(crate) const fn proxy_status(self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::Refused => "connection_refused",
            Self::Unreachable => "destination_ip_unroutable",
            Self::TimedOut => "connection_timeout",
            Self::Tls => "tls_protocol_error",
        }
    }

    /// What happened, in words.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Dns => "the endpoint's name could not be resolved",
            Self::Refused => "the endpoint refused the connection",
            Self::Unreachable => "the endpoint could not be reached",
            Self::TimedOut => "the endpoint did not accept a connection in time",
            Self::Tls => "TLS with the endpoint failed",
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}

impl Connector {
    pub(crate) fn new(upstream: &Upstream) -> Result<Self, TlsError> {
        let tls = match &upstream.tls {
            Some(tls) => Some((
                tls::client_config(tls, upstream.protocol)?,
                tls.server_name.clone(),
            )),
            None => None,
        };
        Ok(Self {
            protocol: upstream.protocol,
            idle_timeout: upstream.idle_timeout,
            connect_timeout: upstream.connect_timeout,
            tls,
        })
    }

    /// Whether connections are under TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects to `address`, by `deadline` and within the connect timeout.
    pub(crate) async fn connect(
        &self,
        address: &EndpointAddress,
        now: Instant,
        deadline: Instant,
    ) -> Result<Stream, ConnectError> {
        let until = now.after(self.connect_timeout).min(deadline);
        let until = tokio::time::Instant::from_std(SystemClock.to_std(until));
        tokio::time::timeout_at(until, self.establish(address))
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    async fn establish(&self, address: &EndpointAddress) -> Result<Stream, ConnectError> {
        let socket = match address {
            EndpointAddress::Socket(address) => Socket::Tcp(TcpStream::connect(address).await?),
            EndpointAddress::Host(host, port) => Socket::Tcp(connect_host(host, *port).await?),
            EndpointAddress::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        if let Socket::Tcp(stream) = &socket {
            stream.set_nodelay(true)?;
        }
        let Some((config, name)) = &self.tls else {
            return Ok(Stream::Plain(socket));
        };
        let name = server_name(name.as_deref(), address).map_err(|_invalid| ConnectError::Tls)?;
        match TlsConnector::from(Arc::clone(config))
            .connect(name, socket)
            .await
        {
            Ok(stream) => Ok(Stream::ClientTls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%address, %error, "TLS with an endpoint failed");
                Err(ConnectError::Tls)
            }
        }
    }
}

/// The name an endpoint's certificate must be for.
pub(super) fn server_name(
    name: Option<&str>,
    address: &EndpointAddress,
) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match (name, address) {
        (Some(name), _) => ServerName::try_from(name.to_owned()),
        (None, EndpointAddress::Host(host, _)) => ServerName::try_from(host.to_string()),
        (None, EndpointAddress::Socket(address)) => Ok(ServerName::from(address.ip())),
        (None, EndpointAddress::Unix(_)) => ServerName::try_from("localhost".to_owned()),
    }
}

async fn connect_host(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_unresolved| ConnectError::Dns)?;
    let mut last = ConnectError::Dns;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
