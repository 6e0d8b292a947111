//! What the breaker counts, and what a window of it says.

/// How one call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Good,
    Slow,
    Failed,
}

impl Call {
    /// As the counters of a window: calls, failures, slow calls.
    pub(super) const fn counts(self) -> [u32; 3] {
        match self {
            Self::Good => [1, 0, 0],
            Self::Failed => [1, 1, 0],
            Self::Slow => [1, 0, 1],
        }
    }
}

/// The sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

impl From<[u32; 3]> for Totals {
    fn from([calls, failures, slow]: [u32; 3]) -> Self {
        Self {
            calls,
            failures,
            slow,
        }
    }
}

impl Totals {
    pub(super) fn failure_ratio(self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls.max(1))
    }

    pub(super) fn slow_ratio(self) -> f64 {
        f64::from(self.slow) / f64::from(self.calls.max(1))
    }
}
