//! Keyed state that outlives a plan: upstreams, endpoints, routes. Orders the policies.
//!
//! Depends on policy, measure, model and clock; knows nothing of hyper, tokio or the file format.

pub mod admission;
pub mod circuit;
#[cfg(feature = "proxy")]
pub mod isolation;
pub mod overload;
pub mod protection;
pub mod rate;
pub mod registry;
pub mod route;
#[cfg(feature = "proxy")]
pub mod upstream;

pub use crate::measure::slo;
pub use crate::policy::{breaker, concurrency, queue, retry};
