//! Which endpoint a request goes to.
//!
//! Power of two choices (Mitzenmacher 2001) by peak EWMA (Finagle) or by requests in flight, round-robin by
//! weight, and consistent hashing with bounded load (Mirrokni, Thorup, Zadimoghaddam 2018) on nginx's ketama
//! ring. Two choices rather than the best of all, because many workers that read the same numbers and all
//! choose the best would stampede it.
//!
//! The cost of an endpoint is `latency × (1 + in_flight ÷ weight)` with weights relative to their mean. With
//! equal weights that is Finagle's `latency × (in_flight + 1)`; with unequal ones an idle pool ties instead of
//! sending everything to the heaviest, so the sampling, which is by weight, decides. Failures make an endpoint dearer
//! ([`PeakEwma::penalty`]). An endpoint that answers nothing has no latency to show, and its average fades while
//! requests gather there: so the latency is taken to be no less than the time since it was last heard of
//! ([`Slot::silence`]).
//!
//! A [`Pool`] is an immutable list of members over shared atomics ([`Slot`]). Picking reads them without a
//! lock and allocates nothing; the caller counts the request in afterwards, so two workers may choose the
//! same endpoint by the same numbers. That is the race two choices are there to make harmless.
//!
//! Depends on [`super::ewma`] and the clock's [`Instant`].

mod ring;
mod rotation;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::ring::Ring;
use self::rotation::Rotation;
use super::ewma::PeakEwma;
use crate::clock::Instant;

/// One pick in this many ignores the cost, so that an endpoint judged slow is seen to recover.
const EXPLORE_ONE_IN: u32 = 100;

/// The share of its weight with which an endpoint begins its slow start.
const RAMP_FLOOR: f64 = 0.1;

/// How far above its fair share of the load a hashed endpoint may go.
const LOAD_FACTOR: f64 = 1.25;

/// Draws by weight before falling back to a scan; only a pool with few eligible members needs so many.
const DRAWS: u32 = 16;

/// How a pool chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Power of two choices by latency and load.
    PeakEwma,
    /// Power of two choices by load.
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// By key, on a ring; a request without a key is balanced by load.
    Hash,
}

/// What the balancer knows about one endpoint: atomics that every worker shares.
#[derive(Debug)]
pub struct Slot {
    in_flight: AtomicU32,
    healthy: AtomicBool,
    /// When it came back, in nanoseconds; zero when it never was away.
    recovered: AtomicU64,
    /// Requests that it has not begun to answer.
    awaited: AtomicU32,
    /// Since when it answers nothing, in nanoseconds; zero when nobody waits.
    silent: AtomicU64,
    latency: PeakEwma,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            healthy: AtomicBool::new(true),
            recovered: AtomicU64::new(0),
            awaited: AtomicU32::new(0),
            silent: AtomicU64::new(0),
            latency: PeakEwma::default(),
        }
    }
}

impl Slot {
    /// Requests it is working on.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in. Each call is answered by one [`Slot::leave`].
    pub fn enter(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.awaited.fetch_add(1, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) == 0 {
            self.silent.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
    }

    /// One of the requests is answered, or has failed; its response may go on.
    pub fn answered(&self, now: Instant) {
        let left = self.awaited.fetch_sub(1, Ordering::Relaxed) > 1;
        let silent = if left { now.as_nanos().max(1) } else { 0 };
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Counts a request out, which was answered or not.
    pub fn leave(&self, answered: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        // When nobody waits any more, its silence says nothing: clients give up now and then for reasons of their own.
        if !answered && self.awaited.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.silent.store(0, Ordering::Relaxed);
        }
    }

    /// For how long it has answered nothing, though somebody waited for it all that time.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        match self.silent.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Instant::from_nanos(since)),
        }
    }

    /// Its latency as the balancer sees it.
    #[must_use]
    pub const fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// Whether its checks let it take requests.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Sets its health and says whether that changed it; coming back begins its slow start. The pools it is
    /// a member of learn of it by [`Pool::refresh`].
    pub fn set_healthy(&self, healthy: bool, now: Instant) -> bool {
        let was = self.healthy.swap(healthy, Ordering::Relaxed);
        if healthy && !was {
            self.returned(now);
        }
        was != healthy
    }

    /// Begins its slow start: it was away for another reason than its health.
    pub fn returned(&self, now: Instant) {
        self.recovered
            .store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// The share of its weight it gets at `now`: 10% as it comes back, all of it `slow_start` later.
    #[must_use]
    pub fn ramp(&self, slow_start: Duration, now: Instant) -> f64 {
        let recovered = self.recovered.load(Ordering::Relaxed);
        if recovered == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let since = now.since(Instant::from_nanos(recovered));
        if since >= slow_start {
            return 1.0;
        }
        let done = since.as_secs_f64() / slow_start.as_secs_f64();
        RAMP_FLOOR + (1.0 - RAMP_FLOOR) * done
    }
}

