use prost::Message as _;

use super::proto::{MetricFamily, MetricType};
use super::*;
use crate::clock::{Instant, SystemClock};
use crate::engine::breaker::{Breaker, Config, State};
use crate::observe::collector::tests::metrics_of;
use crate::observe::snapshot::{
    CircuitView, EndpointState, EndpointView, IssuerView, LimitView, ListenerView, RateLimitView,
    RetryView, UpstreamView, UsageView,
};
use crate::observe::tables::Tables;
use crate::observe::tables::tests::{answered, refused};
use crate::observe::trace::spans::tests::record as traced;

fn directories() -> Arc<Directories> {
    let directories = Directories::default();
    for name in ["first", "orders \"1\""] {
        directories.routes.intern(name);
    }
    for name in ["a", "b", "orders"] {
        directories.upstreams.intern(name);
    }
    for name in ["a/1", "b/2", "b/3", "orders/10.0.0.1:8080"] {
        directories.endpoints.intern(name);
    }
    Arc::new(directories)
}

fn snapshot() -> Snapshot {
    Snapshot {
        bundles_lost: 0,
        isolations: vec![("client", 1), ("route", 0)],
        loops: vec![(40, std::time::Duration::from_millis(500))],
        issuers: vec![IssuerView {
            url: "https://idp/keys".into(),
            keys: 2,
            failures: 3,
        }],
        caches: Vec::new(),
        rate_limits: vec![RateLimitView {
            name: "per-client".into(),
            decisions: [("enforce", 7, 3), ("observe", 2, 1)],
            evictions: 1,
        }],
        slos: vec![crate::observe::snapshot::SloView {
            name: "fast".into(),
            burn: vec![("5m", 2.5)],
            budget: Some(0.25),
            quantile: None,
            missing: vec![("latency", 1)],
        }],
        usage: UsageView::default(),
        fleet: None,
        causes: vec![("load_spike", true), ("noisy_client", false)],
        route_circuits: vec![CircuitView {
            name: "first".into(),
            mode: "observe",
            ..CircuitView::default()
        }],
        listeners: vec![ListenerView {
            name: "public".into(),
            address: "127.0.0.1:8080".into(),
            connections: 5,
            parked: 2,
        }],
        upstreams: vec![UpstreamView {
            name: "orders".into(),
            in_flight: 7,
            limit: LimitView {
                mode: "enforce",
                limit: 12,
                waiting: 3,
                ..LimitView::default()
            },
            circuit: CircuitView {
                name: "orders".into(),
                mode: "enforce",
                report: Some(Breaker::new(Config::default(), Instant::ZERO).report(Instant::ZERO)),
                transitions: vec![(State::Closed, State::Open, 2)],
            },
            retries: RetryView {
                counts: vec![("reset", 5, 0)],
                budget_remaining: 0.25,
            },
            endpoints: vec![EndpointView {
                address: "10.0.0.1:8080".into(),
                state: EndpointState::Unhealthy,
                ..EndpointView::default()
            }],
            ..UpstreamView::default()
        }],
    }
}

fn scraped(format: Format) -> Vec<u8> {
    let metrics = metrics_of(&[answered(), answered(), refused()]);
    let status = Status::default();
    status.reloaded(SystemClock, Err("no".into()));
    Exposition::copy(&metrics, &directories(), snapshot(), &status).render(format)
}

fn scrape() -> String {
    String::from_utf8(scraped(Format::OpenMetrics)).unwrap()
}

/// The families of a binary answer.
fn decode(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    families
}

