//! Observation: one record per exchange, and everything folded from it.
//!
//! ```text
//! worker ─ Recorder ─ batches ─► observer thread ─ Tables ◄─ scrape, admin API
//!                                      ├─ lines ─► writer thread ─► stdout or a file
//!                                      └─ traces, lines ─► export thread ─► OTLP, Zipkin, Splunk
//! ```
//! All channels are bounded, and no side ever waits for the one behind it: what does not fit is dropped and
//! counted. Depends on measure, model, clock, engine's registry and config's types.

pub mod access_log;
pub mod accounts;
mod calls;
pub mod collector;
pub mod components;
pub mod events;
pub mod exchange;
pub mod exemplars;
pub mod export;
pub mod flamegraph;
pub mod heap;
pub mod host;
pub mod inflight;
pub mod keys;
pub mod log_writer;
mod names;
pub mod process;
pub mod profile;
pub mod prometheus;
mod proto;
pub mod readings;
pub mod recorder;
pub mod series;
pub mod snapshot;
pub mod status;
pub mod tables;
pub mod timeline;
pub mod trace;
pub mod vocabulary;
pub mod why;
