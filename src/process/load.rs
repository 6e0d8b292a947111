//! How much of its memory and descriptors this process uses, read from `/proc` and the control group.
//!
//! What cannot be read counts as unused: a proxy must not shed because it does not know.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::content::in_pages;
use crate::clock::{Instant, SystemClock};
use crate::incident::diagnose::Proxy;
use crate::incident::watch::AskProxy;

/// Where the process's bounds are, and what they are.
#[derive(Debug)]
pub(super) struct Gauges {
    memory_limit: Option<u64>,
    fd_limit: usize,
}

impl Gauges {
    pub(super) fn new(fd_limit: usize) -> Self {
        Self {
            memory_limit: memory_limit(),
            fd_limit,
        }
    }

    /// Resident memory ÷ memory that may be used.
    pub(super) fn memory(&self) -> f64 {
        match (resident(), self.memory_limit) {
            (Some(used), Some(limit)) => ratio(used, limit),
            _ => 0.0,
        }
    }

    /// Descriptors open ÷ descriptors that may be open.
    pub(super) fn descriptors(&self) -> f64 {
        let open = open_descriptors().unwrap_or(0);
        ratio(open, u64::try_from(self.fd_limit).unwrap_or(u64::MAX))
    }
}

/// How late the workers' event loops run, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// At most, since it was asked for.
    worst: AtomicU64,
    /// In all, of all workers.
    total: AtomicU64,
}

impl Lags {
    pub(super) fn note(&self, worst: Duration, total: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.worst.fetch_max(nanos(worst), Ordering::Relaxed);
        self.total.store(nanos(total), Ordering::Relaxed);
    }
}

/// Seconds over which it is looked how much of the time workers were late.
const LATELY: usize = 5;

/// How the proxy itself fares, for the diagnosis: asked once a second.
pub(super) fn proxy(lags: Arc<Lags>, fd_limit: usize, workers: usize) -> AskProxy {
    let gauges = Gauges::new(fd_limit);
    let mut before = (SystemClock.now(), cpu_time());
    let mut late = VecDeque::from([(before.0, 0)]);
    Box::new(move || {
        let now = (SystemClock.now(), cpu_time());
        let passed = now.0.since(before.0).as_secs_f64();
        let spent = now
            .1
            .zip(before.1)
            .map_or(0.0, |(now, before)| now - before);
        before = now;
        late.push_back((now.0, lags.total.load(Ordering::Relaxed)));
        if late.len() > LATELY + 1 {
            late.pop_front();
        }
        Proxy {
            lag: Duration::from_nanos(lags.worst.swap(0, Ordering::Relaxed)).as_secs_f64(),
            late: share_late(&late) / workers.max(1) as f64,
            cpu: spent / (passed.max(1e-3) * workers.max(1) as f64),
            descriptors: gauges.descriptors(),
        }
    })
}

/// Of the time from the first to the last sample, the part that workers were late, summed over them.
fn share_late(samples: &VecDeque<(Instant, u64)>) -> f64 {
    let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
        return 0.0;
    };
    let late = Duration::from_nanos(last.1.saturating_sub(first.1));
    late.as_secs_f64() / last.0.since(first.0).as_secs_f64().max(1e-3)
}

/// Seconds of processor time that this process has used.
fn cpu_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold anything, a parenthesis included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes of memory that the process has, with those that the cache has in pages of a file.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64 + in_pages())
}

/// Newer kernels (6.2 on) tell the number as the directory's size; of others the entries are counted.
fn open_descriptors() -> Option<u64> {
    const FDS: &str = "/proc/self/fd";
    match fs::metadata(FDS).ok()?.len() {
        0 => Some(fs::read_dir(FDS).ok()?.count() as u64),
        open => Some(open),
    }
}

/// The least of the machine's memory and the bounds of the control groups this process is in.
fn memory_limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_memory);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let bounds = group_directories(&groups).into_iter().filter_map(|group| {
        let text = fs::read_to_string(group.join("memory.max")).ok()?;
        text.trim().parse().ok()
    });
    bounds.chain(machine).min()
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// The directories of the control group in `text` (cgroups(7)) and of those above it, version 2.
fn group_directories(text: &str) -> Vec<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(path) = path else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    let group = root.join(path);
    let all = group.ancestors().take_while(|one| one.starts_with(root));
    all.map(Path::to_owned).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts are far below 2^53"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_some_of_each() {
        let gauges = Gauges::new(1 << 20);
        for used in [gauges.memory(), gauges.descriptors()] {
            assert!(used > 0.0 && used < 1.0, "{used}");
        }
    }

    #[test]
    fn the_group_and_those_above_it_bound_memory() {
        let text = "12:pids:/x\n0::/kubepods/pod1/c\n";
        let paths: Vec<_> = group_directories(text);
        let expected = ["kubepods/pod1/c", "kubepods/pod1", "kubepods", ""];
        assert_eq!(paths, expected.map(|p| Path::new("/sys/fs/cgroup").join(p)));
        assert_eq!(
            group_directories("1:name=systemd:/\n"),
            Vec::<PathBuf>::new()
        );
        assert_eq!(
            total_memory("MemFree: 1 kB\nMemTotal:   2 kB\n"),
            Some(2_048)
        );
    }
}
