//! Sheds by tier when the proxy itself runs short: of time on its event loops, of memory, of descriptors.
//!
//! A proxy that is overloaded itself protects nobody. Each resource has a soft and a hard bound; the worst of
//! them decides how many tiers are refused, the least important first, in equal steps from the soft bound to
//! the hard one, and the most important only at the hard bound, where serving everybody would mean serving
//! nobody. At most one tier more is shed per update, so that a pause of the machine, over by the next one,
//! costs the batch tier a second and nobody else anything; and one less after a second without need for it,
//! so that shedding, which is what relieves, does not flap.
//!
//! What it does badly: it cannot tell who causes the shortage, only who matters least.
//!
//! Workers ask with one load; one caller updates. Depends on the clock's [`Instant`].

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// How long the need for shedding a tier must be over before it is admitted again.
pub const CALM: Duration = Duration::from_secs(1);

/// How far below its step the pressure must be for that, as a share of the way from soft to hard.
pub const MARGIN: f64 = 0.05;

/// Where shedding begins and where nobody is admitted any more, in the resource's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least important tier is shed from here on.
    pub soft: f64,
    /// Every tier is shed from here on.
    pub hard: f64,
}

/// What the proxy may run short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Time: how late the event loops run, in seconds.
    LoopLag,
    /// Memory, as a share of what may be used.
    Memory,
    /// File descriptors, as a share of what may be open.
    Descriptors,
}

impl Resource {
    /// The word in answers and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoopLag => "loop_lag",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        }
    }

    /// Its bounds. A loop that lags 50 ms adds that to every request that passes, several times over; at half
    /// a second clients give up. Memory and descriptors need room for what is in flight already.
    #[must_use]
    pub const fn bounds(self) -> Bounds {
        match self {
            Self::LoopLag => Bounds {
                soft: 0.05,
                hard: 0.5,
            },
            Self::Memory | Self::Descriptors => Bounds {
                soft: 0.85,
                hard: 0.95,
            },
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::LoopLag => 0,
            Self::Memory => 1,
            Self::Descriptors => 2,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Memory,
            2 => Self::Descriptors,
            _ => Self::LoopLag,
        }
    }
}

/// How the proxy is doing, at its worst since the last update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// How late the slowest event loop ran.
    pub loop_lag: Duration,
    /// Memory used ÷ memory that may be used.
    pub memory_used_ratio: f64,
    /// Descriptors open ÷ descriptors that may be open.
    pub descriptors_used_ratio: f64,
}

/// Why a tier is shed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shed {
    /// What runs short.
    pub what: Resource,
    /// How it was when the tiers shed were last decided, in its own unit.
    pub value: f64,
    /// From where on this tier is shed.
    pub threshold: f64,
}

/// Who is still admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// The number of tiers admitted, counted from the most important.
    pub admitted: u32,
    /// The number of tiers there are.
    pub tiers: u32,
}

/// The proxy's protection of itself.
#[derive(Debug)]
pub struct Protection {
    /// Tiers from this number on are shed; [`ALL`] while none is.
    admitted: AtomicU32,
    tiers: AtomicU32,
    what: AtomicU8,
    /// The bits of an `f64`.
    value: AtomicU64,
    state: Mutex<State>,
}

/// No tier has this number, so that nothing is shed by mistake while their number changes.
const ALL: u32 = u32::MAX;

#[derive(Debug, Default)]
struct State {
    /// The number of tiers shed.
    shed: u32,
    /// Since when one less would do.
    calm_since: Option<Instant>,
}

impl Protection {
    /// Admits all of `tiers`; none at all counts as one.
    #[must_use]
    pub fn new(tiers: u32) -> Self {
        Self {
            admitted: AtomicU32::new(ALL),
            tiers: AtomicU32::new(tiers.max(1)),
            what: AtomicU8::new(Resource::LoopLag.code()),
            value: AtomicU64::default(),
            state: Mutex::default(),
        }
    }

