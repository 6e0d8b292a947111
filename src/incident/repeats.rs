//! Who asks again for what has just failed: the traffic that a failure itself makes.
//!
//! A request is a repeat when its client's last request for the same target failed or was refused, and it comes sooner
//! than that client usually asks for that target. A client that asks for the same thing all day long at the same
//! pace repeats nothing, however much of it fails. A table of fixed size, one entry a place: who has not asked
//! for long makes room. Depends on the clock's types.

use std::time::Duration;

use crate::clock::Instant;

const PLACES: usize = 1 << 14;
/// What comes later than this is a new request.
const SOON: Duration = Duration::from_secs(10);
/// Sooner than this part of the usual pause is sooner.
const SOONER: f64 = 0.5;
/// The weight of one pause in the usual.
const WEIGHT: f64 = 0.2;
/// Pauses that make a habit.
const HABIT: u8 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    who: u64,
    last: Instant,
    /// Seconds between two requests of which the first went well.
    usual: f64,
    pauses: u8,
    failed: bool,
}

/// What was asked for last, by client and target.
#[derive(Debug)]
pub struct Repeats(Vec<Place>);

impl Default for Repeats {
    fn default() -> Self {
        Self(vec![Place::default(); PLACES])
    }
}

impl Repeats {
    /// Takes in a request for `target` by `client` that came at `now`; whether it repeats one that failed. `failed`:
    /// whether it fared so itself.
    pub fn take(&mut self, client: u64, target: u64, now: Instant, failed: bool) -> bool {
        if target == 0 {
            return false;
        }
        let who = (client ^ target.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = usize::try_from(who >> 50).unwrap_or_default() % PLACES;
        let Some(place) = self.0.get_mut(index) else {
            return false;
        };
        if place.who != who {
            *place = Place {
                who,
                last: now,
                failed,
                ..Place::default()
            };
            return false;
        }
        let pause = now.since(place.last);
        let seconds = pause.as_secs_f64();
        let known = place.pauses >= HABIT;
        let repeat = place.failed && pause < SOON && known && seconds < place.usual * SOONER;
        if !place.failed {
            place.usual = if place.pauses == 0 {
                seconds
            } else {
                place.usual + (seconds - place.usual) * WEIGHT
            };
            place.pauses = place.pauses.saturating_add(1);
        }
        place.last = now;
        place.failed = failed;
        repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn who_asks_again_sooner_than_usual_repeats() {
        let mut repeats = Repeats::default();
        for second in 0..10 {
            assert!(!repeats.take(1, 7, at(second * 1_000), second == 9));
        }
        assert!(repeats.take(1, 7, at(9_100), true));
        assert!(repeats.take(1, 7, at(9_200), false));
        assert!(!repeats.take(1, 7, at(9_300), false), "the last went well");
        assert!(!repeats.take(2, 7, at(9_300), false));
    }

    #[test]
    fn who_keeps_to_its_pace_repeats_nothing() {
        let mut repeats = Repeats::default();
        for step in 0..100 {
            assert!(!repeats.take(1, 7, at(step * 10), step > 50));
        }
    }
}
