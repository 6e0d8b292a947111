//! Many clients that want the same.

use std::sync::Arc;

use super::{did, proxy};
use crate::support::client::Client;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually};

/// Paths that several clients race through.
const PATHS: usize = 2_000;

/// An origin that answers once its gate lets it.
fn gated(reply: fn() -> Reply) -> (Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::closed());
    let of_origin = Arc::clone(&gate);
    let origin = Origin::start(Flavour::Http1, move |_| {
        let gate = Arc::clone(&of_origin);
        async move {
            gate.pass().await;
            reply()
        }
    });
    (origin, gate)
}

/// Sends the same request by `count` clients and waits until each of them waits for it.
fn crowd(proxy: &Proxy, count: usize, path: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| proxy.client().host("a")).collect();
    for client in &mut clients {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    }
    eventually("the crowd waits", PATIENCE, || {
        proxy.admin_get("/api/v1/inflight?limit=1").json()["total"] == count
    });
    clients
}

#[test]
fn a_thousand_clients_of_a_cold_key_are_one_request_to_the_origin() {
    let (origin, gate) = gated(|| {
        Reply::ok("one")
            .body("two")
            .header("cache-control", "max-age=99")
    });
    let proxy = proxy(&origin, "coalesce_wait = \"1m\"");
    let clients = crowd(&proxy, 1_000, "/");
    gate.open();
    let mut collapsed = 0;
    for mut client in clients {
        let response = client.response("GET");
        assert_eq!(response.text(), "onetwo");
        collapsed += usize::from(did(&response).contains("collapsed"));
    }
    assert_eq!((origin.count(), collapsed), (1, 999));
    let metrics = proxy.metrics();
    let labels = [("cache", "shared"), ("result", "collapsed")];
    assert_eq!(
        metrics.value("tidegate_cache_requests_total", &labels),
        Some(999.0)
    );
}

#[test]
fn what_cannot_be_shared_releases_everybody_at_once_and_is_remembered() {
    let (origin, gate) = gated(|| Reply::ok("mine").header("cache-control", "private"));
    let proxy = proxy(&origin, "coalesce_wait = \"1m\"");
    let clients = crowd(&proxy, 10, "/");
    origin.wait_for_in_flight(1);
    gate.let_through(1);
    // The others go by themselves, all of them together.
    origin.wait_for_in_flight(9);
    gate.let_through(9);
    for mut client in clients {
        assert_eq!(client.response("GET").text(), "mine");
    }
    // The next crowd does not wait for one of its own.
    let clients = crowd(&proxy, 10, "/");
    origin.wait_for_in_flight(10);
    gate.open();
    for mut client in clients {
        assert_eq!(client.response("GET").text(), "mine");
    }
    assert_eq!(origin.count(), 20);
}

#[test]
fn a_crowd_survives_its_leader() {
    let (origin, gate) = gated(|| Reply::ok("here").header("cache-control", "max-age=99"));
    let proxy = proxy(&origin, "coalesce_wait = \"1m\"");
    let mut leader = crowd(&proxy, 1, "/");
    origin.wait_for_in_flight(1);
    let mut followers: Vec<Client> = (0..5).map(|_| proxy.client().host("a")).collect();
    for follower in &mut followers {
        follower.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    eventually("they wait", PATIENCE, || {
        proxy.admin_get("/api/v1/inflight?limit=1").json()["total"] == 6
    });
    leader.clear();
    eventually("another leads", PATIENCE, || {
        proxy.admin_get("/api/v1/inflight?limit=1").json()["total"] == 5
    });
    gate.open();
    for mut follower in followers {
        assert_eq!(follower.response("GET").text(), "here");
    }
    assert!(origin.arrived().len() <= 2);
}

#[test]
fn who_comes_as_a_flight_lands_does_not_ask_again() {
    let reply = || Reply::ok("here").header("cache-control", "max-age=99");
    let origin = Origin::start(Flavour::Http1, move |_| async move { reply() });
    let proxy = proxy(&origin, "");
    // They race through the same paths, so that some are between the look and the wait when another's is stored.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = proxy.client().host("a");
                for path in 0..PATHS {
                    client.send(format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
                    assert_eq!(client.response("GET").text(), "here");
                }
            });
        }
    });
    assert_eq!(origin.count(), PATHS);
}