    /// Whether a request of `tier`, zero being the most important, may pass. One load while it may.
    ///
    /// # Errors
    /// While the tier is shed.
    pub fn admits(&self, tier: u32) -> Result<(), Shed> {
        if tier < self.admitted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = Resource::from_code(self.what.load(Ordering::Relaxed));
        let Bounds { soft, hard } = what.bounds();
        let tiers = self.tiers.load(Ordering::Relaxed);
        let step = step(tiers.saturating_sub(tier).max(1), tiers);
        Err(Shed {
            what,
            value: f64::from_bits(self.value.load(Ordering::Relaxed)),
            threshold: soft + (hard - soft) * step,
        })
    }

    /// Decides anew. To be called by one thread, about ten times a second.
    pub fn update(&self, load: Load, now: Instant) -> Cutoff {
        let mut state = self.lock();
        let tiers = self.tiers.load(Ordering::Relaxed);
        let (what, value, pressure) = worst(load);
        if state.shed < tiers && pressure >= step(state.shed + 1, tiers) {
            *state = State {
                shed: state.shed + 1,
                calm_since: None,
            };
        } else if state.shed > 0 && pressure < step(state.shed, tiers) - MARGIN {
            let since = *state.calm_since.get_or_insert(now);
            if now.since(since) >= CALM {
                *state = State {
                    shed: state.shed - 1,
                    calm_since: None,
                };
            }
        } else {
            state.calm_since = None;
        }
        // What is told keeps to the time the shedding was needed, not to the calm that followed it.
        if pressure >= 0.0 {
            self.what.store(what.code(), Ordering::Relaxed);
            self.value.store(value.to_bits(), Ordering::Relaxed);
        }
        self.cut_off(state.shed, tiers)
    }

    /// Takes over another number of tiers. As many are shed as before, if there are as many.
    pub fn set_tiers(&self, tiers: u32) {
        let mut state = self.lock();
        let tiers = tiers.max(1);
        state.shed = state.shed.min(tiers);
        self.tiers.store(tiers, Ordering::Relaxed);
        self.cut_off(state.shed, tiers);
    }

