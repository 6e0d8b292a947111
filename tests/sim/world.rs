//! One upstream behind its protection, and the clients in front of it, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::engine::admission::Request;
use tidegate::engine::protection::{
    Admission, Decision, LimitReport, Mode, Outcome, Protection, Settings, Waiting,
};

use crate::load::{Class, Seen};
use crate::upstream::Upstream;

/// How often the limit is looked at when nothing completes.
const BEAT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(usize),
    /// The next request of clients that wait for their answers.
    Next(usize),
    /// The upstream's next completion, unless its state has changed since.
    Upstream(u64),
    /// A request reaches the upstream.
    Arrive(usize),
    /// Its answer reaches the proxy.
    Answer(usize),
    Look(usize),
    GiveUp(usize),
    Beat,
    Change(usize),
}

/// A change of the upstream at a time.
pub(crate) type Change = (Duration, fn(&mut Upstream));

struct Sent {
    class: usize,
    client: u64,
    first: Instant,
    tries: u32,
    admitted: Option<(Admission, Instant)>,
    waiting: Option<Waiting>,
}

struct Note(Arc<Mutex<Vec<usize>>>, usize);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().push(self.1);
    }
}

/// What a run gave.
pub(crate) struct Run {
    pub(crate) seen: Vec<Seen>,
    /// The limit every beat.
    pub(crate) limits: Vec<(Duration, f64)>,
}

pub(crate) struct World {
    protection: Protection,
    protected: bool,
    upstream: Upstream,
    classes: Vec<Class>,
    changes: Vec<Change>,
    /// One way between proxy and upstream: the least time, and the mean of what comes on top.
    network: Option<(Duration, Duration)>,
    seen: Vec<Seen>,
    limits: Vec<(Duration, f64)>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sent: BTreeMap<usize, Sent>,
    woken: Arc<Mutex<Vec<usize>>>,
    rng: fastrand::Rng,
    serial: u64,
    version: u64,
    now: Instant,
}

impl World {
    /// With the default settings of everything.
    pub(crate) fn new(upstream: Upstream, classes: Vec<Class>, seed: u64) -> Self {
        Self::with(&Settings::default(), upstream, classes, seed)
    }

    pub(crate) fn with(
        settings: &Settings,
        upstream: Upstream,
        classes: Vec<Class>,
        seed: u64,
    ) -> Self {
        Self {
            protection: Protection::new(settings, Instant::ZERO),
            protected: settings.limit == Mode::Enforce || settings.breaker == Mode::Enforce,
            upstream,
            seen: vec![Seen::default(); classes.len()],
            classes,
            changes: Vec::new(),
            network: None,
            limits: Vec::new(),
            events: BinaryHeap::new(),
            sent: BTreeMap::new(),
            woken: Arc::default(),
            rng: fastrand::Rng::with_seed(seed),
            serial: 0,
            version: 0,
            now: Instant::ZERO,
        }
    }

    /// The upstream changes at these times.
    pub(crate) fn changing(mut self, changes: &[Change]) -> Self {
        self.changes = changes.to_vec();
        self
    }

    /// The way to the upstream and back takes at least `least` each, and `jitter` more on average.
    pub(crate) fn network(mut self, least: Duration, jitter: Duration) -> Self {
        self.network = Some((least, jitter));
        self
    }

