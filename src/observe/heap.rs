//! Whose memory it is: samples of what is allocated in a while, and of what is left of it at the end.
//!
//! One profile at a time. Meanwhile every 256 KiB of allocations, on average, one is remembered with its stack until it is
//! freed; at other times an allocation costs one look at a flag. What was allocated before is not seen: a leak is
//! what grows while one looks, a full heap that does not grow is a matter for `process_resident_memory_bytes`.
//! Addresses become names at the end, on the caller's thread, which takes a second and reads the binary:
//! never call that where something waits. Depends on the processor's profile, for its format, and on what draws it.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use rustfs_mimalloc_profiling::pprof as proto;
use rustfs_mimalloc_profiling::{MimallocConfig, MimallocStackCapture, Profiler, mimalloc_stats};

use super::flamegraph::Frame;
use super::profile::gzip;

/// Bytes from one sample to the next, on average.
const INTERVAL: u64 = 256 << 10;
/// Samples of what was allocated that are kept; some 9 MB.
const ALLOCATED: usize = 16_384;
/// Samples of what is not freed that are kept; some 3 MB, taken at the start.
const IN_USE: usize = 4_096;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is being taken.
    #[error("another profile of memory is being taken; wait until it is done")]
    Busy,
    /// The profiler failed.
    #[error("the profiler of memory failed: {0}")]
    Failed(rustfs_mimalloc_profiling::Error),
    /// What the profiler wrote cannot be read.
    #[error("the profiler of memory wrote what cannot be read: {0}")]
    Unreadable(#[from] prost::DecodeError),
    /// Nothing was left over.
    #[error(
        "there is nothing to draw: all that was allocated meanwhile was freed; ask for more seconds, or under load"
    )]
    Idle,
    /// What was sampled cannot be written.
    #[error("the profile of memory cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

impl From<rustfs_mimalloc_profiling::Error> for Error {
    fn from(error: rustfs_mimalloc_profiling::Error) -> Self {
        match error {
            rustfs_mimalloc_profiling::Error::AlreadyActive => Self::Busy,
            other => Self::Failed(other),
        }
    }
}

/// A running profile; it ends when this is dropped.
#[derive(Debug)]
pub struct Sampling(Profiler);

/// Begins to sample.
///
/// # Errors
/// When another profile is being taken, or the process allocates through something else.
pub fn begin() -> Result<Sampling, Error> {
    // The other one holds a lock of the whole process while it walks a stack.
    let stack_capture = if cfg!(all(target_os = "linux", target_env = "gnu")) {
        MimallocStackCapture::Native
    } else {
        MimallocStackCapture::Portable
    };
    let profiler = Profiler::start(MimallocConfig {
        sample_interval_bytes: INTERVAL,
        stack_capture,
        ring_capacity: ALLOCATED,
        live_heap_tracking: true,
        max_live_samples: IN_USE,
        ..MimallocConfig::default()
    })?;
    Ok(Sampling(profiler))
}

impl Sampling {
    /// Ends it and gives names to what was seen. Takes a second.
    ///
    /// # Errors
    /// When what was seen cannot be read.
    pub fn end(mut self) -> Result<Profile, Error> {
        let mut profile = proto::Profile::decode(&*self.0.report()?)?;
        let stats = mimalloc_stats();
        let dropped = stats.dropped_samples + stats.dropped_live_samples;
        if dropped > 0 {
            let index = profile.string_table.len();
            profile
                .string_table
                .push(format!("{dropped} samples did not fit and are not in here"));
            profile.comment.push(i64::try_from(index).unwrap_or(0));
        }
        Ok(Profile(profile))
    }
}

/// What was sampled.
#[derive(Debug)]
pub struct Profile(proto::Profile);

impl Profile {
    /// As a picture of the stacks, each as wide as the memory that is left of what it allocated (SVG).
    ///
    /// # Errors
    /// When there is nothing to draw.
    pub fn flamegraph(&self) -> Result<String, Error> {
        let all = self.stacks()?;
        let seconds = Duration::from_nanos(self.0.duration_nanos.unsigned_abs());
        let title = format!(
            "Memory allocated in {:.0} s and not freed: about {} KiB, by call",
            seconds.as_secs_f64(),
            all.samples() >> 10
        );
        Ok(all.draw(&title))
    }

    /// As folded stacks, one in a line, with the bytes that are left.
    ///
    /// # Errors
    /// When there are none.
    pub fn folded(&self) -> Result<String, Error> {
        Ok(self.stacks()?.folded())
    }

    fn stacks(&self) -> Result<Frame, Error> {
        let bytes = self.column("inuse_space");
        let places = self.0.location.iter().map(|one| (one.id, one));
        let places: HashMap<_, _> = places.collect();
        let names = self.0.function.iter();
        let names: HashMap<_, _> = names.map(|one| (one.id, self.text(one.name))).collect();
        // The outermost call first; where some were inlined, a place has more than one.
        let calls = |id: &u64| {
            let lines = places.get(id).map_or(&[][..], |place| &place.line);
            let called = lines.iter().rev();
            called.filter_map(|line| names.get(&line.function_id).map(|&name| name.to_owned()))
        };
        let mut all = Frame::default();
        for sample in &self.0.sample {
            let left = bytes.and_then(|column| sample.value.get(column));
            let left = left.map_or(0, |left| u64::try_from(*left).unwrap_or(0));
            if left > 0 {
                all.add(sample.location_id.iter().rev().flat_map(calls), left);
            }
        }
        if all.samples() == 0 {
            return Err(Error::Idle);
        }
        Ok(all)
    }

    /// As `pprof` reads it: its protocol buffer, gzipped.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn pprof(&self) -> Result<Vec<u8>, Error> {
        Ok(gzip(&self.0)?)
    }

    /// Which of a sample's values is `kind`.
    fn column(&self, kind: &str) -> Option<usize> {
        let mut types = self.0.sample_type.iter();
        types.position(|one| self.text(one.r#type) == kind)
    }

    fn text(&self, index: i64) -> &str {
        let index = usize::try_from(index).ok();
        index
            .and_then(|index| self.0.string_table.get(index))
            .map_or("", String::as_str)
    }
}
