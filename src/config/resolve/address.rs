//! Addresses, hosts, paths and headers: text that becomes a checked value, without a place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::config::plan::{Bind, EndpointAddress, HostMatch};

/// What is wrong with a text, for people.
type Wrong = String;

/// How an endpoint's address was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `host:port` or `unix:/path`: TLS as the upstream says.
    None,
    /// `http://`: no TLS.
    Http,
    /// `https://`: TLS.
    Https,
}

/// `ip:port`, `localhost:port` or `unix:/path`, to listen on.
pub(super) fn bind(text: &str) -> Result<Bind, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Bind::Unix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Bind::Tcp(address));
    }
    if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse::<u16>) {
        return Ok(Bind::Tcp((Ipv4Addr::LOCALHOST, port).into()));
    }
    Err(format!(
        "`{}` is not an address to listen on; write an IP address and a port, such as \"0.0.0.0:8080\", or \"unix:/path\"",
        text.escape_debug()
    ))
}

/// Whether only this machine can connect to it.
pub(super) fn is_private(bind: &Bind) -> bool {
    match bind {
        Bind::Tcp(address) => address.ip().to_canonical().is_loopback(),
        Bind::Unix(_) => true,
    }
}

/// `host:port`, `http://host[:port]`, `https://host[:port]` or `unix:/path`, to connect to.
pub(super) fn endpoint(text: &str) -> Result<(Scheme, EndpointAddress), Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok((Scheme::None, EndpointAddress::Unix(unix_path(path)?)));
    }
    let (scheme, rest, default_port) = if let Some(rest) = text.strip_prefix("https://") {
        (Scheme::Https, rest, Some(443))
    } else if let Some(rest) = text.strip_prefix("http://") {
        (Scheme::Http, rest, Some(80))
    } else {
        (Scheme::None, text, None)
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if scheme != Scheme::None && authority.contains(['/', '?', '#']) {
        return Err(format!(
            "`{}` has a path; an endpoint is a host and a port, and paths are changed by a route's `rewrite`",
            text.escape_debug()
        ));
    }
    let wrong = || {
        format!(
            "`{}` is not an endpoint; write \"host:port\", \"http://host:port\", \"https://host\" or \"unix:/path\"",
            text.escape_debug()
        )
    };
    let authority = if scheme == Scheme::None {
        rest
    } else {
        authority
    };
    let address = host_port(authority, default_port).ok_or_else(wrong)?;
    Ok((scheme, address))
}

fn host_port(text: &str, default_port: Option<u16>) -> Option<EndpointAddress> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(EndpointAddress::Socket(address));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let (Ok(ip), Some(port)) = (bare.parse::<IpAddr>(), default_port) {
        return Some(EndpointAddress::Socket((ip, port).into()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default_port?),
    };
    (port != 0 && is_host(host))
        .then(|| EndpointAddress::Host(host.to_ascii_lowercase().into(), port))
}

/// `name:port`, or `name` alone for SRV.
pub(super) fn dns(text: &str) -> Result<(Arc<str>, Option<u16>), Wrong> {
    let wrong = || {
        format!(
            "`{}` is not a name to look up; write \"name:port\", or \"name\" alone for SRV records",
            text.escape_debug()
        )
    };
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().ok_or_else(wrong)?)),
        None => (text, None),
    };
    if !is_host(name) || port == Some(0) || name.parse::<IpAddr>().is_ok() {
        return Err(wrong());
    }
    Ok((name.to_ascii_lowercase().into(), port))
}

/// Whether `host` could be a DNS name: what resolvers take, which is more than the RFC's letters and digits.
pub(super) fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(is_label)
}

