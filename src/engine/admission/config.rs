//! What an operator may set about a gate.

use super::word::MAX_LIMIT;
use crate::policy::queue;

/// Whether decisions have effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Who is not admitted waits or is refused.
    Enforce,
    /// Everybody is let through at once; what would have become of them is told at their end.
    Observe,
}

/// Why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// See the message.
    #[error("the limit is not between 1 and {MAX_LIMIT}")]
    Limit,
}

/// The settings of one gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub(super) mode: Mode,
    pub(super) limit: u32,
    pub(super) max_streams: u32,
    pub(super) queue: queue::Config,
}

impl Config {
    /// Checks and keeps: whether it enforces, the limit it begins with, the most long-lived streams, and
    /// its queue.
    ///
    /// # Errors
    /// When the limit is zero, which would let nobody through for ever, or beyond any upstream.
    pub const fn try_new(
        mode: Mode,
        limit: u32,
        max_streams: u32,
        queue: queue::Config,
    ) -> Result<Self, InvalidConfig> {
        if limit == 0 || limit > MAX_LIMIT {
            return Err(InvalidConfig::Limit);
        }
        Ok(Self {
            mode,
            limit,
            max_streams,
            queue,
        })
    }
}

impl Default for Config {
    /// Begins where the adaptive limit does. Ten thousand streams cost about as much memory as the default cache.
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            limit: 32,
            max_streams: 10_000,
            queue: queue::Config::default(),
        }
    }
}
