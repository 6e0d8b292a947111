//! What an operator may set about a queue, parsed once so that nobody checks it again.

use std::time::Duration;

/// The longest queue that can be asked for.
pub const MAX_LENGTH: u32 = 1_000_000;
/// The most tiers.
pub const MAX_TIERS: u8 = 16;

/// Who is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fairness {
    /// Clients share by deficit round robin.
    Client,
    /// One queue per tier, and no bound on a client's share.
    None,
}

/// Why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// See the message.
    #[error("max_length is above {MAX_LENGTH}")]
    MaxLength,
    /// See the message.
    #[error("max_client_share is not above 0 and at most 1")]
    MaxClientShare,
    /// See the message.
    #[error("a queue has between 1 and {MAX_TIERS} tiers")]
    Tiers,
    /// See the message.
    #[error("the floors of the lower tiers leave less than half to the first")]
    Floor,
}

/// The settings of one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    max_wait: Duration,
    max_length: u32,
    fairness: Fairness,
    max_client_share: f64,
    tiers: u8,
    floor: f64,
}

impl Default for Config {
    /// 100 ms is `CoDel`'s interval, so a burst passes and a standing queue does not; a thousand waiters are
    /// 100 ms of 10,000 requests a second; a quarter lets four clients fill an upstream and no single one; a
    /// floor of 5% keeps a batch job moving at a price nobody sees.
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(100),
            max_length: 1_000,
            fairness: Fairness::Client,
            max_client_share: 0.25,
            tiers: 3,
            floor: 0.05,
        }
    }
}

impl Config {
    /// Checks and keeps: the longest wait, the most waiters (zero: nobody waits), who is told apart, and the
    /// share of the limit above which a client waits while another one does.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn try_new(
        max_wait: Duration,
        max_length: u32,
        fairness: Fairness,
        max_client_share: f64,
    ) -> Result<Self, InvalidConfig> {
        if max_length > MAX_LENGTH {
            return Err(InvalidConfig::MaxLength);
        }
        if !(max_client_share > 0.0 && max_client_share <= 1.0) {
            return Err(InvalidConfig::MaxClientShare);
        }
        Ok(Self {
            max_wait,
            max_length,
            fairness,
            max_client_share,
            ..Self::default()
        })
    }

    /// The same with this many tiers, each but the first sure of the share `floor`.
    ///
    /// # Errors
    /// When there is no tier or too many, or the floors come to more than half.
    pub fn with_tiers(self, tiers: u8, floor: f64) -> Result<Self, InvalidConfig> {
        if !(1..=MAX_TIERS).contains(&tiers) {
            return Err(InvalidConfig::Tiers);
        }
        if !(floor >= 0.0 && floor * f64::from(tiers - 1) <= 0.5) {
            return Err(InvalidConfig::Floor);
        }
        Ok(Self {
            tiers,
            floor,
            ..self
        })
    }

    /// The same with room for nobody.
    #[must_use]
    pub const fn without_waiting(self) -> Self {
        Self {
            max_length: 0,
            ..self
        }
    }

    /// The longest wait.
    #[must_use]
    pub const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// The most waiters, all tiers together.
    #[must_use]
    pub const fn max_length(&self) -> u32 {
        self.max_length
    }

    /// Who is told apart.
    #[must_use]
    pub const fn fairness(&self) -> Fairness {
        self.fairness
    }

    /// The share of the limit above which a client waits while another one does.
    #[must_use]
    pub const fn max_client_share(&self) -> f64 {
        self.max_client_share
    }

    /// How many tiers there are.
    #[must_use]
    pub const fn tiers(&self) -> u8 {
        self.tiers
    }

    /// The share each tier but the first is sure of, of upstream time and of the queue's room.
    #[must_use]
    pub const fn floor(&self) -> f64 {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let of = |length, share| {
            Config::try_new(Duration::from_millis(1), length, Fairness::Client, share)
        };
        assert_eq!(of(MAX_LENGTH + 1, 0.5), Err(InvalidConfig::MaxLength));
        for share in [0.0, -1.0, 1.01, f64::NAN] {
            assert_eq!(of(1, share), Err(InvalidConfig::MaxClientShare));
        }
        let config = of(0, 1.0).unwrap();
        assert_eq!(config.with_tiers(0, 0.0), Err(InvalidConfig::Tiers));
        assert_eq!(config.with_tiers(17, 0.0), Err(InvalidConfig::Tiers));
        for floor in [-0.1, 0.26, f64::NAN] {
            assert_eq!(config.with_tiers(3, floor), Err(InvalidConfig::Floor));
        }
        assert_eq!(config.with_tiers(3, 0.25).map(|c| c.tiers()), Ok(3));
    }
}
