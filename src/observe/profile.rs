//! Where the process spends its processor time: samples of every thread's stack, for a while.
//!
//! One profile at a time. A timer's signal interrupts whichever thread runs, 99 times a second of processor time, and its
//! stack is walked there; what could hold the unwinder's own locks (the C library, the unwinder) is left out.
//! Addresses become names afterwards, on the caller's thread, which takes a second and reads the binary: never
//! call this where something waits. Depends on what draws it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rustfs_mimalloc_profiling::pprof as proto;

use super::flamegraph::Frame;

/// Samples in a second of processor time: not in step with anything that happens a hundred times a second.
const FREQUENCY: u16 = 99;
/// Code that must not be interrupted by the unwinder.
const LEFT_OUT: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is being taken.
    #[error("another profile is being taken; wait until it is done")]
    Busy,
    /// The profiler failed.
    #[error("the profiler failed: {0}")]
    Failed(#[from] pprof::Error),
    /// Nothing ran while it was sampled.
    #[error(
        "there is nothing to draw: the process was idle meanwhile; ask for more seconds, or under load"
    )]
    Idle,
    /// What was sampled cannot be written.
    #[error("the profile cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// A running profile.
pub struct Sampling {
    guard: pprof::ProfilerGuard<'static>,
    _one: One,
}

impl std::fmt::Debug for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sampling")
    }
}

/// That no other profile runs.
struct One;

impl Drop for One {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Release);
    }
}

/// Begins to sample.
///
/// # Errors
/// When another profile is being taken, or the timer cannot be set.
pub fn begin() -> Result<Sampling, Error> {
    if RUNNING.swap(true, Ordering::Acquire) {
        return Err(Error::Busy);
    }
    let one = One;
    let builder = pprof::ProfilerGuardBuilder::default()
        .frequency(FREQUENCY.into())
        .blocklist(&LEFT_OUT);
    Ok(Sampling {
        guard: builder.build()?,
        _one: one,
    })
}

impl Sampling {
    /// Ends it and gives names to what was seen. Takes a second.
    ///
    /// # Errors
    /// When the samples cannot be read.
    pub fn end(self) -> Result<Profile, Error> {
        let mut report = self.guard.report();
        let report = report.frames_post_processor(leave_out_sampling).build()?;
        Ok(Profile(report))
    }
}

/// Takes away the frames of the sampling itself, which lie on top of every stack.
fn leave_out_sampling(stack: &mut pprof::Frames) {
    let is_own = |symbol: &pprof::Symbol| {
        let name = symbol.name();
        name.contains("backtrace::") || name.contains("pprof::") || name == "Unknown"
    };
    let own = stack.frames.iter().take_while(|one| one.iter().all(is_own));
    stack.frames.drain(..own.count());
}

