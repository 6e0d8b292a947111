//! What is neither one request nor one answer: interim responses, upgrades, and a change of the binary
//! under traffic.

use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::raw_origin::RawOrigin;
use crate::support::wait::{PATIENCE, eventually_some};
use rustix::process::Signal;

#[test]
fn early_hints_reach_the_client_before_the_answer() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let proxy = Proxy::in_front_of(origin.address());
    let response = Client::connect(proxy.address()).get("/");
    assert_eq!(response.interim, vec![103]);
    assert_eq!(response.text(), "ok");
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_and_ends_in_one_exchange() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_head();
        conversation.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhi",
        );
        conversation.write(b" there");
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = Client::connect(proxy.address());
    client.send(b"GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    client.finish_sending();
    let bytes = client.rest().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    assert!(text.contains("upgrade: echo"), "{text}");
    assert!(text.ends_with("hi there"), "{text}");
    let line = eventually_some("the upgrade's line", PATIENCE, || {
        proxy
            .access_log()
            .into_iter()
            .find(|line| line["path"] == "/up")
    });
    assert_eq!(
        (&line["status"], &line["bytes_out"]),
        (&101.into(), &8.into())
    );
}

#[test]
fn a_new_binary_takes_the_sockets_over_and_the_old_one_leaves() {
    let origin = Origin::saying("still here");
    let mut proxy = Proxy::in_front_of(origin.address());
    assert_eq!(proxy.get("/").text(), "still here");
    let old = proxy.pid();
    proxy.signal(Signal::USR2);
    let new = eventually_some("another process behind the admin address", PATIENCE, || {
        proxy.status()["pid"]
            .as_u64()
            .filter(|pid| *pid != u64::from(old))
    });
    proxy.adopt(u32::try_from(new).unwrap_or_default());
    assert!(proxy.wait_exit().success());
    assert_eq!(proxy.get("/").text(), "still here");
}

#[test]
fn a_connection_that_lay_idle_and_was_parked_answers_again() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = Client::connect(proxy.address());
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "ok");
        proxy.metrics_until("the connection to be parked", |metrics| {
            metrics.sum("tidegate_connections_parked", &[]) > 0.5
        });
    }
    // Half a request wakes it, the other half completes it.
    client.send(b"GET / HTTP/1.1\r\n");
    proxy.metrics_until("the connection to be awake", |metrics| {
        metrics.sum("tidegate_connections_parked", &[]) < 0.5
    });
    client.send(b"host: a\r\n\r\n");
    assert_eq!(client.response("GET").text(), "ok");
}
