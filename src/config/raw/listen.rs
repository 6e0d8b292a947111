//! `[[listen]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spanned;
use crate::config::units::{Size, Time};

/// Where clients connect.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawListen {
    /// Unique name. Default: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Spanned<String>>,
    /// Address and port, or `unix:/path`.
    pub(crate) address: Spanned<String>,
    /// What is spoken. `http2`: by ALPN under TLS, by prior knowledge (h2c) without.
    #[schemars(length(min = 1))]
    pub(crate) protocols: Spanned<Vec<RawProtocol>>,
    /// TLS towards clients; read again when its files change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Spanned<RawServerTls>>,
    /// Peers, as addresses or networks, whose forwarded headers, request id and trace context are believed.
    pub(crate) trusted_proxies: Vec<Spanned<String>>,
    /// Who may drop what is cached of a URL by the method `PURGE`, as addresses or networks; anybody else who
    /// tries is refused. Default: nobody, and `PURGE` is passed on like any other method.
    pub(crate) purge_from: Vec<Spanned<String>>,
    /// Whether every connection begins with a PROXY protocol header, version 1 or 2.
    pub(crate) proxy_protocol: bool,
    /// Bound on a request head, from its first byte to its end.
    pub(crate) header_timeout: Spanned<Time>,
    /// How long a connection may stay without a request.
    pub(crate) idle_timeout: Spanned<Time>,
    /// Bound on a request head: 8KiB to 16MiB.
    pub(crate) max_header_bytes: Spanned<Size>,
    /// Bound on the number of header fields: 1 to 10000.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) max_headers: Spanned<i64>,
    /// Bound on a request body. 0: no bound.
    pub(crate) max_body_bytes: Size,
    /// Streams one HTTP/2 connection may have open.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) max_concurrent_streams: Spanned<i64>,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            name: None,
            address: "127.0.0.1:8080".to_owned().into(),
            protocols: vec![RawProtocol::Http1, RawProtocol::Http2].into(),
            tls: None,
            trusted_proxies: Vec::new(),
            purge_from: Vec::new(),
            proxy_protocol: false,
            header_timeout: Time::secs(10).into(),
            idle_timeout: Time::secs(75).into(),
            max_header_bytes: Size(64 << 10).into(),
            max_headers: 100.into(),
            max_body_bytes: Size(0),
            max_concurrent_streams: 100.into(),
        }
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawServerTls {
    /// PEM file with the certificate chain, the server's own certificate first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<Spanned<String>>,
    /// PEM file with the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Spanned<String>>,
    /// PEM file with authorities: clients must show a certificate signed by one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<Spanned<String>>,
    /// Further certificates, picked by the name the client asks for (SNI).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Spanned<RawCertificate>>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "key"]))]
pub(crate) struct RawCertificate {
    /// PEM file with the certificate chain, the server's own certificate first.
    #[schemars(required)]
    pub(crate) certificate: Option<Spanned<String>>,
    /// PEM file with the private key.
    #[schemars(required)]
    pub(crate) key: Option<Spanned<String>>,
}
