//! What every reverse proxy does: it passes requests on, answers back, and says so when it cannot.

use crate::support::client::{Client, Response};
use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::{Proxy, free_address};
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually};

/// Says in its answer what it was asked, so that mixed-up answers are noticed.
fn echo(seen: &Seen) -> Reply {
    let reply = Reply::ok(format!("{} {}:", seen.method, seen.path));
    if seen.body.is_empty() {
        return reply;
    }
    reply.body(seen.body.clone())
}

#[test]
fn one_upstream_on_the_command_line_is_a_complete_proxy() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::without_file(&origin.url());

    let response = proxy.get("/hello?a=b%20c");

    assert_eq!(response.status, 200);
    assert_eq!(response.text(), "GET /hello?a=b%20c:");
    assert_eq!(proxy.status()["pid"], proxy.pid());
}

#[test]
fn a_body_passes_whole_in_both_directions_however_it_is_framed() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    let large = vec![b'x'; 300_000];

    let sized = client.request("POST", "/sized", &[], &large);
    assert_eq!(sized.status, 200);
    assert!(sized.body.ends_with(&large), "{} bytes", sized.body.len());
    assert_eq!(origin.last().body, large);

    let chunked = client.request(
        "PUT",
        "/chunked",
        &[("transfer-encoding", "chunked")],
        b"5\r\nhello\r\n7;note=x\r\n, world\r\n0\r\n\r\n",
    );
    assert_eq!(chunked.text(), "PUT /chunked:hello, world");
    assert_eq!(origin.last().body, b"hello, world");
    assert_eq!(origin.last().header("transfer-encoding"), Some("chunked"));
}

#[test]
fn answers_without_a_body_stay_without_one_and_the_connection_usable() {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/204" => Reply::new(204),
        "/304" => Reply::new(304).header("etag", "\"v1\""),
        _ => Reply::ok("0123456789"),
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    let head = client.request("HEAD", "/", &[], b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    assert_eq!(origin.last().method, "HEAD");

    assert_eq!(client.get("/204").status, 204);
    let not_modified = client.get("/304");
    assert_eq!(not_modified.status, 304);
    assert_eq!(not_modified.header("etag"), Some("\"v1\""));

    assert_eq!(client.get("/").text(), "0123456789");
}

#[test]
fn one_connection_carries_many_requests_and_the_origin_sees_few_connections() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    for number in 0..50 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path).text(), format!("GET {path}:"));
    }

    assert_eq!(origin.count(), 50);
    assert_eq!(origin.connections(), 1, "upstream connections are reused");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();

    let requests: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    client.send(requests.as_bytes());

    for path in &paths {
        assert_eq!(client.response("GET").text(), format!("GET {path}:"));
    }
}

#[test]
fn http_1_0_is_answered_and_then_closed() {
    let origin = Origin::saying("old");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    client.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n");

    assert_eq!(client.response("GET").text(), "old");
    assert!(client.is_closed_by_peer());
}

#[test]
fn connection_close_is_obeyed() {
    let origin = Origin::saying("bye");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    let response = client.request("GET", "/", &[("connection", "close")], b"");

    assert_eq!(response.text(), "bye");
    assert!(client.is_closed_by_peer());
}

#[test]
fn expect_continue_gets_its_100_before_the_body_is_sent() {
    let origin = Origin::http1(echo);
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    // The body follows at once: a proxy may answer 100 or find the body there already.
    client.send(b"hello");

    assert_eq!(client.response("POST").text(), "POST /:hello");
}

#[test]
fn hop_by_hop_fields_end_at_the_proxy_and_untrusted_forwarding_is_replaced() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    proxy.client().host("api.example.com").request(
        "GET",
        "/",
        &[
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-kept", "yes"),
        ],
        b"",
    );

    let seen = origin.last();
    for gone in ["x-private", "keep-alive", "proxy-authorization"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-kept"), Some("yes"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example.com"));
    assert!(seen.header("via").is_some(), "{:?}", seen.headers);
}

