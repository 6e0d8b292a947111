//! Where the process spends its processor time: samples of every thread's stack, for a while. And what a profile is, this
//! one and that of memory.
//!
//! One profile at a time. A timer's signal interrupts whichever thread runs, 99 times a second of processor time, and its
//! stack is walked there; what could hold the unwinder's own locks (the C library, the unwinder) is left out.
//! Addresses become names afterwards, on the caller's thread, which takes a moment and reads the binary: never
//! call this where something waits. Depends on what names calls and on what draws them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rustfs_mimalloc_profiling::pprof as proto;
use serde::Deserialize;

use super::calls::{Call, Calls};
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
    /// The profiler of memory failed.
    #[error("the profiler of memory failed: {0}")]
    Memory(rustfs_mimalloc_profiling::Error),
    /// What the profiler of memory wrote cannot be read.
    #[error("the profiler of memory wrote what cannot be read: {0}")]
    Unreadable(#[from] prost::DecodeError),
    /// Nothing ran while it was sampled, or nothing that was allocated is left.
    #[error(
        "there is nothing to draw: the process was idle meanwhile, or freed all it allocated; ask for more seconds, or under load"
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
    /// Ends it and gives names to what was seen. Takes a moment.
    ///
    /// # Errors
    /// When the samples cannot be read.
    pub fn end(self) -> Result<Profile, Error> {
        let Self { guard, _one } = self;
        let seen = guard.report().build_unresolved()?;
        // Looking for names is no part of what is looked at.
        drop(guard);
        let mut calls = Calls::default();
        let samples = seen.data.iter().map(|(stack, count)| {
            let name = stack.thread_name.iter().take(stack.thread_name_length);
            let name: Vec<u8> = name.copied().collect();
            let thread = match String::from_utf8_lossy(&name) {
                name if name.is_empty() => stack.thread_id.to_string(),
                name => name.into_owned(),
            };
            let calls = stack.frames.iter().map(|frame| calls.of(frame)).collect();
            Sample {
                thread,
                calls: without_sampling(calls),
                count: u64::try_from(*count).unwrap_or(0),
            }
        });
        let samples: Vec<Sample> = samples.collect();
        let mut stacks = Frame::default();
        for sample in &samples {
            let thread = std::iter::once(&*sample.thread);
            let calls = sample.calls.iter().rev().flat_map(|one| one.iter().rev());
            stacks.add(thread.chain(calls.map(|call| &*call.name)), sample.count);
        }
        let taken = seen.timing.duration;
        Ok(Profile {
            title: format!(
                "Processor time of {:.0} s, by thread and call",
                taken.as_secs_f64()
            ),
            proto: encode(&samples, taken),
            stacks,
        })
    }
}

/// A stack, its innermost call first, and how often it was seen.
struct Sample {
    thread: String,
    calls: Vec<Arc<[Call]>>,
    count: u64,
}

/// Takes away the calls of the sampling itself, which lie on top of every stack: the signal's handler, what it called, and
/// what the kernel called it through.
fn without_sampling(mut calls: Vec<Arc<[Call]>>) -> Vec<Arc<[Call]>> {
    let is_handler = |call: &Call| call.name.contains("perf_signal_handler");
    let handler = calls.iter().position(|one| one.iter().any(is_handler));
    if let Some(handler) = handler {
        calls.drain(..calls.len().min(handler + 2));
    }
    calls
}

/// How a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What `go tool pprof` reads: its protocol buffer, gzipped.
    Pprof,
    /// A flamegraph.
    Svg,
    /// The stacks as text, one in a line.
    Folded,
}

impl Format {
    /// The value of `content-type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Pprof => "application/octet-stream",
            Self::Svg => "image/svg+xml",
            Self::Folded => "text/plain; charset=utf-8",
        }
    }
}

/// What was sampled.
#[derive(Debug)]
pub struct Profile {
    pub(super) proto: proto::Profile,
    pub(super) stacks: Frame,
    /// What the flamegraph is headed by.
    pub(super) title: String,
}

impl Profile {
    /// The profile as `format` has it.
    ///
    /// # Errors
    /// When there is nothing to draw, or it cannot be compressed.
    pub fn write(&self, format: Format) -> Result<Vec<u8>, Error> {
        if format == Format::Pprof {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            std::io::Write::write_all(&mut encoder, &self.proto.encode_to_vec())?;
            return Ok(encoder.finish()?);
        }
        if self.stacks.samples() == 0 {
            return Err(Error::Idle);
        }
        Ok(match format {
            Format::Folded => self.stacks.folded(),
            Format::Svg | Format::Pprof => self.stacks.draw(&self.title),
        }
        .into_bytes())
    }
}

fn encode(samples: &[Sample], taken: Duration) -> proto::Profile {
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
    let samples = samples.iter().map(|sample| {
        let count = i64::try_from(sample.count).unwrap_or(i64::MAX);
        let calls = sample.calls.iter().flat_map(|one| one.iter());
        proto::Sample {
            location_id: calls.map(|call| tables.location(call)).collect(),
            value: vec![count, count.saturating_mul(period)],
            label: vec![proto::Label {
                key: thread,
                str: tables.string(&sample.thread),
                ..proto::Label::default()
            }],
        }
    });
    let samples = samples.collect();
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

    fn location(&mut self, call: &Call) -> u64 {
        let (name, line) = (self.string(&call.name), call.line);
        if let Some(id) = self.places.get(&(name, line)) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        let file = self.string(&call.file);
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
        let written = profile.write(Format::Pprof).unwrap();
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
        let text = |format| String::from_utf8(profile.write(format).unwrap()).unwrap();
        let picture = text(Format::Svg);
        assert!(picture.contains("<svg") && picture.contains("burn"));
        let folded = text(Format::Folded);
        assert!(folded.contains("burn "), "{folded}");
        assert!(begin().is_ok());
    }
}
