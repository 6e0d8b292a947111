//! Where time goes: a delay put into one phase shows in that phase and in no other.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::proxy::Proxy;
use crate::support::raw_origin::{Conversation, RawOrigin};
use crate::support::wait::{Deadline, PATIENCE, eventually};

/// How long each fault lasts.
const FAULT: Duration = Duration::from_millis(200);
/// How often each is put in: what a busy machine adds to some other phase it does not add every time.
const ROUNDS: usize = 3;
const PHASES: [&str; 7] = [
    "receive", "decide", "queue", "connect", "wait", "body", "deliver",
];

/// Lets a fault last.
fn last() {
    let deadline = Deadline::after(FAULT);
    while deadline.tick() {}
}

fn before(origin: SocketAddr, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{origin}\"]\n{settings}\n\
         [[routes]]\nname = \"all\"\nupstream = \"app\"\ntimeout = \"60s\"\n"
    ))
}

/// Every request of `path` has the fault in `faulty`, and none has it in another phase each time.
#[track_caller]
fn assert_only(proxy: &Proxy, path: &str, rounds: usize, faulty: &str) {
    let of_path = || -> Vec<Value> {
        let lines = proxy.access_log().into_iter();
        lines.filter(|line| line["path"] == path).collect()
    };
    eventually("its lines", PATIENCE, || of_path().len() == rounds);
    let fault = FAULT.as_secs_f64() * 1e3;
    let lines = of_path();
    for phase in PHASES {
        let times = lines.iter().map(|line| {
            let time = &line[format!("{phase}_ms")];
            time.as_f64().expect("a number")
        });
        let least = times.fold(f64::INFINITY, f64::min);
        if phase == faulty {
            assert!(least >= fault * 0.95, "{phase}: {lines:?}");
        } else {
            assert!(least < fault / 2.0, "{phase}: {lines:?}");
        }
    }
    for line in &lines {
        let ms = |key: &str| line[key].as_f64().expect("a number");
        let sum: f64 = PHASES.map(|phase| ms(&format!("{phase}_ms"))).iter().sum();
        assert!((sum - ms("total_ms")).abs() < 1.0, "{line}");
    }
}

const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

fn answering(how: impl Fn(&mut Conversation) + Send + Sync + 'static) -> RawOrigin {
    RawOrigin::start(move |mut conversation| {
        while conversation.read_request().is_some() {
            how(&mut conversation);
        }
    })
}

