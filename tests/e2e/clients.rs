//! Who takes what: accounts by client, what is said against whom, and holding a noisy one to its share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use super::protection::held;
use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually};

/// An upstream that works on four requests at once, as fast as its gate lets them pass, and two routes to it.
fn small_upstream(settings: &str) -> (Arc<Gate>, Origin, Proxy) {
    let (gate, origin) = held();
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n\
         concurrency = {{ algorithm = \"fixed\", max = 4 }}\n\
         queue = {{ max_wait = \"2s\", max_length = 16 }}\n{settings}\n\
         [[routes]]\nname = \"reports\"\nmatch = {{ path_prefix = \"/reports\" }}\nupstream = \"app\"\n\
         [[routes]]\nname = \"orders\"\nmatch = {{ path_prefix = \"/orders\" }}\nupstream = \"app\"\n",
        origin.address()
    ));
    (gate, origin, proxy)
}

fn clients(proxy: &Proxy) -> Value {
    let answer = proxy.admin_get("/api/v1/clients");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn flags(client: &Value) -> Vec<&str> {
    let flags = client["flags"].as_array().into_iter().flatten();
    flags.filter_map(|flag| flag["flag"].as_str()).collect()
}

/// Six clients with a request each, and one that floods, while `settle` is asked whether it has seen enough. The
/// upstream gets a little work done each time.
fn flood(gate: &Arc<Gate>, proxy: &Proxy, settle: impl FnMut() -> bool) -> AtomicU64 {
    const CONNECTIONS: usize = 24;
    let stop = AtomicBool::new(false);
    let quarantined = AtomicU64::new(0);
    let ask = |key: String, path: &'static str| {
        let mut client: Client = proxy.client();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let path = format!("{path}/{key}/{number}");
            let answer = client.request("GET", &path, &[("x-api-key", &key)], b"");
            if answer.status == 429 {
                let problem = answer.problem();
                assert_eq!(problem["reason"], "quarantined", "{problem}");
                let kind = problem["type"].as_str().unwrap_or_default();
                assert!(kind.ends_with("#abnormal-usage-detected"), "{problem}");
                quarantined.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let mut settle = settle;
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            scope.spawn(move || ask("flood".to_owned(), "/reports"));
            if connection % 4 == 0 {
                scope.spawn(move || ask(format!("client{connection}"), "/orders"));
            }
        }
        eventually("what the flood leads to", PATIENCE, || {
            gate.let_through(4);
            settle()
        });
        stop.store(true, Ordering::Relaxed);
        gate.open();
    });
    quarantined
}

#[test]
fn a_client_that_floods_is_first_and_noisy_and_no_other_is_flagged() {
    let (gate, _origin, proxy) = small_upstream("");
    let mut seen = Value::Null;
    flood(&gate, &proxy, || {
        seen = clients(&proxy);
        let all = seen["clients"].as_array().expect("clients");
        let others: Vec<_> = all.iter().skip(1).flat_map(flags).collect();
        assert_eq!(others, Vec::<&str>::new(), "{seen}");
        all.first()
            .is_some_and(|first| flags(first).contains(&"noisy"))
    });
    let first = &seen["clients"][0];
    let noisy = first["flags"].as_array().into_iter().flatten();
    let noisy = noisy.filter(|flag| flag["flag"] == "noisy");
    for flag in noisy {
        assert_eq!(flag["upstream"], "app");
        assert_eq!(flag["routes"], serde_json::json!(["reports"]));
        let share = &flag["evidence"][0];
        let (value, fair) = (share["value"].as_f64(), share["baseline"].as_f64());
        assert!(value > fair.map(|fair| 3.0 * fair), "{flag}");
    }
    assert_eq!(seen["clients"].as_array().map(Vec::len), Some(7), "{seen}");
    assert!(first["share"]["last_10s"].as_f64() > Some(0.1), "{first}");
}

