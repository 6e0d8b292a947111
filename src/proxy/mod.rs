//! The data plane: workers, listeners, connections, and the way of one request (`pipeline`).
//!
//! Each worker is one thread with a runtime of its own; no request crosses threads. May depend on the
//! engine, the plan's types and the exchange record.

mod body;
mod conn;
mod connect;
mod forward;
mod guard;
mod h2stream;
mod ingress;
mod io;
pub mod listener;
pub mod live;
pub mod path;
mod pipeline;
mod pool;
mod respond;
pub mod router;
mod serve;
mod stream;
mod tls;
mod track;
mod upgrade;
pub mod worker;

use crate::config::plan;
use crate::discovery::health::Tls;
use crate::engine::upstream::EndpointState;

/// What a health check of `endpoint` needs to speak TLS as the upstream's own traffic does.
#[must_use]
pub fn check_tls(upstream: &plan::Upstream, endpoint: &EndpointState) -> Option<Tls> {
    let tls = upstream.tls.as_ref()?;
    let config = tls::client_config(tls, upstream.protocol).ok()?;
    let name = tls.server_name.as_deref();
    Some(Tls {
        config,
        server_name: connect::server_name(name, endpoint.address()).ok()?,
    })
}
