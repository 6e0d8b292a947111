//! Traces: the context a request carries, and the spans that are made of it when it has ended.
//!
//! Nothing is built while a request is under way. A worker keeps the context, and when and where each attempt was
//! sent; what is sampled goes to the observer as a [`Record`], from which the export thread makes one server
//! span, a client span for each attempt, and an event for each decision. Depends on the exchange.

pub mod attempts;
pub mod context;
mod otlp;
pub mod record;
pub mod spans;
mod zipkin;

pub use self::attempts::{Attempt, Attempts};
pub use self::context::Context;
pub(super) use self::otlp::{encode as encode_otlp, framed};
pub use self::record::Record;
pub(super) use self::zipkin::encode as encode_zipkin;
