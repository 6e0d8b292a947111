//! Hands the listening sockets to a new binary: SIGUSR2 starts it with them, and once it carries traffic
//! it tells the old process to drain. The sockets are the same ones in both, so no connection that waits in
//! their backlog is lost.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};

use crate::config::plan::Bind;
use crate::proxy::listener::{self, Bound};

/// Which inherited socket is bound to what: `ADDRESS` by descriptor, separated by spaces.
const NAMES: &str = "TIDEGATE_LISTENERS";
/// Who handed them over.
const PARENT: &str = "TIDEGATE_PARENT";
/// The first descriptor handed over, by systemd's convention.
const FIRST_FD: usize = 3;

/// Sockets a former process handed over.
#[derive(Debug, Default)]
pub struct Inherited(HashMap<String, Vec<Bound>>);

impl Inherited {
    /// Takes what the environment says was handed over.
    ///
    /// # Errors
    /// When a descriptor is not the listening socket it is said to be.
    pub fn from_env() -> io::Result<Self> {
        let Ok(names) = std::env::var(NAMES) else {
            return Ok(Self::default());
        };
        let mut fds = listenfd::ListenFd::from_env();
        let mut sockets: HashMap<String, Vec<Bound>> = HashMap::new();
        for (index, name) in names.split('\n').enumerate() {
            let bound = if name.starts_with("unix:") {
                fds.take_unix_listener(index)?.map(Bound::Unix)
            } else {
                fds.take_tcp_listener(index)?.map(Bound::Tcp)
            };
            if let Some(bound) = bound {
                match &bound {
                    Bound::Tcp(socket) => socket.set_nonblocking(true)?,
                    Bound::Unix(socket) => socket.set_nonblocking(true)?,
                }
                sockets.entry(name.to_owned()).or_default().push(bound);
            }
        }
        Ok(Self(sockets))
    }

    /// The sockets bound to `bind`, if any were handed over.
    pub(super) fn take(&mut self, bind: &Bind) -> Option<Vec<Bound>> {
        self.0.remove(&name(bind))
    }
}

fn name(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Tells the process that handed its sockets over that they are served.
pub(super) fn relieve_parent() {
    let parent = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    let real = rustix::process::getppid();
    if let (Some(pid), Some(real)) = (parent.and_then(rustix::process::Pid::from_raw), real)
        && pid == real
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        tracing::warn!(%error, "the former process could not be told to drain");
    }
}

/// The open sockets, kept so that they can be handed over.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: HashMap<Bind, (String, Vec<OwnedFd>)>,
    inherited: Inherited,
    handed_over: bool,
}

impl Sockets {
    /// Keeps duplicates of `sockets`.
    pub(super) fn keep(&mut self, bind: &Bind, sockets: &[Bound]) {
        let address = sockets.first().map(Bound::address).unwrap_or_default();
        let fds = sockets
            .iter()
            .filter_map(|socket| match socket {
                Bound::Tcp(socket) => socket.try_clone().ok().map(OwnedFd::from),
                Bound::Unix(socket) => socket.try_clone().ok().map(OwnedFd::from),
            })
            .collect();
        self.open.insert(bind.clone(), (address, fds));
    }

    pub(super) fn forget(&mut self, bind: &Bind) {
        self.open.remove(bind);
    }

    /// The address `bind` came to.
    pub(super) fn address(&self, bind: &Bind) -> String {
        self.open
            .get(bind)
            .map(|(address, _)| address.clone())
            .unwrap_or_default()
    }

    /// What is left of the inherited sockets, the admin API's among them.
    pub(super) fn admin(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// The admin API's socket: the inherited one, or a new one.
    pub(super) fn admin_socket(&mut self, bind: &Bind) -> io::Result<Bound> {
        let mut sockets = match self.inherited.take(bind) {
            Some(sockets) => sockets,
            None => listener::bind(bind, 1)?,
        };
        self.keep(bind, &sockets);
        sockets
            .pop()
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Starts the binary that now stands where this one was started from, with this one's arguments.
    pub(super) fn hand_over(&mut self) -> io::Result<()> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
        let mut names = Vec::new();
        let mut mappings = Vec::new();
        for (bind, (_, fds)) in &self.open {
            for fd in fds {
                let child_fd = i32::try_from(FIRST_FD + mappings.len()).unwrap_or(i32::MAX);
                mappings.push(FdMapping {
                    parent_fd: fd.try_clone()?,
                    child_fd,
                });
                names.push(name(bind));
            }
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("LISTEN_FDS", mappings.len().to_string())
            .env_remove("LISTEN_PID")
            .env(NAMES, names.join("\n"))
            .env(PARENT, std::process::id().to_string());
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let child = command.spawn()?;
        tracing::info!(pid = child.id(), "a new binary takes over");
        self.handed_over = true;
        Ok(())
    }

    /// Whether another process has them too.
    pub(super) const fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    /// Closes them, and removes the paths of unix sockets unless a successor listens there.
    pub(super) fn close(&mut self) {
        for (bind, _) in self.open.drain() {
            if let (Bind::Unix(path), false) = (&bind, self.handed_over)
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(%error, path = %path.display(), "a socket's path stays");
            }
        }
    }
}
