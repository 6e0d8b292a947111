//! How much somebody may have in a time.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use crate::engine::rate::Settings;

/// `[rate_limits.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Unique name.
    pub name: Arc<str>,
    /// Who has a quota of its own.
    pub per: Per,
    /// The quota, and what counts towards it.
    pub settings: Settings,
}

/// Who has a quota of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Per {
    /// Each client.
    Client,
    /// Each route.
    Route,
    /// Each IPv4 address and IPv6 /64.
    Address,
    /// Each tier.
    Tier,
    /// Each value of this header; requests without it share one.
    Header(HeaderName),
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Route => f.write_str("route"),
            Self::Address => f.write_str("address"),
            Self::Tier => f.write_str("tier"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}