#[test]
fn a_slow_client_is_receive() {
    let origin = RawOrigin::answering(SMALL);
    let proxy = before(origin.address(), "");
    for _ in 0..ROUNDS {
        let mut client = proxy.client();
        client.send(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf");
        last();
        client.send(b"half");
        assert_eq!(client.response("POST").status, 200);
    }
    assert_only(&proxy, "/up", ROUNDS, "receive");
}

#[test]
fn a_slow_client_with_a_short_body_takes_no_place() {
    let origin = RawOrigin::answering(SMALL);
    let settings = "concurrency = { algorithm = \"fixed\", max = 1 }
        queue = { max_wait = \"60s\" }";
    let proxy = before(origin.address(), settings);
    let mut slow = proxy.client();
    slow.send(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf");
    eventually("it is received", PATIENCE, || {
        let under_way = proxy.admin_get("/api/v1/inflight").json();
        under_way["requests"][0]["phase"] == "receive"
    });
    assert_eq!(proxy.get("/other").status, 200);
    slow.send(b"half");
    assert_eq!(slow.response("POST").status, 200);
}

#[test]
fn the_time_of_a_client_that_gives_up_is_that_of_what_it_waited_for() {
    let (seen, came) = std::sync::mpsc::channel();
    let origin = RawOrigin::start(move |mut conversation| {
        while conversation.read_head().is_some() {
            seen.send(()).ok();
        }
    });
    let proxy = before(origin.address(), "");
    let whole: &[u8] = b"GET /given-up HTTP/1.1\r\nhost: a\r\n\r\n";
    let half: &[u8] = b"POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\nhalf";
    for (request, path, phase) in [(whole, "/given-up", "wait"), (half, "/half", "receive")] {
        for _ in 0..ROUNDS {
            let mut client = proxy.client();
            client.send(request);
            came.recv().expect("it came");
            last();
        }
        assert_only(&proxy, path, ROUNDS, phase);
    }
    // So short that its origin has not seen it yet.
    for _ in 0..ROUNDS {
        let mut client = proxy.client();
        client.send(b"POST /short HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf");
        eventually("it is received", PATIENCE, || {
            let under_way = proxy.admin_get("/api/v1/inflight").json();
            under_way["requests"][0]["phase"] == "receive"
        });
        last();
    }
    assert_only(&proxy, "/short", ROUNDS, "receive");
}

#[test]
fn a_full_upstream_is_queue() {
    let (seen, first) = std::sync::mpsc::channel();
    let (go, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let origin = RawOrigin::start(move |mut conversation| {
        while let Some((head, _)) = conversation.read_request() {
            if head.line.contains("/first") {
                seen.send(()).ok();
                told.lock().expect("no panic").recv().ok();
            }
            conversation.write(SMALL);
        }
    });
    let settings = "concurrency = { algorithm = \"fixed\", max = 1 }
        queue = { max_wait = \"60s\" }";
    let proxy = before(origin.address(), settings);
    for _ in 0..ROUNDS {
        thread::scope(|scope| {
            scope.spawn(|| proxy.get("/first"));
            first.recv().expect("it came");
            scope.spawn(|| proxy.get("/second"));
            proxy.metrics_until("it waits", |metrics| {
                metrics.value("tidegate_queue_depth", &[]) == Some(1.0)
            });
            last();
            go.send(()).expect("it waits");
        });
    }
    assert_only(&proxy, "/second", ROUNDS, "queue");
}

#[test]
fn a_connection_that_takes_long_is_connect() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).expect("a free port");
    // One connection fits; whoever comes then waits for it to be accepted.
    listener.listen(0).expect("it listens");
    let address = listener
        .local_addr()
        .expect("bound")
        .as_socket()
        .expect("an address");
    let proxy = before(address, "connect_timeout = \"20s\"");
    let filler = std::net::TcpStream::connect(address).expect("it fits");
    thread::scope(|scope| {
        scope.spawn(|| proxy.get("/slow"));
        proxy.metrics_until("it connects", |metrics| {
            metrics.value("tidegate_inflight", &[]) == Some(1.0)
        });
        last();
        drop(listener.accept().expect("the filler"));
        let (accepted, _) = listener.accept().expect("the proxy");
        let mut accepted = std::net::TcpStream::from(accepted);
        let mut head = std::io::BufReader::new(accepted.try_clone().expect("a handle"));
        crate::support::wire::read_head(&mut head).expect("a request");
        accepted.write_all(SMALL).expect("it reads");
    });
    drop(filler);
    assert_only(&proxy, "/slow", 1, "connect");
}

#[test]
fn a_slow_answer_is_wait() {
    let origin = answering(|conversation| {
        last();
        conversation.write(SMALL);
    });
    let proxy = before(origin.address(), "");
    for _ in 0..ROUNDS {
        assert_eq!(proxy.get("/slow").status, 200);
    }
    assert_only(&proxy, "/slow", ROUNDS, "wait");
}

#[test]
fn a_slow_body_is_body() {
    let origin = answering(|conversation| {
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        last();
        conversation.write(b"half");
    });
    let proxy = before(origin.address(), "");
    for _ in 0..ROUNDS {
        assert_eq!(proxy.get("/slow").body, b"halfhalf");
    }
    assert_only(&proxy, "/slow", ROUNDS, "body");
}

#[test]
fn a_slow_reader_is_deliver() {
    // More than the buffers between the origin and the client hold.
    const LENGTH: usize = 24 << 20;
    let origin = answering(|conversation| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        conversation.write(head.as_bytes());
        conversation.write(&vec![b'x'; LENGTH]);
    });
    let proxy = before(origin.address(), "");
    for _ in 0..ROUNDS {
        let mut client = Client::connect(proxy.address());
        client.send(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n");
        last();
        assert_eq!(client.response("GET").body.len(), LENGTH);
    }
    assert_only(&proxy, "/big", ROUNDS, "deliver");
}
