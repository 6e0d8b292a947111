//! Who is held apart: clients, routes, endpoints, tiers and upstreams, until their time is over, over a kill as well.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually, eventually_some};

/// How long a verdict may take: reached only when the test fails.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// Clients `web` and `reports`, known by their keys, and the endpoints of one upstream.
pub(super) fn config(origins: &[&Origin], more: &str) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .map(|origin| format!("\"{}\"", origin.address()))
        .collect();
    // printf %s web | sha256sum, and the same of reports.
    format!(
        "{more}\n[upstreams.shop]\nendpoints = [{}]\nbalance = \"round-robin\"\n[[routes]]\nname = \"shop\"\nupstream = \"shop\"\n\
         [[clients.known]]\nname = \"web\"\nkeys = [\"sha256:4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2\"]\n\
         [[clients.known]]\nname = \"reports\"\nkeys = [\"sha256:7f26104f77a7ce477546cd1ea99b6c99b5eb079e3ec9238583314eccea00440a\"]\n",
        endpoints.join(", ")
    )
}

pub(super) fn ask(proxy: &Proxy, key: &str) -> Response {
    proxy
        .client()
        .request("GET", "/", &[("x-api-key", key)], b"")
}

pub(super) fn isolate(proxy: &Proxy, kind: &str, subject: &str, to: &str, ttl: &str) -> Value {
    let asked =
        json!({ "kind": kind, "subject": subject, "to": to, "ttl": ttl, "reason": "a test" });
    let answer = proxy.admin_post("/api/v1/isolations", &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn listed(proxy: &Proxy) -> Vec<Value> {
    let all = proxy.admin_get("/api/v1/isolations").json();
    all["isolations"].as_array().expect("a list").clone()
}

/// Runs the command line against `proxy`; what it printed, if it went well.
fn tidegate(proxy: &Proxy, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env("TIDEGATE_ADMIN", format!("http://{}", proxy.admin()))
        .output()
        .expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn a_blocked_client_is_kept_out_and_let_go_by_the_command_line() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&config(&[&origin], ""));
    let blocked = tidegate(
        &proxy,
        &[
            "isolate", "client", "reports", "--to", "block", "--ttl", "5m", "--reason", "test",
        ],
    );
    let blocked = blocked.expect("it is isolated");
    let id = blocked
        .lines()
        .find_map(|line| line.strip_prefix("let go: tidegate release "))
        .expect("how to let go");
    let refused = ask(&proxy, "reports");
    assert_eq!(refused.status, 429);
    let problem = refused.problem();
    let kind = problem["type"].as_str().expect("a type");
    assert!(kind.ends_with("#abnormal-usage-detected"), "{kind}");
    assert_eq!(
        (&problem["reason"], &problem["policy"]),
        (&json!("blocked"), &json!("isolation"))
    );
    assert_eq!(ask(&proxy, "web").status, 200);
    assert_eq!(origin.count(), 1);

    let shown = tidegate(&proxy, &["isolate"]).expect("the list");
    assert!(shown.contains("reports") && shown.contains(id), "{shown}");
    let metrics = proxy.metrics();
    let active = metrics.value("tidegate_isolation_active", &[("kind", "client")]);
    assert_eq!(active, Some(1.0));
    let log = "the refusal";
    proxy.access_log_entry(log, |entry| {
        entry["client"] == "reports" && entry["policy"] == "isolation"
    });

    let released = tidegate(&proxy, &["release", id]).expect("it is let go");
    assert!(released.contains("1 of its requests"), "{released}");
    assert_eq!(ask(&proxy, "reports").status, 200);
    assert!(listed(&proxy).is_empty());
    let again = tidegate(&proxy, &["release", id]).expect_err("nothing is there");
    assert!(again.contains("no isolation"), "{again}");
    let audited = |action: &str| {
        let said = proxy.stderr();
        said.lines()
            .any(|line| line.contains("audit") && line.contains(action))
    };
    assert!(audited("\"isolate\"") && audited("\"release\""));
}

#[test]
fn a_throttled_client_gets_its_rate_and_others_all() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&config(&[&origin], ""));
    isolate(&proxy, "client", "reports", "throttle=3/h", "5m");
    let statuses: Vec<u16> = (0..5).map(|_| ask(&proxy, "reports").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert!((0..5).all(|_| ask(&proxy, "web").status == 200));
    assert_eq!(ask(&proxy, "reports").problem()["reason"], "quarantined");
}

