//! Tidegate: an adaptive resilience proxy.
//!
//! ```text
//! accept → TLS → HTTP ──► pipeline
//!   1 ingress    sane framing, hop-by-hop, forwarded-for, request id, trace context, deadline
//!   2 identify   who is this: client, tier, weight
//!   3 route      host, path, method, headers → route
//!   5 rate       quotas, RateLimit headers
//!   8 balance    pick an endpoint
//!   9 forward    pooled connection, timeouts
//!  10 return     stream the body; at its end or drop: write the Exchange
//! ```
//!
//! The core (`clock`, `model`, `policy`, `measure`, `engine`) takes time and randomness as arguments and does no
//! I/O; `cargo check --no-default-features` builds it alone. The feature `layer` adds the same policies as tower
//! layers, for use inside a service; the feature `proxy` adds everything else.

#[cfg(feature = "proxy")]
pub mod admin;
#[cfg(feature = "proxy")]
pub mod cache;
#[cfg(feature = "proxy")]
pub mod cli;
#[cfg(feature = "proxy")]
pub mod clients;
pub mod clock;
#[cfg(feature = "proxy")]
pub mod config;
#[cfg(feature = "proxy")]
pub mod discovery;
pub mod engine;
#[cfg(feature = "proxy")]
pub mod fleet;
#[cfg(feature = "proxy")]
pub mod incident;
#[cfg(feature = "layer")]
pub mod layer;
pub mod measure;
pub mod model;
#[cfg(feature = "proxy")]
pub mod observe;
pub mod policy;
#[cfg(feature = "proxy")]
pub mod process;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod usage;
