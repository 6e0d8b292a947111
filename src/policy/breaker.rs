//! Stops asking an upstream that fails, and finds out carefully when to ask again.
//!
//! The circuit breaker of Nygard's "Release It!" in the shape resilience4j gave it: failure and slow-call
//! ratios over a time window with a minimum volume, a few probes when the open time is over. Added to it: a
//! ramp lets traffic return by shares after the probes passed, because an upstream that answers three requests
//! need not survive all of them at once; and the open time doubles, with jitter so that many proxies do not
//! return in step. Consecutive failures would be simpler, but at 1,000 requests a second any upstream fails
//! five times in a row once in a while; a ratio asks how much is lost.
//!
//! The open time doubles when a *recovery* fails, which costs the upstream a burst and its clients a tenth
//! and more of their requests. Probes that fail cost three requests; they are repeated every second, later
//! after a thirtieth of the outage so far, so that the breaker prolongs an outage by no more than that.
//! Doubling on failed probes, as is usual, would find an upstream that was away for 30 s after 35 s to 42 s.
//!
//! It counts failures of the upstream and the way to it; what Tidegate refused and what clients did wrong
//! is [`Outcome::Ignored`] (envoy#25487). It is judged when a call fails or is slow, never when one succeeds.
//! What it does badly: the ratio knows no endpoints, so one bad endpoint of two opens the breaker for both
//! unless the outlier ejection is faster, and below the minimum volume it sees nothing at all.
//!
//! All workers share one [`Breaker`]. Admission and refusal read one word and lock nothing, except to take
//! one of the few places for a probe; an outcome is one or two additions. Only transitions take the lock.
//!
//! Depends on the clock's [`Instant`].

mod config;
mod era;
mod ledger;
mod probes;
#[cfg(test)]
mod tests;
mod totals;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::config::Live;
pub use self::config::{Config, Settings};
use self::era::Era;
use self::ledger::Ledger;
pub use self::ledger::{Order, Position, Transition, Why};
use self::probes::{Probe, Probes, Verdict};
use self::totals::{Call, Totals};
use super::window::Window;
use crate::clock::Instant;

/// Requests that go ahead while half-open. Three, because one decides by chance and more would be a burst.
pub const PROBES: u32 = 3;

/// How long the next probes wait after some that failed or did not answer, at least.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);

/// And as a part of the outage so far, up to the open time.
pub const OUTAGE_PART: u32 = 30;

/// How long traffic takes to return after the probes passed. Three seconds let the concurrency limit, which
/// guards the upstream from then on, see several of its windows; ten would make every outage ten longer.
pub const RAMP: Duration = Duration::from_secs(3);

/// The share of requests with which the ramp begins.
pub const RAMP_FLOOR: f64 = 0.1;

/// Where doubling the open time ends, before jitter.
pub const MAX_OPEN: Duration = Duration::from_secs(120);

/// The open time varies by this share either way.
pub const JITTER: f64 = 0.2;

/// Whether requests pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// All pass.
    Closed,
    /// None passes.
    Open,
    /// A few pass to find out whether the upstream is back.
    HalfOpen,
    /// A growing share passes.
    Recovering,
}

impl State {
    /// Every state, in the order of an outage.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::Recovering];

    /// The word in labels and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Recovering => "recovering",
        }
    }
}

/// What a ratio measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Failed calls.
    Failures,
    /// Calls that took [`Settings::slow_call`] or longer.
    SlowCalls,
}

/// What spoke against the upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What was counted.
    pub measure: Measure,
    /// The share seen, in `0..=1`.
    pub ratio: f64,
    /// The share allowed.
    pub threshold: f64,
    /// Calls in the window, or probes.
    pub volume: u32,
}

/// How an admitted request ended, as far as the upstream is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered after this time.
    Success(Duration),
    /// No connection, a reset, a timeout, or an answer that means failure; for gRPC as its trailers say.
    Failure,
    /// Says nothing about the upstream: a client error, a client that left, a refusal of our own.
    Ignored,
}

/// Leave to send one request. Dropped without [`Breaker::record`] it counts as [`Outcome::Ignored`].
#[derive(Debug)]
#[must_use = "dropping a permit gives a probe's place back"]
pub struct Permit(Leave);

#[derive(Debug)]
enum Leave {
    /// Admitted under this word.
    Normal(u64),
    Probe(Probe),
}

impl Permit {
    /// Whether the upstream is judged by this very request.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        matches!(self.0, Leave::Probe(_))
    }
}

/// A request that must not go to the upstream now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refused {
    /// The state that refused it.
    pub state: State,
    /// What opened the breaker; none when an operator did.
    pub evidence: Option<Evidence>,
    /// When it is worth trying again: when probes may go, or the ramp is over.
    pub retry_after: Duration,
}

