//! The tools people already run: Prometheus scrapes the proxy, its rules and the dashboards' queries hold.
//!
//! There is no Grafana to load the dashboards into: their form is checked against what its JSON model asks for,
//! as far as that is written down, and every query is asked of a real Prometheus.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message as _;
use rustfs_mimalloc_profiling::pprof::Profile;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, free_address};
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually, eventually_some};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

/// Debian's Prometheus with our rules, killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        Self::with(target, "exemplar-storage")
    }

    fn with(target: SocketAddr, features: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let shipped = std::fs::read_to_string(deploy("prometheus/prometheus.yml"));
        let config = shipped
            .expect("the shipped configuration")
            .replace("127.0.0.1:9900", &target.to_string())
            .replace("interval: 10s", "interval: 1s")
            .replace(
                "- recording",
                &format!("- {}/recording", deploy("prometheus").display()),
            )
            .replace(
                "- alerts",
                &format!("- {}/alerts", deploy("prometheus").display()),
            );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("it is written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--enable-feature={features}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        let prometheus = Self {
            child,
            address,
            _directory: directory,
        };
        eventually("prometheus to be ready", PATIENCE, || {
            let client = Client::try_connect(address).ok();
            let answer = client.and_then(|mut client| client.try_request("/-/ready"));
            answer.is_some_and(|answer| answer.status == 200)
        });
        prometheus
    }

    /// The series a query yields now; panics when it does not parse.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query?query={encoded}");
        let answer = Client::connect(self.address).get(&path).json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// The traces named beside the series a selector yields.
    fn traces_of(&self, selector: &str) -> Vec<String> {
        let encoded = utf8_percent_encode(selector, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query_exemplars?query={encoded}&start=0&end=9999999999");
        let answer = Client::connect(self.address).get(&path).json();
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let exemplars = series.iter().flat_map(|one| one["exemplars"].as_array());
        let traces = exemplars.flatten().map(|one| &one["labels"]["trace_id"]);
        traces
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect()
    }

    #[track_caller]
    fn query_until_data(&self, query: &str) -> Vec<Value> {
        eventually_some(query, PATIENCE, || {
            Some(self.query(query)).filter(|series| !series.is_empty())
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn prometheus_names_beside_a_duration_the_trace_that_is_sent() {
    let (origin, collector) = (
        Origin::http1(|_| Reply::ok("fine")),
        Origin::http1(|_| Reply::new(200)),
    );
    let proxy = Proxy::start(&format!(
        "[[listen]]\nname = \"public\"\naddress = \"<public>\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n\
         [upstreams.orders]\nendpoints = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\nupstream = \"orders\"\n\
         [telemetry]\notlp = {{ endpoint = \"http://{}\", sample = 0.0 }}\n",
        origin.address(),
        collector.address()
    ));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let mut client = proxy.client();
    client.request("GET", "/", &[("traceparent", &parent)], b"");
    client.get("/");
    let counted = "http_server_request_duration_seconds_count";
    proxy.metrics_until("every request", |metrics| {
        metrics.value(counted, &[]) == Some(2.0)
    });
    let prometheus = Prometheus::scraping(proxy.admin());
    for selector in [
        "http_server_request_duration_seconds_bucket{http_route=\"all\"}",
        "http_client_request_duration_seconds_bucket{upstream=\"orders\"}",
    ] {
        eventually(selector, PATIENCE, || {
            prometheus
                .traces_of(selector)
                .iter()
                .any(|named| named == trace)
        });
    }
}

fn dashboards() -> Vec<Value> {
    let directory = std::fs::read_dir(deploy("grafana/dashboards")).expect("dashboards");
    let files = directory.map(|entry| entry.expect("an entry").path());
    files
        .map(|path| std::fs::read_to_string(path).expect("a dashboard"))
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

/// Every query of every panel and annotation.
fn queries() -> BTreeSet<String> {
    let dashboards = dashboards();
    let panels = dashboards
        .iter()
        .flat_map(|one| one["panels"].as_array().expect("panels"));
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let annotations = dashboards
        .iter()
        .flat_map(|one| one["annotations"]["list"].as_array().expect("annotations"));
    let all = targets.chain(annotations);
    all.map(|one| one["expr"].as_str().expect("a query").to_owned())
        .collect()
}

/// The families a query names.
fn families(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|one: char| !one.is_ascii_alphanumeric() && one != '_');
    let ours = ["tidegate_", "http_server_", "http_client_", "process_"];
    words.filter(move |word| ours.iter().any(|start| word.starts_with(start)))
}

#[test]
fn what_a_service_says_of_its_own_time_becomes_a_metric() {
    let origin = Origin::http2(|_| {
        let told = "db;dur=53, cache;desc=\"a, b\";dur=2, miss";
        let reply = Reply::ok("fine").header("server-timing", told);
        reply.trailer("server-timing", "render;dur=7")
    });
    let proxy = Proxy::start(&format!(
        "[upstreams.orders]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n\
         [[routes]]\nname = \"all\"\nupstream = \"orders\"\n\
         [[listen]]\nname = \"public\"\naddress = \"<public>\"\n\
         [[listen]]\nname = \"inner\"\naddress = \"<inner>\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n",
        origin.address()
    ));
    let answer = proxy.get("/");
    let told: Vec<_> = answer.headers.all("server-timing").collect();
    assert_eq!(told, ["db;dur=53, cache;desc=\"a, b\";dur=2, miss"]);
    let answer = Client::connect(proxy.address_of("inner")).get("/");
    let told: Vec<_> = answer.headers.all("server-timing").collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("tidegate-decide;dur="), "{told:?}");
    assert!(told[1].contains(", tidegate-wait;dur="), "{told:?}");
    let (count, sum) = (
        "tidegate_component_duration_seconds_count",
        "tidegate_component_duration_seconds_sum",
    );
    let metrics = proxy.metrics_until("both requests", |metrics| {
        metrics.value(count, &[("component", "render")]) == Some(2.0)
    });
    for (component, seconds) in [("db", 0.106), ("cache", 0.004), ("render", 0.014)] {
        let labels = [("upstream", "orders"), ("component", component)];
        assert_eq!(metrics.value(sum, &labels), Some(seconds));
    }
    assert_eq!(metrics.matching(sum, &[]).count(), 3);
}

#[test]
fn what_a_service_counts_becomes_a_metric_by_route_and_client_and_goes_no_further() {
    let origin = Origin::http2(|_| {
        let told = "jobs;v=1.5, depth;v=7;t=gauge, seen";
        let reply = Reply::ok("fine")
            .header("x-tidegate-metric", told)
            .header("trailer", "x-else, x-tidegate-metric");
        reply
            .trailer("x-tidegate-metric", "rows;v=40")
            .trailer("x-else", "kept")
    });
    let proxy = Proxy::start(&format!(
        "[upstreams.orders]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n\
         [[routes]]\nname = \"all\"\nupstream = \"orders\"\n\
         [[listen]]\nname = \"public\"\naddress = \"<public>\"\n",
        origin.address()
    ));
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address_of("public"));
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n");
        let answer = client.response("GET");
        assert_eq!(answer.header("x-tidegate-metric"), None);
        assert_eq!(answer.trailers.get("x-tidegate-metric"), None);
        assert_eq!(answer.trailers.get("x-else"), Some("kept"));
    }
    let labels = |metric| [("metric", metric), ("http_route", "all")];
    let counter = "tidegate_service_counter_total";
    let metrics = proxy.metrics_until("both requests", |metrics| {
        metrics.value(counter, &labels("rows")) == Some(80.0)
    });
    assert_eq!(metrics.value(counter, &labels("jobs")), Some(3.0));
    assert_eq!(metrics.value(counter, &labels("seen")), Some(2.0));
    let depth = metrics.value("tidegate_service_gauge", &labels("depth"));
    assert_eq!(depth, Some(7.0));
    let jobs = labels("jobs");
    let mut of_clients = metrics.matching(counter, &jobs);
    assert!(of_clients.all(|one| one.labels["client"].starts_with("addr:")));
}

fn busy_proxy() -> (Origin, Proxy) {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/broken" => Reply::new(500),
        _ => Reply::ok("fine"),
    });
    let proxy = Proxy::in_front_of(origin.address());
    (origin, proxy)
}

