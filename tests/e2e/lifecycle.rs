//! Signals, reloads and refusals to start.

use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually};

#[test]
fn a_term_signal_lets_requests_finish_and_ends_with_zero() {
    static GATE: Gate = Gate::closed();
    let origin = Origin::start(Flavour::Http1, |_| async {
        GATE.pass().await;
        Reply::ok("finished")
    });
    let mut proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    origin.wait_for_in_flight(1);

    proxy.signal(Signal::TERM);
    eventually("/readyz to say no", PATIENCE, || {
        readiness(&proxy).is_none_or(|status| status == 503)
    });
    GATE.open();

    assert_eq!(client.response("GET").text(), "finished");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn what_is_not_done_when_the_drain_is_over_is_recorded_as_drained() {
    static GATE: Gate = Gate::closed();
    let origin = Origin::start(Flavour::Http1, |_| async {
        GATE.pass().await;
        Reply::ok("never")
    });
    let mut proxy = Proxy::start(&format!(
        "[server]\ndrain_timeout = \"100ms\"\n[upstreams.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    origin.wait_for_in_flight(1);

    proxy.signal(Signal::TERM);

    assert_eq!(proxy.wait_exit().code(), Some(0));
    let drained = |line: &serde_json::Value| line["outcome"] == "drained";
    proxy.access_log_entry("the exchange that was ended", drained);
}

#[test]
fn an_interrupt_ends_an_idle_proxy_with_zero() {
    let origin = Origin::saying("ok");
    let mut proxy = Proxy::in_front_of(origin.address());
    assert_eq!(proxy.get("/").status, 200);

    proxy.signal(Signal::INT);

    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_hangup_takes_the_new_file_over_and_keeps_the_process() {
    let (old, new) = (Origin::saying("old"), Origin::saying("new"));
    let proxy = Proxy::in_front_of(old.address());
    assert_eq!(proxy.get("/").text(), "old");

    let text = std::fs::read_to_string(proxy.config_file()).expect("the file is there");
    let changed = text.replace(&old.address().to_string(), &new.address().to_string());
    std::fs::write(proxy.config_file(), changed).expect("the file is written");
    proxy.signal(Signal::HUP);

    eventually("the new origin to answer", PATIENCE, || {
        proxy.get("/").text() == "new"
    });
    assert_eq!(proxy.status()["pid"], proxy.pid());
}

#[test]
fn a_hangup_with_a_broken_file_leaves_the_old_plan_running() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    std::fs::write(proxy.config_file(), "version = 1\nnonsense = true\n").expect("it is written");
    proxy.signal(Signal::HUP);

    proxy.metrics_until("the failed reload in the metrics", |metrics| {
        metrics
            .value("tidegate_config_reload_success", &[])
            .is_some_and(|value| value < 0.5)
    });
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn a_reload_that_fails_at_a_certificate_disturbs_no_upstream() {
    let config = |upstream: &str, settings: &str| {
        format!(
            "[upstreams.{upstream}]\n{settings}\n[[routes]]\nname = \"all\"\n\
             match = {{ path_prefix = \"/\" }}\nupstream = \"{upstream}\"\n"
        )
    };
    let discover = "discover = { dns = \"localhost:1\" }";
    let proxy = Proxy::start(&config("found", discover));
    let addresses = || {
        let upstreams = proxy.admin_get("/api/v1/upstreams").json()["upstreams"].clone();
        let endpoints = upstreams[0]["endpoints"].as_array().cloned();
        let addresses = endpoints.unwrap_or_default().into_iter();
        addresses.map(|e| e["address"].clone()).collect::<Vec<_>>()
    };
    eventually("the name to be looked up", PATIENCE, || {
        !addresses().is_empty()
    });
    let found = addresses();

    let old = std::fs::read_to_string(proxy.config_file()).expect("the file is there");
    let (_, rest) = old.split_once("[[listen]]").expect("it listens");
    let broken = proxy.directory().join("broken.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, pem).expect("the file is written");
    let settings = "endpoints = [\"127.0.0.1:1\"]\ntls = { ca = \"broken.pem\" }";
    let new = format!("version = 1\n{}[[listen]]{rest}", config("other", settings));
    std::fs::write(proxy.config_file(), new).expect("the file is written");
    proxy.signal(Signal::HUP);
    proxy.metrics_until("the failed reload in the metrics", |metrics| {
        metrics
            .value("tidegate_config_reload_success", &[])
            .is_some_and(|value| value < 0.5)
    });

    let error = proxy.status()["config"]["last_reload"]["error"].clone();
    assert!(error.to_string().contains("broken.pem"), "{error}");
    assert_eq!(addresses(), found);
}

#[test]
fn a_wrong_configuration_is_refused_with_two_and_every_error_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("wrong.toml");
    let text = "version = 1\n[upstreams.a]\nendpionts = [\"127.0.0.1:1\"]\n\
                [[routes]]\nname = \"r\"\nupstream = \"missing\"\ntimeout = \"soon\"\n";
    std::fs::write(&file, text).expect("the file is written");
    let file = file.to_str().expect("a path in UTF-8");

    for command in ["check", "run"] {
        let output = tidegate(&[command, file]);
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        for part in ["endpionts", "endpoints", "missing", "soon", "wrong.toml:3"] {
            assert!(
                said.contains(part),
                "{command} does not say {part}:\n{said}"
            );
        }
    }
}

#[test]
fn the_command_line_is_explained_and_mistakes_in_it_are_two() {
    let help = tidegate(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(text.contains("run") && text.contains("check"), "{text}");

    assert_eq!(tidegate(&["--nonsense"]).status.code(), Some(2));
    assert_eq!(tidegate(&["nonsense"]).status.code(), Some(2));
}

/// What `/readyz` answers; `None` once nobody does.
fn readiness(proxy: &Proxy) -> Option<u16> {
    let mut client = Client::try_connect(proxy.admin()).ok()?;
    client
        .try_request("/readyz")
        .map(|response| response.status)
}

/// Runs the command to its end.
fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}
