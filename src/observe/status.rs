//! What the process is doing: since when, with which configuration, and whether it is on its way out.
//!
//! Written by the supervisor, read by the admin API and the scrape. Depends on the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::clock::{Instant, SystemClock};

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// Why the configuration was not taken; none when it was.
    pub error: Option<String>,
}

/// The state of the process.
#[derive(Debug)]
pub struct Status {
    started_at: u64,
    started: Instant,
    draining: AtomicBool,
    loaded_at: AtomicU64,
    last_reload: ArcSwapOption<Reload>,
    reloads_taken: AtomicU64,
    reloads_refused: AtomicU64,
    state_error: ArcSwapOption<String>,
    state_failures: AtomicU64,
}

impl Default for Status {
    fn default() -> Self {
        Self::new(SystemClock)
    }
}

impl Status {
    /// A process that starts now, its configuration just loaded.
    #[must_use]
    pub fn new(clock: SystemClock) -> Self {
        let now = clock.unix_micros();
        Self {
            started_at: now,
            started: clock.now(),
            draining: AtomicBool::new(false),
            loaded_at: AtomicU64::new(now),
            last_reload: ArcSwapOption::empty(),
            reloads_taken: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            state_error: ArcSwapOption::empty(),
            state_failures: AtomicU64::new(0),
        }
    }

    /// When the process started, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn started_at(&self) -> u64 {
        self.started_at
    }

    /// When the process started, in monotonic time.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Notes that the process drains. Says whether this call began it.
    pub fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    /// Whether the process drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Notes a reload that ended now: taken, or refused with this text.
    pub fn reloaded(&self, clock: SystemClock, result: Result<(), String>) {
        let at = clock.unix_micros();
        let error = result.err();
        if error.is_none() {
            self.loaded_at.store(at, Ordering::Relaxed);
            self.reloads_taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.reloads_refused.fetch_add(1, Ordering::Relaxed);
        }
        self.last_reload.store(Some(Arc::new(Reload { at, error })));
    }

    /// When the configuration in use was loaded, in microseconds since the Unix epoch.
    #[must_use]
    pub fn loaded_at(&self) -> u64 {
        self.loaded_at.load(Ordering::Relaxed)
    }

    /// How the last reload went; none when there was none.
    #[must_use]
    pub fn last_reload(&self) -> Option<Arc<Reload>> {
        self.last_reload.load_full()
    }

    /// Notes that what outlives a restart was written, or why it was not.
    pub fn state_written(&self, error: Option<String>) {
        if error.is_some() {
            self.state_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.state_error.store(error.map(Arc::new));
    }

    /// Why what outlives a restart could not be written the last time; none when it was.
    #[must_use]
    pub fn state_error(&self) -> Option<Arc<String>> {
        self.state_error.load_full()
    }

    /// How often it could not be written.
    #[must_use]
    pub fn state_failures(&self) -> u64 {
        self.state_failures.load(Ordering::Relaxed)
    }

    /// Reloads that were taken, and those that were refused.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        (
            self.reloads_taken.load(Ordering::Relaxed),
            self.reloads_refused.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_leaves_the_loading_time_of_what_runs() {
        let status = Status::default();
        let loaded = status.loaded_at();
        assert_eq!(status.last_reload(), None);
        status.reloaded(SystemClock, Err("no".into()));
        assert_eq!(status.loaded_at(), loaded);
        assert_eq!(status.last_reload().unwrap().error.as_deref(), Some("no"));
        status.reloaded(SystemClock, Ok(()));
        assert!(status.loaded_at() >= loaded);
        assert_eq!(status.last_reload().unwrap().error, None);
        assert_eq!(status.reloads(), (1, 1));
    }

    #[test]
    fn only_the_first_call_begins_a_drain() {
        let status = Status::default();
        assert!(!status.is_draining());
        assert!(status.begin_drain());
        assert!(!status.begin_drain());
        assert!(status.is_draining());
    }
}