    fn cut_off(&self, shed: u32, tiers: u32) -> Cutoff {
        let admitted = tiers - shed;
        let below = if shed == 0 { ALL } else { admitted };
        self.admitted.store(below, Ordering::Relaxed);
        Cutoff { admitted, tiers }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pressure from which on `shed` of `tiers` are shed: zero is the soft bound, one the hard.
fn step(shed: u32, tiers: u32) -> f64 {
    if shed >= tiers {
        1.0
    } else {
        f64::from(shed.saturating_sub(1)) / f64::from(tiers - 1)
    }
}

/// The resource under the most pressure, its value, and the pressure: zero at the soft bound, one at the hard.
fn worst(load: Load) -> (Resource, f64, f64) {
    let pressure = |what: Resource, value: f64| {
        let Bounds { soft, hard } = what.bounds();
        (what, value, (value - soft) / (hard - soft))
    };
    let lag = pressure(Resource::LoopLag, load.loop_lag.as_secs_f64());
    let memory = pressure(Resource::Memory, load.memory_used_ratio);
    let descriptors = pressure(Resource::Descriptors, load.descriptors_used_ratio);
    [memory, descriptors].into_iter().fold(
        lag,
        |worst, other| if other.2 > worst.2 { other } else { worst },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const CRITICAL: u32 = 0;
    const STANDARD: u32 = 1;
    const BATCH: u32 = 2;

    fn lag(millis: u64) -> Load {
        Load {
            loop_lag: Duration::from_millis(millis),
            ..Load::default()
        }
    }

    fn memory(ratio: f64) -> Load {
        Load {
            memory_used_ratio: ratio,
            ..Load::default()
        }
    }

    /// The tiers admitted after `load` lasted for `time`.
    fn after(protection: &Protection, load: Load, now: &mut Instant, time: Duration) -> u32 {
        let end = now.after(time);
        let mut admitted = protection.update(load, *now).admitted;
        while *now < end {
            *now = now.after(TICK);
            admitted = protection.update(load, *now).admitted;
        }
        admitted
    }

    #[test]
    fn tiers_are_shed_from_the_least_important_as_pressure_rises() {
        let second = Duration::from_secs(1);
        for (load, admitted) in [
            (lag(49), 3),
            (lag(51), 2),
            (lag(270), 2),
            (lag(280), 1),
            (lag(499), 1),
            (lag(501), 0),
            (memory(0.84), 3),
            (memory(0.86), 2),
            (memory(0.94), 1),
            (memory(0.96), 0),
            (
                Load {
                    descriptors_used_ratio: 0.91,
                    ..lag(60)
                },
                1,
            ),
        ] {
            let protection = Protection::new(3);
            let mut now = Instant::ZERO;
            assert_eq!(
                after(&protection, load, &mut now, second),
                admitted,
                "{load:?}"
            );
        }
    }

    #[test]
    fn a_pause_that_is_over_costs_the_least_important_tier_only() {
        let protection = Protection::new(3);
        let mut now = Instant::ZERO;
        assert_eq!(protection.update(lag(5_000), now).admitted, 2);
        now = now.after(TICK);
        assert_eq!(protection.update(lag(0), now).admitted, 2);
        assert_eq!(after(&protection, lag(0), &mut now, CALM), 3);
    }

    #[test]
    fn what_is_shed_comes_back_one_tier_a_second_and_only_well_below_its_step() {
        let protection = Protection::new(3);
        let mut now = Instant::ZERO;
        assert_eq!(after(&protection, lag(600), &mut now, CALM), 0);
        assert_eq!(
            after(&protection, lag(480), &mut now, CALM * 5),
            0,
            "within the margin"
        );
        assert_eq!(after(&protection, lag(0), &mut now, CALM), 1);
        assert_eq!(after(&protection, lag(0), &mut now, CALM + TICK), 2);
        assert_eq!(after(&protection, lag(0), &mut now, CALM + TICK), 3);
    }

    #[test]
    fn a_relapse_starts_the_calm_over() {
        let protection = Protection::new(3);
        let mut now = Instant::ZERO;
        protection.update(lag(60), now);
        for _ in 0..10 {
            let almost = CALM - TICK;
            assert_eq!(after(&protection, lag(0), &mut now, almost), 2);
            assert_eq!(after(&protection, lag(60), &mut now, TICK), 2);
        }
    }

    #[test]
    fn a_refusal_names_what_runs_short_and_the_threshold_of_its_tier() {
        let protection = Protection::new(3);
        assert_eq!(protection.admits(7), Ok(()), "nothing is short");
        let mut now = Instant::ZERO;
        after(&protection, memory(0.92), &mut now, CALM);
        assert_eq!(protection.admits(CRITICAL), Ok(()));
        let standard = protection.admits(STANDARD).unwrap_err();
        assert_eq!(standard.what, Resource::Memory);
        assert!((standard.value - 0.92).abs() < 1e-9 && (standard.threshold - 0.9).abs() < 1e-9);
        let batch = protection.admits(BATCH).unwrap_err();
        assert!((batch.threshold - 0.85).abs() < 1e-9);
        assert!(
            protection.admits(7).is_err(),
            "a tier nobody knows matters least"
        );
    }

    #[test]
    fn a_single_tier_is_shed_at_the_hard_bound_only() {
        let protection = Protection::new(0);
        let mut now = Instant::ZERO;
        assert_eq!(after(&protection, memory(0.94), &mut now, CALM), 1);
        assert_eq!(after(&protection, memory(0.95), &mut now, CALM), 0);
    }

    #[test]
    fn another_number_of_tiers_keeps_as_many_shed() {
        let protection = Protection::new(3);
        protection.update(lag(60), Instant::ZERO);
        protection.set_tiers(5);
        assert_eq!(protection.admits(3), Ok(()));
        assert!(protection.admits(4).is_err());
        protection.set_tiers(1);
        assert!(protection.admits(0).is_err());
    }

    proptest! {
        #[test]
        fn the_most_important_tier_is_shed_only_after_the_hard_bound_was_reached(
            lags in proptest::collection::vec(0..700_u64, 1..200),
        ) {
            let protection = Protection::new(3);
            let (mut now, mut before, mut reached) = (Instant::ZERO, 3_u32, false);
            for millis in lags {
                now = now.after(TICK);
                let admitted = protection.update(lag(millis), now).admitted;
                prop_assert!(admitted.abs_diff(before) <= 1);
                reached = millis >= 500 || (reached && before == 0);
                prop_assert!(admitted > 0 || reached);
                prop_assert!(millis >= 50 || admitted >= before, "shed without need");
                before = admitted;
            }
        }
    }
}
