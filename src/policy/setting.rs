//! What every policy's settings have in common: the checks that make raw numbers into a `Config`.
//!
//! A policy's `try_new` proves its values once, so that nothing behind it checks again. The error names the
//! key as the contract spells it; file, line and column are added by whoever read the file. Depends on
//! nothing.

use std::time::Duration;

/// A setting that no policy can work with.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Not a ratio in the range its key allows.
    #[error("{key}: {value} is not a ratio above 0 and up to 1")]
    Ratio {
        /// The key in the contract.
        key: &'static str,
        /// What was given.
        value: f64,
    },
    /// A factor that must be above one.
    #[error("{key}: {value} is not a factor above 1")]
    Factor {
        /// The key in the contract.
        key: &'static str,
        /// What was given.
        value: f64,
    },
    /// A count or a duration that must not be zero.
    #[error("{key} must not be zero")]
    Zero {
        /// The key in the contract.
        key: &'static str,
    },
}

/// `value` if it is above zero and at most one.
pub(super) fn ratio(key: &'static str, value: f64) -> Result<f64, Invalid> {
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err(Invalid::Ratio { key, value })
    }
}

/// `value` if it is finite and above one.
pub(super) fn factor(key: &'static str, value: f64) -> Result<f64, Invalid> {
    if value.is_finite() && value > 1.0 {
        Ok(value)
    } else {
        Err(Invalid::Factor { key, value })
    }
}

/// `value` if it is not zero.
pub(super) const fn count(key: &'static str, value: u32) -> Result<u32, Invalid> {
    if value == 0 {
        Err(Invalid::Zero { key })
    } else {
        Ok(value)
    }
}

/// `value` if it is not zero.
pub(super) const fn duration(key: &'static str, value: Duration) -> Result<Duration, Invalid> {
    if value.is_zero() {
        Err(Invalid::Zero { key })
    } else {
        Ok(value)
    }
}

/// `duration` in nanoseconds, saturating, as it fits an atomic.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for value in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(ratio("breaker.slow_ratio", value).is_err(), "{value}");
        }
        for value in [1.0, 0.5, f64::NAN, f64::INFINITY] {
            assert!(factor("outlier.slow_factor", value).is_err(), "{value}");
        }
        let error = duration("breaker.window", Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "breaker.window must not be zero");
        assert_eq!((ratio("k", 1.0), factor("k", 3.0)), (Ok(1.0), Ok(3.0)));
        assert_eq!((count("k", 1), count("k", 0).is_err()), (Ok(1), true));
    }
}
