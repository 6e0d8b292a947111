//! What one client's requests show of its habits: trying again right after a failure, asking again and again
//! for what has not changed, coming back before it was told to.
//!
//! Each is seen in pairs of requests for the same target, of which a few are remembered: the last that failed,
//! and those asked for most in a row (by Misra and Gries, "Finding repeated elements", 1982: a target that is
//! not among them takes one step off the weakest). A failure accounts for one repeat at most, so a client that
//! goes on at its own pace while one request in a hundred fails is not taken for one that tries again; and
//! where the client's usual rate is known, it must ask for more than that.
//!
//! What it does badly: a client with thousands of targets in turn is seen only while it repeats some of them
//! soon; requests that end on different workers within 100 ms may be seen in the wrong order, and then a pair
//! is missed. Depends on [`Slots`].

use std::time::Duration;

use super::slots::Slots;

/// Targets remembered for each habit.
const TARGETS: usize = 4;
/// Time is counted in slots of ten seconds,
pub const SLOT: Duration = Duration::from_secs(10);
/// and a habit is what shows in the last six of them.
pub const MINUTE: usize = 6;
/// One more slot than is read, which is filling.
const SLOTS: usize = MINUTE + 1;

/// A repeat within this time after a failure is another try.
const SOON: u64 = 10_000_000;
/// Tries again in a minute that say something.
const MIN_REPEATS: u64 = 20;
/// The share of its requests that are tries again.
const REPEATED: f64 = 1.0 / 3.0;
/// How far above its usual rate it is then.
const ABOVE_USUAL: f64 = 1.5;
/// The same answers in a row that make a poll.
const MIN_STREAK: u16 = 10;
/// The mean deviation from the mean pace, as a share of it, up to which a pace is steady.
const STEADY: f64 = 0.25;
/// Whoever asks more often than this is busy with something, not polling.
const MIN_PACE: f64 = 100_000.0;
/// Returns before the time in a minute that say something.
const MIN_EARLY: u64 = 10;
/// The share of what it was told that it ignored.
const IGNORED: f64 = 0.5;
/// What the newest pace counts for in the mean.
const NEWEST: f64 = 0.2;

/// One request that has ended. Times in microseconds, from any beginning.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When it began.
    pub began: u64,
    /// When its answer was whole.
    pub ended: u64,
    /// What it was for, hashed; 0: not known.
    pub target: u64,
    /// Whether it failed in a way that invites another try.
    pub failed: bool,
    /// The `Retry-After` it was told, in seconds; 0: none.
    pub retry_after: u32,
    /// Of an unconditional GET that was answered with a validator, that; 0: of anything else.
    pub validator: u32,
}

/// The habits of one client.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    requests: Slots<SLOTS>,
    /// Requests in a slot, as long as few failed.
    usual: f32,
    /// Of most clients there is nothing to remember.
    memory: Option<Box<Memory>>,
}

/// What is remembered of a client that failed, or was given a validator.
#[derive(Clone, Debug, Default)]
struct Memory {
    failed: [Failed; TARGETS],
    /// Which of [`Self::failed`] is replaced next.
    oldest: u8,
    polled: [Polled; TARGETS],
    failures: Slots<SLOTS>,
    repeats: Slots<SLOTS>,
    told: Slots<SLOTS>,
    early: Slots<SLOTS>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failed {
    target: u64,
    ended: u64,
    /// Until when it was told to stay away; 0: it was not told, or was seen back before.
    until: u64,
    /// Whether another try has been seen.
    repeated: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Polled {
    target: u64,
    began: u64,
    validator: u32,
    streak: u16,
    /// Mean time between two, and mean deviation from it.
    pace: f32,
    deviation: f32,
}

/// A client that tries again right after failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retrying {
    /// Tries again, in a minute.
    pub repeats: u64,
    /// Requests for each that was not one.
    pub amplification: f64,
}

/// A client that asks for what it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polling {
    /// The same answers in a row.
    pub repeats: u16,
    /// The time between two requests.
    pub pace: Duration,
}

/// A client that does not wait as told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ignoring {
    /// Times it came back early, in a minute.
    pub early: u64,
    /// Times it was told.
    pub told: u64,
}

impl Habits {
    /// Takes in a request that ended in `slot`.
    pub fn observe(&mut self, call: &Call, slot: u32) {
        self.requests.add(slot, 1);
        let notable = call.failed || call.retry_after > 0 || call.validator != 0;
        if call.target == 0 || (self.memory.is_none() && !notable) {
            return;
        }
        let memory = self.memory.get_or_insert_default();
        memory.compare(call, slot);
        if call.failed || call.retry_after > 0 {
            memory.fail(call, slot);
        }
        if call.validator != 0 {
            memory.poll(call);
        }
    }

    /// Ends the slot before `slot`: learns the usual rate from it, unless much failed.
    pub fn turn(&mut self, slot: u32) {
        let Some(ended) = slot.checked_sub(1) else {
            return;
        };
        let requests = self.requests.sum(ended, 1);
        let failures = self
            .memory
            .as_ref()
            .map_or(0, |one| one.failures.sum(ended, 1));
        if requests > 0 && failures * 10 <= requests {
            let requests = narrow(requests);
            let usual = self.usual;
            self.usual = if usual > 0.0 {
                usual + 0.2 * (requests - usual)
            } else {
                requests
            };
        }
    }