#[test]
fn every_answer_carries_a_request_id_of_its_own() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    let (first, second) = (client.get("/"), client.get("/"));

    let id = request_id(&first);
    assert_ne!(id, request_id(&second));
    assert_eq!(origin.seen()[0].header("x-request-id"), Some(id.as_str()));
    let entry = proxy.access_log_entry("the request in the log", |entry| entry["request_id"] == id);
    assert_eq!(entry["status"], 200);
    assert_eq!(entry["method"], "GET");
    assert_eq!(entry["path"], "/");
}

#[test]
fn no_route_is_a_404_that_explains_itself() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&format!(
        "[upstreams.orders]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"orders\"
         match = {{ path_prefix = \"/orders\" }}
         upstream = \"orders\"\n",
        origin.address()
    ));
    let mut client = proxy.client();

    let response = client.get("/elsewhere");

    assert_eq!(response.status, 404);
    let problem = response.problem();
    assert_eq!(problem["reason"], "no_route");
    assert_eq!(problem["request_id"], request_id(&response));
    assert_eq!(client.get("/orders/1").status, 200, "the connection stays");
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_origin_that_is_down_is_a_502_that_says_so() {
    let proxy = Proxy::in_front_of(free_address());

    let response = proxy.get("/");

    assert_eq!(response.status, 502);
    assert_eq!(response.problem()["reason"], "connect_failed");
    let proxy_status = response.header("proxy-status").expect("a Proxy-Status");
    assert!(proxy_status.contains("error="), "{proxy_status}");
}

#[test]
fn an_origin_that_breaks_off_before_its_answer_is_a_502() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.reset();
    });
    let proxy = Proxy::in_front_of(origin.address());

    // A POST is not repeated: nobody knows whether the first one took effect.
    let response = proxy.client().request("POST", "/", &[], b"once");

    assert_eq!(response.status, 502);
    assert_eq!(response.problem()["reason"], "upstream_reset");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_that_breaks_off_in_its_body_never_looks_whole() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234");
        conversation.reset();
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();

    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let bytes = client.rest().expect("the connection is closed");

    let text = String::from_utf8_lossy(&bytes);
    assert!(
        !text.contains("0123456789") && !text.ends_with("0\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn an_answer_that_is_not_http_is_a_502() {
    let nonsense = RawOrigin::answering("220 mail.example.com ESMTP\r\n");
    let proxy = Proxy::in_front_of(nonsense.address());

    let response = proxy.get("/");

    assert_eq!(response.status, 502);
    response.problem();
    assert_eq!(proxy.status()["pid"], proxy.pid());
}

#[test]
fn requests_are_counted_where_the_contract_says() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    for _ in 0..7 {
        client.get("/some/secret/path");
    }

    let metrics = proxy.metrics_until("seven requests in the metrics", |metrics| {
        let labels = [("http_route", "all"), ("http_response_status_code", "200")];
        (metrics.sum("http_server_request_duration_seconds_count", &labels) - 7.0).abs() < 0.5
    });

    let leaked = metrics
        .samples()
        .iter()
        .flat_map(|sample| sample.labels.values())
        .any(|value| value.contains("secret"));
    assert!(!leaked, "labels never hold paths");
    assert_eq!(
        metrics.value("tidegate_inflight", &[("upstream", "origin")]),
        Some(0.0)
    );
}

#[test]
fn a_client_that_leaves_does_not_leave_its_request_behind() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        // No answer: the proxy closes once the client has gone.
        conversation.wait_for_close();
    });
    let proxy = Proxy::in_front_of(origin.address());
    let in_flight = |wanted: f64| {
        proxy.metrics_until("the request in the gauge", |metrics| {
            let now = metrics.sum("tidegate_inflight", &[("upstream", "origin")]);
            (now - wanted).abs() < 0.5
        })
    };

    let mut client: Client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    in_flight(1.0);
    drop(client);
    in_flight(0.0);

    eventually("the request in the log", PATIENCE, || {
        proxy.access_log().len() == 1
    });
}

#[track_caller]
fn request_id(response: &Response) -> String {
    let id = response.header("x-request-id").expect("a request id");
    assert_eq!(id.len(), 36, "a UUID: {id}");
    id.to_owned()
}
