//! The demo's clients: fifty ordinary ones, and `reports`, which is quiet until it borrows the peak.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::world::{World, pause};
use crate::clock::SystemClock;

/// Ordinary clients, by kind.
const KINDS: [(&str, usize, &str); 3] = [
    ("web", 12, "storefront team"),
    ("mobile", 30, "app team"),
    ("partner", 8, "partner desk"),
];
/// Requests a second of an ordinary client at the peak.
const RATE: f64 = 8.0;
/// What `reports` asks for at once while it runs.
const REPORTS_AT_ONCE: u64 = 60;
/// How often an impatient client asks again for what failed.
const TRIES: usize = 10;
/// Items of the catalogue.
const ITEMS: u32 = 400;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    owner: &'static str,
    kind: &'static str,
}

impl Client {
    /// What it shows to be known by.
    pub(super) fn key(&self) -> String {
        format!("demo-key-of-{}", self.name)
    }

    /// Whom to talk to.
    pub(super) const fn owner(&self) -> &'static str {
        self.owner
    }
}

/// Every client.
pub(super) fn all() -> Vec<Client> {
    let ordinary = KINDS.iter().flat_map(|&(kind, count, owner)| {
        (1..=count).map(move |number| Client {
            name: format!("{kind}-{number:02}"),
            owner,
            kind,
        })
    });
    let reports = Client {
        name: "reports".to_owned(),
        owner: "data team",
        kind: "reports",
    };
    ordinary.chain([reports]).collect()
}

/// Starts every client.
pub(super) fn start(proxy: SocketAddr, world: &Arc<World>) {
    for (seed, client) in (100..).zip(all()) {
        let client = Arc::new(client);
        if client.kind == "reports" {
            for lane in 0..REPORTS_AT_ONCE {
                let line = Line::new(&client, proxy, world, 1_000 + lane);
                tokio::task::spawn_local(line.report(lane == 0));
            }
        } else {
            tokio::task::spawn_local(Line::new(&client, proxy, world, seed).live());
        }
    }
}

/// One connection of a client to the proxy, made again when it ends.
struct Line {
    client: Arc<Client>,
    proxy: SocketAddr,
    world: Arc<World>,
    rng: fastrand::Rng,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Line {
    fn new(client: &Arc<Client>, proxy: SocketAddr, world: &Arc<World>, seed: u64) -> Self {
        Self {
            client: Arc::clone(client),
            proxy,
            world: Arc::clone(world),
            rng: fastrand::Rng::with_seed(seed),
            sender: None,
        }
    }

    /// Goes about its day: asks, thinks, asks again.
    async fn live(mut self) {
        loop {
            let rate = RATE * self.world.busy();
            let think = (1.0 - self.rng.f64()).ln() / -rate;
            pause(Duration::from_secs_f64(think.min(5.0))).await;
            let path = self.path();
            let impatient =
                self.client.kind == "mobile" && self.world.impatient.load(Ordering::Relaxed);
            for _ in 0..if impatient { TRIES } else { 1 } {
                let before = SystemClock.now();
                let ok = self.ask(&path).await;
                self.world.feel(SystemClock.now().since(before), ok);
                if ok {
                    break;
                }
            }
        }
    }

    /// Runs reports while it is the time for them; the `first` line asks for one now and then anyway.
    async fn report(mut self, first: bool) {
        loop {
            let running = self.world.reports.load(Ordering::Relaxed);
            if running || first {
                let path = format!("/shop/report/{}", self.rng.u32(0..10_000));
                let refused = !self.ask(&path).await;
                if refused && running {
                    pause(Duration::from_millis(500)).await;
                }
            }
            if !running {
                pause(Duration::from_secs(1)).await;
            }
        }
    }

    fn path(&mut self) -> String {
        match self.rng.u8(0..100) {
            0..30 => "/shop/cart".to_owned(),
            30..50 => format!("/search?q={}", self.rng.u32(0..100_000)),
            // Some items are asked for far more often than others.
            _ => {
                let item = self.rng.f64().powi(2) * f64::from(ITEMS);
                format!("/catalog/item/{item:.0}")
            }
        }
    }

    /// Asks for `path`; whether there was a good answer.
    async fn ask(&mut self, path: &str) -> bool {
        let Some(mut sender) = self.connected().await else {
            pause(Duration::from_millis(200)).await;
            return false;
        };
        let request = Request::get(path)
            .header("host", "demo")
            .header("user-agent", self.client.kind)
            .header("x-api-key", self.client.key())
            .body(Empty::new());
        let Ok(request) = request else { return false };
        let Ok(response) = sender.send_request(request).await else {
            return false;
        };
        let ok = response.status().is_success();
        if response.into_body().collect().await.is_err() {
            return false;
        }
        self.sender = Some(sender);
        ok
    }

    async fn connected(&mut self) -> Option<SendRequest<Empty<Bytes>>> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Some(sender);
        }
        let stream = TcpStream::connect(self.proxy).await.ok()?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::task::spawn_local(connection);
        sender.ready().await.ok()?;
        Some(sender)
    }
}
