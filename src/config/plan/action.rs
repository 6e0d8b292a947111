//! What Tidegate does by itself.

use std::time::Duration;

use crate::engine::circuit::Mode;

/// Causes about which something can be done: those whose verdicts name an isolation.
pub const ACTED_ON: [&str; 8] = [
    "noisy_client",
    "load_spike",
    "sustained_overload",
    "slow_upstream",
    "slow_endpoint",
    "upstream_errors",
    "endpoint_down",
    "retry_storm",
];

/// `[actions.CAUSE]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// One of [`ACTED_ON`].
    pub cause: &'static str,
    /// Whether it is done, or only told.
    pub mode: Mode,
    /// How sure the verdict has to be.
    pub confidence: f64,
    /// For how long what it is about has to have been seen.
    pub after: Duration,
    /// When the isolation ends by itself; above zero.
    pub ttl: Duration,
}