#[test]
fn a_scrape_holds_every_family_with_its_labels() {
    let text = scrape();
    for line in [
        "# TYPE http_server_request_duration_seconds histogram",
        "tidegate_client_requests_total{client=\"addr:000000000000\",upstream=\"orders\",class=\"2xx\"} 2",
        "tidegate_client_requests_total{client=\"addr:000000000000\",upstream=\"\",class=\"refused\"} 1",
        "tidegate_client_upstream_seconds_total{client=\"addr:000000000000\",upstream=\"orders\"} 0.024",
        "tidegate_client_upstream_seconds_total{client=\"__other__\",upstream=\"orders\"} 0.0",
        "# UNIT http_server_request_duration_seconds seconds",
        "http_server_request_duration_seconds_count{http_route=\"orders \\\"1\\\"\",http_request_method=\"GET\",http_response_status_code=\"200\"} 2",
        "http_server_request_duration_seconds_bucket{le=\"0.025\",http_route=\"\",http_request_method=\"GET\",http_response_status_code=\"404\"} 1",
        "http_client_request_duration_seconds_count{upstream=\"orders\",endpoint=\"10.0.0.1:8080\",http_request_method=\"GET\",http_response_status_code=\"200\"} 2",
        "tidegate_phase_duration_seconds_sum{upstream=\"orders\",phase=\"connect\"} 0.008",
        "tidegate_endpoint_phase_duration_seconds_sum{upstream=\"orders\",endpoint=\"10.0.0.1:8080\",phase=\"wait\"} 0.008",
        "tidegate_rejected_total{reason=\"no_route\",policy=\"router\",tier=\"\",mode=\"enforce\"} 1",
        "tidegate_concurrency_limit{upstream=\"orders\"} 12",
        "tidegate_queue_depth{upstream=\"orders\"} 3",
        "tidegate_queue_wait_seconds_sum{upstream=\"orders\"} 0.006",
        "tidegate_breaker_state{upstream=\"orders\",state=\"closed\"} 1",
        "tidegate_breaker_state{upstream=\"orders\",state=\"open\"} 0",
        "tidegate_breaker_transitions_total{upstream=\"orders\",from=\"closed\",to=\"open\"} 2",
        "tidegate_route_breaker_state{route=\"first\",state=\"open\"} 0",
        "tidegate_retries_total{upstream=\"orders\",reason=\"reset\",mode=\"enforce\"} 5",
        "tidegate_retry_budget_remaining_ratio{upstream=\"orders\"} 0.25",
        "tidegate_exchanges_total{outcome=\"answered\"} 2",
        "tidegate_request_bytes_total{http_route=\"\"} 10",
        "tidegate_exchanges_dropped_total 0",
        "tidegate_access_log_lines_dropped_total 0",
        "tidegate_inflight{upstream=\"orders\"} 7",
        "tidegate_endpoint_healthy{upstream=\"orders\",endpoint=\"10.0.0.1:8080\"} 0",
        "tidegate_connections{listener=\"public\"} 5",
        "tidegate_event_loop_beats_total{worker=\"0\"} 40",
        "tidegate_event_loop_late_seconds_total{worker=\"0\"} 0.5",
        "tidegate_slo_burn_rate{slo=\"fast\",window=\"5m\"} 2.5",
        "tidegate_slo_budget_remaining_ratio{slo=\"fast\"} 0.25",
        "tidegate_slo_missed{slo=\"fast\",signal=\"latency\"} 1",
        "tidegate_config_reload_success 0",
        "tidegate_config_reloads_total{result=\"error\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("tidegate_build_info{version="));
    assert!(text.contains("process_cpu_seconds_total "));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_family_is_described_once_and_every_line_belongs_to_it() {
    let text = scrape();
    let mut described = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(described.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} below {family}");
        }
    }
}

#[test]
fn the_older_format_describes_counters_by_their_whole_name() {
    let text = String::from_utf8(scraped(Format::Classic)).unwrap();
    assert!(text.contains("# TYPE tidegate_exchanges_total counter\n"));
    assert!(text.contains("\ntidegate_exchanges_total{outcome=\"answered\"} 2\n"));
    assert!(text.contains("# HELP tidegate_exchanges_total Finished"));
    assert!(text.contains("# TYPE tidegate_inflight gauge\n"));
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
}

#[test]
fn a_trace_that_is_sent_stands_beside_its_buckets_in_openmetrics_only() {
    let mut tables = Tables::new(Instant::ZERO);
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    let (mut record, _) = traced();
    record.exchange = answered();
    record.context.trace = trace;
    tables.fold_trace(&record);
    assert!(
        tables.families().server.iter().next().is_none(),
        "no series of its own"
    );
    tables.fold(&answered(), Instant::ZERO);
    tables.fold_trace(&record);
    let (_, timed) = tables.families().server.iter().next().unwrap();
    let labels = [("route", "a # {trace_id=\"b\\\n")];
    let written = |format| {
        let mut out = Out::new(format);
        out.histograms("http_seconds", "Time.", [(labels, timed)]);
        out.finish()
    };
    let text = String::from_utf8(written(Format::OpenMetrics)).unwrap();
    let line = "http_seconds_bucket{le=\"0.025\",route=\"a # {trace_id=\\\"b\\\\\\n\"} 1";
    let named = format!("{line} # {{trace_id=\"{trace:032x}\"}} 0.021 1790000000.144456");
    assert!(
        text.lines().any(|one| one == named),
        "{named} is not in\n{text}"
    );
    assert_eq!(text.matches("# {trace_id=\"4bf9").count(), 1);
    let text = String::from_utf8(written(Format::Classic)).unwrap();
    assert!(text.lines().any(|one| one == line), "{text}");
    assert!(!text.contains("4bf9"));
    let families = decode(&written(Format::Protobuf));
    let histogram = families[0].metric[0].histogram.as_ref().unwrap();
    let named = histogram.bucket.iter().filter_map(|b| b.exemplar.as_ref());
    let named: Vec<_> = named.map(|one| (one.value, one.label[0].value())).collect();
    let trace = format!("{trace:032x}");
    assert_eq!(named, [(Some(0.021), trace.as_str())]);
}

#[test]
fn the_binary_format_says_the_same_with_native_buckets() {
    let families = decode(&scraped(Format::Protobuf));
    let text = String::from_utf8(scraped(Format::Classic)).unwrap();
    let named = |one: &MetricFamily| format!("# TYPE {} {}", one.name(), one.kind().as_str());
    for family in &families {
        assert!(text.contains(&named(family)), "{family:?}");
        assert!(!family.metric.is_empty(), "{family:?}");
    }
    let find = |name| families.iter().find(|one| one.name() == name).unwrap();
    let exchanges = &find("tidegate_exchanges_total").metric[0];
    assert_eq!(exchanges.label[0].value(), "answered");
    let counted = exchanges.counter.as_ref().unwrap().value;
    assert_eq!(counted, Some(2.0));
    let inflight = find("tidegate_inflight");
    assert_eq!(inflight.kind(), MetricType::Gauge);
    assert_eq!(inflight.metric[0].gauge.as_ref().unwrap().value, Some(7.0));

    let server = find("http_server_request_duration_seconds");
    let histogram = server.metric[0].histogram.as_ref().unwrap();
    assert_eq!(histogram.sample_count, Some(2));
    assert_eq!(histogram.bucket.last().unwrap().cumulative_count, Some(2));
    assert_eq!((histogram.schema, histogram.zero_count), (Some(3), Some(0)));
    // 21 ms lie between 2^(-45/8) and 2^(-44/8) seconds.
    assert_eq!(histogram.positive_span[0].offset, Some(-44));
    assert_eq!(histogram.positive_delta, [2]);
    let phases = find("tidegate_phase_duration_seconds").metric.iter();
    let queue = phases.filter(|one| one.label.iter().any(|l| l.value() == "receive"));
    let zero: u64 = queue
        .map(|one| one.histogram.as_ref().unwrap().zero_count.unwrap())
        .sum();
    assert!(zero <= 1);
}

#[test]
fn a_name_out_of_the_directory_is_shown_as_other() {
    let metrics = metrics_of(&[answered()]);
    let empty = Arc::default();
    let (snapshot, status) = (Snapshot::default(), Status::default());
    let text = Exposition::copy(&metrics, &empty, snapshot, &status).render(Format::OpenMetrics);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("{upstream=\"__other__\",endpoint=\"__other__\""));
}
