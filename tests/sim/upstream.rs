//! The upstream's model: requests wait for a slot and hold it for their service time, or share the whole.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// How long a request takes when it has a slot to itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Fixed,
    Exponential,
    /// Of this standard deviation of the logarithm.
    Lognormal(f64),
    /// One in ten takes this many times as long as the others.
    Bimodal(f64),
}

impl Service {
    /// A factor of mean one.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Fixed => 1.0,
            Self::Exponential => -(1.0 - rng.f64()).ln(),
            Self::Lognormal(sigma) => {
                let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
            Self::Bimodal(times) => {
                let short = 1.0 / (0.9 + 0.1 * times);
                if rng.f64() < 0.1 {
                    times * short
                } else {
                    short
                }
            }
        }
    }
}

/// How requests get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Discipline {
    /// Each has a slot; who finds none waits in line.
    Slots,
    /// As slots, and each request beyond the slots slows all down by this share: a shared lock.
    Lock(f64),
    /// All share the capacity of the slots evenly.
    Sharing,
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) slots: usize,
    pub(crate) mean: Duration,
    pub(crate) service: Service,
    pub(crate) discipline: Discipline,
    /// Of requests begun, this share fails.
    pub(crate) failing: f64,
    /// How much longer each request takes.
    pub(crate) slowed: f64,
    waiting: VecDeque<(usize, f64)>,
    /// Under way: the progress at which each is done, in nanoseconds of work.
    running: BinaryHeap<Reverse<(u64, usize)>>,
    /// The work done so far on each request that is under way all the time, in seconds.
    progress: f64,
    /// When that was last brought up to date, in seconds.
    at: f64,
}

impl Upstream {
    pub(crate) fn new(slots: usize, mean: Duration) -> Self {
        Self {
            slots,
            mean,
            service: Service::Fixed,
            discipline: Discipline::Slots,
            failing: 0.0,
            slowed: 1.0,
            waiting: VecDeque::new(),
            running: BinaryHeap::new(),
            progress: 0.0,
            at: 0.0,
        }
    }

    pub(crate) fn service(self, service: Service) -> Self {
        Self { service, ..self }
    }

    pub(crate) fn discipline(self, discipline: Discipline) -> Self {
        Self { discipline, ..self }
    }

    /// Requests a second it carries.
    pub(crate) fn capacity(&self) -> f64 {
        self.slots as f64 / (self.mean.as_secs_f64() * self.slowed)
    }

    /// How fast each request under way proceeds.
    fn speed(&self) -> f64 {
        let speed = match self.discipline {
            Discipline::Slots => 1.0,
            Discipline::Lock(share) => 1.0 / (1.0 + share * self.waiting.len() as f64),
            Discipline::Sharing => {
                let busy = self.running.len().max(1) as f64;
                (self.slots as f64 / busy).min(1.0)
            }
        };
        speed / self.slowed
    }

    fn advance(&mut self, now: f64) {
        self.progress += (now - self.at) * self.speed();
        self.at = now;
    }

    pub(crate) fn begin(&mut self, now: f64, request: usize, rng: &mut fastrand::Rng) {
        self.advance(now);
        let work = self.mean.as_secs_f64() * self.service.draw(rng);
        self.waiting.push_back((request, work));
        self.fill();
    }

    fn fill(&mut self) {
        while self.running.len() < self.slots || self.discipline == Discipline::Sharing {
            let Some((request, work)) = self.waiting.pop_front() else {
                return;
            };
            let done = ((self.progress + work) * 1e9) as u64;
            self.running.push(Reverse((done, request)));
        }
    }

    /// Applies a change of the model.
    pub(crate) fn change(&mut self, now: f64, change: impl FnOnce(&mut Self)) {
        self.advance(now);
        change(self);
        self.fill();
    }

    /// When the next request will be done, if nothing else happens.
    pub(crate) fn next(&self) -> Option<f64> {
        let Reverse((done, _)) = self.running.peek()?;
        let left = (*done as f64 / 1e9 - self.progress).max(0.0);
        Some(self.at + left / self.speed())
    }

    /// Requests done by `now`.
    pub(crate) fn done(&mut self, now: f64) -> Vec<usize> {
        self.advance(now);
        let progress = (self.progress * 1e9) as u64 + 1;
        let mut finished = Vec::new();
        while let Some(Reverse((done, request))) = self.running.peek().copied() {
            if done > progress {
                break;
            }
            self.running.pop();
            finished.push(request);
        }
        self.fill();
        finished
    }
}
