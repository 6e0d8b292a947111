//! The origin: a pool of threads with a backlog, behind an HTTP/1.1 server.
//!
//! First in, first out, without bound; and it finishes what it began and begins what it accepted, whether or
//! not anybody still waits for it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate::clock::{Instant, SystemClock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Requests it works on at once.
pub(crate) const SLOTS: u32 = 10;

/// What each takes, in milliseconds.
pub(crate) const SERVICE_MILLIS: u32 = 50;

/// Requests a second it can carry.
pub(crate) const CAPACITY: f64 = SLOTS as f64 * 1_000.0 / SERVICE_MILLIS as f64;

/// A running origin; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    _running: oneshot::Sender<Infallible>,
}

/// A request that waits for a slot.
struct Job {
    arrived: Instant,
    done: oneshot::Sender<()>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (jobs, backlog) = mpsc::channel();
        let backlog = Arc::new(Mutex::new(backlog));
        for _ in 0..SLOTS {
            let (backlog, stopped) = (Arc::clone(&backlog), Arc::clone(&stopped));
            std::thread::spawn(move || serve_slot(&backlog, &stopped));
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        listener.set_nonblocking(true).expect("a socket");
        let (running, end) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(&listener, &jobs) => {}
                    _ = end => {}
                }
            });
        });
        Self {
            address,
            stopped,
            _running: running,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// One slot: job after job, each for the service time.
fn serve_slot(backlog: &Mutex<mpsc::Receiver<Job>>, stopped: &AtomicBool) {
    let mut free = Instant::ZERO;
    loop {
        let job = backlog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = job else { return };
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        // Counted from when it could begin, so that a late wake-up of this thread costs no capacity.
        free = free
            .max(job.arrived)
            .after(Duration::from_millis(u64::from(SERVICE_MILLIS)));
        wait_until(free);
        // Whoever waited for it may be gone.
        job.done.send(()).ok();
    }
}

fn wait_until(at: Instant) {
    loop {
        let left = at.since(SystemClock.now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

async fn accept(listener: &TcpListener, jobs: &mpsc::Sender<Job>) {
    loop {
        // Out of descriptors or gone before it was accepted: the next may do better.
        if let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            tokio::spawn(serve(stream, jobs.clone()));
        }
    }
}

async fn serve(stream: TcpStream, jobs: mpsc::Sender<Job>) {
    let service = service_fn(|_| {
        let (done, answer) = oneshot::channel();
        let job = Job {
            arrived: SystemClock.now(),
            done,
        };
        jobs.send(job).ok();
        async {
            answer.await?;
            let body = Full::new(Bytes::from_static(b"done\n"));
            Ok::<_, oneshot::error::RecvError>(Response::new(body))
        }
    });
    // An error here is a client that went away.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}
