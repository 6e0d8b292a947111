//! The vocabulary checked on itself, without the proxy: a test is no better than its tools.

use crate::support::certificates::Authority;
use crate::support::client::{self, Client};
use crate::support::h2::Http2;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::metrics::Metrics;
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::{Gate, Reply};

#[test]
fn an_http1_origin_and_the_client_understand_each_other() {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/parts" => Reply::ok("one").body("two").trailer("x-sum", "2"),
        "/broken" => Reply::ok("one").body("two").then_break(),
        _ => Reply::ok(seen.body.clone())
            .header("x-a", "1")
            .header("x-a", "2"),
    });
    let mut client = Client::connect(origin.address());

    let echoed = client.request("POST", "/", &[("x-case", "b")], b"hello");
    assert_eq!((echoed.status, echoed.text().as_str()), (200, "hello"));
    assert_eq!(echoed.headers.all("X-A").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(origin.last().header("X-Case"), Some("b"));

    let parts = client.request("GET", "/parts", &[("te", "trailers")], b"");
    assert_eq!(parts.text(), "onetwo");
    assert_eq!((origin.count(), origin.connections()), (2, 1));

    let broken = client::raw(origin.address(), b"GET /broken HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!broken.ends_with(b"0\r\n\r\n"));
}

#[test]
fn an_http2_origin_and_the_client_understand_each_other() {
    let origin = Origin::http2(|seen| Reply::ok(seen.path.clone()).trailer("x-sum", "2"));
    let client = Http2::connect(origin.address());
    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    for (path, response) in paths.iter().zip(client.get_all(&paths)) {
        assert_eq!(&response.text(), path);
        assert_eq!(response.trailers.get("x-sum"), Some("2"));
    }
    assert_eq!(client.request("POST", "/", &[], b"x").status, 200);
    assert_eq!(origin.last().body, b"x");
}

#[test]
fn tls_is_mutual_when_asked_for_and_alpn_chooses() {
    let authority = Authority::new();
    let server = authority.issue("server", &["localhost"]);
    let known = authority.issue("client", &["client.example.com"]);
    let config = authority.server_config(&server, &["h2", "http/1.1"], true);
    let origin = Origin::start(Flavour::Tls(config), |_| async { Reply::ok("private") });

    let config = authority.client_config(Some(&known), &["h2"]);
    let http2 = Http2::connect_tls(origin.address(), "localhost", config);
    assert_eq!(http2.get("/").text(), "private");

    let config = authority.client_config(Some(&known), &[]);
    let mut http1 = Client::connect_tls(origin.address(), "localhost", config);
    assert_eq!(http1.get("/").text(), "private");

    let config = authority.client_config(None, &[]);
    let mut stranger = Client::connect_tls(origin.address(), "localhost", config);
    stranger.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(stranger.rest().is_none_or(|bytes| bytes.is_empty()));
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_gate_holds_requests_until_it_is_opened() {
    static GATE: Gate = Gate::closed();
    let origin = Origin::start(Flavour::Http1, |_| async {
        GATE.pass().await;
        Reply::ok("late")
    });
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(origin.address())).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    origin.wait_for_in_flight(3);

    GATE.let_through(1);
    origin.wait_for_in_flight(2);
    GATE.open();

    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "late");
    }
    assert_eq!(origin.most_in_flight(), 3);
}

#[test]
fn a_raw_origin_can_do_what_no_server_would() {
    let origin = RawOrigin::start(|mut conversation| {
        let (head, body) = conversation.read_request().expect("a request");
        assert_eq!(head.line, "PUT /x HTTP/1.1");
        conversation.write(b"HTTP/1.1 103 Early Hints\r\n\r\n");
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        conversation.write(&body.bytes);
        if conversation.number == 0 {
            conversation.reset();
        }
    });
    let mut client = Client::connect(origin.address());
    let response = client.request("PUT", "/x", &[], b"abc");
    assert_eq!(
        (response.interim, response.body),
        (vec![103], b"abc".to_vec())
    );
    assert!(client.is_closed_by_peer());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_scrape_is_read_with_its_labels_and_exemplars() {
    let metrics = Metrics::parse(
        "# TYPE a counter\n\
         a_total{x=\"1\",y=\"a } \\\"b\\\",\"} 3 # {trace_id=\"t\"} 0.5 1.0\n\
         a_total{x=\"2\",y=\"\"} 4\n\
         b 1e-3\n\
         c_bucket{le=\"+Inf\"} +Inf\n\
         # EOF\n",
    );
    assert_eq!(metrics.value("a_total", &[("x", "1")]), Some(3.0));
    assert_eq!(metrics.samples()[0].labels["y"], "a } \"b\",");
    assert!((metrics.sum("a_total", &[]) - 7.0).abs() < 1e-9);
    assert_eq!(metrics.value("b", &[]), Some(0.001));
    assert_eq!(metrics.value("c_bucket", &[]), Some(f64::INFINITY));
    assert_eq!(metrics.value("missing", &[]), None);
}
