//! One drill: a proxy, three endpoints and twelve clients, a minute of health, then a fault; and what the proxy says
//! is wrong fifteen seconds later.

mod clients;
pub(crate) mod fault;
mod origin;
pub(crate) mod usual;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tidegate::clock::{Instant, SystemClock};
use tokio::sync::{oneshot, watch};

use self::fault::{Conditions, Fault};
use self::usual::Usual;
use crate::support::proxy::Proxy;
use crate::support::wait::Deadline;

/// Endpoints, and what each can do at once.
const ENDPOINTS: usize = 3;
const SLOTS: usize = 3;
/// What a request takes of an endpoint on average, and what of that its database.
const SERVICE: Duration = Duration::from_millis(40);
const DATABASE: Duration = Duration::from_millis(20);
/// Of all requests, those that the cache does not answer, about.
const UNCACHED: f64 = 0.65;
/// How long everything is well before the fault: thirty seconds pass before a second counts as usual.
const HEALTHY: Duration = Duration::from_secs(55);
/// How long after the fault the verdict has to stand.
const WITHIN: Duration = Duration::from_secs(15);

/// How long most drills take.
const USUALLY: Duration = HEALTHY.saturating_add(WITHIN);

/// Whether a person has interrupted the bench: what runs then comes to its end at once, and stops its proxy.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every drill on ctrl-c.
pub(crate) fn end_on_interrupt() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// What is drilled.
#[derive(Clone, Debug)]
pub(crate) struct Drill {
    /// The faults; none, and nothing must be said.
    pub(crate) faults: Vec<Fault>,
    /// What is usual, when there are none.
    pub(crate) usual: Usual,
    /// The part of the endpoints' capacity that is asked for before.
    pub(crate) load: f64,
    pub(crate) seed: u64,
}

/// Cause, subject and confidence.
type Verdict = (String, String, f64);

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) drill: Drill,
    /// Cause and subject that have to come first; in any order when there are several.
    pub(crate) expected: Vec<(String, String)>,
    /// Verdicts at the end, most likely first.
    pub(crate) found: Vec<Verdict>,
    /// Seconds from the fault until the right verdict stood.
    pub(crate) after: Option<f64>,
    /// What came first, each time that changed, with the seconds since the fault.
    pub(crate) course: Vec<(f64, String)>,
    /// Verdicts while everything was well, and when.
    pub(crate) early: Vec<(f64, Verdict)>,
}

impl Outcome {
    /// Whether the right verdicts are first, and nothing was said too early.
    pub(crate) fn is_right(&self) -> bool {
        self.early.is_empty() && is_right(&self.expected, &self.found)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.is_right() { "right" } else { "WRONG" };
        let Drill { load, seed, .. } = self.drill;
        write!(f, "{mark} {} at {load}, seed {seed}", self.drill.name())?;
        match self.after {
            Some(after) => write!(f, ": after {after:.1} s")?,
            None if self.expected.is_empty() => {}
            None => write!(f, ": not found")?,
        }
        for (cause, subject, confidence) in &self.found {
            write!(f, ", {cause} {subject} {confidence:.2}")?;
        }
        for (seconds, first) in &self.course {
            write!(f, "; {seconds:.0} s {first}")?;
        }
        for (seconds, (cause, subject, confidence)) in &self.early {
            write!(
                f,
                "; while all was well, at {seconds:.0} s: {cause} {subject} {confidence:.2}"
            )?;
        }
        Ok(())
    }
}

fn is_right(expected: &[(String, String)], found: &[Verdict]) -> bool {
    let first: Vec<_> = found.iter().take(expected.len().max(1)).collect();
    let named = |one: &(String, String)| {
        first
            .iter()
            .any(|verdict| (&verdict.0, &verdict.1) == (&one.0, &one.1))
    };
    if expected.is_empty() {
        found.is_empty()
    } else {
        expected.iter().all(named)
    }
}

/// What origins and clients share.
#[derive(Debug)]
struct World {
    conditions: watch::Sender<Conditions>,
    sent: AtomicU64,
    /// Requests a second that all clients make when all is well.
    rate: f64,
    seed: u64,
}

/// Requests a second that fill `part` of what the endpoints can do.
fn rate(part: f64) -> f64 {
    part * (ENDPOINTS * SLOTS) as f64 / SERVICE.as_secs_f64() / UNCACHED
}

impl Drill {
    /// What is wrong in it, or what is usual.
    pub(crate) fn name(&self) -> String {
        if self.faults.is_empty() {
            format!("{:?}", self.usual)
        } else {
            format!("{:?}", self.faults)
        }
    }

