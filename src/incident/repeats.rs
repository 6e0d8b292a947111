//! At what pace clients ask for the same: who asks again for what has just failed makes traffic out of a failure itself.
//!
//! A request is hasty when it comes sooner after the end of the one before it than four fifths of the time that its client
//! usually leaves there for that target, where the first went well. Chance, and a client that asks for more of everything,
//! make requests hasty after successes and failures alike; who repeats what failed is hasty after failures. Whatever was
//! under way already when the other ended does not follow it, and says nothing.
//!
//! Workers tell of their requests in batches, a tenth of a second each, and a repeat often comes sooner than that: so what
//! they tell is held until the batches of all of them are here, and taken in the order in which it ended. A table of fixed
//! size, one entry a place: who has not asked for long makes room. Pure.

use super::span::Pace;

const PLACES: usize = 1 << 14;
/// Microseconds for which requests are held: no worker tells of its own later, unless it is stuck.
const HELD: u64 = 300_000;
/// Requests that are held at most. Beyond it those that are here are taken in without those that are yet to come.
const MOST: usize = 1 << 14;
/// What comes later than this, in microseconds, is a new request.
const SOON: u64 = 10_000_000;
/// Sooner than this part of the usual pause is sooner.
const SOONER: f64 = 0.8;
/// The weight of one pause in the usual, at least: pauses vary by as much as they are long, and what is usual must not.
const WEIGHT: f64 = 0.1;
/// Pauses that make a habit.
const HABIT: u8 = 3;

/// A request, as far as its pace goes.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// By whom.
    pub client: u64,
    /// For what; 0 for nothing that is known.
    pub target: u64,
    /// The upstream it was for.
    pub upstream: usize,
    /// When it came and when it was over: microseconds since the Unix epoch.
    pub came: u64,
    /// See `came`.
    pub ended: u64,
    /// It was refused, or failed, or its client gave up.
    pub failed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    who: u64,
    /// When the last was over.
    ended: u64,
    /// Microseconds between the end of one that went well and the next.
    usual: f64,
    pauses: u8,
    failed: bool,
}

/// What was asked for last, by client and target.
#[derive(Debug)]
pub struct Repeats {
    places: Vec<Place>,
    held: Vec<Request>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            places: vec![Place::default(); PLACES],
            held: Vec::new(),
        }
    }
}

impl Repeats {
    /// Takes in a request, and says whether there is no room for another before [`Repeats::settle`].
    pub fn take(&mut self, asked: Request) -> bool {
        if asked.target != 0 {
            self.held.push(asked);
        }
        self.held.len() >= MOST
    }

    /// Tells `each` upstream what those requests were to the ones before them that have been held long enough at `now`
    /// (microseconds since the Unix epoch), or all if there is no room for more.
    pub fn settle(&mut self, now: u64, mut each: impl FnMut(usize, Pace)) {
        // What each worker told is in order already, and the stable sort makes use of that.
        self.held.sort_by_key(|asked| asked.ended);
        let all = self.held.len() >= MOST;
        let until = now.saturating_sub(HELD);
        let due = self
            .held
            .partition_point(|asked| all || asked.ended <= until);
        for asked in self.held.drain(..due) {
            if let Some(pace) = follow(&mut self.places, &asked) {
                each(asked.upstream, pace);
            }
        }
    }
}

