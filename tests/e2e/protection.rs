//! What keeps an upstream inside what it can carry: breaker, limit and queue, retries, ejection, and what
//! each of them says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::client::{Client, Response};
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::{Proxy, Setup};
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually, eventually_some};

/// One upstream `app` with these endpoints and settings.
fn before(endpoints: &[SocketAddr], settings: &str) -> Proxy {
    let endpoints: Vec<String> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    let endpoints = endpoints.join(", ");
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [{endpoints}]\nbalance = \"round-robin\"\nslow_start = \"0s\"\n{settings}\n"
    ))
}

/// An origin whose answers wait until the gate lets them pass.
pub(crate) fn held() -> (Arc<Gate>, Origin) {
    let gate = Arc::new(Gate::closed());
    let of_origin = Arc::clone(&gate);
    let origin = Origin::start(Flavour::Http1, move |_| {
        let gate = Arc::clone(&of_origin);
        async move {
            gate.pass().await;
            Reply::ok("done")
        }
    });
    (gate, origin)
}

/// An origin that fails with `status` while the switch is on.
fn switched(status: u16) -> (Arc<AtomicBool>, Origin) {
    let failing = Arc::new(AtomicBool::new(true));
    let of_origin = Arc::clone(&failing);
    let origin = Origin::http1(move |_| {
        if of_origin.load(Ordering::SeqCst) {
            Reply::new(status)
        } else {
            Reply::ok("fine")
        }
    });
    (failing, origin)
}

/// A request sent on a connection of its own, its answer not yet read.
fn sent(proxy: &Proxy, path: &str, headers: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes());
    client
}

fn breaker(proxy: &Proxy) -> Value {
    proxy.admin_get("/api/v1/breakers").json()["breakers"][0].clone()
}

fn limit(proxy: &Proxy) -> Value {
    proxy.admin_get("/api/v1/limits").json()["limits"][0].clone()
}

fn wait_for_waiters(proxy: &Proxy, count: u64) {
    eventually("requests in the queue", PATIENCE, || {
        limit(proxy)["waiting"] == count
    });
}

/// The problem in an answer that tells the client to come back later.
fn shed(response: &Response) -> Value {
    assert_eq!(response.status, 503, "{}", response.text());
    let wait: u64 = response
        .header("retry-after")
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    assert!(wait >= 1, "Retry-After: {wait}");
    response.problem()
}

/// What is known of the request that got `response`.
fn why(proxy: &Proxy, response: &Response) -> Value {
    let id = response
        .header("x-request-id")
        .unwrap_or_default()
        .to_owned();
    eventually_some("an explanation", PATIENCE, || {
        let answer = proxy.admin_get(&format!("/api/v1/why/{id}"));
        (answer.status == 200).then(|| answer.json())
    })
}

