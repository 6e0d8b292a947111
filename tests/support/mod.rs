//! The vocabulary of the end-to-end tests: the proxy as a process, origins that do as they are told,
//! and clients that can misbehave.

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod h2;
pub(crate) mod http_origin;
pub(crate) mod metrics;
pub(crate) mod postgresql;
pub(crate) mod proxy;
pub(crate) mod raw_origin;
pub(crate) mod redis;
pub(crate) mod reply;
pub(crate) mod wait;
pub(crate) mod wire;
