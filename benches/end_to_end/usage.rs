//! What a server costs, according to `/proc`.

use crate::support::process::{Server, stat_fields};

/// What the server and its children have spent so far.
pub(crate) fn usage(server: &Server) -> Usage {
    processes(server)
        .into_iter()
        .map(Usage::of)
        .fold(Usage::default(), Usage::plus)
}

/// The resident memory of the server and its children.
pub(crate) fn resident_bytes(server: &Server) -> u64 {
    processes(server)
        .into_iter()
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kibibytes * 1024)
        })
        .sum()
}

/// The server itself and its direct children: a master and its workers.
fn processes(server: &Server) -> Vec<u32> {
    let parent = server.id();
    let children = std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            stat_fields(*pid)
                .and_then(|fields| fields.get(1)?.parse::<u32>().ok())
                .is_some_and(|of| of == parent)
        });
    std::iter::once(parent).chain(children).collect()
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// On a core, by the scheduler's own count.
    pub(crate) cpu_nanos: u64,
    /// In user mode, in clock ticks.
    pub(crate) user_ticks: u64,
    /// In the kernel, in clock ticks.
    pub(crate) system_ticks: u64,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let cpu_nanos = tasks
            .into_iter()
            .flatten()
            .filter_map(|task| {
                let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse::<u64>().ok()
            })
            .sum();
        let fields = stat_fields(pid).unwrap_or_default();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse().ok())
                .unwrap_or(0)
        };
        Self {
            cpu_nanos,
            user_ticks: ticks(11),
            system_ticks: ticks(12),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos + other.cpu_nanos,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
        }
    }

    /// What was spent between `earlier` and now.
    pub(crate) fn since(self, earlier: &Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.saturating_sub(earlier.cpu_nanos),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}
