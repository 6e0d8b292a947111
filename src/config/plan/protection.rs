//! What keeps an upstream inside what it can carry, each policy with whether it acts.

use std::time::Duration;

use crate::engine::protection::Mode;
use crate::policy::{breaker, outlier, retry};

/// `[upstreams.NAME.outlier]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// Whether endpoints are ejected.
    pub mode: Mode,
    /// When they are.
    pub config: outlier::Config,
}

/// `[upstreams.NAME.retry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Whether failed requests are sent again.
    pub mode: Mode,
    /// How often they are.
    pub config: retry::Config,
    /// Bound on one attempt, from the request sent to the response head; none: only the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// When a second copy of an unanswered request is sent. Given exactly when `config` has a budget for it.
    pub hedge_after: Option<HedgeAfter>,
}

/// When a second copy of a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// When it takes longer than this share, between 0 and 1, of its route's requests do.
    Quantile(f64),
    /// After this time.
    Time(Duration),
}

/// `[routes.breaker]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBreaker {
    /// Whether it acts.
    pub mode: Mode,
    /// When it opens.
    pub config: breaker::Config,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            config: outlier::Config::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            config: retry::Config::default(),
            per_try_timeout: None,
            hedge_after: None,
        }
    }
}
