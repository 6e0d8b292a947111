//! Quotas: who is refused, what clients are told, what is given back, and what outlives a restart.

use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually, eventually_some};

/// One upstream `app` behind one route that is under `limits`, which are configured so.
fn config(origin: &Origin, limits: &str, configured: &str) -> String {
    format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"all\"\nupstream = \"app\"\n\
         rate_limits = [{limits}]\n{configured}\n",
        origin.address()
    )
}

fn ask(proxy: &Proxy, key: &str) -> Response {
    proxy
        .client()
        .request("GET", "/", &[("x-api-key", key)], b"")
}

fn statuses(proxy: &Proxy, key: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| ask(proxy, key).status).collect()
}

/// What the admin API says of the limit.
fn limit(proxy: &Proxy, name: &str) -> Value {
    let all = proxy.admin_get("/api/v1/limits").json();
    let mut limits = all["rate_limits"].as_array().expect("limits").iter();
    let found = limits.find(|one| one["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {all}"))
        .clone()
}

#[test]
fn who_has_used_its_quota_is_refused_and_told_when_to_come_back() {
    let origin = Origin::saying("hello");
    let quota = "[rate_limits.per-client]\nquota = \"30/h\"\nburst = 2\n";
    let proxy = Proxy::start(&config(&origin, "\"per-client\"", quota));
    let first = ask(&proxy, "a");
    assert_eq!(first.status, 200);
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"per-client\";q=30;w=3600")
    );
    assert_eq!(first.header("ratelimit"), Some("\"per-client\";r=1;t=120"));
    assert_eq!(ask(&proxy, "a").status, 200);
    let refused = ask(&proxy, "a");
    assert_eq!(refused.status, 429);
    let problem = refused.problem();
    let kind = problem["type"].as_str().expect("a type");
    assert!(kind.ends_with("#quota-exceeded"), "{kind}");
    assert_eq!(
        (&problem["reason"], &problem["policy"]),
        (&json!("quota"), &json!("rate_limit"))
    );
    assert_eq!(
        (&problem["value"], &problem["threshold"]),
        (&json!(3.0), &json!(2.0))
    );
    assert_eq!(problem["violated-policies"], json!(["per-client"]));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"per-client\";q=30;w=3600")
    );
    let told = refused.header("ratelimit").expect("RateLimit");
    assert!(told.starts_with("\"per-client\";r=0;t="), "{told}");
    let wait = refused
        .header("retry-after")
        .expect("Retry-After")
        .parse::<u64>();
    assert!(
        wait.is_ok_and(|wait| (100..=144).contains(&wait)),
        "one comes back in 120 s"
    );
    assert_eq!(ask(&proxy, "b").status, 200, "another's quota is its own");
    assert_eq!(origin.count(), 3);

    let id = refused.header("x-request-id").expect("an id");
    proxy.access_log_entry("the refusal", |entry| {
        entry["request_id"] == *id && entry["policy"] == "rate_limit" && entry["reason"] == "quota"
    });
    let why = proxy.admin_get(&format!("/api/v1/why/{id}")).json();
    let decision = &why["decisions"][0];
    assert_eq!(
        (
            &decision["policy"],
            &decision["name"],
            &decision["decision"]
        ),
        (
            &json!("rate_limit"),
            &json!("per-client"),
            &json!("refused")
        )
    );
    assert_eq!(
        (&decision["value"], &decision["threshold"]),
        (&json!(3.0), &json!(2.0))
    );
    let metrics = proxy.metrics();
    let decisions = |decision, mode| {
        let labels = [
            ("policy", "per-client"),
            ("decision", decision),
            ("mode", mode),
        ];
        metrics.value("tidegate_rate_limit_decisions_total", &labels)
    };
    assert_eq!(decisions("passed", "enforce"), Some(3.0));
    assert_eq!(decisions("refused", "enforce"), Some(1.0));
    let shown = limit(&proxy, "per-client");
    assert_eq!(
        (
            &shown["quota"],
            &shown["burst"],
            &shown["passed"],
            &shown["refused"]
        ),
        (&json!("30/h"), &json!(2), &json!(3), &json!(1))
    );

    let grpc = [("x-api-key", "a"), ("content-type", "application/grpc")];
    let grpc = proxy.client().request("POST", "/", &grpc, b"");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("8")));
}