/// What `asked` was to the last of its client for the same; none when it did not follow it, or before the client's habit is
/// known.
fn follow(places: &mut [Place], asked: &Request) -> Option<Pace> {
    let who = (asked.client ^ asked.target.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let index = usize::try_from(who >> 50).unwrap_or_default() % PLACES;
    let place = places.get_mut(index)?;
    if place.who != who {
        *place = Place {
            who,
            ended: asked.ended,
            failed: asked.failed,
            ..Place::default()
        };
        return None;
    }
    if asked.ended < place.ended {
        // The clock was turned back, and what was is as far away as that.
        place.ended = asked.ended;
        return None;
    }
    let pause = asked.came.checked_sub(place.ended)?;
    let micros = pause as f64;
    let pace = (place.pauses >= HABIT).then_some(Pace {
        after_failure: place.failed,
        hasty: pause < SOON && micros < place.usual * SOONER,
    });
    if !place.failed {
        place.pauses = place.pauses.saturating_add(1);
        let weight = f64::from(place.pauses).recip().max(WEIGHT);
        place.usual += (micros - place.usual) * weight;
    }
    place.ended = asked.ended;
    place.failed = asked.failed;
    pace
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that takes a millisecond.
    fn asked(millis: u64, failed: bool) -> Request {
        Request {
            client: 1,
            target: 7,
            upstream: 0,
            came: millis * 1_000,
            ended: millis * 1_000 + 1_000,
            failed,
        }
    }

    /// What the requests were, as after a failure and hasty.
    fn paces(asked: impl IntoIterator<Item = Request>) -> Vec<(bool, bool)> {
        let mut repeats = Repeats::default();
        for one in asked {
            assert!(!repeats.take(one));
        }
        let mut paces = Vec::new();
        repeats.settle(u64::MAX, |_, pace| {
            paces.push((pace.after_failure, pace.hasty));
        });
        paces
    }

    /// Ten that come each second, the last of which fails.
    fn a_habit() -> impl Iterator<Item = Request> {
        (0..10).map(|second| asked(second * 1_000, second == 9))
    }

    const CALM: [(bool, bool); 6] = [(false, false); 6];

    #[test]
    fn who_asks_again_sooner_than_usual_is_hasty() {
        let again = [(9_100, true), (9_200, false), (9_300, false)];
        let again = again.map(|(at, failed)| asked(at, failed));
        let found = paces(a_habit().chain(again));
        // The last follows one that went well.
        let hasty = [(true, true), (true, true), (false, true)];
        assert_eq!(found, [CALM.as_slice(), &hasty].concat());
    }

    #[test]
    fn who_keeps_to_its_pace_is_not() {
        let steady = (0..100).map(|step| asked(step * 10, step > 50));
        assert!(paces(steady).iter().all(|(_, hasty)| !hasty));
    }

    #[test]
    fn the_order_in_which_workers_tell_is_none() {
        let mut all: Vec<_> = a_habit().chain([asked(9_050, false)]).collect();
        all.reverse();
        assert_eq!(paces(all).last(), Some(&(true, true)));
    }

    #[test]
    fn what_was_under_way_already_repeats_nothing() {
        let mut slow = asked(8_990, false);
        slow.ended = 9_500_000;
        let found = paces(a_habit().chain([slow, asked(9_400, false)]));
        assert_eq!(found, [CALM.as_slice(), &[(true, true)]].concat());
    }

    #[test]
    fn a_clock_that_is_turned_back_ends_no_habit() {
        let mut repeats = Repeats::default();
        let mut told = Vec::new();
        for turned_back in [3_600_000, 0] {
            for mut one in a_habit() {
                one.came += turned_back * 1_000;
                one.ended += turned_back * 1_000;
                repeats.take(one);
            }
            repeats.settle(u64::MAX, |_, pace| told.push(pace.hasty));
        }
        assert_eq!(told, [false; 6 + 9]);
    }

    #[test]
    fn what_ended_just_now_waits_for_what_others_tell() {
        let mut repeats = Repeats::default();
        let told = |repeats: &mut Repeats, millis: u64| {
            let mut told = 0;
            repeats.settle(millis * 1_000, |_, _| told += 1);
            told
        };
        for one in a_habit() {
            repeats.take(one);
        }
        assert_eq!(told(&mut repeats, 9_000), 5);
        assert_eq!(told(&mut repeats, 9_300), 0);
        assert_eq!(told(&mut repeats, 9_301), 1);
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let mut repeats = Repeats::default();
        let full = (0..MOST as u64).map(|step| repeats.take(asked(step, false)));
        assert_eq!(full.filter(|full| *full).count(), 1);
        let mut told = 0;
        repeats.settle(0, |_, _| told += 1);
        assert_eq!(told, MOST - 1 - usize::from(HABIT));
        assert!(!repeats.take(asked(0, false)));
    }
}
