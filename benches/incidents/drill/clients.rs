//! The clients: each has its own address and asks at its own pace, whatever the answers do.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tidegate::clock::SystemClock;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::fault::Bust;
use super::{Conditions, World, exponential, sleep};

/// How many there are, and who is noisy when somebody is.
const CLIENTS: u8 = 12;
pub(super) const NOISY: u8 = 3;
/// How long it waits before it asks again.
const AGAIN: Duration = Duration::from_millis(50);
/// Items that may be stored.
const ITEMS: u32 = 20;

type Body = Either<Empty<Bytes>, Halves>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where a client comes from, and so what it is called.
pub(super) fn source(client: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 20 + client).into()
}

/// Starts all of them; they end when what is returned is dropped.
pub(super) fn start(world: &Arc<World>, proxy: SocketAddr) -> JoinSet<()> {
    let mut all = JoinSet::new();
    let weight = |client: u8| 1.0 / (f64::from(client) + 3.0);
    let sum: f64 = (0..CLIENTS).map(weight).sum();
    for number in 0..CLIENTS {
        let client = Client {
            number,
            rate: world.rate * weight(number) / sum,
            world: Arc::clone(world),
            proxy,
            idle: Mutex::default(),
        };
        all.spawn(live(Arc::new(client)));
    }
    all
}

struct Client {
    number: u8,
    /// Requests a second when all is well.
    rate: f64,
    world: Arc<World>,
    proxy: SocketAddr,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

async fn live(client: Arc<Client>) {
    let seed = client.world.seed ^ u64::from(client.number) << 32;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut under_way = JoinSet::new();
    let mut due = SystemClock.now();
    loop {
        let conditions = *client.world.conditions.borrow();
        let flood = if client.number == NOISY {
            conditions.flood
        } else {
            0.0
        };
        let rate = client.rate * conditions.rate + flood;
        due = due.after(exponential(&mut rng, Duration::from_secs_f64(1.0 / rate)));
        tokio::time::sleep_until(SystemClock.to_std(due).into()).await;
        client.world.sent.fetch_add(1, Ordering::Relaxed);
        let asks = Arc::clone(&client);
        let seed = rng.u64(..);
        under_way.spawn(async move { asks.ask(fastrand::Rng::with_seed(seed)).await });
        while under_way.try_join_next().is_some() {}
    }
}

/// What is asked for.
#[derive(Clone)]
enum What {
    Item(String),
    Page,
    Form,
}

impl Client {
    async fn ask(&self, mut rng: fastrand::Rng) {
        let conditions = *self.world.conditions.borrow();
        let dear = self.number == NOISY && conditions.dear > 1.0;
        let what = match rng.u32(..100) {
            _ if dear => What::Page,
            0..50 => {
                let item = rng.u32(..ITEMS);
                let bust = match conditions.bust {
                    Bust::NewUrls => format!("?_={}", rng.u64(..)),
                    _ => String::new(),
                };
                What::Item(format!("/item/{item}{bust}"))
            }
            50..75 => What::Page,
            _ => What::Form,
        };
        for attempt in 0..=conditions.again {
            if attempt > 0 {
                sleep(AGAIN).await;
            }
            let answer = self.exchange(request(&what, dear, &conditions));
            let gives_up = SystemClock.to_std(SystemClock.now().after(conditions.patience));
            let answer = tokio::time::timeout_at(gives_up.into(), answer).await;
            if matches!(answer, Ok(Ok(status)) if status < 500) {
                return;
            }
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<u16, Error> {
        let mut sender = match self.connection().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        Ok(status)
    }

    /// The connection that was used last and is still open.
    async fn connection(&self) -> Option<SendRequest<Body>> {
        loop {
            let newest = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.pop()
            };
            let mut sender = newest?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind(SocketAddr::new(source(self.number), 0))?;
        let stream = socket.connect(self.proxy).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }
}

fn request(what: &What, dear: bool, conditions: &Conditions) -> Request<Body> {
    let (method, path) = match what {
        What::Item(path) => (Method::GET, path.as_str()),
        What::Page => (Method::GET, "/page"),
        What::Form => (Method::POST, "/form"),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "drill");
    if dear {
        request = request.header("x-dear", "yes");
    }
    let body = match what {
        What::Item(_) | What::Page => Either::Left(Empty::new()),
        What::Form => Either::Right(Halves {
            left: 2,
            pause: Box::pin(sleep(conditions.pause)),
        }),
    };
    request.body(body).expect("a request")
}

/// A body that comes in two parts, with a pause between them.
struct Halves {
    left: u8,
    pause: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl hyper::body::Body for Halves {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 1 {
            ready!(self.pause.as_mut().poll(cx));
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"so much")))))
    }
}