#[test]
fn a_limit_that_observes_refuses_nobody_and_counts_whom_it_would() {
    let origin = Origin::saying("hello");
    let quota = "[rate_limits.trial]\nquota = \"1/h\"\nmode = \"observe\"\n";
    let proxy = Proxy::start(&config(&origin, "\"trial\"", quota));
    assert_eq!(statuses(&proxy, "a", 3), [200; 3]);
    let response = ask(&proxy, "a");
    assert_eq!(response.header("ratelimit"), None);
    let labels = [
        ("policy", "trial"),
        ("decision", "refused"),
        ("mode", "observe"),
    ];
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.value("tidegate_rate_limit_decisions_total", &labels),
        Some(3.0)
    );
    let id = response.header("x-request-id").expect("an id");
    let why = eventually_some("why", PATIENCE, || {
        Some(proxy.admin_get(&format!("/api/v1/why/{id}"))).filter(|why| why.status == 200)
    });
    assert_eq!(why.json()["would_refuse"], "quota");
}

#[test]
fn of_several_limits_the_tightest_decides_and_no_other_is_charged() {
    let origin = Origin::saying("hello");
    let quotas = "[rate_limits.day]\nquota = \"10/day\"\n[rate_limits.route]\nquota = \"3/h\"\nper = \"route\"\n\
                  [rate_limits.tenant]\nquota = \"100/h\"\nper = \"header:x-tenant\"\n\
                  [rate_limits.off]\nquota = \"1/h\"\nmode = \"off\"\n";
    let proxy = Proxy::start(&config(
        &origin,
        "\"day\", \"route\", \"tenant\", \"off\"",
        quotas,
    ));
    assert_eq!(statuses(&proxy, "a", 5), [200, 200, 200, 429, 429]);
    let refused = ask(&proxy, "b");
    assert_eq!(refused.status, 429, "the route's quota is everybody's");
    assert_eq!(refused.problem()["violated-policies"], json!(["route"]));
    let told = refused.header("ratelimit").expect("RateLimit");
    assert!(
        told.starts_with("\"day\";r=10;t="),
        "b has its whole day: {told}"
    );
    assert!(
        told.contains(", \"route\";r=0;t=") && told.contains("\"tenant\";r=97;t="),
        "{told}"
    );
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"day\";q=10;w=86400, \"route\";q=3;w=3600, \"tenant\";q=100;w=3600")
    );
}

#[test]
fn what_is_shed_behind_the_quota_costs_none_of_it() {
    let origin = Origin::saying("hello");
    let quota = "[rate_limits.per-client]\nquota = \"2/day\"\n";
    let proxy = Proxy::start(&config(&origin, "\"per-client\"", quota));
    let order = |state: &str| json!({ "state": state, "ttl": "5m", "reason": "test" });
    assert_eq!(
        proxy
            .admin_post("/api/v1/breakers/app", &order("open"))
            .status,
        200
    );
    assert_eq!(statuses(&proxy, "a", 5), [503; 5]);
    let auto = json!({ "state": "auto", "reason": "test" });
    assert_eq!(proxy.admin_post("/api/v1/breakers/app", &auto).status, 200);
    eventually("what was shed to be given back", PATIENCE, || {
        ask(&proxy, "b").header("ratelimit").is_some()
    });
    assert_eq!(statuses(&proxy, "a", 3), [200, 200, 429]);
}

#[test]
fn bytes_and_upstream_time_are_charged_when_they_are_known() {
    let gate = Arc::new(Gate::closed());
    let of_origin = Arc::clone(&gate);
    let origin = Origin::start(Flavour::Http1, move |seen| {
        let gate = Arc::clone(&of_origin);
        async move {
            if seen.path == "/slow" {
                gate.pass().await;
            }
            Reply::ok("x".repeat(3_000))
        }
    });
    let config = format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n\
         [[routes]]\nname = \"slow\"\nupstream = \"app\"\nmatch = {{ path = \"/slow\" }}\nrate_limits = [\"time\"]\n\
         [[routes]]\nname = \"large\"\nupstream = \"app\"\nrate_limits = [\"bytes\"]\n\
         [rate_limits.time]\nquota = \"1/h\"\ncost = \"upstream-time\"\n\
         [rate_limits.bytes]\nquota = \"2KiB/day\"\ncost = \"bytes\"\n",
        origin.address()
    );
    let proxy = Proxy::start(&config);
    let large = ask(&proxy, "a");
    assert_eq!(
        (large.status, large.body.len()),
        (200, 3_000),
        "nobody knew before"
    );
    let policy = "\"bytes\";q=2048;w=86400;qu=\"content-bytes\"";
    assert_eq!(large.header("ratelimit-policy"), Some(policy));
    let refused = eventually_some("the bytes to be charged", PATIENCE, || {
        Some(ask(&proxy, "a")).filter(|response| response.status == 429)
    });
    assert_eq!(refused.problem()["unit"], "bytes");

    let mut waiting = proxy.client();
    waiting.send(b"GET /slow HTTP/1.1\r\nhost: a\r\nx-api-key: a\r\n\r\n");
    eventually(
        "more than a second of the upstream's time",
        PATIENCE,
        || {
            let requests = proxy.admin_get("/api/v1/inflight").json();
            requests["requests"][0]["age_ms"]
                .as_f64()
                .is_some_and(|age| age > 1_050.0)
        },
    );
    gate.open();
    assert_eq!(waiting.response("GET").status, 200);
    let slow = |key: &str| {
        proxy
            .client()
            .request("GET", "/slow", &[("x-api-key", key)], b"")
    };
    let refused = eventually_some("the time to be charged", PATIENCE, || {
        Some(slow("a")).filter(|response| response.status == 429)
    });
    let problem = refused.problem();
    assert_eq!(
        (&problem["unit"], &problem["threshold"]),
        (&json!("seconds"), &json!(1.0))
    );
    assert_eq!(slow("b").status, 200);
}

