//! Traces: taken over, passed on, and sent to collectors that read them with the official definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use serde_json::Value;

use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn config(origin: &Origin, telemetry: &str, trusted: &str) -> String {
    format!(
        "[[listen]]\nname = \"public\"\naddress = \"<public>\"\ntrusted_proxies = [{trusted}]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\nretry = {{ attempts = 2 }}\n\
         [[routes]]\nname = \"all\"\nmatch = {{ path_prefix = \"/app\" }}\nupstream = \"origin\"\n\
         [telemetry]\naccess_log = {{ path = \"<dir>/access.log\" }}\n{telemetry}\n",
        origin.address()
    )
}

fn unzipped(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = flate2::read::GzDecoder::new(body).read_to_end(&mut bytes);
    read.expect("the body is in gzip");
    bytes
}

/// The spans that a collector was sent, by either protocol.
fn spans(seen: &[Seen]) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in seen {
        let message = if request.header("content-type") == Some("application/grpc") {
            let (frame, message) = request.body.split_at(5);
            let length = u32::from_be_bytes(frame[1..].try_into().expect("four bytes"));
            assert_eq!((frame[0], length as usize), (1, message.len()));
            assert_eq!(request.header("grpc-encoding"), Some("gzip"));
            unzipped(message)
        } else {
            assert_eq!(
                request.header("content-type"),
                Some("application/x-protobuf")
            );
            assert_eq!(request.header("content-encoding"), Some("gzip"));
            unzipped(&request.body)
        };
        let request = ExportTraceServiceRequest::decode(message.as_slice());
        for resource in request.expect("an OTLP request").resource_spans {
            spans.extend(
                resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    match pair.value.as_ref()?.value.as_ref()? {
        StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// Fails every seventh request once, and `/app/broken` always.
fn origin() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::http1(move |seen| {
        let nth = count.fetch_add(1, Ordering::SeqCst);
        if seen.path == "/app/broken" {
            Reply::new(500)
        } else if nth % 7 == 3 {
            Reply::new(503)
        } else {
            Reply::ok("hello")
        }
    })
}

/// Requests of every kind; waits until `exporter` has sent as many traces as there were exchanges.
fn traffic(proxy: &Proxy, exporter: &str) {
    let mut client = proxy.client();
    for number in 0..60 {
        let path = match number % 10 {
            8 => "/nowhere".to_owned(),
            9 => "/app/broken".to_owned(),
            _ => format!("/app/{number}"),
        };
        client.get(&path);
    }
    let labels = [("exporter", exporter), ("result", "sent")];
    proxy.metrics_until("every trace to be sent", |metrics| {
        metrics.value("tidegate_exported_total", &labels) == Some(60.0)
    });
}

/// Compares what a collector has with the access log and with what the origin was told.
fn compare(proxy: &Proxy, origin: &Origin, spans: &[Span]) {
    let servers: Vec<&Span> = spans
        .iter()
        .filter(|span| span.kind() == SpanKind::Server)
        .collect();
    let clients: Vec<&Span> = spans
        .iter()
        .filter(|span| span.kind() == SpanKind::Client)
        .collect();
    let log = proxy.access_log();
    assert_eq!((servers.len(), log.len()), (60, 60));
    let by_id: BTreeMap<String, &Value> = log
        .iter()
        .map(|line| {
            (
                line["request_id"].as_str().unwrap_or_default().to_owned(),
                line,
            )
        })
        .collect();
    let mut attempts = 0;
    for server in &servers {
        let id = attribute(server, "tidegate.request_id").expect("an id");
        let line = by_id[&id];
        assert_eq!(
            hex(&server.trace_id),
            line["trace_id"].as_str().expect("a trace")
        );
        assert_eq!(
            attribute(server, "url.path").as_deref(),
            line["path"].as_str()
        );
        let took = (server.end_time_unix_nano - server.start_time_unix_nano) as f64 / 1e6;
        let logged = line["total_ms"].as_f64().expect("a time");
        assert!((took - logged).abs() < 0.01, "{took} {logged}");
        let of_it = clients
            .iter()
            .filter(|span| span.parent_span_id == server.span_id);
        let count = of_it.count() as u64;
        assert_eq!(Some(count), line["attempts"].as_u64(), "{line}");
        attempts += count;
    }
    assert_eq!(clients.len() as u64, attempts);
    let sent: BTreeSet<String> = clients.iter().map(|span| hex(&span.span_id)).collect();
    let told: BTreeSet<String> = origin
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.header("traceparent")?.split('-').nth(2)?.to_owned()))
        .collect();
    assert_eq!(
        told, sent,
        "each request upstream names the span of its attempt"
    );
    assert!(
        servers
            .iter()
            .any(|span| span.events.iter().any(|event| event.name == "retry"))
    );
}

#[test]
fn traces_arrive_over_http_and_agree_with_the_log() {
    let collector = Origin::http1(|_| Reply::ok(""));
    let origin = origin();
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{}\", sample = 1.0, headers = {{ x-key = \"k e y\" }} }}",
        collector.address()
    );
    let proxy = Proxy::start(&config(&origin, &otlp, ""));
    traffic(&proxy, "otlp");
    let seen = collector.seen();
    assert!(
        seen.iter()
            .all(|one| one.path == "/v1/traces" && one.method == "POST")
    );
    assert!(seen.iter().all(|one| one.header("x-key") == Some("k e y")));
    compare(&proxy, &origin, &spans(&seen));
}

