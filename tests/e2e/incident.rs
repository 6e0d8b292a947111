//! What is wrong, asked of the running proxy.

use std::time::Duration;

use serde_json::Value;

use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, free_address};
use crate::support::reply::Reply;
use crate::support::wait::eventually_some;

/// An upstream that is left to fail: no policy comes between it and the client.
fn upstream(endpoints: &str) -> String {
    let off = "{ mode = \"off\" }";
    format!(
        "[upstreams.app]\nendpoints = [{endpoints}]\nbreaker = {off}\nretry = {off}\noutlier = {off}\n"
    )
}

/// The first verdict that is found while `path` is asked for.
fn first_verdict(proxy: &Proxy, path: &str) -> Value {
    let mut client = proxy.client();
    eventually_some("a verdict", Duration::from_secs(30), || {
        for _ in 0..20 {
            client.get(path);
        }
        let answer = proxy.admin_get("/api/v1/diagnosis").json();
        let verdict = answer["verdicts"].get(0).cloned();
        assert!(verdict.is_none() || answer["lagging"] == true);
        verdict
    })
}

#[test]
fn nothing_is_wrong_with_a_proxy_that_idles() {
    let proxy = Proxy::start(&upstream(&format!(
        "\"{}\"",
        Origin::saying("ok").address()
    )));
    let answer = proxy.admin_get("/api/v1/diagnosis").json();
    assert_eq!(answer["lagging"], false);
    assert_eq!(answer["verdicts"], serde_json::json!([]));
    let scale = proxy.admin_get("/api/v1/scale/app").json();
    assert_eq!(scale["headroom"], 1.0);
    assert_eq!(proxy.admin_get("/api/v1/scale/none").status, 404);
}

#[test]
fn an_upstream_that_fails_is_said_to_fail() {
    let origin = Origin::http1(|_| Reply::new(500));
    let proxy = Proxy::start(&upstream(&format!("\"{}\"", origin.address())));
    let verdict = first_verdict(&proxy, "/");
    assert_eq!(verdict["cause"], "upstream_errors");
    assert_eq!(verdict["subject"], "app");
    assert!(verdict["confidence"].as_f64().unwrap() > 0.5);
    assert_eq!(verdict["evidence"][0]["value"], 1.0);
    proxy.metrics_until("the cause", |metrics| {
        let labels = [("cause", "upstream_errors")];
        metrics.value("tidegate_incident_active", &labels) == Some(1.0)
    });
}

#[test]
fn an_endpoint_that_is_gone_is_said_to_be_down() {
    let origin = Origin::saying("ok");
    let gone = free_address();
    let endpoints = format!("\"{}\", \"{gone}\"", origin.address());
    let config = format!("{}balance = \"round-robin\"\n", upstream(&endpoints));
    let proxy = Proxy::start(&config);
    let verdict = first_verdict(&proxy, "/");
    assert_eq!(verdict["cause"], "endpoint_down");
    assert_eq!(verdict["subject"], format!("app/{gone}"));
}
