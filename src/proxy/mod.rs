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
