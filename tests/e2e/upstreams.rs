//! Endpoints: how one is picked, found, checked and given up, and how long it is waited for.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::{Proxy, Setup, free_address};
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually};
use crate::support::wire;

/// One upstream `app` with these endpoints and settings.
fn before(endpoints: &[SocketAddr], settings: &str) -> Proxy {
    let endpoints: Vec<String> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    let endpoints = endpoints.join(", ");
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [{endpoints}]\n{settings}\n"
    ))
}

/// An origin that never answers.
fn silent() -> Origin {
    Origin::start(Flavour::Http1, |_| async {
        Gate::closed().pass().await;
        Reply::ok("never")
    })
}

fn healthy(proxy: &Proxy, address: &str) -> Option<bool> {
    let upstreams = proxy.admin_get("/api/v1/upstreams").json();
    let endpoints = upstreams["upstreams"][0]["endpoints"].as_array()?.clone();
    endpoints
        .iter()
        .find(|endpoint| endpoint["address"] == address)
        .and_then(|endpoint| endpoint["healthy"].as_bool())
}

#[test]
fn a_node_exporter_says_how_the_host_is_doing_until_it_is_gone() {
    let origin = Origin::http1(|_| Reply::ok("fine"));
    let asked = Arc::new(AtomicU64::new(0));
    let there = Arc::new(AtomicBool::new(true));
    let (count, is_there) = (Arc::clone(&asked), Arc::clone(&there));
    let exporter = Origin::http1(move |seen| {
        if seen.path != "/metrics" || !is_there.load(Ordering::SeqCst) {
            return Reply::new(503);
        }
        // Of each ten seconds of two processors, four are idle and two wait for a disk.
        let at = count.fetch_add(1, Ordering::SeqCst);
        Reply::ok(format!(
            "node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} {}\n\
             node_cpu_seconds_total{{cpu=\"0\",mode=\"iowait\"}} {}\n\
             node_cpu_seconds_total{{cpu=\"1\",mode=\"user\"}} {}\n\
             node_load1 0.5\nnode_memory_MemTotal_bytes 4096\nnode_memory_MemAvailable_bytes 1024\n",
            100 + 4 * at,
            2 * at,
            4 * at
        ))
    });
    let (at, node) = (origin.address(), exporter.address());
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [{{ address = \"{at}\", node = \"http://{node}/metrics\" }}]\n"
    ));
    let host = || {
        let upstreams = proxy.admin_get("/api/v1/upstreams").json();
        upstreams["upstreams"][0]["endpoints"][0]["host"].clone()
    };
    assert_eq!(host(), Value::Null);
    eventually("two answers", PATIENCE, || host() != Value::Null);
    let seen = host();
    assert_eq!([&seen["cpu"], &seen["iowait"]], [0.4, 0.2]);
    assert_eq!([&seen["memory"], &seen["load"]], [0.75, 0.5]);
    let endpoint = at.to_string();
    let labels = [("upstream", "app"), ("endpoint", endpoint.as_str())];
    let cpu = proxy
        .metrics()
        .value("tidegate_endpoint_host_cpu_ratio", &labels);
    assert_eq!(cpu, Some(0.4));
    there.store(false, Ordering::SeqCst);
    eventually("nothing to be known", PATIENCE, || host() == Value::Null);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn an_answer_that_takes_too_long_is_a_504() {
    let origin = silent();
    let proxy = before(
        &[origin.address()],
        "retry = { mode = \"off\" }\n[[routes]]\nname = \"all\"\nupstream = \"app\"\ntimeout = \"50ms\"",
    );
    let answer = proxy.get("/");
    assert_eq!(answer.status, 504);
    assert_eq!(answer.problem()["reason"], "upstream_timeout");
    eventually("the origin to be let go", PATIENCE, || {
        origin.in_flight() == 0
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_made_elsewhere() {
    let (slow, quick) = (silent(), Origin::saying("quick"));
    let proxy = before(
        &[slow.address(), quick.address()],
        "balance = \"round-robin\"\nretry = { per_try_timeout = \"50ms\" }",
    );
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "quick");
    }
    assert!(!slow.arrived().is_empty());
}

#[test]
fn a_body_that_falls_silent_is_broken_off() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        conversation.wait_for_close();
    });
    let proxy = before(
        &[origin.address()],
        "[[routes]]\nname = \"all\"\nupstream = \"app\"\nidle_timeout = \"100ms\"",
    );
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let bytes = client.rest().expect("an end");
    assert!(bytes.ends_with(b"half"));
    let line = proxy.access_log_entry("its exchange", |_| true);
    assert_eq!(line["reason"], "upstream_timeout", "{line}");
}

#[test]
fn weights_hold_under_round_robin() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [{{ address = \"{}\", weight = 3 }}, \"{}\"]\nbalance = \"round-robin\"\nslow_start = \"0s\"\n",
        one.address(),
        two.address()
    ));
    let mut client = proxy.client();
    for _ in 0..40 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((one.count(), two.count()), (30, 10));
}

