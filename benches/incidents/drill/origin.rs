//! The endpoints: each has a few slots, tells of its database in Server-Timing, and does as the conditions say.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::fault::{Bust, Gone, VICTIM};
use super::usual::Restart;
use super::{Conditions, DATABASE, ENDPOINTS, SERVICE, SLOTS, World, exponential, sleep};

struct Endpoint {
    number: usize,
    world: Arc<World>,
    slots: Semaphore,
    rng: Mutex<fastrand::Rng>,
}

/// Starts all of them, tells where each listens, and stops them when what is returned is dropped.
pub(super) async fn start(world: &Arc<World>, told: &Sender<SocketAddr>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for number in 0..ENDPOINTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        told.send(listener.local_addr().expect("an address"))
            .expect("somebody wants to know");
        let endpoint = Endpoint {
            number,
            world: Arc::clone(world),
            slots: Semaphore::new(SLOTS),
            rng: Mutex::new(fastrand::Rng::with_seed(world.seed + number as u64)),
        };
        all.spawn(listen(Arc::new(endpoint), listener));
    }
    all
}

async fn listen(endpoint: Arc<Endpoint>, mut listener: TcpListener) {
    let mut conditions = endpoint.world.conditions.subscribe();
    let mut connections = JoinSet::new();
    loop {
        if endpoint.is_away(&endpoint.conditions()) {
            let address = listener.local_addr().expect("an address");
            drop(listener);
            let back = conditions.wait_for(|now| !endpoint.is_away(now)).await;
            back.expect("the world goes on");
            listener = TcpListener::bind(address).await.expect("its port");
        }
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted && endpoint.gone() != Gone::Resets {
                    connections.spawn(converse(Arc::clone(&endpoint), stream));
                }
            }
            _ = conditions.changed() => match endpoint.gone() {
                Gone::Refuses => return,
                Gone::Resets => connections.abort_all(),
                Gone::No | Gone::Fails | Gone::Hangs => {}
            }
        }
    }
}

async fn converse(endpoint: Arc<Endpoint>, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let mut conditions = endpoint.world.conditions.subscribe();
    let answers = Arc::clone(&endpoint);
    let service = service_fn(move |request| {
        let endpoint = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection that breaks is the drill's business.
        _ = &mut connection => return,
        _ = conditions.wait_for(|now| endpoint.is_away(now)) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

impl Endpoint {
    fn conditions(&self) -> Conditions {
        *self.world.conditions.borrow()
    }

    fn gone(&self) -> Gone {
        if self.number == VICTIM {
            self.conditions().gone
        } else {
            Gone::No
        }
    }

    fn is_away(&self, conditions: &Conditions) -> bool {
        conditions.restart == Some(Restart::Away(self.number))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        body.collect().await.ok();
        let conditions = self.conditions();
        if self.gone() == Gone::Hangs {
            std::future::pending::<()>().await;
        }
        let fails = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            rng.f64() < conditions.errors
        };
        if fails || self.gone() == Gone::Fails {
            sleep(Duration::from_millis(3)).await;
            let failed = Response::builder().status(500).body(Full::default());
            return failed.expect("a response");
        }
        let _slot = self.slots.acquire().await.expect("slots stay open");
        let (database, own) = self.times(&conditions, head.headers.contains_key("x-dear"));
        sleep(database + own).await;
        let path = head.uri.path();
        let stored = match conditions.bust {
            Bust::NotStored => false,
            Bust::HalfStored => path.bytes().last().is_some_and(|last| last % 2 == 0),
            Bust::No | Bust::NewUrls => true,
        };
        let stored = stored && path.starts_with("/item/");
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Response::builder()
            .header(
                "cache-control",
                if stored { "max-age=2" } else { "no-store" },
            )
            .header(
                "server-timing",
                format!(
                    "db;dur={:.2}, render;dur={:.2}, total;dur={:.2}",
                    milliseconds(database),
                    milliseconds(own),
                    milliseconds(database + own)
                ),
            )
            .body(Full::from("done"))
            .expect("a response")
    }

    /// How long the database takes, and everything else.
    fn times(&self, conditions: &Conditions, dear: bool) -> (Duration, Duration) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = conditions.service;
        if self.number == VICTIM {
            all *= conditions.victim;
        }
        if let Some(Restart::Cold(number, times)) = conditions.restart
            && number == self.number
        {
            all *= times;
        }
        if dear {
            all *= conditions.dear;
        }
        let database = exponential(&mut rng, DATABASE).mul_f64(all * conditions.database);
        (
            database,
            exponential(&mut rng, SERVICE - DATABASE).mul_f64(all),
        )
    }
}
