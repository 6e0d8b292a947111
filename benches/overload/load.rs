//! The load: requests at seeded random moments, whatever the answers do.
//!
//! An open loop, because users do not wait for each other: a closed loop slows down with the server and so
//! hides the overload. Latency counts from the moment a request was meant to be sent. A client that has
//! waited too long closes its connection, as browsers and service clients do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tidegate::clock::{Instant, SystemClock};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};

/// How long a client waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// When load comes, and which part of it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Load that is not measured, before the rest.
    pub(crate) settle: Duration,
    /// Load that is.
    pub(crate) measured: Duration,
    /// Of the arrivals.
    pub(crate) seed: u64,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Sent as `x-api-key`.
    pub(crate) key: Option<String>,
    /// Requests a second, on average.
    pub(crate) rate: f64,
    /// Whether it keeps to its share beside somebody who does not.
    pub(crate) victim: bool,
}

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// An answer with this status, in time.
    Answered(u16),
    /// No answer while the client waited.
    TimedOut,
    /// No connection, or it broke.
    Broken,
}

/// One measured request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) victim: bool,
    pub(crate) outcome: Outcome,
    /// From when it was due to the end of the answer.
    pub(crate) latency: Duration,
    /// How long after it was due the generator got to it.
    pub(crate) late: Duration,
}

/// Sends the load of `clients` to `target` and returns what came of what was measured.
pub(crate) fn run(target: SocketAddr, clients: &[Client], window: &Window) -> Vec<Sample> {
    assert!(target.ip().is_loopback(), "load goes to loopback only");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let begins = SystemClock.now();
        let mut senders = JoinSet::new();
        for (number, client) in (0_u64..).zip(clients) {
            let rng = fastrand::Rng::with_seed(window.seed.wrapping_add(number << 32));
            let connections = Arc::new(Connections::new(target, client));
            senders.spawn(send(client.clone(), connections, *window, begins, rng));
        }
        senders.join_all().await.concat()
    })
}

/// Sends one client's requests and waits for what becomes of them.
async fn send(
    client: Client,
    connections: Arc<Connections>,
    window: Window,
    begins: Instant,
    mut rng: fastrand::Rng,
) -> Vec<Sample> {
    let counts = begins.after(window.settle);
    let counted = counts.after(window.measured);
    // Load goes on until the last that counts has its answer: nobody gains from a queue that drains.
    let ends = counted.after(PATIENCE);
    let mut requests = JoinSet::new();
    let mut due = begins;
    loop {
        // Exponential gaps: a Poisson process.
        due = due.after(Duration::from_secs_f64(
            -(1.0 - rng.f64()).ln() / client.rate,
        ));
        if due >= ends {
            break;
        }
        sleep_until(SystemClock.to_std(due).into()).await;
        let connections = Arc::clone(&connections);
        requests.spawn(async move {
            let late = SystemClock.now().since(due);
            let outcome = connections.ask(due).await;
            (counts..counted).contains(&due).then(|| Sample {
                victim: client.victim,
                outcome,
                latency: SystemClock.now().since(due),
                late,
            })
        });
    }
    requests.join_all().await.into_iter().flatten().collect()
}

/// One client's connections: as many as there are requests at once, kept and used again.
struct Connections {
    target: SocketAddr,
    request: Request<Empty<Bytes>>,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// The one task that moves its bytes; it ends with the connection.
    _driver: JoinSet<()>,
}

impl Connections {
    fn new(target: SocketAddr, client: &Client) -> Self {
        let mut request = Request::get("/").header(header::HOST, target.to_string());
        if let Some(key) = &client.key {
            request = request.header("x-api-key", key);
        }
        Self {
            target,
            request: request.body(Empty::new()).expect("a request"),
            idle: Mutex::default(),
        }
    }

    /// Sends a request that was due at `due`.
    async fn ask(&self, due: Instant) -> Outcome {
        let gives_up = SystemClock.to_std(due.after(PATIENCE));
        match timeout_at(gives_up.into(), self.exchange()).await {
            Ok(Ok(status)) => Outcome::Answered(status),
            Ok(Err(_)) => Outcome::Broken,
            Err(_) => Outcome::TimedOut,
        }
    }

    async fn exchange(&self) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
        let mut connection = match self.idle().await {
            Some(connection) => connection,
            None => Connection::open(self.target).await?,
        };
        let response = connection.sender.send_request(self.request.clone()).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        self.lock().push(connection);
        Ok(status)
    }

    /// The connection that was used last and is still open.
    async fn idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.lock().pop()?;
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async {
            // The request that is under way learns of an error too.
            connection.await.ok();
        });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }
}
