//! Listening sockets: one per worker on each TCP address (`SO_REUSEPORT`), one shared by all on a unix path.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::stream::Socket as Client;
use crate::config::plan::Bind;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4_096;

/// A bound socket, not yet registered with a runtime.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// The address it listens on, as text; with the port the kernel chose, if it was left to it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| String::new(), |address| address.to_string()),
            Self::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname().map(|path| path.display().to_string()))
                .map_or_else(String::new, |path| format!("unix:{path}")),
        }
    }
}

/// A listening socket registered with the runtime it was made on.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    pub(crate) fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// The next client, and its address if it has one. Loses nobody when dropped before it is done.
    pub(crate) async fn accept(&self) -> io::Result<(Client, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Client::Tcp(stream), Some(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _unnamed) = socket.accept().await?;
                Ok((Client::Unix(stream), None))
            }
        }
    }
}

/// Binds `bind` once for each of `workers`.
///
/// # Errors
/// When the address is in use, not this machine's, or not permitted; the message names it.
pub fn bind(bind: &Bind, workers: usize) -> io::Result<Vec<Bound>> {
    match bind {
        Bind::Tcp(address) => {
            let mut bound = Vec::with_capacity(workers);
            let mut address = *address;
            for _ in 0..workers {
                let listener = tcp(address).map_err(|error| name(&address.to_string(), &error))?;
                // With port 0 the first socket settles the port for all.
                address = listener.local_addr()?;
                bound.push(Bound::Tcp(listener));
            }
            Ok(bound)
        }
        Bind::Unix(path) => {
            let listener =
                unix(path).map_err(|error| name(&format!("unix:{}", path.display()), &error))?;
            let mut bound = Vec::with_capacity(workers);
            for _ in 1..workers {
                bound.push(Bound::Unix(listener.try_clone()?));
            }
            bound.push(Bound::Unix(listener));
            Ok(bound)
        }
    }
}

fn name(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    // A socket nobody answers on is left over from a process that was killed.
    let left_over = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if left_over {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