#[test]
fn what_finds_the_limit_full_waits_and_what_finds_the_queue_full_is_refused() {
    let (gate, origin) = held();
    let settings = "concurrency = { algorithm = \"fixed\", max = 1 }
        queue = { max_length = 1, max_wait = \"60s\" }";
    let proxy = before(&[origin.address()], settings);
    let mut first = sent(&proxy, "/1", "");
    origin.wait_for_in_flight(1);
    let mut second = sent(&proxy, "/2", "");
    wait_for_waiters(&proxy, 1);

    let third = proxy.get("/3");
    let problem = shed(&third);
    assert_eq!(
        (&problem["reason"], &problem["policy"]),
        (&"queue_full".into(), &"queue".into())
    );
    assert_eq!(
        (&problem["value"], &problem["threshold"]),
        (&1.0.into(), &1.0.into())
    );

    let under_way = proxy.admin_get("/api/v1/inflight").json();
    let paths_and_phases: Vec<_> = under_way["requests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (
                one["path"].as_str().unwrap_or_default(),
                one["phase"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(paths_and_phases, [("/1", "wait"), ("/2", "queue")]);

    gate.open();
    assert_eq!(first.response("GET").text(), "done");
    assert_eq!(second.response("GET").text(), "done");
    assert_eq!(origin.most_in_flight(), 1);

    let why = why(&proxy, &third);
    assert_eq!(
        (&why["reason"], &why["tier"]),
        (&"queue_full".into(), &"standard".into())
    );
    assert_eq!(why["decisions"][0]["decision"], "refused");
    let metrics = proxy.metrics_until("the refusal", |metrics| {
        let labels = [
            ("reason", "queue_full"),
            ("policy", "queue"),
            ("mode", "enforce"),
        ];
        metrics.sum("tidegate_rejected_total", &labels) > 0.5
    });
    let of_app = [("upstream", "app")];
    assert_eq!(
        metrics.value("tidegate_concurrency_limit", &of_app),
        Some(1.0)
    );
    assert_eq!(metrics.value("tidegate_queue_depth", &of_app), Some(0.0));
}

#[test]
fn nobody_waits_past_the_queues_bound_or_the_clients_deadline() {
    let (gate, origin) = held();
    let settings = "concurrency = { algorithm = \"fixed\", max = 1 }
        queue = { max_wait = \"50ms\" }";
    let proxy = before(&[origin.address()], settings);
    let _first = sent(&proxy, "/1", "");
    origin.wait_for_in_flight(1);
    let waited = shed(&proxy.get("/2"));
    assert_eq!(waited["reason"], "queue_timeout");
    assert!(waited["value"].as_f64() >= Some(0.05), "{waited}");
    let late = sent(&proxy, "/3", "x-envoy-expected-rq-timeout-ms: 20\r\n").response("GET");
    assert_eq!(
        (late.status, &late.problem()["reason"]),
        (504, &"deadline".into())
    );
    gate.open();
}

#[test]
fn a_policy_on_trial_refuses_nothing_and_counts_what_it_would_have() {
    let (gate, origin) = held();
    let settings = "concurrency = { mode = \"observe\", algorithm = \"fixed\", max = 1 }
        queue = { max_length = 0 }";
    let proxy = before(&[origin.address()], settings);
    let mut clients = [sent(&proxy, "/1", ""), sent(&proxy, "/2", "")];
    origin.wait_for_in_flight(2);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "done");
    }
    proxy.metrics_until("what would have been refused", |metrics| {
        let labels = [("reason", "queue_full"), ("mode", "observe")];
        metrics.sum("tidegate_rejected_total", &labels) > 0.5
    });
}

#[test]
fn a_breaker_opens_on_failures_and_an_operator_may_hold_it() {
    let (failing, origin) = switched(500);
    let proxy = before(
        &[origin.address()],
        "breaker = { min_requests = 5, open_for = \"60s\" }",
    );
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 500);
    }
    let refused = client.get("/");
    assert_eq!(shed(&refused)["reason"], "breaker_open");
    assert_eq!(origin.count(), 5);
    assert_eq!(breaker(&proxy)["state"], "open");
    assert_eq!(breaker(&proxy)["evidence"]["measure"], "failures");
    let why = why(&proxy, &refused);
    assert_eq!(why["decisions"][0]["policy"], "breaker");
    proxy.metrics_until("the transition", |metrics| {
        let labels = [("upstream", "app"), ("from", "closed"), ("to", "open")];
        metrics.sum("tidegate_breaker_transitions_total", &labels) > 0.5
    });

    failing.store(false, Ordering::SeqCst);
    let close = json!({ "state": "close", "ttl": "1m", "reason": "it is mended" });
    assert_eq!(proxy.admin_post("/api/v1/breakers/app", &close).status, 200);
    assert_eq!(client.get("/").text(), "fine");
    let open = json!({ "state": "open", "ttl": "1m", "reason": "a drill" });
    assert_eq!(proxy.admin_post("/api/v1/breakers/app", &open).status, 200);
    assert_eq!(shed(&client.get("/"))["reason"], "breaker_open");
    assert_eq!(breaker(&proxy)["order"]["reason"], "a drill");
    assert!(
        proxy.stderr().contains("\"reason\":\"a drill\""),
        "the audit log"
    );
    let auto = json!({ "state": "auto", "reason": "the drill is over" });
    assert_eq!(proxy.admin_post("/api/v1/breakers/app", &auto).status, 200);
    assert_eq!(client.get("/").text(), "fine", "as it was before");
}