    /// Requests in the `slots` before `slot`, and those in it.
    #[must_use]
    pub fn requests(&self, slot: u32, slots: usize) -> u64 {
        self.requests.sum(slot, slots)
    }

    /// Whether it tries again right after failures.
    #[must_use]
    pub fn retrying(&self, slot: u32) -> Option<Retrying> {
        let repeats = self.memory.as_ref()?.repeats.sum(slot, MINUTE);
        if repeats < MIN_REPEATS {
            return None;
        }
        let requests = self.requests.sum(slot, MINUTE);
        let usual = f64::from(self.usual) * MINUTE as f64;
        let asked = f64::from(narrow(requests));
        let tried = f64::from(narrow(repeats));
        let more = usual <= 0.0 || asked > ABOVE_USUAL * usual;
        (more && tried >= REPEATED * asked).then(|| Retrying {
            repeats,
            amplification: asked / (asked - tried).max(1.0),
        })
    }

    /// Whether it asks at a steady pace, up to `now`, for what it has.
    #[must_use]
    pub fn polling(&self, now: u64) -> Option<Polling> {
        let polled = self.memory.as_ref()?.polled.iter();
        let polled = polled.max_by_key(|polled| polled.streak)?;
        let (pace, deviation) = (f64::from(polled.pace), f64::from(polled.deviation));
        let idle = Duration::from_micros(now.saturating_sub(polled.began));
        let steady = polled.streak >= MIN_STREAK
            && pace >= MIN_PACE
            && deviation <= STEADY * pace
            && idle.as_secs_f64() * 1e6 <= 3.0 * pace + 1e6;
        steady.then(|| Polling {
            repeats: polled.streak,
            pace: Duration::from_secs_f64(pace / 1e6),
        })
    }

    /// Whether it comes back before the time it was told.
    #[must_use]
    pub fn ignoring(&self, slot: u32) -> Option<Ignoring> {
        let memory = self.memory.as_ref()?;
        let early = memory.early.sum(slot, MINUTE);
        let told = memory.told.sum(slot, MINUTE);
        let ignores = f64::from(narrow(early)) >= IGNORED * f64::from(narrow(told));
        (early >= MIN_EARLY && ignores).then_some(Ignoring { early, told })
    }
}

impl Memory {
    /// Holds a request against the failures before it.
    fn compare(&mut self, call: &Call, slot: u32) {
        // What began before the failure was known is no answer to it; and one request answers one failure.
        let answers = |failed: &&mut Failed| {
            failed.target == call.target && call.began >= failed.ended && failed.ended > 0
        };
        let mut failures = self.failed.iter_mut().filter(answers);
        if let Some(failed) = failures.find(|failed| !failed.repeated) {
            failed.repeated = true;
            let soon = call.began - failed.ended <= SOON;
            self.repeats.add(slot, u32::from(soon));
        }
        let mut failures = self.failed.iter_mut().filter(answers);
        if let Some(failed) = failures.find(|failed| failed.until > call.began) {
            failed.until = 0;
            self.early.add(slot, 1);
        }
    }

    fn fail(&mut self, call: &Call, slot: u32) {
        self.failures.add(slot, u32::from(call.failed));
        self.told.add(slot, u32::from(call.retry_after > 0));
        let told = u64::from(call.retry_after) * 1_000_000;
        let at = usize::from(self.oldest) % TARGETS;
        if let Some(place) = self.failed.get_mut(at) {
            *place = Failed {
                target: call.target,
                ended: call.ended,
                until: if told > 0 { call.ended + told } else { 0 },
                repeated: !call.failed,
            };
        }
        self.oldest = self.oldest.wrapping_add(1);
    }

    fn poll(&mut self, call: &Call) {
        if let Some(polled) = self.polled.iter_mut().find(|p| p.target == call.target) {
            polled.again(call);
            return;
        }
        if let Some(weakest) = self.polled.iter_mut().min_by_key(|polled| polled.streak) {
            if weakest.streak == 0 {
                *weakest = Polled {
                    target: call.target,
                    began: call.began,
                    validator: call.validator,
                    ..Polled::default()
                };
            } else {
                weakest.streak -= 1;
            }
        }
    }
}