#[test]
fn prometheus_scrapes_the_proxy_and_counts_what_the_access_log_says() {
    let (_origin, proxy) = busy_proxy();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(proxy.get("/broken").status, 500);
    eventually("every line of the access log", PATIENCE, || {
        proxy.access_log().len() == 21
    });
    let prometheus = Prometheus::scraping(proxy.admin());
    prometheus.query_until_data("up{job=\"tidegate\"} == 1");
    for total in [
        "sum(http_server_request_duration_seconds_count) == 21",
        "sum(http_server_request_duration_seconds_count{http_response_status_code=\"500\"}) == 1",
        "sum(tidegate_exchanges_total) == 21",
        "sum(tidegate_phase_duration_seconds_count{phase=\"wait\"}) == 21",
        "sum(http_client_request_duration_seconds_count) == 21",
        "abs(sum(tidegate_phase_duration_seconds_sum) - sum(http_server_request_duration_seconds_sum)) < 0.001",
    ] {
        prometheus.query_until_data(total);
    }
}

#[test]
fn prometheus_stores_native_histograms_when_it_asks_for_them() {
    let (_origin, proxy) = busy_proxy();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    let prometheus = Prometheus::with(proxy.admin(), "native-histograms");
    for question in [
        "histogram_count(sum(http_server_request_duration_seconds)) == 20",
        "histogram_count(sum(tidegate_phase_duration_seconds{phase=\"wait\"})) == 20",
        "histogram_count(sum(tidegate_endpoint_phase_duration_seconds{phase=\"wait\"})) == 20",
        "abs(histogram_sum(sum(tidegate_phase_duration_seconds)) \
         - histogram_sum(sum(http_server_request_duration_seconds))) < 0.001",
        "histogram_quantile(0.5, sum(http_server_request_duration_seconds)) > 0",
        "sum(tidegate_exchanges_total) == 20",
    ] {
        prometheus.query_until_data(question);
    }
}

