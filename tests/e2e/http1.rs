//! HTTP/1 where it is easy to get wrong: messages in pieces, answers that come early, bodies that nobody wants.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::{Proxy, free_address};
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;

fn echo(seen: &Seen) -> Reply {
    Reply::ok([seen.method.as_bytes(), b":", &seen.body].concat())
}

#[test]
fn what_is_sent_ahead_is_answered_in_order_however_it_is_cut() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let requests = b"\r\nGET /1 HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
        PUT /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhow\r\n4\r\n are\r\n0\r\nt: v\r\n\r\n\
        POST /4 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n\
        GET /5 HTTP/1.1\r\nhost: a\r\n\r\n";
    for length in [1, 2, 3, 7, 20, 64, 128, 1_000] {
        let mut client = proxy.client();
        for piece in requests.chunks(length) {
            client.send(piece);
        }
        let answers = ["GET", "POST", "PUT", "POST", "GET"].map(|it| client.response(it).text());
        let expected = ["GET:", "POST:hello", "PUT:how are", "POST:", "GET:"];
        assert_eq!(answers, expected, "in pieces of {length}");
    }
}

#[test]
fn an_answer_that_comes_in_pieces_is_the_same() {
    for length in [1, 2, 5, 40] {
        let origin = RawOrigin::start(move |mut conversation| {
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                5 \r\nhello\r\n6;x\r\n there\r\n0\r\n\r\n";
            while conversation.read_request().is_some() {
                for piece in answer.chunks(length) {
                    conversation.write(piece);
                }
            }
        });
        let proxy = Proxy::in_front_of(origin.address());
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(
                client.get("/").text(),
                "hello there",
                "in pieces of {length}"
            );
        }
        assert_eq!(origin.connections(), 1, "in pieces of {length}");
    }
}

#[test]
fn an_answer_may_come_before_its_request_has_ended() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_head();
        conversation.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        conversation.wait_for_close();
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n");
    client.send(&vec![b'x'; 100_000]);
    let answer = client.response("POST");
    assert_eq!((answer.status, answer.text()), (403, "no".to_owned()));
    client.finish_sending();
    assert!(client.is_closed_by_peer(), "the rest is no request");
}

/// A proxy that answers by itself.
fn without_route() -> Proxy {
    Proxy::start(&format!(
        "[upstreams.some]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"some\"
         match = {{ path_prefix = \"/some\" }}
         upstream = \"some\"\n",
        free_address()
    ))
}

#[test]
fn a_body_that_nobody_wants_is_not_the_next_request() {
    let proxy = without_route();
    let mut client = proxy.client();
    client.send(
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 36\r\n\r\n\
          GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n.",
    );
    client.send(
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    );
    client.send(b"GET /last HTTP/1.1\r\nhost: a\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(client.response("GET").status, 404);
    }
    proxy.access_log_entry("the last", |line| line["path"] == "/last");
    let paths: Vec<_> = proxy
        .access_log()
        .into_iter()
        .map(|line| line["path"].clone())
        .collect();
    assert_eq!(paths, ["/", "/", "/last"]);
}

#[test]
fn who_is_answered_without_a_body_is_not_told_to_send_it() {
    let proxy = without_route();
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let answer = client.response("POST");
    assert_eq!((answer.status, answer.interim), (404, Vec::new()));
    assert!(client.is_closed_by_peer());
}

#[test]
fn a_client_of_http_1_0_is_spared_what_it_does_not_know() {
    let origin = RawOrigin::start(|mut conversation| {
        while conversation.read_request().is_some() {
            conversation.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            conversation.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    let bytes = client
        .rest()
        .expect("an answer that ends with its connection");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    assert!(!text.contains("transfer-encoding"), "{text}");
    assert!(text.ends_with("\r\n\r\nok"), "{text}");
}

#[test]
fn a_client_of_http_1_0_keeps_its_connection_where_it_asks_to() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = Client::connect(proxy.address()).patience(Duration::from_secs(30));
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
        let answer = client.response("GET");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        assert_eq!(answer.text(), "GET:");
    }
}

#[test]
fn an_endpoint_that_says_more_than_it_was_asked_is_not_asked_again() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
        conversation.wait_for_close();
    });
    let proxy = Proxy::in_front_of(origin.address());
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn what_came_of_an_answer_before_it_broke_off_is_passed_on() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let bytes = client.rest().expect("an end");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\npart"), "{text}");
}