#[test]
fn client_errors_and_refusals_of_our_own_leave_the_breaker_closed() {
    let origin = Origin::http1(|_| Reply::new(404));
    let proxy = before(&[origin.address()], "breaker = { min_requests = 5 }");
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 404);
    }
    let breaker = breaker(&proxy);
    assert_eq!(
        (&breaker["state"], &breaker["failure_ratio"]),
        (&"closed".into(), &0.0.into())
    );
}

#[test]
fn grpc_is_judged_by_its_trailers() {
    let origin = RawOrigin::start(|mut conversation| {
        while conversation.read_request().is_some() {
            conversation.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
                  1\r\nx\r\n0\r\ngrpc-status: 14\r\n\r\n",
            );
        }
    });
    let settings = "breaker = { min_requests = 5 }\nretry = { mode = \"off\" }";
    let proxy = before(&[origin.address()], settings);
    let mut client = proxy.client();
    for _ in 0..5 {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = client.request("POST", "/a.B/C", &headers, b"x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
    }
    assert_eq!(breaker(&proxy)["state"], "open");
}

#[test]
fn a_route_has_a_breaker_of_its_own() {
    let origin = Origin::http1(|seen| Reply::new(if seen.path == "/bad" { 500 } else { 200 }));
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n
         [[routes]]\nname = \"bad\"\nupstream = \"app\"\nmatch = {{ path = \"/bad\" }}
         breaker = {{ min_requests = 3 }}
         [[routes]]\nname = \"rest\"\nupstream = \"app\"\n",
        origin.address()
    ));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/bad").status, 500);
    }
    let refused = client.get("/bad");
    assert_eq!(shed(&refused)["reason"], "breaker_open");
    assert_eq!(client.get("/good").status, 200);
    assert_eq!(
        why(&proxy, &refused)["decisions"][0]["policy"],
        "route_breaker"
    );
    let all = proxy.admin_get("/api/v1/breakers").json();
    assert_eq!(
        (&all["breakers"][0]["state"], &all["breakers"][1]["state"]),
        (&"closed".into(), &"open".into())
    );
}

#[test]
fn what_may_be_repeated_goes_to_another_endpoint_and_says_so() {
    let bad = Origin::http1(|_| Reply::new(503));
    let good = Origin::saying("good");
    let proxy = before(
        &[bad.address(), good.address()],
        "outlier = { mode = \"off\" }",
    );
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "good");
    }
    let failed = bad.count();
    assert!(failed > 0);
    let repeated = good.seen();
    let repeated = repeated
        .iter()
        .filter(|seen| seen.header("x-envoy-attempt-count") == Some("2"));
    assert_eq!(repeated.count(), failed);
    let metrics = proxy.metrics();
    let labels = [
        ("upstream", "app"),
        ("reason", "unavailable"),
        ("mode", "enforce"),
    ];
    let counted = metrics.value("tidegate_retries_total", &labels);
    assert_eq!(
        counted.map(|count| format!("{count}")),
        Some(failed.to_string())
    );
}

#[test]
fn what_might_be_done_twice_is_sent_again_only_with_a_key() {
    let bad = Origin::http1(|_| Reply::new(503));
    let good = Origin::saying("good");
    let proxy = before(
        &[bad.address(), good.address()],
        "outlier = { mode = \"off\" }",
    );
    let mut client = proxy.client();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.request("POST", "/", &[], b"order").status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
    for _ in 0..4 {
        let key = [("idempotency-key", "7")];
        assert_eq!(client.request("POST", "/", &key, b"order").status, 200);
    }
    assert!(good.seen().iter().all(|seen| seen.body == b"order"));
}

