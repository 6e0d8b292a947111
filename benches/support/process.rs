//! A server process that ends with the benchmark.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::cleanup;

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

    /// The process that was started; it may have children.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first: a master then waits for its workers, and none is left to whoever adopts it.
        kill_process(self.group, Signal::TERM).ok();
        for _ in 0..200 {
            let ended = stat_fields(self.id())
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

/// The fields of `/proc/PID/stat` after the name: state, parent, …
pub(crate) fn stat_fields(pid: u32) -> Option<Vec<String>> {
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