/// One member of a pool as its owner describes it.
#[derive(Debug)]
pub struct Member<E> {
    /// The endpoint.
    pub endpoint: Arc<E>,
    /// Its share relative to the others; above zero.
    pub weight: f64,
    /// Where it stands on the ring: its address, or for one without, [`stand_in`] of its name.
    pub place: SocketAddr,
}

/// A place on the ring for an endpoint without a socket address, the same in every process: an address in
/// `100::/64`, which RFC 6666 reserves for discarding, so no real endpoint has it.
#[must_use]
pub fn stand_in(name: &str) -> SocketAddr {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    SocketAddr::from(([1, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h], 0))
}

/// Why there is no endpoint to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// None is known: discovery has not found one yet.
    Unknown,
    /// Each one is unhealthy or excluded.
    NoneLeft,
}

impl Display for NoEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no endpoint is known",
            Self::NoneLeft => "every endpoint is unhealthy or was tried already",
        })
    }
}

impl std::error::Error for NoEndpoint {}

/// What one pick depends on besides the pool.
#[derive(Debug)]
pub struct Pick<'a, F> {
    /// The time now.
    pub now: Instant,
    /// Where chance comes from.
    pub rng: &'a mut fastrand::Rng,
    /// What [`Strategy::Hash`] hashes on.
    pub key: Option<u64>,
    /// Requests in flight over the whole pool, for the bound on a hashed endpoint's load.
    pub in_flight: u32,
    /// Says which members must not be chosen, such as those tried already.
    pub excluded: F,
}

/// A set of endpoints with a way to choose among them. Immutable but for the members' own atomics.
#[derive(Debug)]
pub struct Pool<E> {
    members: Box<[Member<E>]>,
    /// Running sums of the weights, for drawing by weight.
    cumulative: Box<[f64]>,
    total_weight: f64,
    chooser: Chooser,
    slow_start: Duration,
    /// What [`Pool::refresh`] last counted.
    panicking: AtomicBool,
    eligible_weight: AtomicU64,
    refreshing: Mutex<()>,
}

#[derive(Debug)]
enum Chooser {
    PeakEwma,
    LeastRequest,
    RoundRobin(Rotation),
    Hash(Ring),
}

impl<E: AsRef<Slot>> Pool<E> {
    /// A pool of `members`. Weights that are not finite and above zero count as one.
    #[must_use]
    pub fn new(mut members: Vec<Member<E>>, strategy: Strategy, slow_start: Duration) -> Self {
        let mut total_weight = 0.0;
        let mut cumulative = Vec::with_capacity(members.len());
        for member in &mut members {
            if !member.weight.is_finite() || member.weight <= 0.0 {
                member.weight = 1.0;
            }
            total_weight += member.weight;
            cumulative.push(total_weight);
        }
        let chooser = match strategy {
            Strategy::PeakEwma => Chooser::PeakEwma,
            Strategy::LeastRequest => Chooser::LeastRequest,
            Strategy::RoundRobin => {
                Chooser::RoundRobin(Rotation::new(members.iter().map(|m| m.weight)))
            }
            Strategy::Hash => Chooser::Hash(Ring::new(members.iter().map(|m| (m.place, m.weight)))),
        };
        let pool = Self {
            members: members.into(),
            cumulative: cumulative.into(),
            total_weight,
            chooser,
            slow_start,
            panicking: AtomicBool::new(false),
            eligible_weight: AtomicU64::new(total_weight.to_bits()),
            refreshing: Mutex::new(()),
        };
        pool.refresh();
        pool
    }

    /// The members, in the order picks are numbered.
    #[must_use]
    pub fn members(&self) -> &[Member<E>] {
        &self.members
    }

