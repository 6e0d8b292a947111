//! State changes: as a list, as server-sent events, and with the access log at Splunk.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually, eventually_some};

fn events(proxy: &Proxy) -> Vec<Value> {
    let answer = proxy.admin_get("/api/v1/events?recent").json();
    answer["events"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_breaker_that_opens_is_told_to_whoever_listens() {
    let origin = Origin::http1(|_| Reply::new(500));
    let proxy = Proxy::start(&format!(
        "[upstreams.origin]\nendpoints = [\"{}\"]\n\
         breaker = {{ min_requests = 5, open_for = \"60s\" }}\n",
        origin.address()
    ));
    let mut stream = TcpStream::connect(proxy.admin()).expect("the admin API accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("the request is written");
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line"));
    assert!(lines.any(|line| line == ": events"), "the stream begins");
    let mut client = proxy.client();
    for _ in 0..20 {
        client.get("/");
    }
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let event: Value = serde_json::from_str(&data.expect("an event")).expect("JSON");
    assert_eq!(
        (&event["event"], &event["subject"]),
        (&"breaker".into(), &"upstream origin".into())
    );
    assert_eq!(
        (&event["from"], &event["to"]),
        (&"closed".into(), &"open".into())
    );
    assert_eq!(events(&proxy), [event]);
}

#[test]
fn reloads_are_events_and_a_listener_that_returns_misses_none() {
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let proxy = Proxy::in_front_of(origin.address());
    proxy.signal(Signal::HUP);
    eventually("the reload to be told", PATIENCE, || {
        events(&proxy).len() == 1
    });
    let text = std::fs::read_to_string(proxy.config_file()).expect("the configuration");
    std::fs::write(proxy.config_file(), text + "\nbad = 1\n").expect("it is written");
    eventually("the refusal to be told", PATIENCE, || {
        events(&proxy).len() >= 2
    });
    let told = events(&proxy);
    assert_eq!(
        (&told[0]["event"], &told[0]["taken"]),
        (&"reload".into(), &true.into())
    );
    assert_eq!(told[1]["taken"], false);
    assert!(
        told[1]["error"]
            .as_str()
            .is_some_and(|error| error.contains("unknown key `bad`"))
    );

    let mut stream = TcpStream::connect(proxy.admin()).expect("the admin API accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nlast-event-id: 1\r\n\r\n")
        .expect("the request is written");
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line"));
    assert!(lines.any(|line| line == "id: 2"));
}

/// What a collector was sent, and what it does.
#[derive(Default)]
struct Splunk {
    away: AtomicBool,
    acknowledges: AtomicBool,
    ids: AtomicU64,
}

impl Splunk {
    fn answer(&self, seen: &Seen) -> Reply {
        if self.away.load(Ordering::SeqCst) {
            return Reply::new(503);
        }
        if seen.path.starts_with("/services/collector/ack?channel=") {
            let asked: Value = serde_json::from_slice(&seen.body).expect("a question");
            let id = asked["acks"][0].to_string();
            let acked = self.acknowledges.load(Ordering::SeqCst);
            return Reply::ok(json!({ "acks": { id: acked } }).to_string());
        }
        let id = self.ids.fetch_add(1, Ordering::SeqCst);
        Reply::ok(json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
    }
}

/// The envelopes in batches that were not turned away.
fn envelopes(seen: &[Seen]) -> Vec<Value> {
    let mut all = Vec::new();
    for request in seen
        .iter()
        .filter(|one| one.path == "/services/collector/event")
    {
        assert_eq!(request.header("authorization"), Some("Splunk s3cret"));
        assert!(request.header("x-splunk-request-channel").is_some());
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(&*request.body).read_to_string(&mut text);
        read.expect("the body is in gzip");
        all.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON")),
        );
    }
    all
}

fn start(splunk: &Origin, origin: &Origin, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[upstreams.origin]\nendpoints = [\"{}\"]\n\
         [telemetry]\naccess_log = {{ path = \"off\" }}\n\
         splunk = {{ url = \"http://{}\", token = \"s3cret\", index = \"web\"{more} }}\n",
        origin.address(),
        splunk.address()
    ))
}

fn exported(proxy: &Proxy, result: &str, count: f64) {
    let labels = [("exporter", "splunk"), ("result", result)];
    proxy.metrics_until(&format!("{count} to be {result}"), |metrics| {
        metrics.value("tidegate_exported_total", &labels) >= Some(count)
    });
}

#[test]
fn lines_and_events_count_as_sent_once_splunk_has_acknowledged_them() {
    let state = Arc::new(Splunk::default());
    let of_origin = Arc::clone(&state);
    let splunk = Origin::http1(move |seen| of_origin.answer(seen));
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let proxy = start(&splunk, &origin, ", acknowledge = true");
    for number in 0..10 {
        proxy.get(&format!("/{number}"));
    }
    proxy.signal(Signal::HUP);
    eventually("all to be sent and asked about", PATIENCE, || {
        let seen = splunk.seen();
        envelopes(&seen).len() >= 11 && seen.iter().any(|one| one.path.contains("/ack?"))
    });
    let labels = [("exporter", "splunk"), ("result", "sent")];
    let sent = proxy.metrics().value("tidegate_exported_total", &labels);
    assert_eq!(sent, Some(0.0), "nothing is acknowledged yet");
    state.acknowledges.store(true, Ordering::SeqCst);
    exported(&proxy, "sent", 11.0);
    let all = envelopes(&splunk.seen());
    let of = |kind: &str| all.iter().filter(|one| one["sourcetype"] == kind).count();
    // A machine that is busy with other tests may have events of its own.
    assert_eq!(of("tidegate:access"), 10);
    assert!(of("tidegate:event") >= 1);
    assert!(
        all.iter()
            .all(|one| one["index"] == "web" && one["time"].is_f64())
    );
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.value("tidegate_access_log_lines_dropped_total", &[]),
        Some(0.0)
    );
}

#[test]
fn while_splunk_is_away_lines_wait_on_disk_and_survive_a_restart() {
    let state = Arc::new(Splunk::default());
    let of_origin = Arc::clone(&state);
    let splunk = Origin::http1(move |seen| of_origin.answer(seen));
    let origin = Origin::http1(|_| Reply::ok("hello"));
    state.away.store(true, Ordering::SeqCst);
    let spill = tempfile::tempdir().expect("a directory");
    let place = format!(", spill = {{ path = \"{}\" }}", spill.path().display());
    let files = || {
        std::fs::read_dir(spill.path())
            .expect("the directory")
            .count()
    };
    let mut proxy = start(&splunk, &origin, &place);
    for number in 0..10 {
        proxy.get(&format!("/{number}"));
    }
    eventually("a batch to be on disk", PATIENCE, || files() > 0);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());

    state.away.store(false, Ordering::SeqCst);
    let before = splunk.seen().len();
    let proxy = start(&splunk, &origin, &place);
    // Ten lines, the event of the drain, and whatever a busy machine adds.
    exported(&proxy, "sent", 11.0);
    eventually("the directory to be empty", PATIENCE, || files() == 0);
    let paths: Vec<Value> = envelopes(&splunk.seen()[before..])
        .into_iter()
        .filter(|one| one["sourcetype"] == "tidegate:access")
        .map(|one| one["event"]["path"].clone())
        .collect();
    assert_eq!(paths.len(), 10);
}

#[test]
fn the_machine_is_shown_second_by_second() {
    let origin = Origin::http1(|_| Reply::ok("hello"));
    let proxy = Proxy::in_front_of(origin.address());
    let host = eventually_some("two samples", PATIENCE, || {
        let host = proxy.admin_get("/api/v1/host").json();
        host["rows"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
            .then_some(host)
    });
    let row = &host["rows"][0];
    let cpu = row["cpu"].as_object().expect("columns");
    let all: f64 = cpu.values().filter_map(Value::as_f64).sum();
    assert!((all - 100.0).abs() < 0.01, "{cpu:?}");
    assert!(row["process"]["kbrss"].as_f64() > Some(0.0));
    let admin = format!("http://{}", proxy.admin());
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["sar", "-r", "--from", "1h", "--admin", &admin])
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.status.success() && text.starts_with("Linux "),
        "{text}"
    );
    assert!(text.contains(" kbmemfree   kbavail kbmemused"), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("Average: ")),
        "{text}"
    );
}
