//! The proxy from outside: its command line, its configuration, its bytes on the wire.
//!
//! One binary for every capability, so that it links once. Each test starts proxies and origins of its
//! own on free ports; none depends on another or on the time that passes.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a helper that cannot do its part fails the test"
)]

#[path = "../support/mod.rs"]
#[allow(
    dead_code,
    reason = "each capability uses its own part of the vocabulary"
)]
mod support;

mod basic;
mod cache;
mod cli;
mod clients;
mod events;
mod fleet;
mod frames;
mod harness;
mod http1;
mod identity;
mod incident;
mod isolation;
mod lifecycle;
mod listeners;
mod malformed;
mod monitoring;
mod phases;
mod protection;
mod protocols;
mod rates;
mod routing;
mod slos;
mod streams;
mod top;
mod traces;
mod upstreams;
mod usage;