    /// Whether health is ignored because more than half of the endpoints are out: the rest could not carry
    /// the load, and so many failing at once more likely means that the checks are wrong.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.panicking.load(Ordering::Relaxed)
    }

    /// Counts the healthy members again. To be called after [`Slot::set_healthy`] changed one.
    pub fn refresh(&self) {
        // Whoever comes last counts after every change made before, so the last count stored is true.
        let _counting = self
            .refreshing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut healthy = 0;
        let mut weight = 0.0;
        for member in self.members.iter().filter(|m| m.slot().is_healthy()) {
            healthy += 1;
            weight += member.weight;
        }
        let panicking = (self.members.len() - healthy) * 2 > self.members.len();
        let eligible = if panicking { self.total_weight } else { weight };
        self.panicking.store(panicking, Ordering::Relaxed);
        self.eligible_weight
            .store(eligible.to_bits(), Ordering::Relaxed);
    }

    /// The median latency over the members that have one: where a new endpoint starts.
    #[must_use]
    pub fn median_latency(&self, now: Instant) -> Option<Duration> {
        let latency = |m: &Member<E>| m.slot().latency.value(now);
        let mut known: Vec<Duration> = self.members.iter().filter_map(latency).collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied()
    }

    /// Chooses a member's index. Allocates nothing.
    ///
    /// # Errors
    /// When the pool is empty, or no member is both eligible and not excluded.
    pub fn pick<F: Fn(&E) -> bool>(&self, mut pick: Pick<'_, F>) -> Result<usize, NoEndpoint> {
        if self.members.is_empty() {
            return Err(NoEndpoint::Unknown);
        }
        let chosen = match (&self.chooser, pick.key) {
            (Chooser::PeakEwma, _) => self.two_choices(&mut pick, Self::latency_and_load),
            (Chooser::LeastRequest, _) | (Chooser::Hash(_), None) => {
                self.two_choices(&mut pick, Self::load)
            }
            (Chooser::RoundRobin(rotation), _) => self.next_in_turn(rotation, &mut pick),
            (Chooser::Hash(ring), Some(key)) => self.first_below_bound(ring, key, &pick),
        };
        chosen.ok_or(NoEndpoint::NoneLeft)
    }

    /// Draws two different members by weight and takes the cheaper; the first when they tie.
    fn two_choices<F: Fn(&E) -> bool>(
        &self,
        pick: &mut Pick<'_, F>,
        dearer: fn(&Self, &Member<E>, &Member<E>, Instant) -> bool,
    ) -> Option<usize> {
        let first = self.draw(pick, None)?;
        if self.members.len() == 1 || pick.rng.u32(..EXPLORE_ONE_IN) == 0 {
            return Some(first);
        }
        let Some(second) = self.draw(pick, Some(first)) else {
            return Some(first);
        };
        let (a, b) = (self.members.get(first)?, self.members.get(second)?);
        Some(if dearer(self, a, b, pick.now) {
            second
        } else {
            first
        })
    }

    fn load(&self, a: &Member<E>, b: &Member<E>, now: Instant) -> bool {
        self.pressure(a, now) > self.pressure(b, now)
    }

    /// Compares by latency × load. An endpoint without a latency yet is taken to be as fast as the other.
    fn latency_and_load(&self, a: &Member<E>, b: &Member<E>, now: Instant) -> bool {
        let (of_a, of_b) = (
            a.slot().latency.value_nanos(now),
            b.slot().latency.value_nanos(now),
        );
        let of_a_or_b = of_a.or(of_b).unwrap_or(1.0);
        let of_b_or_a = of_b.or(of_a).unwrap_or(1.0);
        let cost = |m: &Member<E>, latency: f64| {
            let silence = m.slot().silence(now).as_secs_f64() * 1e9;
            latency.max(silence) * self.pressure(m, now) * m.slot().latency.penalty(now)
        };
        cost(a, of_a_or_b) > cost(b, of_b_or_a)
    }

    /// `1 + in_flight ÷ weight`, with the weight relative to the mean.
    fn pressure(&self, member: &Member<E>, now: Instant) -> f64 {
        let count = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let mean = self.total_weight / f64::from(count);
        let weight = self.weight(member, now) / mean;
        1.0 + f64::from(member.slot().in_flight()) / weight
    }

    /// The member's weight at `now`, slow start included.
    fn weight(&self, member: &Member<E>, now: Instant) -> f64 {
        member.weight * member.slot().ramp(self.slow_start, now)
    }

    fn is_eligible<F: Fn(&E) -> bool>(&self, member: &Member<E>, pick: &Pick<'_, F>) -> bool {
        (self.is_panicking() || member.slot().is_healthy()) && !(pick.excluded)(&member.endpoint)
    }

    /// Draws an eligible member by weight, other than `not`.
    fn draw<F: Fn(&E) -> bool>(&self, pick: &mut Pick<'_, F>, not: Option<usize>) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = pick.rng.f64() * self.total_weight;
            let index = self.cumulative.partition_point(|&sum| sum <= at);
            let Some(member) = self.members.get(index) else {
                continue;
            };
            if Some(index) == not || !self.is_eligible(member, pick) {
                continue;
            }
            let ramp = member.slot().ramp(self.slow_start, pick.now);
            if ramp >= 1.0 || pick.rng.f64() < ramp {
                return Some(index);
            }
        }
        self.draw_by_scan(pick, not)
    }

    /// The same distribution in two passes over all members; for pools in which few are eligible.
    fn draw_by_scan<F: Fn(&E) -> bool>(
        &self,
        pick: &mut Pick<'_, F>,
        not: Option<usize>,
    ) -> Option<usize> {
        let mut total = 0.0;
        for (_, member) in self.eligible(pick, not) {
            total += self.weight(member, pick.now);
        }
        let mut at = pick.rng.f64() * total;
        let mut last = None;
        for (index, member) in self.eligible(pick, not) {
            last = Some(index);
            at -= self.weight(member, pick.now);
            if at < 0.0 {
                break;
            }
        }
        last
    }

    fn eligible<F: Fn(&E) -> bool>(
        &self,
        pick: &Pick<'_, F>,
        not: Option<usize>,
    ) -> impl Iterator<Item = (usize, &Member<E>)> {
        self.members
            .iter()
            .enumerate()
            .filter(move |&(index, member)| Some(index) != not && self.is_eligible(member, pick))
    }

    /// Steps through the rotation until a member may be chosen. What is skipped leaves the others' turns as
    /// they were, so their proportions stay exact.
    fn next_in_turn<F: Fn(&E) -> bool>(
        &self,
        rotation: &Rotation,
        pick: &mut Pick<'_, F>,
    ) -> Option<usize> {
        for _ in 0..rotation.len() {
            let index = rotation.next()?;
            let member = self.members.get(index)?;
            if !self.is_eligible(member, pick) {
                continue;
            }
            let ramp = member.slot().ramp(self.slow_start, pick.now);
            if ramp >= 1.0 || pick.rng.f64() < ramp {
                return Some(index);
            }
        }
        self.draw_by_scan(pick, None)
    }

    /// Walks the ring from `key` to the first eligible member below its bound.
    fn first_below_bound<F: Fn(&E) -> bool>(
        &self,
        ring: &Ring,
        key: u64,
        pick: &Pick<'_, F>,
    ) -> Option<usize> {
        let mut fallback = None;
        let steps = self.members.len().saturating_mul(64);
        for index in ring.walk(key).take(steps) {
            let Some(member) = self.members.get(index) else {
                continue;
            };
            if !self.is_eligible(member, pick) {
                continue;
            }
            if member.slot().in_flight() < self.bound(member, pick) {
                return Some(index);
            }
            fallback = fallback.or(Some(index));
        }
        // All are at their bound, which exclusions or a slow start bring about: the least loaded of them.
        let load = |m: &Member<E>| f64::from(m.slot().in_flight()) / self.weight(m, pick.now);
        self.eligible(pick, None)
            .min_by(|(_, a), (_, b)| load(a).total_cmp(&load(b)))
            .map(|(index, _)| index)
            .or(fallback)
    }

    /// Requests this member may hold at once: 1.25 times its share by weight of all there would be, at
    /// least one.
    fn bound<F>(&self, member: &Member<E>, pick: &Pick<'_, F>) -> u32 {
        let eligible = f64::from_bits(self.eligible_weight.load(Ordering::Relaxed));
        let share = self.weight(member, pick.now) / eligible.max(f64::MIN_POSITIVE);
        whole((LOAD_FACTOR * (f64::from(pick.in_flight) + 1.0) * share).ceil()).max(1)
    }
}

impl<E: AsRef<Slot>> Member<E> {
    fn slot(&self) -> &Slot {
        (*self.endpoint).as_ref()
    }
}

/// A ratio's whole number, saturating.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is what is wanted here"
)]
const fn whole(value: f64) -> u32 {
    value as u32
}
