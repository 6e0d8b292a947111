//! What stands between a request and one upstream: the breaker, then the limit with its queue.
//!
//! The order is the order of cheapness and of blame: a breaker that is open saves the wait, and a request
//! that waited knows that the upstream is worth waiting for. Each policy uses only its own signals: the
//! breaker counts failures, the limit measures throughput, and a refusal by either is evidence for neither.
//! While the breaker lets only probes through, the limit learns nothing.
//!
//! A policy that only observes decides all the same, and what it would have refused is told at the end of
//! the request. Depends on policy, model and the clock's [`Instant`].

mod controller;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use self::controller::Controller;
pub use self::controller::{Algorithm, LimitReport};
use super::admission::{self, Admitted, Completion, Gate, StreamPermit};
use super::circuit::{AtomicMode, Circuit, Pass};
pub use super::circuit::{Mode, Outcome};
use crate::clock::Instant;
use crate::model::{Rejection, Unit};
use crate::policy::breaker;
use crate::policy::queue::{self, Request};

/// The settings of one upstream's protection.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether the limit acts.
    pub limit: Mode,
    /// How the limit is found.
    pub algorithm: Algorithm,
    /// The most long-lived streams.
    pub max_streams: u32,
    /// Whether requests wait for a slot. Off: what finds none is refused. Limit and queue are one decision, so
    /// that either of them on trial is both.
    pub queue_mode: Mode,
    /// The queue in front of the limit.
    pub queue: queue::Config,
    /// Whether the breaker acts.
    pub breaker: Mode,
    /// When it opens.
    pub breaker_config: breaker::Config,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: Mode::Enforce,
            algorithm: Algorithm::default(),
            max_streams: 10_000,
            queue_mode: Mode::Enforce,
            queue: queue::Config::default(),
            breaker: Mode::Enforce,
            breaker_config: breaker::Config::default(),
        }
    }
}

impl Settings {
    /// Whether limit and queue act, which they do together.
    const fn limit_mode(&self) -> Mode {
        match (self.limit, self.queue_mode) {
            (Mode::Off, _) => Mode::Off,
            (Mode::Enforce, Mode::Enforce | Mode::Off) => Mode::Enforce,
            _ => Mode::Observe,
        }
    }
}

/// The protection of one upstream, shared by all workers.
#[derive(Debug)]
pub struct Protection {
    gate: Arc<Gate>,
    limit: AtomicMode,
    controller: Mutex<Controller>,
    /// When the controller wants to be asked again, in nanoseconds.
    next_check: AtomicU64,
    circuit: Circuit,
}

/// What was decided about a request.
#[derive(Debug)]
pub enum Decision {
    /// Go ahead.
    Admitted(Admission),
    /// Wait for a turn.
    Queued(Waiting),
    /// Go away.
    Refused(Rejection),
}

/// An admitted request. Dropped without [`Protection::complete`] it says nothing about the upstream.
#[derive(Debug, Default)]
#[must_use = "dropping an admission gives the slot back"]
pub struct Admission {
    gate: Option<admission::Permit>,
    pass: Pass,
}

/// A request that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    ticket: admission::Ticket,
    pass: Pass,
}