#[test]
fn traces_arrive_over_grpc_and_are_sent_again_after_a_failure() {
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let collector = Origin::http2(move |_| {
        let status = if count.fetch_add(1, Ordering::SeqCst) == 0 {
            "14"
        } else {
            "0"
        };
        let reply = Reply::ok(&b"\0\0\0\0\0"[..]).header("content-type", "application/grpc");
        reply.trailer("grpc-status", status)
    });
    let origin = origin();
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{}\", sample = 1.0, protocol = \"grpc\" }}",
        collector.address()
    );
    let proxy = Proxy::start(&config(&origin, &otlp, ""));
    traffic(&proxy, "otlp");
    let seen = collector.seen();
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(seen.len() > 1 && seen.iter().all(|one| one.path == path));
    // The first was refused, so the same spans came again.
    compare(&proxy, &origin, &spans(&seen[1..]));
}

#[test]
fn traces_arrive_at_zipkin() {
    let collector = Origin::http1(|_| Reply::new(202));
    let origin = origin();
    let address = collector.address();
    let zipkin =
        format!("zipkin = {{ endpoint = \"http://{address}/api/v2/spans\", sample = 1.0 }}");
    let proxy = Proxy::start(&config(&origin, &zipkin, ""));
    traffic(&proxy, "zipkin");
    let mut servers = 0;
    for request in collector.seen() {
        assert_eq!(request.path, "/api/v2/spans");
        let spans: Vec<Value> = serde_json::from_slice(&unzipped(&request.body)).expect("a list");
        for span in &spans {
            assert!(span["duration"].as_u64() > Some(0) && span["timestamp"].is_u64());
            servers += usize::from(span["kind"] == "SERVER");
        }
    }
    assert_eq!((servers, proxy.access_log().len()), (60, 60));
}

#[test]
fn without_sampling_only_what_went_wrong_is_sent() {
    let collector = Origin::http1(|_| Reply::ok(""));
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{}\", sample = 0.0 }}",
        collector.address()
    );
    let proxy = Proxy::start(&config(&origin, &otlp, ""));
    for path in ["/app/1", "/nowhere", "/app/2", "/app/3"] {
        proxy.get(path);
    }
    let labels = [("exporter", "otlp"), ("result", "sent")];
    proxy.metrics_until("the one trace to be sent", |metrics| {
        metrics.value("tidegate_exported_total", &labels) == Some(1.0)
    });
    proxy.access_log_entry("the last request", |line| line["path"] == "/app/3");
    let spans = spans(&collector.seen());
    assert_eq!(spans.len(), 1);
    assert_eq!(
        attribute(&spans[0], "tidegate.reason").as_deref(),
        Some("no_route")
    );
}