#[test]
fn a_hash_keeps_to_its_endpoint_and_spreads_over_all() {
    let origins = ["a", "b", "c"].map(Origin::saying);
    let addresses = origins.each_ref().map(Origin::address);
    let proxy = before(&addresses, "balance = { hash = \"header:x-session\" }");
    let mut chosen = BTreeMap::new();
    let mut client = proxy.client();
    for round in 0..3 {
        for session in 0..60 {
            let value = session.to_string();
            let said = client
                .request("GET", "/", &[("x-session", &value)], b"")
                .text();
            let first = chosen.entry(session).or_insert_with(|| said.clone());
            assert_eq!(*first, said, "session {session}, round {round}");
        }
    }
    for origin in &origins {
        assert!(
            origin.count() >= 15,
            "{:?}",
            origins.each_ref().map(Origin::count)
        );
    }
}

#[test]
fn a_slow_endpoint_gets_less_by_latency_and_by_load() {
    for balance in ["peak-ewma", "least-request"] {
        let gate = Arc::new(Gate::closed());
        let of_origin = Arc::clone(&gate);
        let stuck = Origin::start(Flavour::Http1, move |_| {
            let gate = Arc::clone(&of_origin);
            async move {
                gate.pass().await;
                Reply::ok("stuck")
            }
        });
        let quick = Origin::saying("quick");
        let proxy = before(
            &[stuck.address(), quick.address()],
            &format!("balance = \"{balance}\"\nslow_start = \"0s\""),
        );
        let mut clients = Vec::new();
        for sent in 1..=100 {
            let mut client = proxy.client();
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            clients.push(client);
            eventually("the request to arrive", PATIENCE, || {
                stuck.arrived().len() + quick.count() == sent
            });
        }
        // Each worker knows only its own requests, and one pick in a hundred is blind.
        let there = stuck.arrived().len();
        gate.open();
        assert!((1..=20).contains(&there), "{balance}: {there} of 100");
    }
}

#[test]
fn a_check_takes_an_endpoint_out_and_brings_it_back() {
    let sick = Arc::new(AtomicBool::new(false));
    let of_origin = Arc::clone(&sick);
    let origin = Origin::http1(move |seen| match seen.path.as_str() {
        "/healthz" if of_origin.load(Ordering::SeqCst) => Reply::new(500),
        _ => Reply::ok("one"),
    });
    let other = Origin::saying("two");
    let proxy = before(
        &[origin.address(), other.address()],
        "health = { path = \"/healthz\", interval = \"20ms\", rise = 2, fall = 2 }\nslow_start = \"0s\"\nbalance = \"round-robin\"",
    );
    let address = origin.address().to_string();
    eventually("a first check", PATIENCE, || {
        healthy(&proxy, &address) == Some(true)
    });
    sick.store(true, Ordering::SeqCst);
    eventually("the endpoint to be taken out", PATIENCE, || {
        healthy(&proxy, &address) == Some(false)
    });
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "two");
    }
    let labels: &[(&str, &str)] = &[("upstream", "app"), ("endpoint", &address)];
    assert_eq!(
        proxy.metrics().value("tidegate_endpoint_healthy", labels),
        Some(0.0)
    );
    sick.store(false, Ordering::SeqCst);
    eventually("it to come back", PATIENCE, || {
        proxy.get("/").text() == "one"
    });
}

#[test]
fn with_every_check_failing_all_are_tried() {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/healthz" => Reply::new(500),
        _ => Reply::ok("alive"),
    });
    let proxy = before(
        &[origin.address()],
        "health = { path = \"/healthz\", interval = \"20ms\", fall = 1 }",
    );
    let address = origin.address().to_string();
    eventually("the endpoint to be taken out", PATIENCE, || {
        healthy(&proxy, &address) == Some(false)
    });
    assert_eq!(proxy.get("/").text(), "alive");
}

