//! `tidegate demo`: a real proxy between built-in origins and clients, all on loopback.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::run::log_to_stderr;
use super::{complain, fd_limit, print};
use crate::clock::SystemClock;
use crate::config::Source;
use crate::process::{self, Inherited, Stop};

/// A built-in origin: how long it takes, and how often it fails.
#[derive(Clone, Copy, Debug)]
struct Origin {
    name: &'static str,
    from_ms: u64,
    to_ms: u64,
    /// One answer in this many is a 500.
    fails: u64,
}

const ORIGINS: [Origin; 2] = [
    Origin {
        name: "shop",
        from_ms: 5,
        to_ms: 25,
        fails: 500,
    },
    Origin {
        name: "search",
        from_ms: 20,
        to_ms: 80,
        fails: 50,
    },
];

/// The clients, with their pause between requests. `reports` is the noisy one.
const CLIENTS: [(&str, u64); 4] = [("web", 20), ("mobile", 35), ("partner", 60), ("reports", 3)];

pub(super) fn demo() -> ExitCode {
    log_to_stderr();
    match start() {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("tidegate demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> io::Result<ExitCode> {
    let mut listeners = Vec::new();
    for origin in ORIGINS {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        listeners.push((origin, listener));
    }
    let proxy = free_address()?;
    let text = configuration(&listeners, proxy)?;
    let directory = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("tidegate.toml");
    std::fs::write(&file, text)?;
    let source = Source {
        file: Some(file),
        ..Source::default()
    };
    let limit = fd_limit();
    let plan = match source.load(limit) {
        Ok(plan) => plan,
        Err(mistakes) => {
            complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let world = std::thread::Builder::new().name("demo".to_owned());
    world.spawn(move || inhabit(listeners, proxy))?;
    let (_stop, stopped) = Stop::pair();
    let ready = |admin: &str| {
        let clients: Vec<&str> = CLIENTS.iter().map(|(name, _)| *name).collect();
        let _shown = print(&format!(
            "tidegate demo\n  proxy    http://{proxy}  (try: curl -i http://{proxy}/shop/cart)\n  \
             admin    http://{admin}/\n  origins  shop, search\n  clients  {}\nStop with Ctrl-C.",
            clients.join(", ")
        ));
    };
    let result = process::run(source, limit, plan, Inherited::default(), stopped, ready);
    std::fs::remove_dir_all(&directory)?;
    result.map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}

fn free_address() -> io::Result<SocketAddr> {
    let preferred = std::net::TcpListener::bind("127.0.0.1:8080");
    preferred
        .or_else(|_taken| std::net::TcpListener::bind("127.0.0.1:0"))?
        .local_addr()
}

fn configuration(
    origins: &[(Origin, std::net::TcpListener)],
    proxy: SocketAddr,
) -> io::Result<String> {
    let admin = std::net::TcpListener::bind("127.0.0.1:9900").map_or(0, |_free| 9900);
    let mut text = format!(
        "version = 1\n[[listen]]\naddress = \"{proxy}\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n\
         [telemetry]\naccess_log = {{ path = \"off\" }}\n"
    );
    for (origin, listener) in origins {
        let (name, address) = (origin.name, listener.local_addr()?);
        text.push_str(&format!(
            "[upstreams.{name}]\nendpoints = [\"{address}\"]\n[[routes]]\nname = \"{name}\"\n\
             upstream = \"{name}\"\nmatch = {{ path_prefix = \"/{name}\" }}\n"
        ));
    }
    Ok(text)
}

/// Runs origins and clients until the process ends.
fn inhabit(origins: Vec<(Origin, std::net::TcpListener)>, proxy: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async move {
        for (seed, (origin, listener)) in (1_u64..).zip(origins) {
            tokio::task::spawn_local(serve(origin, listener, seed));
        }
        for (seed, (name, pause)) in (100_u64..).zip(CLIENTS) {
            tokio::task::spawn_local(client(name, pause, proxy, seed));
        }
        std::future::pending::<()>().await;
    });
}

async fn pause(milliseconds: u64) {
    let until = SystemClock.to_std(SystemClock.now().after(Duration::from_millis(milliseconds)));
    tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
}

async fn serve(origin: Origin, listener: std::net::TcpListener, seed: u64) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut seeds = seed << 32;
    while let Ok((stream, _)) = listener.accept().await {
        seeds += 1;
        let rng = std::rc::Rc::new(std::cell::RefCell::new(fastrand::Rng::with_seed(seeds)));
        let service = service_fn(move |request: Request<Incoming>| {
            let (wait, dice) = {
                let mut rng = rng.borrow_mut();
                (
                    rng.u64(origin.from_ms..=origin.to_ms),
                    rng.u64(0..origin.fails),
                )
            };
            async move {
                pause(wait).await;
                let mut response = Response::new(Full::new(Bytes::from(format!(
                    "{{\"origin\":\"{}\",\"path\":{:?}}}\n",
                    origin.name,
                    request.uri().path()
                ))));
                if dice == 0 {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(served);
    }
}

/// Sends requests for ever, one after the other, connecting again when a connection ends.
async fn client(name: &'static str, between: u64, proxy: SocketAddr, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        pause(between + 100).await;
        let Ok(stream) = TcpStream::connect(proxy).await else {
            continue;
        };
        let Ok((mut sender, connection)) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await
        else {
            continue;
        };
        tokio::task::spawn_local(connection);
        while sender.ready().await.is_ok() {
            let path = if rng.u8(..) < 160 {
                "/shop/cart"
            } else {
                "/search?q=tide"
            };
            let request = Request::get(path)
                .header("host", "demo")
                .header("user-agent", name)
                .header("x-api-key", name)
                .body(Full::new(Bytes::new()));
            let Ok(request) = request else { return };
            let Ok(response) = sender.send_request(request).await else {
                break;
            };
            if response.into_body().collect().await.is_err() {
                break;
            }
            pause(rng.u64(between / 2..=between * 2)).await;
        }
    }
}