#[test]
fn every_query_of_the_dashboards_parses_and_finds_what_there_is() {
    let (_origin, proxy) = busy_proxy();
    let prometheus = Prometheus::scraping(proxy.admin());
    // What a counter gained shows only after a scrape has seen it before.
    proxy.get("/broken");
    prometheus.query_until_data(
        "http_server_request_duration_seconds_count{http_response_status_code=\"500\"}",
    );
    for _ in 0..50 {
        proxy.get("/");
        proxy.get("/broken");
    }
    let there = proxy.metrics();
    let there = |family: &str| there.matching(family, &[]).next().is_some();
    let mut found = 0;
    for query in queries() {
        let asked = query
            .replace("$__rate_interval", "1m")
            .replace("$upstream", ".*");
        if families(&query).all(there) && !query.ends_with("> 0") {
            prometheus.query_until_data(&asked);
            found += 1;
        } else {
            prometheus.query(&asked);
        }
    }
    assert!(found >= 25, "only {found} queries were there to be asked");
}

#[test]
fn the_rules_hold_what_their_tests_say() {
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "tests.yml"],
    ] {
        let told = Command::new("promtool")
            .args(arguments)
            .current_dir(deploy("prometheus"))
            .output()
            .expect("promtool is installed");
        let said = String::from_utf8_lossy(&told.stderr).into_owned()
            + &String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn the_dashboards_have_the_form_grafana_reads() {
    let dashboards = dashboards();
    let mut uids = BTreeSet::new();
    for board in &dashboards {
        assert!(uids.insert(board["uid"].as_str().expect("a uid").to_owned()));
        assert!(board["uid"].as_str().is_some_and(|uid| uid.len() <= 40));
        assert!(board["schemaVersion"].is_u64() && board["title"].is_string());
        assert!(board["time"]["from"].is_string() && board["time"]["to"].is_string());
        let variables = board["templating"]["list"].as_array().expect("variables");
        assert!(
            variables
                .iter()
                .any(|one| one["type"] == "datasource" && one["name"] == "datasource")
        );
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in board["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is taken");
            assert_eq!(panel["type"], "timeseries", "{title}");
            let place = &panel["gridPos"];
            let at = |key: &str| place[key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24 && at("h") > 0, "{title}");
            assert!(cells.insert((at("x"), at("y"))), "{title} lies on another");
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{title}"
            );
            let mut letters = BTreeSet::new();
            for target in panel["targets"].as_array().expect("targets") {
                assert!(
                    letters.insert(target["refId"].as_str().expect("a letter")),
                    "{title}"
                );
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
    assert_eq!(dashboards.len(), 5);
}

#[test]
fn a_profile_of_the_processor_is_taken_and_drawn() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::in_front_of(origin.address());
    let pprof = proxy.admin_get("/debug/pprof/profile?seconds=1");
    assert_eq!(pprof.status, 200);
    assert_eq!(pprof.body.get(..2), Some(&[0x1f, 0x8b][..]), "gzip");
    let drawn = AtomicBool::new(false);
    let picture = std::thread::scope(|scope| {
        // Something to see.
        scope.spawn(|| {
            let mut client = Client::connect(proxy.address());
            while !drawn.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").status, 200);
            }
        });
        let picture = proxy.admin_get("/debug/pprof/profile?seconds=2&format=svg");
        drawn.store(true, Ordering::Relaxed);
        picture
    });
    assert_eq!(picture.status, 200, "{}", picture.text());
    assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
    assert!(picture.text().contains("<svg"));
    for bad in ["seconds=0", "seconds=61", "seconds=x", "format=png"] {
        let answer = proxy.admin_get(&format!("/debug/pprof/profile?{bad}"));
        assert_eq!(answer.status, 400, "{bad}");
    }
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_profile_of_memory_names_who_allocated_what_is_left() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::in_front_of(origin.address());
    // Connections that stay leave something to see.
    let meanwhile = |path: &str| {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !done.load(Ordering::Relaxed) && held.len() < 400 {
                    let mut client = Client::connect(proxy.address());
                    assert_eq!(client.get("/").status, 200);
                    held.push(client);
                }
                eventually("it is drawn", PATIENCE, || done.load(Ordering::Relaxed));
            });
            let answer = proxy.admin_get(path);
            done.store(true, Ordering::Relaxed);
            answer
        })
    };
    let pprof = meanwhile("/debug/pprof/heap?seconds=1");
    let picture = meanwhile("/debug/pprof/heap?seconds=1&format=svg");
    assert_eq!(pprof.status, 200, "{}", pprof.text());
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&*pprof.body)
        .read_to_end(&mut bytes)
        .expect("gzip");
    let profile = Profile::decode(&*bytes).expect("a profile");
    let text =
        |index: i64| profile.string_table[usize::try_from(index).expect("an index")].as_str();
    let kinds: Vec<&str> = profile
        .sample_type
        .iter()
        .map(|one| text(one.r#type))
        .collect();
    let left = kinds
        .iter()
        .position(|kind| *kind == "inuse_space")
        .expect("what is left");
    let left: i64 = profile.sample.iter().map(|sample| sample.value[left]).sum();
    assert!(left > 100_000, "{left}");
    let mut names = profile.function.iter().map(|function| text(function.name));
    assert!(
        names.any(|name| name.contains("tidegate::")),
        "nothing of ours"
    );
    assert_eq!(picture.status, 200, "{}", picture.text());
    assert!(picture.text().contains("<svg") && picture.text().contains("not freed"));
    for bad in ["seconds=0", "seconds=61", "format=png"] {
        let answer = proxy.admin_get(&format!("/debug/pprof/heap?{bad}"));
        assert_eq!(answer.status, 400, "{bad}");
    }
}