#[test]
fn a_connection_is_health_enough_where_tcp_is_asked() {
    let origin = Origin::saying("ok");
    let gone = free_address();
    let proxy = before(
        &[origin.address(), gone],
        "health = { tcp = true, interval = \"20ms\", fall = 1, rise = 1 }",
    );
    eventually("the dead one to be found", PATIENCE, || {
        healthy(&proxy, &gone.to_string()) == Some(false)
            && healthy(&proxy, &origin.address().to_string()) == Some(true)
    });
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_grpc_server_is_asked_for_its_health() {
    let serving = Arc::new(AtomicBool::new(true));
    let of_origin = Arc::clone(&serving);
    let origin = Origin::http2(move |seen| {
        assert_eq!(seen.path, "/grpc.health.v1.Health/Check");
        let status = if of_origin.load(Ordering::SeqCst) {
            1
        } else {
            2
        };
        Reply::ok(vec![0, 0, 0, 0, 2, 8, status])
            .header("content-type", "application/grpc")
            .trailer("grpc-status", "0")
    });
    let proxy = before(
        &[origin.address()],
        "protocol = \"http2\"\nhealth = { grpc = \"orders\", interval = \"20ms\", fall = 1, rise = 1 }",
    );
    let address = origin.address().to_string();
    eventually("a check", PATIENCE, || origin.count() >= 2);
    assert_eq!(healthy(&proxy, &address), Some(true));
    assert_eq!(origin.last().body, b"\0\0\0\0\x08\x0a\x06orders");
    serving.store(false, Ordering::SeqCst);
    eventually("it to be found out", PATIENCE, || {
        healthy(&proxy, &address) == Some(false)
    });
    serving.store(true, Ordering::SeqCst);
    eventually("it to be back", PATIENCE, || {
        healthy(&proxy, &address) == Some(true)
    });
}

#[test]
fn a_pooled_connection_that_the_origin_closed_costs_nobody_an_answer() {
    // One answer a connection, closed without being announced.
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let proxy = before(&[origin.address()], "retry = { mode = \"off\" }");
    let mut client = proxy.client();
    for count in 1..=20 {
        assert_eq!(client.get("/").text(), "ok", "request {count}");
    }
    assert_eq!(origin.connections(), 20);
}

#[test]
fn a_connection_closed_as_the_request_arrives_is_replaced_by_a_new_one() {
    // The second request on a connection is read and the connection closed without a word of answer:
    // what a client sees that sends as the server's keep-alive ends.
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        conversation.read_request();
    });
    let proxy = before(&[origin.address()], "retry = { mode = \"off\" }");
    let mut client = proxy.client();
    for count in 1..=6 {
        assert_eq!(client.get("/").text(), "ok", "request {count}");
    }
    let post = client.request("POST", "/", &[], b"once");
    assert!(post.status == 200 || post.status == 502, "{}", post.status);
}

#[test]
fn what_was_not_sent_to_an_endpoint_that_goes_is_sent_to_another() {
    let stays = Origin::saying("stays");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let goes = listener.local_addr().expect("an address");
    let (connected, connection) = mpsc::channel();
    let accepting = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        connected.send(socket.try_clone().expect("a socket")).ok();
        say_socket(socket);
        // The listener is closed here as well.
    });
    let proxy = Proxy::start(&format!(
        "[server]\nworkers = 1\n[upstreams.app]\nendpoints = [\"{}\", \"{goes}\"]\n\
         balance = \"round-robin\"\nretry = {{ mode = \"off\" }}\n",
        stays.address()
    ));
    // Of two, one is each endpoint's, and its connection is kept.
    let mut clients = [proxy.client(), proxy.client()];
    let mut said = clients.each_mut().map(|client| client.get("/").text());
    said.sort_unstable();
    assert_eq!(said, ["socket", "stays"]);
    let connection = connection.recv().expect("a connection");
    // The requests are there before the connection's end is, and both before the proxy looks.
    proxy.signal(Signal::STOP);
    eventually("it stands still", PATIENCE, || proxy.is_stopped());
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nonce");
    }
    connection.shutdown(Shutdown::Both).expect("it is open");
    accepting.join().expect("it ends");
    proxy.signal(Signal::CONT);
    for client in &mut clients {
        let answer = client.response("POST");
        assert_eq!((answer.status, answer.text()), (200, "stays".to_owned()));
    }
}

fn say_socket(socket: impl Read + Write) {
    let mut reader = BufReader::new(socket);
    while let Ok(Some(_)) = wire::read_head(&mut reader) {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsocket";
        if reader.get_mut().write_all(answer).is_err() {
            break;
        }
    }
}

#[test]
fn a_socket_file_is_an_endpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            std::thread::spawn(|| say_socket(socket));
        }
    });
    let proxy = Setup::config("[upstreams.app]\nendpoints = [\"unix:<dir>/app.sock\"]\n")
        .directory(directory)
        .start();
    assert_eq!(proxy.get("/").text(), "socket");
    assert_eq!(proxy.get("/again").text(), "socket");
}

#[test]
fn a_name_is_looked_up() {
    let origin = Origin::saying("found");
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\ndiscover = {{ dns = \"localhost:{}\", refresh = \"100ms\" }}\n",
        origin.address().port()
    ));
    eventually("the name to be found", PATIENCE, || {
        proxy.get("/").status == 200
    });
    let upstreams = proxy.admin_get("/api/v1/upstreams").json();
    let endpoints = upstreams["upstreams"][0]["endpoints"].as_array().cloned();
    let named = |endpoint: &Value| endpoint["address"] == origin.address().to_string();
    assert!(
        endpoints.unwrap_or_default().iter().any(named),
        "{upstreams}"
    );
}
