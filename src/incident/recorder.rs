//! The flight recorder's samples: the last minute of what no exchange tells, second by second.
//!
//! Limits, queues, breakers, retry budgets, caches and event loops. What exchanges tell is kept where they are counted:
//! decisions and failures with `why`, clients and phases in the diagnosis's history, latencies in the timelines, the
//! machine in its ring. Constant memory: some 100 bytes for each of 256 upstreams, sixty times. Depends on observe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::model::CacheResult;
use crate::observe::snapshot::Snapshot;

/// Samples kept.
pub const SECONDS: usize = 60;
/// Upstreams, and likewise caches, in a sample.
const MOST: usize = 256;

/// One second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// Open client connections.
    pub connections: u64,
    /// Upstreams, in the order of the plan.
    pub upstreams: Vec<UpstreamSample>,
    /// Caches, in the order of their names.
    pub caches: Vec<CacheSample>,
    /// How late each worker's event loop woke on average since the last sample, seconds.
    pub loop_delay_seconds: Vec<f64>,
}

/// One upstream in one second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpstreamSample {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that may hold a slot at once.
    pub limit: u32,
    /// Requests that hold one.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub waiting: u32,
    /// Its breaker's state; none: it has none.
    pub breaker: Option<&'static str>,
    /// The part of the retry budget that is left.
    pub retry_budget: f64,
    /// Endpoints, and those among them that are in service.
    pub endpoints: [usize; 2],
}

/// One cache, since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheSample {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of memory it takes.
    pub bytes: u64,
    /// Requests by what it did about them.
    pub results: [(&'static str, u64); CacheResult::ALL.len()],
}

/// The samples of the last minute.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<Sample>,
    loops: Vec<(u64, Duration)>,
}

impl Recorder {
    /// Takes what there is at `at`, in seconds since the Unix epoch.
    pub fn take(&self, snapshot: &Snapshot, at: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut inner.loops, snapshot.loops.clone());
        let loops = snapshot.loops.iter().enumerate();
        let delays = loops.map(|(index, (wakes, late))| {
            let (wakes_before, late_before) = before.get(index).copied().unwrap_or_default();
            let wakes = wakes.saturating_sub(wakes_before);
            let late = late.saturating_sub(late_before).as_secs_f64();
            if wakes == 0 { 0.0 } else { late / wakes as f64 }
        });
        let sample = Sample {
            at,
            connections: snapshot.connections(),
            upstreams: snapshot.upstreams.iter().take(MOST).map(upstream).collect(),
            caches: snapshot.caches.iter().take(MOST).map(cache).collect(),
            loop_delay_seconds: delays.collect(),
        };
        if inner.samples.len() == SECONDS {
            inner.samples.pop_front();
        }
        inner.samples.push_back(sample);
    }

    /// The samples, the oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.samples.iter().cloned().collect()
    }
}

fn upstream(view: &crate::observe::snapshot::UpstreamView) -> UpstreamSample {
    let in_service = view.endpoints.iter().filter(|one| one.state.is_in_use());
    UpstreamSample {
        name: Arc::clone(&view.name),
        limit: view.limit.limit,
        in_flight: view.limit.in_flight,
        waiting: view.limit.waiting,
        breaker: view
            .circuit
            .report
            .as_ref()
            .map(|report| report.state.as_str()),
        retry_budget: view.retries.budget_remaining,
        endpoints: [view.endpoints.len(), in_service.count()],
    }
}

fn cache(view: &crate::observe::snapshot::CacheView) -> CacheSample {
    let mut results = CacheResult::ALL.map(|result| (result.as_str(), 0));
    for ((_, count), seen) in results.iter_mut().zip(view.results) {
        *count = seen;
    }
    CacheSample {
        name: Arc::clone(&view.name),
        bytes: view.memory,
        results,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_kept_and_loops_are_told_by_the_second() {
        let recorder = Recorder::default();
        for second in 0..70_u64 {
            let late = Duration::from_millis(second * second);
            let snapshot = Snapshot {
                loops: vec![(second * 10, late)],
                ..Snapshot::default()
            };
            recorder.take(&snapshot, second);
        }
        let samples = recorder.samples();
        assert_eq!((samples.len(), samples[0].at), (SECONDS, 10));
        let delay = samples[SECONDS - 1].loop_delay_seconds[0];
        assert!(
            (delay - (69.0_f64 * 69.0 - 68.0 * 68.0) / 1e4).abs() < 1e-9,
            "{delay}"
        );
    }
}
