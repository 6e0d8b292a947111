//! What the load goes to.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::nginx::{self, Size};
use crate::support::process::{Server, free_address};
use crate::support::utf8;

/// A proxy, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// No proxy in between.
    Direct,
    /// Told nothing but where the origin is.
    Tidegate,
    /// As its manual sets it up for an upstream.
    Nginx,
    /// As its manual sets it up; no limit on the server.
    Haproxy,
    /// Told by hand how many slots the origin has.
    HaproxyMaxconn,
}

/// A started target.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    _server: Option<Server>,
}

impl Running {
    /// Where it takes requests.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Target {
    /// Every target, in the order of the table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Tidegate,
        Self::Nginx,
        Self::Haproxy,
        Self::HaproxyMaxconn,
    ];

    /// Its name on the command line and in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tidegate => "tidegate",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::HaproxyMaxconn => "haproxy-maxconn",
        }
    }

    /// Starts it in front of `origin`.
    pub(crate) fn start(self, place: &Path, origin: SocketAddr, tidegate: &Path) -> Running {
        let address = free_address();
        let server = match self {
            Self::Direct => {
                return Running {
                    address: origin,
                    _server: None,
                };
            }
            Self::Tidegate => start_tidegate(place, address, origin, tidegate),
            Self::Nginx => start_nginx(place, address, origin),
            Self::Haproxy => start_haproxy(place, address, origin, ""),
            Self::HaproxyMaxconn => start_haproxy(
                place,
                address,
                origin,
                &format!("maxconn {}", crate::origin::SLOTS),
            ),
        };
        Running {
            address,
            _server: Some(server),
        }
    }
}

fn start_tidegate(place: &Path, address: SocketAddr, origin: SocketAddr, binary: &Path) -> Server {
    let admin = free_address();
    let arguments = [
        "run",
        "--upstream",
        &format!("http://{origin}"),
        "--listen",
        &address.to_string(),
        "--admin",
        &admin.to_string(),
    ];
    let log = place.join("stderr");
    Server::start(None, &utf8(binary), &arguments, &log, &[address, admin])
}

fn start_nginx(place: &Path, address: SocketAddr, origin: SocketAddr) -> Server {
    let size = Size {
        core: None,
        workers: "auto",
        connections: 16_384,
    };
    let http = format!(
        "access_log off;
         upstream origin {{
           server {origin};
           keepalive 256;
         }}
         server {{
           listen {address};
           location / {{
             proxy_pass http://origin;
             proxy_http_version 1.1;
             proxy_set_header Connection '';
           }}
         }}"
    );
    nginx::start(place, size, &http, &[address])
}

/// How long `HAProxy` lets a request wait for a slot. Its default would be the five seconds of `timeout connect`:
/// longer than any client waits, so that every answer would come too late.
const HAPROXY_QUEUE_MILLIS: u32 = 150;

fn start_haproxy(place: &Path, address: SocketAddr, origin: SocketAddr, limit: &str) -> Server {
    let config = place.join("haproxy.cfg");
    let queue = HAPROXY_QUEUE_MILLIS;
    let text = format!(
        "defaults
  mode http
  no log
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue {queue}ms
frontend http
  bind {address}
  default_backend origin
backend origin
  server origin {origin} {limit}
"
    );
    std::fs::write(&config, text).expect("the configuration is written");
    let log = place.join("stderr");
    Server::start(
        None,
        "haproxy",
        &["-db", "-f", &utf8(&config)],
        &log,
        &[address],
    )
}
