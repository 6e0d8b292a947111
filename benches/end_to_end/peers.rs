//! The origin and the proxies, each with a configuration of its own in a temporary directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::load::Protocol;
use crate::support::nginx::{self, Size};
use crate::support::process::{Server, free_address};
use crate::support::{fresh, utf8};
use crate::usage::{self, Usage};

/// An nginx that answers from memory and from one cached file.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    _server: Server,
}

impl Origin {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What turns every policy of an upstream off.
const NO_POLICIES: &str = r#"concurrency = { mode = "off" }
breaker = { mode = "off" }
outlier = { mode = "off" }
retry = { mode = "off" }
"#;

/// Starts the origin.
pub(crate) fn start_origin(directory: &Path, core: Option<usize>) -> Origin {
    let place = fresh(directory, "origin");
    std::fs::write(place.join("64k"), vec![b'x'; 64 * 1024]).expect("the file is written");
    let address = free_address();
    let http = format!(
        "access_log off;
         open_file_cache max=16;
         server {{
           listen {address};
           location = /1k {{ default_type text/plain; return 200 \"{body}\"; }}
           location = /64k {{ root {root}; }}
         }}",
        body = "x".repeat(1_024),
        root = place.display(),
    );
    Origin {
        address,
        _server: nginx::start(&place, one_worker(core), &http, &[address]),
    }
}

/// A proxy under measurement.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    http1: SocketAddr,
    http2: SocketAddr,
    log: Option<PathBuf>,
    server: Server,
}

impl Peer {
    /// Tidegate with metrics and a JSON access log, and with every policy as by default or with none.
    pub(crate) fn tidegate(
        directory: &Path,
        core: Option<usize>,
        origin: SocketAddr,
        binary: &Path,
        policies: bool,
    ) -> Self {
        let (name, policies, overload) = if policies {
            (crate::report::TIDEGATE, "", "enforce")
        } else {
            ("Tidegate, policies off", NO_POLICIES, "off")
        };
        let place = fresh(directory, &name.replace(", ", "-"));
        let (address, admin) = (free_address(), free_address());
        let log = place.join("access.log");
        let config = place.join("tidegate.toml");
        let text = format!(
            r#"version = 1

[server]
workers = 1
overload = "{overload}"

[[listen]]
name = "public"
address = "{address}"
protocols = ["http1", "http2"]

[admin]
address = "{admin}"

[upstreams.origin]
endpoints = ["{origin}"]
{policies}
[[routes]]
name = "all"
match = {{ path_prefix = "/" }}
upstream = "origin"

[telemetry]
access_log = {{ format = "json", path = "{log}" }}
"#,
            log = log.display(),
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let server = Server::start(
            core,
            &utf8(binary),
            &["run", &utf8(&config)],
            &place.join("stderr"),
            &[address, admin],
        );
        Self {
            name,
            http1: address,
            http2: address,
            log: Some(log),
            server,
        }
    }

    /// nginx as its manual tunes it for an upstream, bare or with a buffered JSON access log.
    pub(crate) fn nginx(
        directory: &Path,
        core: Option<usize>,
        origin: SocketAddr,
        logging: bool,
    ) -> Self {
        let name = if logging { "nginx, JSON log" } else { "nginx" };
        let place = fresh(directory, if logging { "nginx-log" } else { "nginx" });
        let (http1, http2) = (free_address(), free_address());
        let log = logging.then(|| place.join("access.log"));
        let access_log = log.as_ref().map_or_else(
            || "access_log off;".to_owned(),
            |log| {
                format!(
                    "{NGINX_LOG_FORMAT} access_log {} tidy buffer=64k flush=1s;",
                    log.display()
                )
            },
        );
        let http = format!(
            "{access_log}
             upstream origin {{
               server {origin};
               keepalive 256;
               keepalive_requests 1000000000;
             }}
             server {{
               listen {http1};
               listen {http2} http2;
               location / {{
                 proxy_pass http://origin;
                 proxy_http_version 1.1;
                 proxy_set_header Connection '';
                 proxy_buffers 32 8k;
                 proxy_max_temp_file_size 0;
               }}
             }}"
        );
        Self {
            name,
            http1,
            http2,
            log,
            server: nginx::start(&place, one_worker(core), &http, &[http1, http2]),
        }
    }

    /// `HAProxy` with shared upstream connections and no log.
    pub(crate) fn haproxy(directory: &Path, core: Option<usize>, origin: SocketAddr) -> Self {
        let place = fresh(directory, "haproxy");
        let (http1, http2) = (free_address(), free_address());
        let config = place.join("haproxy.cfg");
        let text = format!(
            "global
  nbthread 1
  maxconn 2000
defaults
  mode http
  no log
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend http1
  bind {http1}
  default_backend origin
frontend http2
  bind {http2} proto h2
  default_backend origin
backend origin
  server origin {origin}
"
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let server = Server::start(
            core,
            "haproxy",
            &["-db", "-f", &utf8(&config)],
            &place.join("stderr"),
            &[http1, http2],
        );
        Self {
            name: "HAProxy",
            http1,
            http2,
            log: None,
            server,
        }
    }

    /// Where it speaks `protocol`.
    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Http2 => self.http2,
        }
    }

    /// What its processes have spent so far.
    pub(crate) fn usage(&self) -> Usage {
        usage::usage(&self.server)
    }

    /// What its processes hold in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        usage::resident_bytes(&self.server)
    }

    /// Empties its access log, so that a long run does not fill the disk.
    pub(crate) fn truncate_log(&self) {
        let Some(log) = &self.log else { return };
        let file = std::fs::OpenOptions::new().write(true).open(log);
        file.and_then(|file| file.set_len(0))
            .unwrap_or_else(|error| panic!("{} writes no {}: {error}", self.name, log.display()));
    }
}

const NGINX_LOG_FORMAT: &str = "log_format tidy escape=json '{\"ts\":\"$time_iso8601\",\
\"request_id\":\"$request_id\",\"client\":\"$remote_addr\",\"method\":\"$request_method\",\
\"path\":\"$request_uri\",\"status\":$status,\"upstream\":\"$upstream_addr\",\
\"bytes_in\":$request_length,\"bytes_out\":$bytes_sent,\"total\":$request_time,\
\"wait\":\"$upstream_header_time\"}';";

/// One worker on `core`.
const fn one_worker(core: Option<usize>) -> Size {
    Size {
        core,
        workers: "1",
        connections: 4_096,
    }
}