/// What was sampled.
pub struct Profile(pprof::Report);

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("stacks", &self.0.data.len())
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// As a picture of the stacks, each as wide as the time spent in it (SVG).
    ///
    /// # Errors
    /// When there is nothing to draw.
    pub fn flamegraph(&self) -> Result<String, Error> {
        let all = self.stacks()?;
        let seconds = self.0.timing.duration.as_secs_f64();
        let title = format!("Processor time of {seconds:.0} s, by thread and call");
        Ok(all.draw(&title))
    }

    /// As folded stacks, one in a line.
    ///
    /// # Errors
    /// When there are none.
    pub fn folded(&self) -> Result<String, Error> {
        Ok(self.stacks()?.folded())
    }

    fn stacks(&self) -> Result<Frame, Error> {
        if self.0.data.is_empty() {
            return Err(Error::Idle);
        }
        let mut all = Frame::default();
        for (stack, samples) in &self.0.data {
            let thread = std::iter::once(stack.thread_name_or_id());
            let calls = stack.frames.iter().rev().flat_map(|one| one.iter().rev());
            let calls = calls.map(|symbol| symbol.name());
            all.add(thread.chain(calls), u64::try_from(*samples).unwrap_or(0));
        }
        Ok(all)
    }

    /// As `pprof` reads it: its protocol buffer, gzipped.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn pprof(&self) -> Result<Vec<u8>, Error> {
        Ok(gzip(&self.encode())?)
    }

    fn encode(&self) -> proto::Profile {
        let mut tables = Tables::default();
        // The first string is the empty one.
        tables.string("");
        let types =
            [("samples", "count"), ("cpu", "nanoseconds")].map(|(kind, unit)| proto::ValueType {
                r#type: tables.string(kind),
                unit: tables.string(unit),
            });
        let thread = tables.string("thread");
        let period = 1_000_000_000 / i64::from(FREQUENCY);
        let samples = self.0.data.iter().map(|(stack, count)| {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let symbols = stack.frames.iter().flatten();
            proto::Sample {
                location_id: symbols.map(|symbol| tables.location(symbol)).collect(),
                value: vec![count, count.saturating_mul(period)],
                label: vec![proto::Label {
                    key: thread,
                    str: tables.string(&stack.thread_name_or_id()),
                    ..proto::Label::default()
                }],
            }
        });
        let samples = samples.collect();
        let taken = self.0.timing.duration;
        proto::Profile {
            sample_type: types.to_vec(),
            sample: samples,
            location: tables.locations,
            function: tables.functions,
            string_table: tables.strings,
            duration_nanos: nanos(taken),
            period_type: types.get(1).cloned(),
            period,
            ..proto::Profile::default()
        }
    }
}

/// A profile as files of it are: its protocol buffer, gzipped.
pub(super) fn gzip(profile: &proto::Profile) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, &profile.encode_to_vec())?;
    encoder.finish()
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Strings, functions and locations, each once.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    known: HashMap<String, i64>,
    functions: Vec<proto::Function>,
    locations: Vec<proto::Location>,
    places: HashMap<(i64, u32), u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = i64::try_from(self.strings.len()).unwrap_or(0);
        self.strings.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }

    fn location(&mut self, symbol: &pprof::Symbol) -> u64 {
        let name = self.string(&symbol.name());
        let line = symbol.lineno();
        if let Some(id) = self.places.get(&(name, line)) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        let file = self.string(&symbol.filename());
        self.functions.push(proto::Function {
            id,
            name,
            filename: file,
            ..proto::Function::default()
        });
        self.locations.push(proto::Location {
            id,
            line: vec![proto::Line {
                function_id: id,
                line: line.into(),
            }],
            ..proto::Location::default()
        });
        self.places.insert((name, line), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::io::Read as _;

    use super::*;

    #[inline(never)]
    fn burn(sampling: &Sampling) -> u64 {
        let mut sum = 0_u64;
        // Until there is something to see.
        loop {
            for number in 0..10_000_000_u64 {
                sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
            let seen = sampling.guard.report().build_unresolved();
            if seen.is_ok_and(|report| report.data.values().sum::<isize>() >= 20) {
                return sum;
            }
        }
    }

    #[test]
    fn what_burns_is_seen_by_its_name_and_there_is_one_profile_at_a_time() {
        let sampling = begin().unwrap();
        assert!(matches!(begin(), Err(Error::Busy)));
        black_box(burn(&sampling));
        let profile = sampling.end().unwrap();
        let written = profile.pprof().unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&*written)
            .read_to_end(&mut bytes)
            .unwrap();
        let read = proto::Profile::decode(&*bytes).unwrap();
        let names = &read.string_table;
        assert!(names.iter().any(|name| name.ends_with("burn")), "{names:?}");
        assert!(
            !names.iter().any(|name| name.contains("pprof::")),
            "{names:?}"
        );
        let samples: i64 = read
            .sample
            .iter()
            .filter_map(|sample| sample.value.first())
            .sum();
        assert!(samples >= 20, "{samples}");
        assert_eq!(read.string_table.first().map(String::as_str), Some(""));
        let picture = profile.flamegraph().unwrap();
        assert!(picture.contains("<svg") && picture.contains("burn"));
        let folded = profile.folded().unwrap();
        assert!(folded.contains("burn "), "{folded}");
        assert!(begin().is_ok());
    }
}