#[test]
fn eight_connections_at_once_get_their_quota_to_the_request() {
    let origin = Origin::saying("hello");
    let quota = "[rate_limits.per-client]\nquota = \"60/h\"\nburst = 200\n";
    let proxy = Proxy::start(&config(&origin, "\"per-client\"", quota));
    let passed: usize = std::thread::scope(|scope| {
        let work = || {
            let mut client = proxy.client();
            let mut passes = || {
                client
                    .request("GET", "/", &[("x-api-key", "a")], b"")
                    .status
                    == 200
            };
            (0..60).filter(|_| passes()).count()
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|one| one.join().expect("a worker"))
            .sum()
    });
    // One comes back each minute.
    assert!((200..=202).contains(&passed), "{passed}");
}

/// The same proxy again, over the state in `state`.
fn with_state(origin: &Origin, state: &Path, quota: &str) -> Proxy {
    let server = format!(
        "[server]\nworkers = 2\noverload = \"off\"\nstate_dir = \"{}\"\n[rate_limits.q]\n{quota}\n",
        state.display()
    );
    Proxy::start(&config(origin, "\"q\"", &server))
}

#[test]
fn what_was_used_survives_a_restart_and_a_kill() {
    let origin = Origin::saying("hello");
    for quota in ["quota = \"5/month\"", "quota = \"5/h\""] {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let kept = || std::fs::read(state.join("rate-limits")).unwrap_or_default();
        let mut proxy = with_state(&origin, &state, quota);
        assert!(kept().is_empty(), "there is nothing to keep yet");
        assert_eq!(statuses(&proxy, "a", 2), [200; 2]);
        proxy.signal(Signal::TERM);
        assert!(proxy.wait_exit().success());
        let after_exit = kept();
        let mode = std::os::unix::fs::MetadataExt::mode(&state.metadata().expect("a directory"));
        assert_eq!(mode & 0o777, 0o700);

        let mut proxy = with_state(&origin, &state, quota);
        assert_eq!(statuses(&proxy, "a", 2), [200; 2]);
        eventually("the quota to be written", PATIENCE, || kept() != after_exit);
        let written = kept();
        assert_eq!(statuses(&proxy, "b", 1), [200]);
        eventually("the quota to be written again", PATIENCE, || {
            kept() != written
        });
        proxy.signal(Signal::KILL);
        proxy.wait_exit();

        let proxy = with_state(&origin, &state, quota);
        assert_eq!(statuses(&proxy, "a", 2), [200, 429], "{quota}");
        assert_eq!(
            statuses(&proxy, "b", 5),
            [200, 200, 200, 200, 429],
            "{quota}"
        );
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_and_harms_no_request() {
    let origin = Origin::saying("hello");
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("file");
    std::fs::write(&state, "in the way").expect("a file");
    let proxy = with_state(&origin, &state, "quota = \"2/day\"");
    assert_eq!(statuses(&proxy, "a", 3), [200, 200, 429]);
    proxy.metrics_until("the failure to be counted", |metrics| {
        metrics.value("tidegate_state_write_success", &[]) == Some(0.0)
            && metrics.sum("tidegate_state_write_failures_total", &[]) >= 1.0
    });
    assert!(
        proxy.status()["state"]["error"].is_string(),
        "{}",
        proxy.status()
    );
    assert!(
        proxy.stderr().contains("outlive a restart"),
        "{}",
        proxy.stderr()
    );
}

#[test]
fn a_reload_keeps_what_was_used_also_under_another_quota() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&config(
        &origin,
        "\"q\"",
        "[rate_limits.q]\nquota = \"3/day\"\n",
    ));
    assert_eq!(statuses(&proxy, "a", 4), [200, 200, 200, 429]);
    let file = proxy.config_file();
    let text = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, text.replace("3/day", "5/day")).expect("the file is written");
    let reload = proxy.admin_post("/api/v1/reload", &json!({ "reason": "test" }));
    assert_eq!(reload.status, 200, "{}", reload.text());
    assert_eq!(statuses(&proxy, "a", 3), [200, 200, 429]);
    assert_eq!(limit(&proxy, "q")["quota"], "5/day");
}