#[test]
fn without_retries_a_failure_is_the_clients() {
    let bad = Origin::http1(|_| Reply::new(503));
    let good = Origin::saying("good");
    let settings = "outlier = { mode = \"off\" }\nretry = { mode = \"observe\" }";
    let proxy = before(&[bad.address(), good.address()], settings);
    let mut client = proxy.client();
    let mut statuses: Vec<u16> = (0..4).map(|_| client.get("/").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
    let labels = [
        ("upstream", "app"),
        ("reason", "unavailable"),
        ("mode", "observe"),
    ];
    assert_eq!(
        proxy.metrics().value("tidegate_retries_total", &labels),
        Some(2.0)
    );
}

fn state_of(proxy: &Proxy, endpoint: SocketAddr) -> String {
    let upstreams = proxy.admin_get("/api/v1/upstreams").json();
    let endpoints = upstreams["upstreams"][0]["endpoints"].as_array().cloned();
    let endpoints = endpoints.unwrap_or_default();
    let found = endpoints
        .iter()
        .find(|one| one["address"] == endpoint.to_string());
    found.map_or_else(String::new, |one| {
        one["state"].as_str().unwrap_or_default().to_owned()
    })
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_ejected() {
    let bad = Origin::http1(|_| Reply::new(500));
    let good = Origin::saying("good");
    let settings = "outlier = { consecutive_failures = 3 }\nbreaker = { mode = \"off\" }";
    let proxy = before(&[bad.address(), good.address()], settings);
    let mut client = proxy.client();
    for _ in 0..6 {
        client.get("/");
    }
    assert_eq!(bad.count(), 3);
    assert_eq!(state_of(&proxy, bad.address()), "ejected");
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!(bad.count(), 3);
    let metrics = proxy.metrics();
    let endpoint = bad.address().to_string();
    let labels = [("upstream", "app"), ("endpoint", endpoint.as_str())];
    assert_eq!(
        metrics.value("tidegate_endpoint_healthy", &labels),
        Some(0.0)
    );
    let labels = [("upstream", "app"), ("mode", "enforce")];
    assert_eq!(
        metrics.value("tidegate_ejections_total", &labels),
        Some(1.0)
    );
}

#[test]
fn an_ejection_on_trial_is_counted_and_takes_nothing_out() {
    let bad = Origin::http1(|_| Reply::new(500));
    let good = Origin::saying("good");
    let settings = "outlier = { mode = \"observe\", consecutive_failures = 3 }
        breaker = { mode = \"off\" }";
    let proxy = before(&[bad.address(), good.address()], settings);
    let mut client = proxy.client();
    for _ in 0..12 {
        client.get("/");
    }
    assert_eq!((bad.count(), good.count()), (6, 6));
    assert_eq!(state_of(&proxy, bad.address()), "healthy");
    let labels = [("upstream", "app"), ("mode", "observe")];
    assert!(proxy.metrics().sum("tidegate_ejections_total", &labels) > 0.5);
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is() {
    let busy = Origin::http1(|_| Reply::new(503).header("retry-after", "60"));
    let good = Origin::saying("good");
    let proxy = before(&[busy.address(), good.address()], "");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!(busy.count(), 1);
    assert_eq!(state_of(&proxy, busy.address()), "aside");
}

#[test]
fn a_stream_of_events_and_a_tunnel_hold_no_slot() {
    let origin = RawOrigin::start(|mut conversation| {
        while let Some((head, _)) = conversation.read_request() {
            match head.word(1) {
                "/events" => {
                    conversation.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\n:hi\r\n",
                    );
                    conversation.wait_for_close();
                    return;
                }
                "/tunnel" => {
                    conversation.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n");
                    conversation.wait_for_close();
                    return;
                }
                _ => conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
            }
        }
    });
    let settings = "concurrency = { algorithm = \"fixed\", max = 1 }";
    let proxy = before(&[origin.address()], settings);
    let _events = sent(&proxy, "/events", "");
    let _tunnel = sent(
        &proxy,
        "/tunnel",
        "connection: upgrade\r\nupgrade: echo\r\n",
    );
    eventually("two streams", PATIENCE, || limit(&proxy)["streams"] == 2);
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(limit(&proxy)["in_flight"], 0);
}

#[test]
fn one_of_many_streams_too_many_is_refused() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\n:hi\r\n",
        );
        conversation.wait_for_close();
    });
    let proxy = before(&[origin.address()], "concurrency = { max_streams = 1 }");
    let _first = sent(&proxy, "/1", "");
    eventually("a stream", PATIENCE, || limit(&proxy)["streams"] == 1);
    assert_eq!(shed(&proxy.get("/2"))["reason"], "overload");
}