/// The breaker as the admin API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The state.
    pub state: State,
    /// The share of requests admitted, apart from probes.
    pub admitted: f64,
    /// Failed calls ÷ calls in the window.
    pub failure_ratio: f64,
    /// Slow calls ÷ calls in the window.
    pub slow_ratio: f64,
    /// Calls in the window.
    pub volume: u32,
    /// What opened it; none while closed or when an operator did.
    pub evidence: Option<Evidence>,
    /// When it left the closed state; none while closed.
    pub opened: Option<Instant>,
    /// How many recoveries failed since then.
    pub relapses: u32,
    /// When it will admit more than now by itself.
    pub next_try: Option<Instant>,
    /// The operator's order in force.
    pub order: Option<Order>,
}

/// One upstream's or route's breaker, shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    /// The packed [`Era`]. Written under the ledger's lock only.
    era: AtomicU64,
    config: Live,
    window: Window<3>,
    probes: Arc<Probes>,
    ledger: Mutex<Ledger>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            era: AtomicU64::new(Era::Closed(now).pack()),
            window: Window::new(config.window(), now),
            config: Live::new(config),
            probes: Arc::default(),
            ledger: Mutex::default(),
        }
    }

    /// Decides about one request. `rng` is drawn from only while recovering.
    ///
    /// # Errors
    /// While open, while the probes are out, and for part of the requests while recovering.
    pub fn admit(&self, now: Instant, rng: &mut fastrand::Rng) -> Result<Permit, Refused> {
        let word = self.era.load(Ordering::Acquire);
        let era = Era::unpack(word);
        let state = era.state(now);
        let leave = match state {
            State::Closed => Some(Leave::Normal(word)),
            State::Open => None,
            State::HalfOpen => {
                let patience = PROBE_EVERY.min(self.config.open_for());
                self.probes.take(word, now, patience).map(Leave::Probe)
            }
            State::Recovering => (rng.f64() < era.share(now)).then_some(Leave::Normal(word)),
        };
        leave.map(Permit).ok_or_else(|| Refused {
            state,
            evidence: self.evidence(era, now),
            retry_after: self.next_try(era, now).unwrap_or(now).since(now),
        })
    }

    /// Takes in how an admitted request ended. What was admitted before the last transition is no evidence
    /// any more. `rng` is drawn from only when the breaker opens.
    pub fn record(&self, permit: Permit, now: Instant, outcome: Outcome, rng: &mut fastrand::Rng) {
        let call = match outcome {
            Outcome::Ignored => return,
            Outcome::Failure => Call::Failed,
            Outcome::Success(took) if self.config.is_slow(took) => Call::Slow,
            Outcome::Success(_) => Call::Good,
        };
        match permit.0 {
            Leave::Normal(word) => self.count(word, now, call, rng),
            Leave::Probe(probe) => {
                let word = probe.era();
                match probe.answer(call, &self.config) {
                    Some(Verdict::Passed) => {
                        self.shift(word, Era::Recovering(now), Why::ProbesPassed, now);
                    }
                    Some(Verdict::Failed(evidence)) => {
                        self.open(word, now, Why::ProbesFailed(evidence), evidence, rng);
                    }
                    None => {}
                }
            }
        }
    }

    fn count(&self, word: u64, now: Instant, call: Call, rng: &mut fastrand::Rng) {
        if self.era.load(Ordering::Relaxed) != word {
            return;
        }
        self.window.add(call.counts(), now);
        if call == Call::Good || Era::unpack(word).is_forced(now) {
            return;
        }
        let totals = Totals::from(self.window.totals(now));
        if totals.calls < self.config.min_requests() {
            return;
        }
        if let Some(evidence) = self.config.judge(totals) {
            self.open(word, now, Why::Tripped(evidence), evidence, rng);
        }
    }

    /// The state at `now`, whether or not there was traffic to bring it about.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        self.era().state(now)
    }

    /// Whether only probes pass: what is measured now must teach the concurrency limit nothing.
    #[must_use]
    pub fn is_half_open(&self, now: Instant) -> bool {
        self.state(now) == State::HalfOpen
    }

    /// Everything there is to know about it.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let ledger = self.lock();
        let era = self.era();
        let state = era.state(now);
        let closed = state == State::Closed;
        let totals = Totals::from(self.window.totals(now));
        Report {
            state,
            admitted: match state {
                State::Closed | State::Recovering => era.share(now).min(1.0),
                State::Open | State::HalfOpen => 0.0,
            },
            failure_ratio: totals.failure_ratio(),
            slow_ratio: totals.slow_ratio(),
            volume: totals.calls,
            evidence: self.evidence(era, now).filter(|_| !closed),
            opened: ledger.opened.filter(|_| !closed),
            relapses: if closed { 0 } else { ledger.relapses },
            next_try: self.next_try(era, now),
            order: ledger.order.clone().filter(|_| era.is_forced(now)),
        }
    }

    /// What changed since the last call, in order and without gaps, including what time alone brought about.
    /// For metrics, log and events: to be called about once a second by one thread.
    #[must_use]
    pub fn transitions(&self, now: Instant) -> Vec<Transition> {
        let mut ledger = self.lock();
        ledger.catch_up(self.era(), now);
        ledger.take_journal()
    }

    /// Holds the breaker where the operator wants it until the order ends; an order that has ended already
    /// does nothing. Then it is as it was before: closed, or after an order to open where it was open already, half-open.
    pub fn force(&self, order: Order, now: Instant) {
        if order.until <= now {
            return;
        }
        let mut ledger = self.lock();
        let before = self.era();
        let ill = match before.state(now) {
            State::Open if before.is_forced(now) => matches!(before, Era::ForcedOpenIll(_)),
            State::Open | State::HalfOpen => true,
            State::Closed | State::Recovering => false,
        };
        let era = match order.position {
            Position::Open if ill => Era::ForcedOpenIll(order.until),
            Position::Open => Era::ForcedOpen(order.until),
            Position::Closed => Era::ForcedClosed(order.until),
        };
        ledger.order = Some(order);
        if !ill {
            self.config.set_evidence(None);
        }
        self.enter(&mut ledger, era, Why::Operator, now);
    }

    /// Ends the operator's order, if there is one.
    pub fn auto(&self, now: Instant) {
        let mut ledger = self.lock();
        let era = match self.era() {
            era if !era.is_forced(now) => return,
            Era::ForcedOpenIll(_) => Era::Open(now),
            Era::ForcedOpen(_)
            | Era::ForcedClosed(_)
            | Era::Closed(_)
            | Era::Open(_)
            | Era::Recovering(_) => Era::Closed(now),
        };
        self.enter(&mut ledger, era, Why::Operator, now);
    }

    /// Takes over another configuration. State and open time stay; the window starts over only if its length
    /// changed.
    pub fn update(&self, config: Config, now: Instant) {
        let _ledger = self.lock();
        self.config.set(config);
        self.window.set_length(config.window(), now);
    }

    /// Opens, unless the era is another by now.
    fn open(&self, word: u64, now: Instant, why: Why, evidence: Evidence, rng: &mut fastrand::Rng) {
        let mut ledger = self.lock();
        let era = self.era();
        if era.pack() != word {
            return;
        }
        let (relapses, part) = match era.state(now) {
            State::Closed => (0, None),
            State::Recovering => (ledger.relapses + 1, None),
            State::Open | State::HalfOpen => {
                let outage = now.since(ledger.opened.unwrap_or(now));
                (ledger.relapses, Some(PROBE_EVERY.max(outage / OUTAGE_PART)))
            }
        };
        let open_time = open_time(self.config.open_for(), relapses);
        let wait = part.map_or(open_time, |part| part.min(open_time));
        self.config.set_evidence(Some(evidence));
        self.enter(
            &mut ledger,
            Era::Open(now.after(jittered(wait, rng))),
            why,
            now,
        );
        ledger.relapses = relapses;
    }

    /// Enters `era`, unless the present one is another than `word` by now.
    fn shift(&self, word: u64, era: Era, why: Why, now: Instant) {
        let mut ledger = self.lock();
        if self.era().pack() == word {
            self.enter(&mut ledger, era, why, now);
        }
    }

    /// Makes `era` the present one. The caller holds the lock.
    fn enter(&self, ledger: &mut Ledger, era: Era, why: Why, now: Instant) {
        ledger.turn(self.era(), era, why, now);
        self.window.clear();
        let word = era.pack();
        self.probes.reset(word);
        self.era.store(word, Ordering::Release);
    }

    /// Why it is open; none where an operator wants it so.
    fn evidence(&self, era: Era, now: Instant) -> Option<Evidence> {
        self.config.evidence().filter(|_| !era.is_forced(now))
    }

    fn next_try(&self, era: Era, now: Instant) -> Option<Instant> {
        match era.state(now) {
            State::Closed => None,
            State::Open | State::Recovering => era.turns_at(),
            State::HalfOpen => Some(self.probes.none_before().max(now)),
        }
    }

    fn era(&self) -> Era {
        Era::unpack(self.era.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `open_for × 2^relapses`, bounded by [`MAX_OPEN`] or `open_for` itself.
fn open_time(open_for: Duration, relapses: u32) -> Duration {
    let doubled = open_for.saturating_mul(2_u32.saturating_pow(relapses));
    doubled.min(MAX_OPEN.max(open_for))
}

fn jittered(time: Duration, rng: &mut fastrand::Rng) -> Duration {
    time.mul_f64(1.0 + JITTER * (2.0 * rng.f64() - 1.0))
}
