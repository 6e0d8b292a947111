//! A server process, and what it costs according to `/proc`.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cleanup;

/// A server in a process group of its own, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    group: Pid,
}

impl Server {
    /// Starts `program` pinned to `core` and waits until it accepts on every address in `ready`.
    pub(crate) fn start(
        core: Option<usize>,
        program: &str,
        arguments: &[&str],
        log: &Path,
        ready: &[SocketAddr],
    ) -> Self {
        let stderr = std::fs::File::create(log).expect("a log file");
        // Should this process be killed outright, the kernel stops the server.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let group = Pid::from_child(&child);
        cleanup::remember(group);
        let mut server = Self { child, group };
        server.wait_until_ready(program, log, ready);
        server
    }

    fn wait_until_ready(&mut self, program: &str, log: &Path, ready: &[SocketAddr]) {
        let fail = |what: &dyn Display| -> ! {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            panic!("{program} {what}:\n{said}")
        };
        for address in ready {
            let mut attempts = 0;
            while TcpStream::connect(address).is_err() {
                if let Ok(Some(status)) = self.child.try_wait() {
                    fail(&format!("ended with {status}"));
                }
                attempts += 1;
                if attempts > 1_000 {
                    fail(&format!("does not accept on {address}"));
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }

    /// What the process and its children have spent so far.
    pub(crate) fn usage(&self) -> Usage {
        self.processes()
            .into_iter()
            .map(Usage::of)
            .fold(Usage::default(), Usage::plus)
    }

    /// The resident memory of the process and its children.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.processes()
            .into_iter()
            .filter_map(|pid| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
                let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
                let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
                Some(kibibytes * 1024)
            })
            .sum()
    }

    /// The process itself and its direct children: a master and its workers.
    fn processes(&self) -> Vec<u32> {
        let parent = self.child.id();
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
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first: a master then waits for its workers, and none is left to whoever adopts it.
        kill_process(self.group, Signal::TERM).ok();
        for _ in 0..200 {
            let ended = stat_fields(self.child.id())
                .is_none_or(|fields| fields.first().is_some_and(|state| state == "Z"));
            if ended {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        cleanup::stop(self.group);
        drop(self.child.wait());
    }
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

/// The fields of `/proc/PID/stat` after the name: state, parent, …
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