/// What the origin is told of the trace of a request with these headers.
fn told(proxy: &Proxy, origin: &Origin, headers: &[(&str, &str)]) -> Seen {
    let response = proxy.client().request("GET", "/app/", headers, b"");
    assert_eq!(response.status, 200);
    origin.seen().pop().expect("a request")
}

#[test]
fn a_trusted_peers_context_is_continued_in_its_own_form() {
    let collector = Origin::http1(|_| Reply::ok(""));
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{}\", sample = 0.0 }}",
        collector.address()
    );
    let proxy = Proxy::start(&config(&origin, &otlp, "\"127.0.0.0/8\""));

    let w3c = [("traceparent", PARENT), ("tracestate", "a=1,b=2")];
    let seen = told(&proxy, &origin, &w3c);
    let parent = seen.header("traceparent").expect("a parent").to_owned();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"));
    assert_ne!(parent, PARENT);
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(
        (seen.header("b3"), seen.header("x-b3-traceid")),
        (None, None)
    );

    let single = format!("{TRACE}-00f067aa0ba902b7-1");
    let seen = told(&proxy, &origin, &[("b3", &single), ("tracestate", "a=1")]);
    let b3 = seen.header("b3").expect("b3").to_owned();
    assert!(
        b3.starts_with(TRACE) && b3.ends_with("-1") && b3 != single,
        "{b3}"
    );
    let span = b3.split('-').nth(1).expect("a span");
    assert_eq!(
        seen.header("traceparent"),
        Some(format!("00-{TRACE}-{span}-01").as_str())
    );

    let multi = [
        ("x-b3-traceid", "a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-sampled", "0"),
    ];
    let seen = told(&proxy, &origin, &multi);
    assert_eq!(
        seen.header("x-b3-traceid"),
        Some("0000000000000000a3ce929d0e0e4736")
    );
    assert_eq!(seen.header("x-b3-sampled"), Some("0"));
    assert_ne!(seen.header("x-b3-spanid"), Some("00f067aa0ba902b7"));

    // Both that were sampled are sent, whatever share of new ones is.
    let labels = [("exporter", "otlp"), ("result", "sent")];
    proxy.metrics_until("both traces to be sent", |metrics| {
        metrics.value("tidegate_exported_total", &labels) == Some(2.0)
    });
    let spans = spans(&collector.seen());
    let server = spans
        .iter()
        .find(|span| span.kind() == SpanKind::Server)
        .expect("a span");
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(spans.len(), 4);
}

#[test]
fn nobody_else_is_believed_and_a_new_trace_begins() {
    let collector = Origin::http1(|_| Reply::ok(""));
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{}\", sample = 0.0 }}",
        collector.address()
    );
    let proxy = Proxy::start(&config(&origin, &otlp, ""));
    let headers = [
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("b3", "1"),
        ("x-b3-traceid", TRACE),
        ("x-b3-flags", "1"),
    ];
    let seen = told(&proxy, &origin, &headers);
    let parent = seen.header("traceparent").expect("a trace begins");
    assert!(
        !parent.contains(TRACE) && parent.ends_with("-00"),
        "{parent}"
    );
    for name in ["tracestate", "b3", "x-b3-traceid", "x-b3-flags"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn without_a_collector_a_trusted_context_passes_as_it_is_and_none_begins() {
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let proxy = Proxy::start(&config(&origin, "", "\"127.0.0.0/8\""));
    let single = format!("{TRACE}-00f067aa0ba902b7-1");
    let headers = [
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("b3", single.as_str()),
    ];
    let seen = told(&proxy, &origin, &headers);
    for (name, value) in headers {
        assert_eq!(seen.header(name), Some(value));
    }
    let line = proxy.access_log_entry("its line", |line| line["trace_id"] == TRACE);
    assert_eq!(line["status"], 200);
    assert_eq!(told(&proxy, &origin, &[]).header("traceparent"), None);
}
