//! An origin that is handed each accepted socket and may do with it what it likes.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::wait::PATIENCE;
use super::wire::{self, Body, Head};

/// A scripted origin over plain TCP.
#[derive(Debug)]
pub(crate) struct RawOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    /// A second handle of each connection that a script still holds.
    open: Mutex<HashMap<usize, TcpStream>>,
}

impl RawOrigin {
    /// Runs `script` with each accepted connection, in a thread of its own.
    pub(crate) fn start(script: impl Fn(Conversation) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if of_thread.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let number = of_thread.connections.fetch_add(1, Ordering::SeqCst);
                let conversation = Conversation::new(stream, number, Arc::clone(&of_thread));
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(conversation));
            }
        });
        Self { address, shared }
    }

    /// Answers every request of every connection with the same bytes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut conversation| {
            while conversation.read_request().is_some() {
                conversation.write(&answer);
            }
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, and the conversations that wait for bytes.
        TcpStream::connect(self.address).ok();
        let open = self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for stream in open.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// One accepted connection, seen from the origin.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Which connection of the origin it is, from zero.
    pub(crate) number: usize,
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
}

impl Conversation {
    fn new(stream: TcpStream, number: usize, shared: Arc<Shared>) -> Self {
        if let Ok(handle) = stream.try_clone() {
            let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.insert(number, handle);
        }
        stream.set_read_timeout(Some(PATIENCE)).ok();
        stream.set_nodelay(true).ok();
        Self {
            number,
            stream: BufReader::new(stream),
            shared,
        }
    }

    /// Reads a head; `None` when the peer has closed or sends something else.
    pub(crate) fn read_head(&mut self) -> Option<Head> {
        wire::read_head(&mut self.stream).ok().flatten()
    }

    /// Reads the body that `head` announces; `None` when it does not come whole.
    pub(crate) fn read_body(&mut self, head: &Head) -> Option<Body> {
        wire::read_body(&mut self.stream, &head.headers, false).ok()
    }

    /// Reads a whole request.
    pub(crate) fn read_request(&mut self) -> Option<(Head, Body)> {
        let head = self.read_head()?;
        let body = self.read_body(&head)?;
        Some((head, body))
    }

    /// Sends bytes; a peer that has gone does not matter.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        if stream.write_all(bytes).is_ok() {
            stream.flush().ok();
        }
    }

    /// Closes so that the peer sees a reset, not an end.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(std::time::Duration::ZERO)).ok();
    }

    /// Waits until the peer closes; true when it did so without sending more.
    pub(crate) fn wait_for_close(&mut self) -> bool {
        matches!(std::io::BufRead::fill_buf(&mut self.stream), Ok(bytes) if bytes.is_empty())
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // The socket closes with its last handle.
        self.shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}