#[test]
fn a_noisy_client_is_held_to_its_share_where_that_is_enforced_and_let_go_when_it_stops() {
    let (gate, _origin, proxy) = small_upstream("noisy = { mode = \"enforce\" }");
    let refused = || {
        proxy
            .metrics()
            .sum("tidegate_rejected_total", &[("reason", "quarantined")])
    };
    let quarantined = flood(&gate, &proxy, || refused() > 100.0);
    assert!(quarantined.into_inner() > 100);
    eventually("the flag to be taken back", PATIENCE, || {
        let seen = clients(&proxy);
        let all = seen["clients"].as_array().into_iter().flatten();
        all.flat_map(flags).all(|flag| flag != "noisy")
    });
    let key = [("x-api-key", "flood")];
    let answer = proxy.client().request("GET", "/reports/again", &key, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn where_that_is_on_trial_nobody_is_held_and_what_would_have_been_refused_is_counted() {
    let (gate, _origin, proxy) = small_upstream("noisy = { mode = \"observe\" }");
    let labels = [("reason", "quarantined"), ("mode", "observe")];
    let observed = || proxy.metrics().sum("tidegate_rejected_total", &labels);
    let quarantined = flood(&gate, &proxy, || observed() > 20.0);
    assert_eq!(quarantined.into_inner(), 0);
}

#[test]
fn the_accounts_agree_with_everything_else_and_hold_no_address_as_a_label() {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/fails" => Reply::new(500),
        "/moved" => Reply::new(302),
        _ => Reply::ok("0123456789"),
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    for path in ["/", "/", "/fails", "/moved"] {
        for key in ["a", "b", "b"] {
            client.request("POST", path, &[("x-api-key", key)], b"1234");
        }
    }
    assert_eq!(client.get("/").status, 200);
    let metrics = proxy.metrics_until("every exchange", |metrics| {
        metrics.sum("tidegate_exchanges_total", &[]) > 12.5
    });
    let requests = |labels: &[(&str, &str)]| metrics.sum("tidegate_client_requests_total", labels);
    assert_eq!(format!("{}", requests(&[])), "13");
    assert_eq!(format!("{}", requests(&[("class", "2xx")])), "7");
    assert_eq!(format!("{}", requests(&[("class", "5xx")])), "3");
    assert_eq!(format!("{}", requests(&[("class", "3xx")])), "3");
    for sample in metrics.samples() {
        let client = sample.labels.get("client").map(String::as_str);
        assert!(
            client.is_none_or(|label| !label.contains("127.0.0.1")),
            "{sample:?}"
        );
    }
    let seen = clients(&proxy);
    let all = seen["clients"].as_array().expect("clients");
    let sum = |key: &str| -> u64 {
        let of = |client: &Value| client["upstreams"][0]["took"][key].as_u64();
        all.iter().filter_map(of).sum()
    };
    assert_eq!((all.len(), sum("requests")), (3, 13), "{seen}");
    assert_eq!((sum("bytes_in"), sum("bytes_out")), (48, 70), "{seen}");
    let total = &seen["upstreams"][0]["took"];
    assert_eq!(total["requests"], 13);
    assert_eq!(total["by_class"]["2xx"], 7);
    let by_requests = proxy
        .admin_get("/api/v1/clients?sort=requests&limit=1")
        .json();
    assert_eq!(by_requests["clients"][0]["requests"], 8, "{by_requests}");
    assert_eq!(by_requests["clients"].as_array().map(Vec::len), Some(1));
    assert_eq!(proxy.admin_get("/api/v1/clients?sort=height").status, 400);
}

#[test]
fn a_known_client_has_its_name_and_owner_and_is_held_to_what_it_declared() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&format!(
        "[[clients.known]]\nname = \"reports\"\ntier = \"batch\"\nowner = \"data team\"\ndeclared_rate = \"1/s\"\n\
         keys = [\"sha256:5e5eb50156e6f1b0b72b20b0001b6f220e215b20b6b3001280c0cff89e1db2c1\"]\n\
         [upstreams.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    let mut client = proxy.client();
    for number in 0..100 {
        let path = format!("/{number}");
        let key = [("x-api-key", "night-reports")];
        assert_eq!(client.request("GET", &path, &key, b"").status, 200);
    }
    eventually("more than was declared", PATIENCE, || {
        let seen = clients(&proxy);
        let reports = &seen["clients"][0];
        flags(reports) == ["over_declared"]
            && reports["client"] == "reports"
            && reports["owner"] == "data team"
            && reports["tier"] == "batch"
            && reports["declared_rate"] == 1.0
    });
    let metrics = proxy.metrics();
    let requests = metrics.sum("tidegate_client_requests_total", &[("client", "reports")]);
    assert_eq!(format!("{requests}"), "100");
}