/// The `host` of a match.
pub(super) fn host_match(text: &str) -> Result<HostMatch, Wrong> {
    let shown = text.escape_debug();
    if text == "*" {
        return Err("`*` is every host; leave `host` out for that".to_owned());
    }
    if text.contains("://") {
        return Err(format!("`{shown}` has a scheme; write the host alone"));
    }
    if let Some(below) = text.strip_prefix("*.") {
        if is_host(below) {
            return Ok(HostMatch::Below(canonical_host(below)));
        }
    } else if is_host(text) || is_bracketed(text) {
        return Ok(HostMatch::Exact(canonical_host(text)));
    }
    if text.contains('*') {
        return Err(format!(
            "`{shown}` has its `*` in the wrong place; only \"*.example.com\" is understood"
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && is_host(host)
    {
        return Err(format!("`{shown}` has a port; write the host alone"));
    }
    Err(format!("`{shown}` is not a host"))
}

fn is_bracketed(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn canonical_host(host: &str) -> Arc<str> {
    host.strip_suffix('.')
        .unwrap_or(host)
        .to_ascii_lowercase()
        .into()
}

/// An absolute path, with a query only where `query` allows one.
pub(super) fn path(text: &str, query: bool) -> Result<&str, Wrong> {
    let shown = text.escape_debug();
    if !text.starts_with('/') {
        return Err(format!("`{shown}` is not a path; it must begin with `/`"));
    }
    match text.parse::<PathAndQuery>() {
        Ok(parsed) if query && parsed.as_str() == text => Ok(text),
        Ok(parsed) if parsed.path() == text => Ok(text),
        _ => Err(format!(
            "`{shown}` is not a path; it has characters that a path cannot hold"
        )),
    }
}

/// An address or a network.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(network.trunc());
    }
    text.parse::<IpAddr>().map(IpNet::from).ok().ok_or_else(|| {
        format!(
            "`{}` is neither an address nor a network; write one such as \"10.0.0.0/8\"",
            text.escape_debug()
        )
    })
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes())
        .ok()
        .ok_or_else(|| format!("`{}` is not a header name", text.escape_debug()))
}

/// A header's value.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, Wrong> {
    HeaderValue::from_str(text)
        .ok()
        .ok_or_else(|| format!("`{}` cannot be a header's value", text.escape_debug()))
}

/// A method, in the capitals that the registered ones are written in.
pub(super) fn method(text: &str) -> Result<Method, Wrong> {
    let wrong = || format!("`{}` is not a method", text.escape_debug());
    let method = Method::from_bytes(text.as_bytes()).ok().ok_or_else(wrong)?;
    let capitals = text.to_ascii_uppercase();
    if capitals == text {
        Ok(method)
    } else {
        Err(format!(
            "`{text}` is not a method; methods are in capitals: `{capitals}`"
        ))
    }
}

fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    let is_fit = Path::new(path).is_absolute() && path.len() < 108 && !path.contains('\0');
    if is_fit {
        Ok(path.into())
    } else {
        Err(format!(
            "`unix:{}` is not a unix socket; write an absolute path of at most 107 bytes, such as \"unix:/run/tidegate.sock\"",
            path.escape_debug()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_every_form() {
        let host = |name: &str, port| EndpointAddress::Host(name.into(), port);
        let socket = |text: &str| EndpointAddress::Socket(text.parse().unwrap());
        for (text, scheme, address) in [
            ("10.0.0.1:80", Scheme::None, socket("10.0.0.1:80")),
            ("[::1]:80", Scheme::None, socket("[::1]:80")),
            (
                "Orders.internal:8080",
                Scheme::None,
                host("orders.internal", 8080),
            ),
            (
                "http://127.0.0.1:3000/",
                Scheme::Http,
                socket("127.0.0.1:3000"),
            ),
            ("http://orders", Scheme::Http, host("orders", 80)),
            (
                "https://example.com",
                Scheme::Https,
                host("example.com", 443),
            ),
            ("https://[::1]", Scheme::Https, socket("[::1]:443")),
            (
                "unix:/run/a.sock",
                Scheme::None,
                EndpointAddress::Unix("/run/a.sock".into()),
            ),
        ] {
            assert_eq!(endpoint(text), Ok((scheme, address)), "{text}");
        }
        for text in [
            "",
            ":80",
            "orders",
            "10.0.0.1",
            "::1:80x",
            "a:0",
            "a:65536",
            "a b:80",
            "ftp://a:1",
            "http://a/b",
            "http://",
            "unix:a.sock",
            "10.0.0.1:80/",
            "user@host:80",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_one_form_of_wildcard_host_is_understood() {
        assert_eq!(
            host_match("*.Example.com"),
            Ok(HostMatch::Below("example.com".into()))
        );
        assert_eq!(host_match("A.b."), Ok(HostMatch::Exact("a.b".into())));
        for text in [
            "*", "*.", "a.*.b", "*a.b", "http://a", "a:80", "", "a/b", "a..b",
        ] {
            assert!(host_match(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_begin_with_a_slash_and_have_no_query() {
        assert_eq!(path("/a/b", false), Ok("/a/b"));
        assert_eq!(path("/a?b=c", true), Ok("/a?b=c"));
        for text in ["", "a", "/a b", "/a?b", "/a#b", "*", "/\n"] {
            assert!(path(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_and_unix_are_private() {
        for text in [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "unix:/a",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_private(&bind(text).unwrap()), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(!is_private(&bind(text).unwrap()), "{text}");
        }
    }
}
