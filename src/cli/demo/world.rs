//! What is true in the demo: the time of its day, what has gone wrong, and what its ordinary clients feel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Instant, SystemClock};

/// How long a day lasts.
pub(super) const DAY: Duration = Duration::from_secs(120);
/// What is asked for in the dead of night, as a share of the peak.
const NIGHT: f64 = 0.4;
/// Requests that are remembered.
const REMEMBERED: usize = 100_000;

/// The demo's world, shared by origins, clients and the narrator.
#[derive(Debug)]
pub(super) struct World {
    began: Instant,
    /// Whether the client `reports` runs its reports.
    pub(super) reports: AtomicBool,
    /// Milliseconds that one endpoint of `search` takes in addition.
    pub(super) slow_ms: AtomicU32,
    /// Of a hundred requests to `shop`, how many fail.
    pub(super) failing: AtomicU32,
    /// Whether the mobile app tries again at once what failed.
    pub(super) impatient: AtomicBool,
    felt: Mutex<VecDeque<Felt>>,
}

/// One request of an ordinary client, as it felt it.
#[derive(Clone, Copy, Debug)]
struct Felt {
    at: Instant,
    seconds: f64,
    ok: bool,
}

/// What ordinary clients felt over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Feeling {
    /// Requests a second.
    pub(super) rate: f64,
    /// Half of them took no longer, seconds.
    pub(super) p50: f64,
    /// 98 of 100 took no longer, seconds.
    pub(super) p98: f64,
    /// The share that got no answer, or none that helps.
    pub(super) failed: f64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            began: SystemClock.now(),
            reports: AtomicBool::new(false),
            slow_ms: AtomicU32::new(0),
            failing: AtomicU32::new(0),
            impatient: AtomicBool::new(false),
            felt: Mutex::default(),
        }
    }

    /// How long the demo has run.
    pub(super) fn age(&self) -> Duration {
        SystemClock.now().since(self.began)
    }

    /// How busy ordinary clients are, 0 to 1: a night and a day, with the peak in its middle.
    pub(super) fn busy(&self) -> f64 {
        let day = self.age().as_secs_f64() / DAY.as_secs_f64();
        NIGHT + (1.0 - NIGHT) * (std::f64::consts::PI * day).sin().powi(2)
    }

    /// Ends whatever has gone wrong.
    pub(super) fn mend(&self) {
        self.reports.store(false, Ordering::Relaxed);
        self.slow_ms.store(0, Ordering::Relaxed);
        self.failing.store(0, Ordering::Relaxed);
        self.impatient.store(false, Ordering::Relaxed);
    }

    /// Remembers what an ordinary client felt.
    pub(super) fn feel(&self, took: Duration, ok: bool) {
        let mut felt = self.felt.lock().unwrap_or_else(PoisonError::into_inner);
        if felt.len() >= REMEMBERED {
            felt.pop_front();
        }
        felt.push_back(Felt {
            at: SystemClock.now(),
            seconds: took.as_secs_f64(),
            ok,
        });
    }

    /// What ordinary clients felt in the last `over`.
    pub(super) fn felt(&self, over: Duration) -> Feeling {
        let now = SystemClock.now();
        let felt = self.felt.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = felt
            .iter()
            .rev()
            .take_while(|one| now.since(one.at) <= over);
        let (mut times, mut failed) = (Vec::new(), 0_u32);
        for one in recent {
            times.push(one.seconds);
            failed += u32::from(!one.ok);
        }
        drop(felt);
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get(times.len() * share / 100).copied();
        let count = times.len() as f64;
        Feeling {
            rate: count / over.as_secs_f64(),
            p50: at(50).unwrap_or_default(),
            p98: at(98).unwrap_or_default(),
            failed: f64::from(failed) / count.max(1.0),
        }
    }
}

/// Waits for `time`.
pub(super) async fn pause(time: Duration) {
    let until = SystemClock.to_std(SystemClock.now().after(time));
    tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
}
