//! The demo's origins: a shop with a database, a search of three endpoints, and a catalogue worth caching.
//!
//! Each endpoint has so many slots, and who finds none free waits in line, first come first served and without bound,
//! as most servers have it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::world::{World, pause};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What a service is like.
#[derive(Debug)]
struct Service {
    upstream: &'static str,
    endpoints: usize,
    /// Requests that one endpoint works on at a time.
    slots: usize,
    /// What a request takes, milliseconds.
    takes: std::ops::Range<u64>,
}

const SERVICES: [Service; 3] = [
    Service {
        upstream: "catalog",
        endpoints: 1,
        slots: 4,
        takes: 25..40,
    },
    Service {
        upstream: "search",
        endpoints: 3,
        slots: 16,
        takes: 20..45,
    },
    Service {
        upstream: "shop",
        endpoints: 2,
        slots: 8,
        takes: 8..20,
    },
];

/// What a report takes, milliseconds.
const REPORT: std::ops::Range<u64> = 120..180;
/// Which endpoint of `search` becomes slow.
const SLOW: usize = 1;

/// One endpoint, listening.
#[derive(Debug)]
pub(super) struct Endpoint {
    service: &'static Service,
    index: usize,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// The upstream it belongs to.
    pub(super) const fn upstream(&self) -> &'static str {
        self.service.upstream
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens on a free port for every endpoint.
pub(super) fn listen() -> io::Result<Vec<Endpoint>> {
    let mut all = Vec::new();
    for service in &SERVICES {
        for index in 0..service.endpoints {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            all.push(Endpoint {
                service,
                index,
                address: listener.local_addr()?,
                listener,
            });
        }
    }
    Ok(all)
}

/// Answers at every endpoint, for ever.
pub(super) fn serve(endpoints: Vec<Endpoint>, world: &Arc<World>) {
    for (seed, endpoint) in (1..).zip(endpoints) {
        tokio::task::spawn_local(accept(endpoint, Arc::clone(world), seed));
    }
}

/// What the connections of one endpoint share.
struct Machine {
    service: &'static Service,
    index: usize,
    slots: Semaphore,
    rng: RefCell<fastrand::Rng>,
    world: Arc<World>,
}

async fn accept(endpoint: Endpoint, world: Arc<World>, seed: u64) {
    let Ok(listener) = TcpListener::from_std(endpoint.listener) else {
        return;
    };
    let machine = Rc::new(Machine {
        service: endpoint.service,
        index: endpoint.index,
        slots: Semaphore::new(endpoint.service.slots),
        rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        world,
    });
    while let Ok((stream, _)) = listener.accept().await {
        let machine = Rc::clone(&machine);
        let service = service_fn(move |request: Request<Incoming>| {
            let machine = Rc::clone(&machine);
            async move { Ok::<_, Infallible>(machine.answer(request.uri().path()).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(served);
    }
}

impl Machine {
    async fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        // Closed never: the machine lives as long as its connections.
        let _slot = self.slots.acquire().await;
        let mut takes = self.takes(path);
        if self.service.upstream == "search" && self.index == SLOW {
            takes += Duration::from_millis(self.world.slow_ms.load(Ordering::Relaxed).into());
        }
        pause(takes).await;
        let body = format!(
            "{{\"service\":\"{}\",\"path\":{path:?}}}\n",
            self.service.upstream
        );
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.service.upstream {
            "catalog" => {
                let fresh = HeaderValue::from_static("public, max-age=600");
                headers.insert(CACHE_CONTROL, fresh);
            }
            "shop" => {
                let database = takes.as_secs_f64() * 700.0;
                if let Ok(timing) = HeaderValue::from_str(&format!("db;dur={database:.1}")) {
                    headers.insert(SERVER_TIMING, timing);
                }
                if self.rng.borrow_mut().u32(0..100) < self.world.failing.load(Ordering::Relaxed) {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
            }
            _ => {}
        }
        response
    }

    fn takes(&self, path: &str) -> Duration {
        let range = if path.starts_with("/shop/report") {
            REPORT
        } else {
            self.service.takes.clone()
        };
        Duration::from_millis(self.rng.borrow_mut().u64(range))
    }
}