    /// Runs it; most take a minute and a quarter.
    pub(crate) fn run(self) -> Outcome {
        let world = Arc::new(World {
            conditions: watch::Sender::new(Conditions::default()),
            sent: AtomicU64::new(0),
            rate: rate(self.load),
            seed: self.seed,
        });
        let (told, endpoints) = std::sync::mpsc::channel();
        let (target, targeted) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let of_thread = Arc::clone(&world);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let _origins = origin::start(&of_thread, &told).await;
                let _clients = clients::start(&of_thread, targeted.await.expect("a proxy"));
                stopped.await.ok();
            });
        });
        let endpoints: Vec<_> = endpoints.iter().take(ENDPOINTS).collect();
        let listed: Vec<_> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
        let proxy = Proxy::start(&format!(
            "[server]\nworkers = 1\n[telemetry]\naccess_log = {{ path = \"off\" }}\n[cache.shared]\n\
             [upstreams.app]\nendpoints = [{}]\n[[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n",
            listed.join(", ")
        ));
        target.send(proxy.address()).expect("clients wait");
        let expected = self.faults.iter();
        let expected = expected
            .map(|fault| fault.verdict(&endpoints))
            .collect::<Vec<_>>();
        let outcome = self.watch(&proxy, &world, expected);
        stop.send(()).ok();
        drop(proxy);
        thread.join().expect("origins and clients end");
        outcome
    }

    /// Lets `long` of what is usual pass; what is said in it, each cause once, with the seconds that had passed.
    fn all_is_well(&self, proxy: &Proxy, world: &World, long: Duration) -> Vec<(f64, Verdict)> {
        let mut said: Vec<(f64, Verdict)> = Vec::new();
        let began = SystemClock.now();
        until(long, world, || {
            let time = SystemClock.now().since(began);
            let conditions = self.usual.at(time, self.load, self.seed);
            world.conditions.send_if_modified(|now| {
                let differs = *now != conditions;
                *now = conditions;
                differs
            });
            for verdict in verdicts(proxy) {
                if !said.iter().any(|(_, (cause, ..))| *cause == verdict.0) {
                    said.push((time.as_secs_f64(), verdict));
                }
            }
        });
        said
    }

    fn watch(self, proxy: &Proxy, world: &World, expected: Vec<(String, String)>) -> Outcome {
        let healthy = if self.faults.is_empty() {
            self.usual.lasts()
        } else {
            HEALTHY
        };
        let early = self.all_is_well(proxy, world, healthy);
        if self.faults.is_empty() {
            return Outcome {
                drill: self,
                expected,
                found: verdicts(proxy),
                after: None,
                course: Vec::new(),
                early,
            };
        }
        let grows = self.faults.iter().map(|fault| fault.grows());
        let grows = grows.max().unwrap_or_default();
        let stalls = self.faults.iter().find_map(|fault| fault.stalls());
        let at = |time: Duration| {
            let part = if time < grows {
                time.as_secs_f64() / grows.as_secs_f64()
            } else {
                1.0
            };
            let faults = self.faults.iter();
            let conditions = faults.fold(Conditions::default(), |conditions, fault| {
                fault.grown(part).apply(conditions)
            });
            world.conditions.send_replace(conditions);
        };
        at(Duration::ZERO);
        let began = SystemClock.now();
        let (mut found, mut after) = (Vec::new(), None);
        let mut course = Vec::new();
        let mut look = || {
            found = verdicts(proxy);
            let right = is_right(&expected, &found);
            at(SystemClock.now().since(began));
            let now = SystemClock.now().since(began.after(grows)).as_secs_f64();
            after = right.then(|| after.unwrap_or(now));
            let first = found.first().map_or_else(String::new, |one| one.0.clone());
            if course.last().map(|(_, last)| last) != Some(&first) {
                course.push((now, first));
            }
        };
        match stalls {
            None => until(grows + WITHIN, world, look),
            Some(stall) => {
                // As a quota on its processor time does it: it runs a while, and then not at all.
                while SystemClock.now().since(began) < WITHIN && !interrupted() {
                    proxy.signal(Signal::STOP);
                    pass(stall);
                    proxy.signal(Signal::CONT);
                    pass(stall);
                }
                look();
            }
        }
        Outcome {
            drill: self,
            expected,
            found,
            after,
            course,
            early,
        }
    }
}

/// Looks on for so long, four times a second, while clients ask.
fn until(long: Duration, world: &World, mut look: impl FnMut()) {
    let began = SystemClock.now();
    let asked = world.sent.load(Ordering::Relaxed);
    while SystemClock.now().since(began) < long && !interrupted() {
        look();
        pass(Duration::from_millis(250));
    }
    assert!(
        interrupted() || world.sent.load(Ordering::Relaxed) > asked,
        "nobody asks"
    );
}

/// Spreads the beginnings of `at_once` rows of drills, of which this is the `number`th: what hurts in all of them at once takes
/// more of the machine than is there.
pub(crate) fn take_turns(number: usize, at_once: usize) {
    let began = SystemClock.now();
    let turn = USUALLY.mul_f64(number as f64 / at_once as f64);
    while SystemClock.now().since(began) < turn && !interrupted() {
        pass(Duration::from_millis(250));
    }
}

fn pass(long: Duration) {
    let deadline = Deadline::after(long);
    while deadline.tick() {}
}

/// What is wrong, as the proxy says.
fn verdicts(proxy: &Proxy) -> Vec<Verdict> {
    let answer = proxy.admin_get("/api/v1/diagnosis").json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdicts = answer["verdicts"].as_array().cloned().unwrap_or_default();
    let named = verdicts.iter().map(|one| {
        let confidence = one["confidence"].as_f64().unwrap_or_default();
        (text(&one["cause"]), text(&one["subject"]), confidence)
    });
    named.collect()
}

/// Lets `long` pass for a task.
async fn sleep(long: Duration) {
    let until: Instant = SystemClock.now().after(long);
    tokio::time::sleep_until(SystemClock.to_std(until).into()).await;
}

/// Exponentially distributed around `mean`.
fn exponential(rng: &mut fastrand::Rng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}