#[test]
fn a_lane_is_narrow_and_the_rest_of_the_road_is_free() {
    let gate = Arc::new(Gate::closed());
    let behind = Arc::clone(&gate);
    let origin = Origin::start(Flavour::Http1, move |seen| {
        let gate = Arc::clone(&behind);
        async move {
            if seen.header("x-api-key") == Some("reports") {
                gate.pass().await;
            }
            Reply::ok("done")
        }
    });
    let limit = "[upstreams.shop.concurrency]\nalgorithm = \"fixed\"\ninitial = 20\nmax = 20\n";
    let text = config(&[&origin], "").replace("[[routes]]", &format!("{limit}[[routes]]"));
    let proxy = Arc::new(Proxy::start(&text));
    isolate(&proxy, "client", "reports", "lane", "5m");
    let slow = Arc::clone(&proxy);
    let first = std::thread::spawn(move || ask(&slow, "reports").status);
    origin.wait_for_in_flight(1);
    let second = ask(&proxy, "reports");
    assert_eq!(
        (second.status, &second.problem()["reason"]),
        (429, &json!("quarantined"))
    );
    assert_eq!(ask(&proxy, "web").status, 200);
    gate.open();
    assert_eq!(first.join().expect("the first is answered"), 200);
    eventually("its place is free again", PATIENCE, || {
        ask(&proxy, "reports").status == 200
    });
}

#[test]
fn an_endpoint_out_of_service_gets_nothing_while_there_is_another() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let proxy = Proxy::start(&config(&[&one, &other], ""));
    let subject = format!("shop/{}", one.address());
    let id = isolate(&proxy, "endpoint", &subject, "block", "5m")["id"].clone();
    let answers: Vec<String> = (0..10).map(|_| ask(&proxy, "web").text()).collect();
    assert!(
        answers.iter().all(|answer| answer == "other"),
        "{answers:?}"
    );
    let shown = proxy.admin_get("/api/v1/upstreams").json();
    let states: Vec<&Value> = shown["upstreams"][0]["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .map(|endpoint| &endpoint["state"])
        .collect();
    assert_eq!(states, [&json!("isolated"), &json!("healthy")]);
    let id = id.as_str().expect("an id");
    tidegate(&proxy, &["release", id]).expect("it is back");
    let answers: Vec<String> = (0..10).map(|_| ask(&proxy, "web").text()).collect();
    assert!(answers.iter().any(|answer| answer == "one"), "{answers:?}");
}

#[test]
fn an_isolation_survives_a_kill_and_ends_when_its_time_is_over() {
    let origin = Origin::saying("hello");
    let state = tempfile::tempdir().expect("a directory");
    let text = config(&[&origin], &server(state.path()));
    let mut proxy = Proxy::start(&text);
    let done = isolate(&proxy, "client", "reports", "block", "5m");
    assert_eq!(done["kept"], true);
    isolate(&proxy, "route", "shop", "block", "1s");
    proxy.signal(Signal::KILL);
    proxy.wait_exit();
    let proxy = Proxy::start(&text);
    assert_eq!(ask(&proxy, "reports").status, 429);
    eventually("the route's time is over", PATIENCE, || {
        ask(&proxy, "web").status == 200
    });
    let left = eventually_some("one is left", PATIENCE, || {
        let all = listed(&proxy);
        (all.len() == 1).then_some(all)
    });
    assert_eq!(left[0]["id"], done["id"]);
    assert_eq!(ask(&proxy, "reports").status, 429);
    tidegate(&proxy, &["release", done["id"].as_str().expect("an id")]).expect("let go");
    drop(proxy);
    let proxy = Proxy::start(&text);
    assert_eq!(ask(&proxy, "reports").status, 200);
}

