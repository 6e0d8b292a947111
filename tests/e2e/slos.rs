//! What is promised, and what happens when it is missed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, Setup};
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;
use crate::support::wait::{Deadline, eventually_some};

/// How long a test waits for what takes windows to pass: reached only when it fails.
const LONG: Duration = Duration::from_secs(60);

/// An upstream `app` that nothing protects, under an objective.
fn config(origin: SocketAddr, promised: &str) -> String {
    let off = "{ mode = \"off\" }";
    format!(
        "[upstreams.app]\nendpoints = [\"{origin}\"]\nbreaker = {off}\nretry = {off}\noutlier = {off}\n\
         [slos.fast]\nmin_requests = 20\n{promised}\n\
         [[routes]]\nname = \"shop\"\nupstream = \"app\"\nslo = \"fast\"\n"
    )
}

/// An origin that fails while the switch is on.
fn failing() -> (Origin, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let origin = Origin::http1(move |_| {
        if switch.load(Ordering::Relaxed) {
            Reply::new(500)
        } else {
            Reply::ok("well")
        }
    });
    (origin, fails)
}

fn admin(proxy: &Proxy) -> String {
    format!("http://{}", proxy.admin())
}

/// What a command prints that goes well.
fn tidegate(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The newest incident once `wanted` holds for it, while requests go on.
fn incident(proxy: &Proxy, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut client = proxy.client();
    eventually_some(what, LONG, || {
        for _ in 0..5 {
            client.get("/");
        }
        let answer = proxy.admin_get("/api/v1/incidents").json();
        let newest = answer["incidents"].get(0).cloned();
        newest.filter(|incident| wanted(incident))
    })
}

#[test]
fn without_trouble_there_is_no_incident_and_the_budget_is_whole() {
    let (origin, _fails) = failing();
    let promised = "availability = 0.99\nlatency = { below = \"10s\" }";
    let proxy = Proxy::start(&config(origin.address(), promised));
    let mut client = proxy.client();
    let slo = eventually_some("a subject", LONG, || {
        (0..30).for_each(|_| drop(client.get("/")));
        let answer = proxy.admin_get("/api/v1/slos").json();
        let slo = answer["slos"][0].clone();
        (slo["subjects"][0]["requests"].as_u64() >= Some(20)).then_some(slo)
    });
    assert_eq!(
        (&slo["name"], &slo["per"]),
        (&"fast".into(), &"route".into())
    );
    assert_eq!(slo["latency"]["quantile"], 0.98);
    let subject = &slo["subjects"][0];
    assert_eq!(subject["subject"], "shop");
    assert_eq!(subject["budget_remaining"], 1.0);
    assert_eq!(subject["burn_rates"]["1h"], 0.0);
    assert_eq!(subject["missed"], serde_json::json!([]));
    assert!(subject["latency_ms"].as_f64() > Some(0.0));
    let answer = proxy.admin_get("/api/v1/incidents").json();
    assert_eq!(answer, serde_json::json!({ "incidents": [] }));
    assert_eq!(proxy.admin_get("/api/v1/incidents/none").status, 404);
    let metrics = proxy.metrics();
    let labels = [("slo", "fast"), ("window", "5m")];
    assert_eq!(metrics.value("tidegate_slo_burn_rate", &labels), Some(0.0));
    let labels = [("slo", "fast")];
    let left = metrics.value("tidegate_slo_budget_remaining_ratio", &labels);
    assert_eq!(left, Some(1.0));
}

#[test]
fn a_burnt_budget_opens_an_incident_with_its_verdict_that_outlives_a_kill() {
    let (origin, fails) = failing();
    let kept = tempfile::tempdir().expect("a directory");
    let text = format!(
        "[server]\nstate_dir = \"{}\"\n{}",
        kept.path().display(),
        config(origin.address(), "availability = 0.999")
    );
    let mut proxy = Setup::config(&text).start();
    fails.store(true, Ordering::Relaxed);
    let opened = incident(&proxy, "a verdict", |one| !one["verdict"].is_null());
    assert_eq!(
        (&opened["slo"], &opened["subject"]),
        (&"fast".into(), &"shop".into())
    );
    assert_eq!(opened["signals"][0], "fast_burn");
    assert_eq!(opened["component"], "app");
    assert_eq!(opened["node"], format!("app/{}", origin.address()));
    assert_eq!(opened["verdict"]["cause"], "upstream_errors");
    assert_eq!(opened["closed_at"], Value::Null);
    let id = opened["id"].as_str().unwrap_or_default().to_owned();
    let one = proxy.admin_get(&format!("/api/v1/incidents/{id}")).json();
    assert_eq!(one["id"], opened["id"]);
    let told = eventually_some("an event", LONG, || {
        let events = proxy.admin_get("/api/v1/events?recent").json();
        let events = events["events"].as_array().cloned().unwrap_or_default();
        let mut events = events.into_iter();
        events.find(|event| event["event"] == "incident_open")
    });
    assert_eq!(
        (&told["subject"], &told["slo"]),
        (&"route shop".into(), &"fast".into())
    );
    assert_eq!(told["verdict"]["cause"], "upstream_errors");
    let bundled = incident(&proxy, "a bundle", |one| one["bundle"].as_u64() > Some(0));
    let path = kept.path().join("exported.tar.zst");
    let written = tidegate(&[
        "incidents",
        "export",
        &id,
        &path.display().to_string(),
        "--admin",
        &admin(&proxy),
    ]);
    assert!(
        written.contains(&format!("{} bytes", bundled["bundle"])),
        "{written}"
    );
    // Nobody is asked: the same verdict comes out of the file alone.
    let again = tidegate(&["diagnose", "--bundle", &path.display().to_string()]);
    assert!(again.starts_with("upstream_errors app"), "{again}");
    let files = std::fs::read(&path).expect("the export");
    let files = tidegate::incident::bundle::unpack(&files).expect("a bundle");
    for profile in ["profile.pb.gz", "heap.pb.gz"] {
        assert!(
            files.contains_key(profile),
            "{profile} of {:?}",
            files.keys()
        );
    }
    let picture = proxy.admin_get(&format!("/api/v1/incidents/{id}/profile"));
    assert!(
        picture.status == 404 || picture.text().starts_with("<svg"),
        "{}",
        picture.text()
    );
    let lately = tidegate(&["diagnose", "--last", "5m", "--admin", &admin(&proxy)]);
    assert!(lately.contains("upstream_errors app"), "{lately}");
    let file = kept.path().join("incidents.json");
    eventually_some("the file with the verdict", LONG, || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains("upstream_errors").then_some(())
    });
    proxy.signal(rustix::process::Signal::KILL);
    proxy.wait_exit();
    let again = Setup::config(&text).start();
    let kept = again.admin_get(&format!("/api/v1/incidents/{id}")).json();
    assert_eq!(kept["verdict"], opened["verdict"]);
    assert_eq!(kept["bundle"], bundled["bundle"]);
    let downloaded = again.admin_get(&format!("/api/v1/incidents/{id}/bundle"));
    assert_eq!(downloaded.body, std::fs::read(path).expect("the export"));
}