impl Protection {
    /// The protection of an upstream of which nothing is known.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let controller = Controller::new(settings.algorithm, now);
        let gate = Gate::new(&gate_config(settings, controller.limit()));
        let next_check = AtomicU64::new(controller.next_check().as_nanos());
        Self {
            gate: Arc::new(gate),
            limit: AtomicMode::new(settings.limit_mode()),
            controller: Mutex::new(controller),
            next_check,
            circuit: Circuit::new(settings.breaker, settings.breaker_config, now),
        }
    }

    /// Takes over other settings and keeps what was learned.
    pub fn update(&self, settings: &Settings, now: Instant) {
        self.limit.set(settings.limit_mode());
        self.circuit
            .update(settings.breaker, settings.breaker_config, now);
        let mut controller = self.controller();
        controller.update(settings.algorithm, now);
        self.gate.set_limit(controller.limit(), now);
        self.next_check
            .store(controller.next_check().as_nanos(), Ordering::Relaxed);
        self.gate.update(&gate_config(settings, controller.limit()));
    }

    /// Decides about a request. `rng` is drawn from only while the breaker recovers.
    pub fn admit(&self, now: Instant, request: &Request, rng: &mut fastrand::Rng) -> Decision {
        let pass = match self.circuit.admit(now, rng) {
            Ok(pass) => pass,
            Err(rejection) => return Decision::Refused(rejection),
        };
        if self.limit.get() == Mode::Off {
            return Decision::Admitted(Admission { gate: None, pass });
        }
        match self.gate.admit(now, request) {
            Admitted::Permit(permit) => Decision::Admitted(Admission {
                gate: Some(permit),
                pass,
            }),
            Admitted::Queued(ticket) => Decision::Queued(Waiting { ticket, pass }),
            Admitted::Refused(refusal) => Decision::Refused(refusal.into()),
        }
    }

    /// Takes in how an admitted request ended; `upstream_time` is the part of its time that the upstream
    /// took. Returns what an observing policy would have refused it for.
    pub fn complete(
        &self,
        admission: Admission,
        now: Instant,
        outcome: Outcome,
        upstream_time: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Rejection> {
        let Admission { gate, pass } = admission;
        let observed = pass.observed;
        self.circuit
            .complete(pass, now, outcome, upstream_time, rng);
        let completion = match outcome {
            Outcome::Answered => Completion::Success,
            Outcome::Failed => Completion::Failure,
            Outcome::Errored | Outcome::Ignored => Completion::Ignored,
        };
        let refusal = gate.and_then(|permit| permit.complete(now, completion, upstream_time));
        self.tick(now);
        observed.or_else(|| refusal.map(Rejection::from))
    }

    /// Lets the controller close its window when it is time to. Called at every completion, and by a timer
    /// for when nothing completes.
    pub fn tick(&self, now: Instant) {
        if now.as_nanos() < self.next_check.load(Ordering::Relaxed) {
            return;
        }
        // Whoever holds it is doing this very work.
        let Ok(mut controller) = self.controller.try_lock() else {
            return;
        };
        let enforced = self.circuit.mode() == Mode::Enforce;
        let frozen = enforced && self.circuit.breaker().is_half_open(now);
        let limit = controller.observe(now, &self.gate.totals(now), frozen);
        self.next_check
            .store(controller.next_check().as_nanos(), Ordering::Relaxed);
        if limit != self.gate.limit() {
            self.gate.set_limit(limit, now);
        }
    }

    /// The limit and its queue.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The breaker and whether it acts.
    #[must_use]
    pub const fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Whether limit and queue act.
    #[must_use]
    pub fn limit_mode(&self) -> Mode {
        self.limit.get()
    }

    /// How the limit stands.
    #[must_use]
    pub fn limit_report(&self) -> LimitReport {
        self.controller().report()
    }

    fn controller(&self) -> std::sync::MutexGuard<'_, Controller> {
        self.controller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Gives the slot back and goes on as a long-lived stream, which the upstream's answer has shown to be
    /// alive.
    ///
    /// # Errors
    /// When there are as many streams as there may be.
    pub fn detach(&mut self, now: Instant) -> Result<Option<StreamPermit>, Rejection> {
        match self.gate.take() {
            Some(permit) => Ok(Some(permit.detach(now)?)),
            None => Ok(None),
        }
    }
}

impl Waiting {
    /// When it must be polled again even if nothing woke it.
    #[must_use]
    pub const fn expires(&self) -> Instant {
        self.ticket.expires()
    }

    /// Whether its turn has come, or it has to leave. Not to be polled again after it was ready.
    pub fn poll(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Admission, Rejection>> {
        self.ticket.poll(now, cx).map(|fate| {
            let permit = fate?;
            Ok(Admission {
                gate: Some(permit),
                pass: std::mem::take(&mut self.pass),
            })
        })
    }
}

impl From<queue::Refusal> for Rejection {
    fn from(refusal: queue::Refusal) -> Self {
        Self {
            reason: refusal.reason,
            value: refusal.value,
            threshold: refusal.threshold,
            unit: match refusal.unit {
                queue::Unit::Requests => Unit::Requests,
                queue::Unit::Seconds => Unit::Seconds,
            },
            retry_after: refusal.retry_after,
        }
    }
}

fn gate_config(settings: &Settings, limit: u32) -> admission::Config {
    let mode = match settings.limit_mode() {
        Mode::Enforce => admission::Mode::Enforce,
        Mode::Observe | Mode::Off => admission::Mode::Observe,
    };
    let queue = match settings.queue_mode {
        Mode::Off => settings.queue.without_waiting(),
        Mode::Observe | Mode::Enforce => settings.queue,
    };
    let limit = limit.clamp(1, admission::MAX_LIMIT);
    admission::Config::try_new(mode, limit, settings.max_streams, queue).unwrap_or_default()
}
