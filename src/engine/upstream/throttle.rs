//! Holds clients that take far more than their share of a saturated upstream to that share, for as long as they
//! do. Who they are is found elsewhere, from what all have taken; here it only holds.
//!
//! Depends on model and the circuit's [`Mode`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::engine::circuit::{AtomicMode, Mode};
use crate::model::{Reason, Rejection, Unit};

/// When another try may be worth it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A client and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Who.
    pub client: u64,
    /// The slots of the limit it may hold.
    pub slots: u32,
}

/// Who is held to how much at one upstream.
#[derive(Debug)]
pub struct Throttle {
    /// Whether anybody is: all that a request costs otherwise.
    any: AtomicBool,
    mode: AtomicMode,
    /// In the order of the clients.
    held: ArcSwap<Vec<Throttled>>,
}

impl Throttle {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            any: AtomicBool::new(false),
            mode: AtomicMode::new(mode),
            held: ArcSwap::default(),
        }
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.set(mode);
    }

    /// Whether it acts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }

    /// From now on these clients are held, in the order of the clients, and no others.
    pub fn hold(&self, clients: Vec<Throttled>) {
        let any = !clients.is_empty();
        self.held.store(clients.into());
        self.any.store(any, Ordering::Relaxed);
    }

    /// Whether a client that holds so many slots is to be refused another; what speaks against it, if so.
    pub fn check(&self, client: u64, slots: impl FnOnce() -> u32) -> Option<Rejection> {
        if !self.any.load(Ordering::Relaxed) || self.mode() == Mode::Off {
            return None;
        }
        let held = self.held.load();
        let at = held.binary_search_by_key(&client, |one| one.client).ok()?;
        let allowed = held.get(at)?.slots;
        let has = slots();
        (has >= allowed).then(|| Rejection {
            reason: Reason::Quarantined,
            value: f64::from(has) + 1.0,
            threshold: allowed.into(),
            unit: Unit::Requests,
            retry_after: RETRY_AFTER,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_client_gets_its_share_and_the_others_are_not_asked() {
        let throttle = Throttle::new(Mode::Enforce);
        assert_eq!(throttle.check(7, || 1_000), None);
        throttle.hold(vec![
            Throttled {
                client: 7,
                slots: 3,
            },
            Throttled {
                client: 9,
                slots: 1,
            },
        ]);
        assert_eq!(throttle.check(7, || 2), None);
        let rejection = throttle.check(7, || 3).unwrap();
        assert_eq!(rejection.reason, Reason::Quarantined);
        assert_eq!((rejection.value, rejection.threshold), (4.0, 3.0));
        assert_eq!(throttle.check(8, || panic!("nobody asks")), None);
        throttle.set_mode(Mode::Off);
        assert_eq!(throttle.check(7, || 3), None);
        throttle.set_mode(Mode::Observe);
        throttle.hold(Vec::new());
        assert_eq!(throttle.check(7, || 3), None);
    }
}