#[test]
fn a_proxy_short_of_descriptors_sheds_the_least_important_tier_and_its_admin_stays() {
    let origin = Origin::saying("served");
    let setup = Setup::config(&format!(
        "[server]\nworkers = 1
         [upstreams.app]\nendpoints = [\"{}\"]
         [[routes]]\nname = \"batch\"\nupstream = \"app\"\ntier = \"batch\"\nmatch = {{ path = \"/batch\" }}
         [[routes]]\nname = \"rest\"\nupstream = \"app\"\ntier = \"critical\"\n",
        origin.address()
    ));
    let proxy = setup.descriptors(100).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/batch").text(), "served");
    // Each held connection takes one of its hundred descriptors; shedding begins at 85.
    let mut held = Vec::new();
    eventually("the batch tier to be shed", PATIENCE, || {
        if held.len() < 72 {
            held.push(proxy.client());
        }
        client.get("/batch").status == 503
    });
    assert_eq!(shed(&client.get("/batch"))["reason"], "overload");
    assert_eq!(client.get("/").text(), "served");
    assert_eq!(proxy.status()["draining"], false);
    drop(held);
    eventually("the batch tier to be admitted again", PATIENCE, || {
        client.get("/batch").status == 200
    });
}

#[test]
fn what_takes_longer_than_most_is_sent_a_second_time_and_the_first_answer_counts() {
    let (gate, slow) = held();
    let quick = Origin::saying("quick");
    let settings =
        "retry = { hedge = { after = \"20ms\", budget = 1 } }\noutlier = { mode = \"off\" }";
    let proxy = before(&[slow.address(), quick.address()], settings);
    let mut client = proxy.client();
    let mut hedged = 0;
    for _ in 0..6 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "quick");
        let id = answer.header("x-request-id").unwrap_or_default().to_owned();
        let line = proxy.access_log_entry("its line", |line| line["request_id"] == *id);
        assert_eq!(line["endpoint"], quick.address().to_string());
        hedged += usize::from(line["attempts"] == 2);
    }
    assert_eq!(hedged, slow.count());
    assert!(hedged > 0);
    assert_eq!(
        client
            .request("POST", "/", &[("idempotency-key", "7")], b"x")
            .text(),
        "quick"
    );
    let count = |seen: &crate::support::http_origin::Seen| {
        seen.header("x-envoy-attempt-count") == Some("2")
    };
    assert!(quick.seen().iter().filter(|seen| count(seen)).count() >= hedged);
    let labels = [("upstream", "app"), ("reason", "hedge")];
    assert!(proxy.metrics().sum("tidegate_retries_total", &labels) > 0.5);
    gate.open();
}

#[test]
fn a_slow_request_that_might_be_done_twice_is_not_sent_a_second_time() {
    let (gate, slow) = held();
    let settings = "retry = { hedge = { after = \"1ms\", budget = 1 } }";
    let other = Origin::saying("other");
    let proxy = before(&[slow.address(), other.address()], settings);
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    }
    slow.wait_for_in_flight(1);
    gate.open();
    let mut texts = clients.map(|mut client| client.response("POST").text());
    texts.sort_unstable();
    assert_eq!(texts, ["done", "other"]);
    assert_eq!((slow.count(), other.count()), (1, 1));
}
