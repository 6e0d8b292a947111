//! nginx in a directory of its own.

use std::net::SocketAddr;
use std::path::Path;

use super::process::Server;
use super::utf8;

/// How much of the machine it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// The core it is pinned to.
    pub(crate) core: Option<usize>,
    /// `worker_processes`.
    pub(crate) workers: &'static str,
    /// `worker_connections`.
    pub(crate) connections: u32,
}

/// Starts nginx with `http` inside its `http` block.
pub(crate) fn start(place: &Path, size: Size, http: &str, ready: &[SocketAddr]) -> Server {
    let root = place.display();
    let Size {
        core,
        workers,
        connections,
    } = size;
    // Started as root, the worker would change to a user who cannot read the temporary directory.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = place.join("nginx.conf");
    let text = format!(
        "{user}
         daemon off;
         worker_processes {workers};
         pid {root}/nginx.pid;
         error_log stderr crit;
         events {{ worker_connections {connections}; }}
         http {{
           client_body_temp_path {root}/body;
           proxy_temp_path {root}/proxy;
           fastcgi_temp_path {root}/fastcgi;
           uwsgi_temp_path {root}/uwsgi;
           scgi_temp_path {root}/scgi;
           sendfile on;
           tcp_nopush on;
           keepalive_timeout 600s;
           keepalive_requests 1000000000;
           {http}
         }}
"
    );
    std::fs::write(&config, text).expect("the configuration is written");
    Server::start(
        core,
        "nginx",
        &["-e", "stderr", "-p", &utf8(place), "-c", &utf8(&config)],
        &place.join("stderr"),
        ready,
    )
}
