//! Whose memory it is: samples of what is allocated in a while, and of what is left of it at the end.
//!
//! One profile at a time. Meanwhile every 256 KiB of allocations, on average, one is remembered with its stack until it is
//! freed; at other times an allocation costs one look at a flag. What was allocated before is not seen: a leak is
//! what grows while one looks, a full heap that does not grow is a matter for `process_resident_memory_bytes`.
//! Addresses become names at the end, on the caller's thread, which takes a moment and reads the binary:
//! never call that where something waits. Depends on the processor's profile, for what a profile
//! is, and on what draws it.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use rustfs_mimalloc_profiling::pprof as proto;
use rustfs_mimalloc_profiling::{MimallocConfig, MimallocStackCapture, Profiler, mimalloc_stats};

use super::calls;
use super::flamegraph::Frame;
use super::profile::{Error, Profile};

/// Bytes from one sample to the next, on average.
const INTERVAL: u64 = 256 << 10;
/// Samples of what was allocated that are kept; some 9 MB.
const ALLOCATED: usize = 16_384;
/// Samples of what is not freed that are kept; some 3 MB, taken at the start.
const IN_USE: usize = 4_096;

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
    let begun = Profiler::start(MimallocConfig {
        sample_interval_bytes: INTERVAL,
        stack_capture,
        ring_capacity: ALLOCATED,
        live_heap_tracking: true,
        max_live_samples: IN_USE,
        ..MimallocConfig::default()
    });
    begun.map(Sampling).map_err(|error| match error {
        rustfs_mimalloc_profiling::Error::AlreadyActive => Error::Busy,
        other => Error::Memory(other),
    })
}

impl Sampling {
    /// Ends it and gives names to what was seen. Takes a moment.
    ///
    /// # Errors
    /// When what was seen cannot be read.
    pub fn end(mut self) -> Result<Profile, Error> {
        let report = self.0.report();
        calls::forget();
        let report = report.map_err(Error::Memory)?;
        let mut profile = proto::Profile::decode(&*report)?;
        let stats = mimalloc_stats();
        let dropped = stats.dropped_samples + stats.dropped_live_samples;
        if dropped > 0 {
            let index = profile.string_table.len();
            let said = format!("{dropped} samples did not fit and are not in here");
            profile.string_table.push(said);
            profile.comment.push(i64::try_from(index).unwrap_or(0));
        }
        let stacks = left(&profile);
        let seconds = Duration::from_nanos(profile.duration_nanos.unsigned_abs());
        let title = format!(
            "Memory allocated in {:.0} s and not freed: about {} KiB, by call",
            seconds.as_secs_f64(),
            stacks.samples() >> 10
        );
        Ok(Profile {
            proto: profile,
            stacks,
            title,
        })
    }
}

/// The stacks of what is left, each with its bytes.
fn left(profile: &proto::Profile) -> Frame {
    let text = |index: i64| {
        let index = usize::try_from(index).ok();
        let text = index.and_then(|index| profile.string_table.get(index));
        text.map_or("", String::as_str)
    };
    let mut types = profile.sample_type.iter();
    let bytes = types.position(|one| text(one.r#type) == "inuse_space");
    let places = profile.location.iter().map(|one| (one.id, one));
    let places: HashMap<_, _> = places.collect();
    let names = profile.function.iter();
    let names: HashMap<_, _> = names.map(|one| (one.id, text(one.name))).collect();
    // The outermost call first; where some were inlined, a place has more than one.
    let calls = |id: &u64| {
        let lines = places.get(id).map_or(&[][..], |place| &place.line);
        let called = lines.iter().rev();
        called.filter_map(|line| names.get(&line.function_id).copied())
    };
    let mut all = Frame::default();
    for sample in &profile.sample {
        let left = bytes.and_then(|column| sample.value.get(column));
        let left = left.map_or(0, |left| u64::try_from(*left).unwrap_or(0));
        if left > 0 {
            all.add(sample.location_id.iter().rev().flat_map(calls), left);
        }
    }
    all
}