/// Everything that an isolation could leave behind: itself, and what the parts it works on say of themselves.
fn standing(proxy: &Proxy) -> Value {
    let get = |path: &str| proxy.admin_get(path).json();
    let shown = get("/api/v1/upstreams");
    let endpoints = shown["upstreams"][0]["endpoints"].as_array().cloned();
    let endpoints = endpoints.expect("endpoints").into_iter();
    let breakers = get("/api/v1/breakers")["breakers"].as_array().cloned();
    let breakers = breakers.expect("breakers").into_iter();
    let metrics = proxy.metrics();
    let kinds = ["client", "route", "endpoint", "tier", "upstream"];
    let active = kinds.map(|kind| metrics.value("tidegate_isolation_active", &[("kind", kind)]));
    json!({
        "isolations": get("/api/v1/isolations")["isolations"],
        "plan": get("/api/v1/config")["plan"],
        "endpoints": endpoints.map(|one| json!([one["address"], one["state"], one["weight"]])).collect::<Vec<_>>(),
        "breakers": breakers.map(|one| json!([one["mode"], one["state"], one["admitted"]])).collect::<Vec<_>>(),
        "active": active.map(|active| active.unwrap_or_default()),
    })
}

#[test]
fn after_a_release_everything_is_as_before_also_across_kills() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let state = tempfile::tempdir().expect("a directory");
    let text = config(&[&one, &other], &server(state.path()));
    let mut proxy = Proxy::start(&text);
    assert_eq!(ask(&proxy, "web").status, 200);
    let before = standing(&proxy);
    let endpoint = format!("shop/{}", one.address());
    for (kind, subject, to) in [
        ("client", "reports", "block"),
        ("route", "shop", "lane"),
        ("endpoint", &*endpoint, "block"),
        ("tier", "standard", "block"),
        ("upstream", "shop", "no-retries"),
    ] {
        isolate(&proxy, kind, subject, to, "5m");
    }
    assert_ne!(standing(&proxy), before);
    proxy.signal(Signal::KILL);
    proxy.wait_exit();
    let mut proxy = Proxy::start(&text);
    assert_eq!(listed(&proxy).len(), 5);
    assert_ne!(ask(&proxy, "reports").status, 200);
    for one in listed(&proxy) {
        tidegate(&proxy, &["release", one["id"].as_str().expect("an id")]).expect("let go");
    }
    let same = |proxy: &Proxy| {
        eventually("all is as before", PATIENCE, || standing(proxy) == before);
        assert_eq!(ask(proxy, "reports").status, 200);
        let answers: Vec<String> = (0..10).map(|_| ask(proxy, "web").text()).collect();
        assert!(answers.iter().any(|answer| answer == "one"), "{answers:?}");
    };
    same(&proxy);
    proxy.signal(Signal::KILL);
    proxy.wait_exit();
    same(&Proxy::start(&text));
}

fn server(state: &Path) -> String {
    format!("[server]\nstate_dir = \"{}\"", state.display())
}

#[test]
fn a_preview_tells_and_changes_nothing() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&config(&[&origin], ""));
    let told = tidegate(
        &proxy,
        &[
            "isolate",
            "client",
            "reports",
            "--ttl",
            "5m",
            "--reason",
            "test",
            "--preview",
        ],
    );
    let told = told.expect("a preview");
    assert!(told.contains("would have refused 0 of 0"), "{told}");
    assert!(listed(&proxy).is_empty());
    let missing = tidegate(&proxy, &["isolate", "client", "reports"]);
    assert!(missing.expect_err("usage").contains("--ttl"));
    let unknown = tidegate(
        &proxy,
        &[
            "isolate", "route", "nowhere", "--ttl", "5m", "--reason", "test",
        ],
    );
    assert!(unknown.expect_err("no such route").contains("no route"));
}

#[test]
fn a_tier_is_cut_off_with_those_below_it_and_nobody_else() {
    let origin = Origin::saying("hello");
    let text = config(&[&origin], "");
    let text = text.replacen("keys = ", "tier = \"critical\"\nkeys = ", 1);
    let proxy = Proxy::start(&text);
    assert_eq!(ask(&proxy, "reports").status, 200);
    isolate(&proxy, "tier", "standard", "block", "5m");
    let refused = ask(&proxy, "reports");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["reason"], "overload");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ask(&proxy, "web").status, 200);
    let held = &listed(&proxy)[0];
    assert_eq!(
        (&held["kind"], &held["refused"]),
        (&"tier".into(), &1.into())
    );
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.value("tidegate_isolation_active", &[("kind", "tier")]),
        Some(1.0)
    );
    let id = held["id"].as_str().expect("an id");
    tidegate(&proxy, &["release", id]).expect("it is released");
    assert_eq!(ask(&proxy, "reports").status, 200);
}