    pub(crate) fn run(mut self, length: Duration) -> Run {
        for class in 0..self.classes.len() {
            self.plan_send(class);
            for _ in 0..self.classes[class].closed.unwrap_or(0) {
                self.plan(Duration::ZERO, Event::Next(class));
            }
        }
        for (index, (at, _)) in self.changes.clone().into_iter().enumerate() {
            self.plan(at, Event::Change(index));
        }
        self.plan(Duration::ZERO, Event::Beat);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now.since(Instant::ZERO) >= length {
                break;
            }
            self.now = now;
            self.handle(event);
            loop {
                let woken = std::mem::take(&mut *self.woken.lock().unwrap());
                if woken.is_empty() {
                    break;
                }
                woken.into_iter().for_each(|id| self.look(id));
            }
        }
        Run {
            seen: self.seen,
            limits: self.limits,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Send(class) => {
                self.send(class);
                self.plan_send(class);
            }
            Event::Next(class) => self.send(class),
            Event::Upstream(version) if version == self.version => {
                let now = self.now.as_nanos() as f64 / 1e9;
                for id in self.upstream.done(now) {
                    self.travel(Event::Answer(id));
                }
                self.plan_upstream();
            }
            Event::Upstream(_) => {}
            Event::Arrive(id) => self.arrive(id),
            Event::Answer(id) => self.done(id),
            Event::Look(id) => self.look(id),
            Event::GiveUp(id) => self.give_up(id),
            Event::Beat => {
                if self.protected {
                    self.protection.tick(self.now);
                }
                let limit = match self.protection.limit_report() {
                    LimitReport::Adaptive(report) => report.limit,
                    LimitReport::Fixed(limit) => f64::from(limit),
                };
                self.limits.push((self.elapsed(), limit));
                self.plan(self.elapsed() + BEAT, Event::Beat);
            }
            Event::Change(index) => {
                let now = self.now.as_nanos() as f64 / 1e9;
                let change = self.changes[index].1;
                self.upstream.change(now, change);
                self.plan_upstream();
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.now.since(Instant::ZERO)
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        let at = Instant::ZERO.after(at);
        self.events.push(Reverse((at, self.serial, event)));
    }

    fn plan_send(&mut self, class: usize) {
        // Nobody sends while the rate is zero; it begins again with the next part that has one.
        let now = self.elapsed();
        let Some(from) = self.classes[class].active_from(now) else {
            return;
        };
        let rate = self.classes[class].rate_at(from);
        let pause = -(1.0 - self.rng.f64()).ln() / rate;
        self.plan(from + Duration::from_secs_f64(pause), Event::Send(class));
    }

    fn plan_upstream(&mut self) {
        self.version += 1;
        if let Some(next) = self.upstream.next() {
            let at = Duration::from_secs_f64(next) + Duration::from_nanos(1);
            self.plan(at.max(self.elapsed()), Event::Upstream(self.version));
        }
    }

    fn send(&mut self, class: usize) {
        let client = self.rng.u64(..self.classes[class].clients);
        self.seen[class].sent += 1;
        let now = self.elapsed();
        self.seen[class].sent_at.push(now);
        self.seen[class].by_client.entry(client).or_default().0 += 1;
        self.serial += 1;
        let id = self.serial as usize;
        let sent = Sent {
            class,
            client,
            first: self.now,
            tries: 0,
            admitted: None,
            waiting: None,
        };
        self.sent.insert(id, sent);
        self.submit(id);
    }

    /// Sends a request, for the first time or again.
    fn submit(&mut self, id: usize) {
        let sent = self.sent.get_mut(&id).unwrap();
        sent.tries += 1;
        let class = &self.classes[sent.class];
        let request = Request {
            client: (sent.class as u64) << 32 | sent.client,
            tier: class.tier,
            weight: 1,
            cost: self.upstream.mean,
            deadline: None,
        };
        let patience = class.patience;
        match self.protection.admit(self.now, &request, &mut self.rng) {
            Decision::Admitted(admission) => self.begin(id, admission),
            Decision::Queued(waiting) => {
                self.sent.get_mut(&id).unwrap().waiting = Some(waiting);
                self.look(id);
            }
            Decision::Refused(rejection) => return self.refused(id, rejection.reason.as_str()),
        }
        self.plan(self.elapsed() + patience, Event::GiveUp(id));
    }

    fn begin(&mut self, id: usize, admission: Admission) {
        self.sent.get_mut(&id).unwrap().admitted = Some((admission, self.now));
        self.travel(Event::Arrive(id));
    }

    /// Lets an event happen at the other end of the network.
    fn travel(&mut self, event: Event) {
        match self.network {
            None => self.handle(event),
            Some((least, jitter)) => {
                let more = jitter.mul_f64(-(1.0 - self.rng.f64()).ln());
                self.plan(self.elapsed() + least + more, event);
            }
        }
    }

    fn arrive(&mut self, id: usize) {
        let now = self.now.as_nanos() as f64 / 1e9;
        self.upstream.begin(now, id, &mut self.rng);
        self.plan_upstream();
    }

    fn look(&mut self, id: usize) {
        let Some(sent) = self.sent.get_mut(&id) else {
            return;
        };
        let Some(waiting) = &mut sent.waiting else {
            return;
        };
        let waker = Waker::from(Arc::new(Note(Arc::clone(&self.woken), id)));
        let expires = waiting.expires();
        match waiting.poll(self.now, &mut Context::from_waker(&waker)) {
            Poll::Pending => {
                let at = expires.max(self.now.after(Duration::from_millis(1)));
                self.plan(at.since(Instant::ZERO), Event::Look(id));
            }
            Poll::Ready(fate) => {
                sent.waiting = None;
                match fate {
                    Ok(admission) => self.begin(id, admission),
                    Err(rejection) => self.refused(id, rejection.reason.as_str()),
                }
            }
        }
    }

    fn done(&mut self, id: usize) {
        let Some(mut sent) = self.sent.remove(&id) else {
            return;
        };
        let Some((admission, began)) = sent.admitted.take() else {
            // The client gave up on it; the upstream worked in vain.
            return;
        };
        let failed = self.rng.f64() < self.upstream.failing;
        let outcome = if failed {
            Outcome::Failed
        } else {
            Outcome::Answered
        };
        let took = self.now.since(began);
        self.protection
            .complete(admission, self.now, outcome, took, &mut self.rng);
        if failed {
            self.sent.insert(id, sent);
            self.unserved(id);
            return;
        }
        let seen = &mut self.seen[sent.class];
        seen.by_client.entry(sent.client).or_default().1 += 1;
        let first = sent.first;
        seen.answered
            .push((first.since(Instant::ZERO), self.now.since(first)));
        self.follow(sent.class);
    }

    /// Clients that wait for their answers send the next request at once.
    fn follow(&mut self, class: usize) {
        if self.classes[class].closed.is_some() {
            self.plan(self.elapsed(), Event::Next(class));
        }
    }

    /// The client no longer waits for this try.
    fn give_up(&mut self, id: usize) {
        let Some(sent) = self.sent.get_mut(&id) else {
            return;
        };
        sent.waiting = None;
        if let Some((admission, began)) = sent.admitted.take() {
            let took = self.now.since(began);
            let timed_out = Outcome::Failed;
            self.protection
                .complete(admission, self.now, timed_out, took, &mut self.rng);
        }
        self.unserved(id);
    }

    fn refused(&mut self, id: usize, reason: &'static str) {
        let class = self.sent[&id].class;
        *self.seen[class].refused.entry(reason).or_default() += 1;
        self.unserved(id);
    }

    /// The client tries again at once, or goes away.
    fn unserved(&mut self, id: usize) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        if sent.tries > self.classes[sent.class].retries {
            self.seen[sent.class].failed += 1;
            self.follow(sent.class);
            return;
        }
        self.serial += 1;
        let id = self.serial as usize;
        self.sent.insert(id, sent);
        self.submit(id);
    }
}
