//! Rise and fall: how many checks in a row it takes to change one's mind about an endpoint.
//!
//! The state machine of `HAProxy`'s and nginx Plus's active checks. An endpoint is up until proven otherwise:
//! it starts healthy with its checks pending, so that a start or a reload never begins with an outage. It
//! says nothing about *why* a check failed, and one endpoint's state knows nothing of its peers; keeping a
//! whole pool from going out is the balancer's business.
//!
//! Depends on the clock's [`Instant`] only.

use std::time::Duration;

use crate::clock::Instant;

/// How many results in a row turn the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    rise: u32,
    fall: u32,
}

impl Thresholds {
    /// `rise` successes in a row bring an endpoint back, `fall` failures in a row take it out; zero counts as
    /// one.
    #[must_use]
    pub const fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: if rise == 0 { 1 } else { rise },
            fall: if fall == 0 { 1 } else { fall },
        }
    }
}

/// What a check's result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The endpoint came back.
    Up {
        /// How long it was out.
        after: Duration,
    },
    /// The endpoint went out.
    Down {
        /// How long it was up.
        after: Duration,
    },
}

/// One endpoint's health as its checks tell it.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    thresholds: Thresholds,
    healthy: bool,
    checked: bool,
    /// Results in a row that speak against the present state.
    against: u32,
    since: Instant,
}

impl Health {
    /// Healthy, with its checks pending.
    #[must_use]
    pub const fn new(thresholds: Thresholds, now: Instant) -> Self {
        Self::resumed(thresholds, true, now)
    }

    /// In the state a former run of checks left behind.
    #[must_use]
    pub const fn resumed(thresholds: Thresholds, healthy: bool, now: Instant) -> Self {
        Self {
            thresholds,
            healthy,
            checked: false,
            against: 0,
            since: now,
        }
    }

    /// Takes in one check's result and says whether it turned the state.
    pub fn report(&mut self, passed: bool, now: Instant) -> Option<Transition> {
        self.checked = true;
        if passed == self.healthy {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let needed = if passed {
            self.thresholds.rise
        } else {
            self.thresholds.fall
        };
        if self.against < needed {
            return None;
        }
        let after = now.since(self.since);
        self.healthy = passed;
        self.against = 0;
        self.since = now;
        Some(if passed {
            Transition::Up { after }
        } else {
            Transition::Down { after }
        })
    }

    /// Changes the thresholds and keeps what was learned.
    pub const fn update(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Whether the endpoint is up.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Whether no check has reported yet.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        !self.checked
    }

    /// When the present state began.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_new_endpoint_is_healthy_with_its_checks_pending() {
        let mut health = Health::new(Thresholds::new(2, 3), at(0));
        assert!(health.is_healthy() && health.is_pending());
        assert_eq!(health.report(true, at(1)), None);
        assert!(health.is_healthy() && !health.is_pending());
    }

    #[test]
    fn it_takes_fall_failures_in_a_row_to_go_out() {
        let mut health = Health::new(Thresholds::new(2, 3), at(0));
        for second in [1, 2, 4, 5] {
            assert_eq!(health.report(false, at(second)), None);
            if second == 2 {
                assert_eq!(health.report(true, at(3)), None);
            }
        }
        let after = Duration::from_secs(6);
        assert_eq!(
            health.report(false, at(6)),
            Some(Transition::Down { after })
        );
        assert_eq!((health.is_healthy(), health.since()), (false, at(6)));
        assert_eq!(health.report(false, at(7)), None, "it goes out only once");
    }

    #[test]
    fn it_takes_rise_successes_in_a_row_to_come_back() {
        let mut health = Health::resumed(Thresholds::new(2, 3), false, at(0));
        assert_eq!(health.report(true, at(1)), None);
        assert_eq!(health.report(false, at(2)), None);
        assert_eq!(health.report(true, at(3)), None);
        let after = Duration::from_secs(4);
        assert_eq!(health.report(true, at(4)), Some(Transition::Up { after }));
        assert!(health.is_healthy());
    }

    #[test]
    fn new_thresholds_keep_what_was_learned() {
        let mut health = Health::new(Thresholds::new(2, 5), at(0));
        assert_eq!(health.report(false, at(1)), None);
        assert_eq!(health.report(false, at(2)), None);
        health.update(Thresholds::new(2, 3));
        assert!(health.report(false, at(3)).is_some());
    }

    #[test]
    fn thresholds_of_zero_count_as_one() {
        let mut health = Health::new(Thresholds::new(0, 0), at(0));
        assert!(health.report(false, at(1)).is_some());
        assert!(health.report(true, at(2)).is_some());
    }
}