#[test]
fn an_upstream_whose_retries_are_frozen_is_asked_once() {
    let origin = Origin::http1(|_| Reply::new(503));
    let proxy = Proxy::start(&config(&[&origin], ""));
    assert_eq!(ask(&proxy, "web").status, 503);
    let before = origin.count();
    assert_eq!(before, 2, "it is sent again");
    let done = tidegate(
        &proxy,
        &[
            "isolate",
            "upstream",
            "shop",
            "--to",
            "no-retries",
            "--ttl",
            "5m",
            "--reason",
            "storm",
        ],
    );
    assert!(done.is_ok(), "{done:?}");
    let answer = ask(&proxy, "web");
    assert_eq!((answer.status, origin.count()), (503, before + 1));
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let why = eventually_some("what is known of it", PATIENCE, || {
        let known = proxy.admin_get(&format!("/api/v1/why/{id}"));
        (known.status == 200).then(|| known.text())
    });
    assert!(why.contains("\"frozen\""), "{why}");
}

#[test]
fn an_upstream_that_is_spared_is_not_asked_for_what_is_stale() {
    // Stale from the first moment on.
    let origin = Origin::http1(|_| {
        Reply::ok("old")
            .header("cache-control", "max-age=5")
            .header("age", "60")
    });
    let text = config(&[&origin], "[cache.all]\nmemory = \"256MiB\"\n");
    let text = text.replacen(
        "upstream = \"shop\"\n",
        "upstream = \"shop\"\ncache = \"all\"\n",
        1,
    );
    let proxy = Proxy::start(&text);
    let get = |path: &str| proxy.client().get(path);
    assert_eq!(get("/a").text(), "old");
    assert_eq!((get("/a").text(), origin.count()), ("old".to_owned(), 2));
    isolate(&proxy, "upstream", "shop", "serve-stale", "5m");
    let spared = get("/a");
    assert_eq!((&*spared.text(), origin.count()), ("old", 2));
    let status = spared.header("cache-status").unwrap_or_default();
    assert!(
        status.contains("hit") && status.contains("serve-stale"),
        "{status}"
    );
    assert_eq!(
        (get("/b").text(), origin.count()),
        ("old".to_owned(), 3),
        "what is not stored is fetched"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&config(&[&origin], ""));
    for (kind, subject, to, status) in [
        ("tier", "standard", "lane", 400),
        ("tier", "gold", "block", 404),
        ("upstream", "shop", "block", 400),
        ("upstream", "none", "serve-stale", 404),
        ("client", "web", "no-retries", 400),
    ] {
        let asked =
            json!({ "kind": kind, "subject": subject, "to": to, "ttl": "5m", "reason": "a test" });
        let answer = proxy.admin_post("/api/v1/isolations", &asked);
        assert_eq!(
            answer.status,
            status,
            "{kind} {subject} {to}: {}",
            answer.text()
        );
    }
    assert_eq!(listed(&proxy), Vec::<Value>::new());
}

#[test]
fn what_the_plan_says_is_done_by_itself_or_only_told() {
    for (mode, done) in [("enforce", 1), ("observe", 0)] {
        let origin = Origin::http1(|_| Reply::new(500));
        let more = format!(
            "[actions.upstream_errors]\nmode = \"{mode}\"\nconfidence = 0.3\nafter = \"0s\"\n[cache.all]\n"
        );
        let text = config(&[&origin], &more);
        let text = text.replacen(
            "upstream = \"shop\"\n",
            "upstream = \"shop\"\ncache = \"all\"\n",
            1,
        );
        let off = "breaker = { mode = \"off\" }\noutlier = { mode = \"off\" }\n[[routes]]";
        let proxy = Proxy::start(&text.replacen("[[routes]]", off, 1));
        let told = eventually_some("an action", LONG, || {
            (0..10).for_each(|_| drop(ask(&proxy, "web")));
            let events = proxy.admin_get("/api/v1/events?recent").json();
            let events = events["events"].as_array().cloned().unwrap_or_default();
            let mut events = events.into_iter();
            events.find(|event| event["event"] == "action")
        });
        assert_eq!(
            (&told["subject"], &told["mode"]),
            (&"upstream shop".into(), &mode.into())
        );
        assert_eq!(
            (&told["to"], &told["cause"]),
            (&"serve-stale".into(), &"upstream_errors".into())
        );
        let held = listed(&proxy);
        assert_eq!(held.len(), done, "{held:?}");
        assert!(
            held.iter()
                .all(|one| one["by"] == "tidegate" && one["kind"] == "upstream")
        );
    }
}
