//! The data plane: workers, listeners, connections, and the way of one request (`pipeline`).
//!
//! Each worker is one thread with a runtime of its own; no request crosses threads. May depend on the
//! engine, the plan's types and the exchange record.

mod admit;
mod body;
mod cached;
mod conn;
mod connect;
mod forward;
mod forwarding;
mod guard;
mod h1;
mod h2stream;
mod hedge;
mod hold;
mod id;
mod inflight;
mod ingress;
mod io;
pub mod listener;
pub mod live;
mod onward;
mod outbound;
mod outliers;
pub mod path;
mod pipeline;
mod pool;
mod rate;
mod respond;
pub mod router;
mod send;
mod serve;
mod spare;
mod stream;
mod tls;
mod tracing;
mod track;
mod upgrade;
mod upload;
pub mod worker;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

pub use self::outliers::judge;
use crate::config::plan;
use crate::engine::upstream::EndpointState;

/// What it takes to speak TLS to `endpoint` as the upstream's own traffic does: the session's settings and
/// the name the endpoint must prove. None when the upstream is not spoken to over TLS.
#[must_use]
pub fn endpoint_tls(
    upstream: &plan::Upstream,
    endpoint: &EndpointState,
) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
    let tls = upstream.tls.as_ref()?;
    let config = tls::client_config(tls, upstream.protocol).ok()?;
    let name = connect::server_name(tls.server_name.as_deref(), endpoint.address()).ok()?;
    Some((config, name))
}

/// What it takes to speak TLS to a server that the system's authorities vouch for.
///
/// # Errors
/// When no such session can be set up at all.
pub fn system_tls() -> Result<Arc<ClientConfig>, live::TlsError> {
    tls::system_config()
}
