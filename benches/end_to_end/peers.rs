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

/// Where the proxies are, and what they lead to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) core: Option<usize>,
    pub(crate) origin: SocketAddr,
}

/// How Tidegate is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// As by default, with metrics and a JSON access log.
    Usual,
    /// Without any policy.
    NoPolicies,
    /// With a cache in memory.
    Cache,
    /// With a cache that has a disk tier as well.
    DiskTier,
}

impl Setting {
    pub(crate) const ALL: [Self; 4] = [Self::Usual, Self::NoPolicies, Self::Cache, Self::DiskTier];
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
           add_header Cache-Control max-age=86400;
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
    /// Whether it answers from a cache.
    pub(crate) caches: bool,
    http1: SocketAddr,
    http2: SocketAddr,
    log: Option<PathBuf>,
    server: Server,
}

impl Peer {
    /// Tidegate.
    pub(crate) fn tidegate(place: &Place<'_>, binary: &Path, setting: Setting) -> Self {
        let (name, policies, overload) = match setting {
            Setting::Usual | Setting::Cache => (crate::report::TIDEGATE, "", "enforce"),
            Setting::NoPolicies => ("Tidegate, policies off", NO_POLICIES, "off"),
            Setting::DiskTier => ("Tidegate, disk tier on", "", "enforce"),
        };
        let caches = matches!(setting, Setting::Cache | Setting::DiskTier);
        let (core, origin) = (place.core, place.origin);
        let place = fresh(place.directory, &format!("tidegate-{setting:?}"));
        let disk = if setting == Setting::DiskTier {
            format!(
                "disk = {{ path = \"{}\", size = \"1GiB\" }}",
                place.join("disk").display()
            )
        } else {
            String::new()
        };
        let (cache, cached) = if caches {
            (format!("[cache.shared]\n{disk}\n"), "cache = \"shared\"")
        } else {
            (String::new(), "")
        };
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
{cache}
[[routes]]
name = "all"
match = {{ path_prefix = "/" }}
upstream = "origin"
{cached}

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
            caches,
            http1: address,
            http2: address,
            log: Some(log),
            server,
        }
    }

    /// nginx as its manual tunes it for an upstream, bare or with a buffered JSON access log, and as a cache.
    pub(crate) fn nginx(place: &Place<'_>, caches: bool, logging: bool) -> Self {
        let name = if logging { "nginx, JSON log" } else { "nginx" };
        let (core, origin) = (place.core, place.origin);
        let place = fresh(place.directory, &format!("nginx-{caches}-{logging}"));
        let (cache, cached) = if caches {
            (
                format!(
                    "proxy_cache_path {}/cache keys_zone=shared:10m;
                     open_file_cache max=1000;",
                    place.display()
                ),
                "proxy_cache shared;",
            )
        } else {
            (String::new(), "")
        };
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
             {cache}
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
                 {cached}
               }}
             }}"
        );
        Self {
            name,
            caches,
            http1,
            http2,
            log,
            server: nginx::start(&place, one_worker(core), &http, &[http1, http2]),
        }
    }

    /// `HAProxy` with shared upstream connections and no log.
    pub(crate) fn haproxy(place: &Place<'_>) -> Self {
        let (core, origin) = (place.core, place.origin);
        let place = fresh(place.directory, "haproxy");
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
            caches: false,
            http1,
            http2,
            log: None,
            server,
        }
    }

    /// Varnish as it comes, its cache in memory.
    pub(crate) fn varnish(place: &Place<'_>) -> Self {
        let Place { core, origin, .. } = *place;
        let place = fresh(place.directory, "varnish");
        let address = free_address();
        let config = place.join("default.vcl");
        let text = format!(
            "vcl 4.1;
backend default {{ .host = \"{}\"; .port = \"{}\"; }}
",
            origin.ip(),
            origin.port()
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let work = place.join("work");
        let arguments = [
            "-F",
            "-j",
            "none",
            "-a",
            &address.to_string(),
            "-f",
            &utf8(&config),
            "-n",
            &utf8(&work),
            "-s",
            "malloc,256m",
        ];
        let log = place.join("stderr");
        Self {
            name: "Varnish",
            caches: true,
            http1: address,
            http2: address,
            log: None,
            server: Server::start(core, "varnishd", &arguments, &log, &[address]),
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
