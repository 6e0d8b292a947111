//! At what pace clients ask for the same: who asks again for what has just failed makes traffic out of a failure itself.
//!
//! A request is hasty when it comes sooner than four fifths of the time that its client usually leaves between two for that target, of which
//! the first went well. Chance, and a client that asks for more of everything, make requests hasty after successes and
//! failures alike; who repeats what failed is hasty after failures. A table of fixed size, one entry a place: who has
//! not asked for long makes room. Depends on the clock's types.

use std::time::Duration;

use super::span::Pace;
use crate::clock::Instant;

const PLACES: usize = 1 << 14;
/// What comes later than this is a new request.
const SOON: Duration = Duration::from_secs(10);
/// Sooner than this part of the usual pause is sooner.
const SOONER: f64 = 0.8;
/// The weight of one pause in the usual, at least: pauses vary by as much as they are long, and what is usual must not.
const WEIGHT: f64 = 0.1;
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
    /// Takes in a request for `target` by `client` that came at `now`, and says what it was to the last of these; none
    /// before the client's habit is known. `failed`: whether it was refused or failed itself.
    pub fn take(&mut self, client: u64, target: u64, now: Instant, failed: bool) -> Option<Pace> {
        if target == 0 {
            return None;
        }
        let who = (client ^ target.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = usize::try_from(who >> 50).unwrap_or_default() % PLACES;
        let place = self.0.get_mut(index)?;
        if place.who != who {
            *place = Place {
                who,
                last: now,
                failed,
                ..Place::default()
            };
            return None;
        }
        let pause = now.since(place.last);
        let seconds = pause.as_secs_f64();
        let pace = (place.pauses >= HABIT).then(|| Pace {
            after_failure: place.failed,
            hasty: pause < SOON && seconds < place.usual * SOONER,
        });
        if !place.failed {
            place.pauses = place.pauses.saturating_add(1);
            let weight = f64::from(place.pauses).recip().max(WEIGHT);
            place.usual += (seconds - place.usual) * weight;
        }
        place.last = now;
        place.failed = failed;
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn who_asks_again_sooner_than_usual_is_hasty() {
        let mut repeats = Repeats::default();
        let mut hasty = |at, failed| {
            repeats
                .take(1, 7, at, failed)
                .map(|pace| (pace.after_failure, pace.hasty))
        };
        for second in 0..10 {
            let known = (second > 3).then_some((false, false));
            assert_eq!(hasty(at(second * 1_000), second == 9), known, "{second}");
        }
        assert_eq!(hasty(at(9_100), true), Some((true, true)));
        assert_eq!(hasty(at(9_200), false), Some((true, true)));
        assert_eq!(
            hasty(at(9_300), false),
            Some((false, true)),
            "the last went well"
        );
        assert_eq!(repeats.take(2, 7, at(9_300), false), None);
    }

    #[test]
    fn who_keeps_to_its_pace_is_not() {
        let mut repeats = Repeats::default();
        for step in 0..100 {
            let pace = repeats.take(1, 7, at(step * 10), step > 50);
            assert!(pace.is_none_or(|pace| !pace.hasty));
        }
    }
}