impl Polled {
    fn again(&mut self, call: &Call) {
        let gap = call.began.saturating_sub(self.began);
        self.began = self.began.max(call.began);
        if self.validator != call.validator {
            self.validator = call.validator;
            self.streak = 0;
            return;
        }
        self.streak = self.streak.saturating_add(1);
        let gap = f64::from(narrow(gap));
        let (pace, deviation) = (f64::from(self.pace), f64::from(self.deviation));
        if self.streak == 1 {
            self.set(gap, 0.0);
        } else {
            let off = (gap - pace).abs();
            self.set(
                pace + NEWEST * (gap - pace),
                deviation + NEWEST * (off - deviation),
            );
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits suffice for a pace"
    )]
    const fn set(&mut self, pace: f64, deviation: f64) {
        self.pace = pace as f32;
        self.deviation = deviation as f32;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count that has more than seven digits needs no more"
)]
const fn narrow(count: u64) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn slot_of(micros: u64) -> u32 {
        u32::try_from(micros / (10 * SECOND)).unwrap()
    }

    fn call(began: u64, target: u64) -> Call {
        Call {
            began,
            ended: began + 5_000,
            target,
            failed: false,
            retry_after: 0,
            validator: 0,
        }
    }

    /// Feeds calls in the order of time, as the clock that ends slots would.
    struct World {
        habits: Habits,
        now: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                habits: Habits::default(),
                now: 10 * SECOND,
            }
        }

        fn call(&mut self, call: &Call) {
            let before = slot_of(self.now);
            self.now = call.began;
            for turned in before + 1..=slot_of(self.now) {
                self.habits.turn(turned);
            }
            self.habits.observe(call, slot_of(self.now));
        }

        fn slot(&self) -> u32 {
            slot_of(self.now)
        }
    }

    #[test]
    fn three_tries_for_each_request_are_retrying() {
        let mut world = World::new();
        for request in 0..60 {
            let began = (20 + request) * SECOND;
            for attempt in 0..3 {
                let mut call = call(began + attempt * 50_000, request);
                call.failed = true;
                world.call(&call);
            }
        }
        let retrying = world.habits.retrying(world.slot()).unwrap();
        assert!((2.9..3.2).contains(&retrying.amplification), "{retrying:?}");
        assert!(retrying.repeats > 80, "{retrying:?}");
    }

    #[test]
    fn whoever_goes_on_as_before_while_all_fails_is_not() {
        let mut world = World::new();
        for step in 0..3_000 {
            let mut call = call(20 * SECOND + step * 100_000, 7);
            call.failed = step > 1_000;
            world.call(&call);
            assert_eq!(world.habits.retrying(world.slot()), None);
        }
    }

    #[test]
    fn one_failure_in_ten_with_its_retry_is_not() {
        let mut world = World::new();
        for step in 0..3_000 {
            let mut first = call(20 * SECOND + step * 50_000, step);
            first.failed = step % 10 == 0;
            world.call(&first);
            if first.failed {
                world.call(&call(first.ended + 10_000, step));
            }
            assert_eq!(world.habits.retrying(world.slot()), None);
        }
    }

    #[test]
    fn a_steady_get_of_the_same_answer_is_polling_until_it_stops() {
        let mut world = World::new();
        let mut rng = fastrand::Rng::with_seed(3);
        for step in 0..12 {
            let mut poll = call(20 * SECOND + step * 2 * SECOND + rng.u64(..SECOND / 5), 7);
            poll.validator = 42;
            world.call(&poll);
            // Other requests in between do not hide it.
            world.call(&call(world.now + 10_000, 100 + step));
        }
        let polling = world.habits.polling(world.now).unwrap();
        assert!(polling.repeats >= 10, "{polling:?}");
        assert!(
            (1.8..2.2).contains(&polling.pace.as_secs_f64()),
            "{polling:?}"
        );
        assert_eq!(world.habits.polling(world.now + 10 * SECOND), None);
    }

    #[test]
    fn answers_that_change_conditional_requests_and_bursts_are_not_polling() {
        let mut world = World::new();
        let mut rng = fastrand::Rng::with_seed(4);
        let mut bursty = 20 * SECOND;
        for step in 0..200_u32 {
            let began = 20 * SECOND + u64::from(step) * SECOND;
            let mut changing = call(began, 1);
            changing.validator = 1 + step / 5;
            world.call(&changing);
            // What was conditional, or had no validator, is told as 0.
            world.call(&call(began, 2));
            bursty = began + rng.u64(..SECOND * 9 / 10);
            let mut other = call(bursty, 3);
            other.validator = 9;
            for _ in 0..1 + 4 * (step % 2) {
                world.call(&other);
            }
            assert_eq!(world.habits.polling(world.now), None, "{step}");
        }
        assert!(bursty > 0);
    }

    #[test]
    fn coming_back_before_the_time_told_is_ignoring_it() {
        let mut world = World::new();
        for step in 0..30 {
            let mut told = call(20 * SECOND + step * SECOND, 7);
            (told.failed, told.retry_after) = (true, 5);
            world.call(&told);
        }
        let ignoring = world.habits.ignoring(world.slot()).unwrap();
        assert_eq!((ignoring.early, ignoring.told), (29, 30));
    }

    #[test]
    fn coming_back_in_time_or_with_another_request_is_not() {
        let mut world = World::new();
        for step in 0..30 {
            let began = 20 * SECOND + step * 6 * SECOND;
            let mut told = call(began, 7);
            (told.failed, told.retry_after) = (true, 5);
            world.call(&told);
            // Sent before the answer was known, and sent for something else.
            world.call(&call(began + 1_000, 7));
            world.call(&call(began + SECOND, 8));
        }
        assert_eq!(world.habits.ignoring(world.slot()), None);
    }
}