#[test]
fn whoever_wants_to_know_is_told_once_whatever_it_takes() {
    let (origin, fails) = failing();
    let busy = Arc::new(AtomicBool::new(true));
    let first = Arc::clone(&busy);
    // The first time it has no time.
    let hook = Origin::http1(move |_| {
        Reply::new(if first.swap(false, Ordering::Relaxed) {
            503
        } else {
            204
        })
    });
    let kept = tempfile::tempdir().expect("a directory");
    let (file, read) = (kept.path().join("told"), kept.path().join("read"));
    let script = format!("cat >> {0}; echo >> {0}", read.display());
    let text = format!(
        "{}[[notify]]\nwebhook = \"http://{}/hook\"\nsecret = \"whsec_c2VjcmV0\"\n\
         [[notify]]\nfile = {file:?}\n[[notify]]\nexec = [\"sh\", \"-c\", {script:?}]\n",
        config(origin.address(), "availability = 0.999"),
        hook.address(),
    );
    let proxy = Proxy::start(&text);
    fails.store(true, Ordering::Relaxed);
    let opened = incident(&proxy, "a verdict", |one| !one["verdict"].is_null());
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let told = eventually_some("all to be told", LONG, || {
        let all = [lines(&file), lines(&read)];
        (all.iter().all(|told| told.len() == 1) && hook.seen().len() == 2)
            .then(|| all[0][0].clone())
    });
    assert_eq!(lines(&read).first(), Some(&told));
    let seen = hook.seen();
    assert_eq!(seen[1].body, told.as_bytes());
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!((&*seen[1].method, &*seen[1].path), ("POST", "/hook"));
    assert!(
        seen[1]
            .header("webhook-signature")
            .is_some_and(|tag| tag.starts_with("v1,"))
    );
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["type"], "incident.open");
    assert_eq!(told["incident"]["id"], opened["id"]);
    let text = told["text"].as_str().unwrap_or_default();
    let node = format!("Component app, node app/{}", origin.address());
    assert!(
        text.starts_with("route shop misses fast: ") && text.contains(&node),
        "{text}"
    );
    assert!(text.contains("upstream_errors app"), "{text}");
    let metrics = proxy.metrics();
    let labels = [("exporter", "notify"), ("result", "sent")];
    assert_eq!(metrics.value("tidegate_exported_total", &labels), Some(3.0));
}

#[test]
fn a_slow_origin_opens_an_incident_that_closes_when_it_is_well_again() {
    let slow = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&slow);
    let origin = RawOrigin::start(move |mut conversation| {
        while conversation.read_request().is_some() {
            let late = Deadline::after(Duration::from_millis(40));
            while switch.load(Ordering::Relaxed) && late.tick() {}
            conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell");
        }
    });
    let promised = "latency = { quantile = 0.9, below = \"30ms\", over = \"5s\" }";
    let kept = tempfile::tempdir().expect("a directory");
    let file = kept.path().join("told");
    let notify = format!("[[notify]]\nfile = {file:?}\n");
    let proxy = Proxy::start(&(config(origin.address(), promised) + &notify));
    let opened = incident(&proxy, "an incident", |one| one["closed_at"].is_null());
    assert_eq!(opened["signals"], serde_json::json!(["latency"]));
    let what = opened["what"].as_str().unwrap_or_default();
    assert!(what.ends_with("over 5s, promised below 30 ms"), "{what}");
    slow.store(false, Ordering::Relaxed);
    let closed = incident(&proxy, "its end", |one| !one["closed_at"].is_null());
    assert_eq!(closed["id"], opened["id"]);
    let all = proxy.admin_get("/api/v1/incidents").json();
    assert_eq!(all["incidents"].as_array().map(Vec::len), Some(1));
    eventually_some("both notices", LONG, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let told: Vec<Value> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect();
        let types: Vec<_> = told.iter().map(|one| &one["type"]).collect();
        (types == ["incident.open", "incident.closed"]).then_some(())
    });
}
