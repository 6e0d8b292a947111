//! The machine, second by second, as `sar` would show it.
//!
//! A [`Sample`] holds the kernel's own counters, so any two of them tell what went on between. Each second's is
//! kept for a day in a ring file, where there is a place for one, else for an hour in memory. Files that this kernel lacks
//! leave zeros. Depends on the clock.

pub mod report;
pub mod ring;
pub mod sample;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use self::ring::Ring;
pub use self::sample::Sample;
use crate::clock::SystemClock;

/// Samples kept in a file: a day of seconds, some 40 MB.
const KEPT: usize = 86_400;
/// And in memory: an hour.
const KEPT_IN_MEMORY: usize = 3_600;
/// How often one is taken.
const EVERY: Duration = Duration::from_secs(1);

/// What was sampled, to be shared with whoever shows it.
#[derive(Debug)]
pub struct Host {
    ring: Mutex<Ring>,
}

impl Host {
    /// Goes on with the ring in `directory`, or begins one; without a place that can be written, in memory.
    #[must_use]
    pub fn open(directory: Option<&Path>) -> Self {
        let ring = directory.and_then(|directory| {
            let path = directory.join("host.ring");
            let opened = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory).and_then(|()| Ring::open(&path, KEPT));
            let complain = |error: &std::io::Error| {
                tracing::warn!(%error, path = %path.display(), "samples of the host are kept in memory only");
            };
            opened.inspect_err(complain).ok()
        });
        Self {
            ring: Mutex::new(ring.unwrap_or_else(|| Ring::in_memory(KEPT_IN_MEMORY))),
        }
    }

    /// Starts the thread that samples; it ends with the process.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let host = Arc::clone(self);
        std::thread::Builder::new()
            .name("host".into())
            .spawn(move || {
                loop {
                    host.keep(&Sample::read(SystemClock.unix_micros()));
                    // The next whole second, so that windows of two machines line up.
                    let past = Duration::from_micros(SystemClock.unix_micros() % 1_000_000);
                    std::thread::park_timeout(EVERY.saturating_sub(past).max(EVERY / 10));
                }
            })?;
        Ok(())
    }

    fn keep(&self, sample: &Sample) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(sample);
    }

    /// The samples from `from` to `to`, in seconds since the Unix epoch, the oldest first.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Vec<Sample> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.between(from, to)
    }
}
