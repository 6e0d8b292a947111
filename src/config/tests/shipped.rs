//! The files in `config/`, and the schema beside them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{FD_LIMIT, load, plan, shipped};
use crate::config::plan::{Balance, HashOn, HedgeAfter, HostMatch, Outlier, Probe, Rewrite};
use crate::config::{Source, document, explain, schema, watch};
use crate::engine::protection::Settings;
use crate::policy::breaker;

/// Every setting of the full file that is off, on.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// A directory with every file that the full configuration names, and the configuration itself.
fn full_with_files() -> (tempfile::TempDir, Source) {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for name in ["tls.crt", "other.crt", "ca.crt", "client.crt"] {
        std::fs::write(dir.path().join(name), pair.cert.pem()).unwrap();
    }
    for name in ["tls.key", "other.key", "client.key"] {
        std::fs::write(dir.path().join(name), pair.signing_key.serialize_pem()).unwrap();
    }
    for name in [
        "admin.token",
        "client-hash.key",
        "jwks.json",
        "otlp.token",
        "splunk.token",
        "webhook.secret",
    ] {
        std::fs::write(dir.path().join(name), "secret\n").unwrap();
    }
    let file = dir.path().join("tidegate.toml");
    std::fs::write(&file, uncommented(&shipped("full.toml"))).unwrap();
    let source = Source {
        file: Some(file),
        ..Source::default()
    };
    (dir, source)
}

#[test]
fn every_shipped_file_loads() {
    for name in ["quickstart.toml", "full.toml"] {
        plan(&shipped(name));
    }
    let kubernetes = shipped("kubernetes.toml").replace("TIDEGATE_TOKEN", "CARGO_PKG_NAME");
    let plan = plan(&kubernetes);
    assert_eq!(plan.routes.len(), 2);
}

#[test]
fn the_full_file_loads_with_everything_on() {
    let (dir, source) = full_with_files();
    let plan = source
        .load(FD_LIMIT)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        plan.listeners[1].tls.as_ref().unwrap().certificates.len(),
        2
    );
    assert_eq!(watch::files(&plan).len(), 12);
    assert!(
        watch::files(&plan)
            .iter()
            .all(|file| file.starts_with(dir.path()))
    );
    let [orders, payments, reports, search] = plan.upstreams.as_slice() else {
        panic!("{:?}", plan.upstreams)
    };
    assert!(payments.tls.as_ref().unwrap().client.is_some());
    assert_eq!(reports.health.as_ref().unwrap().probe, Probe::Tcp);
    let usual = Settings {
        breaker_config: breaker::Config::try_new(breaker::Settings {
            slow_call: Some(Duration::from_secs(2)),
            ..breaker::Settings::default()
        })
        .unwrap(),
        ..Settings::default()
    };
    assert_eq!(orders.protection, usual, "the file states the defaults");
    assert_eq!(orders.outlier, Outlier::default());
    assert_eq!(orders.retry.per_try_timeout, Some(Duration::from_secs(5)));
    assert_eq!(orders.retry.hedge_after, Some(HedgeAfter::Quantile(0.95)));
    assert_eq!(reports.protection, Settings::default());
    assert_eq!(
        search.balance,
        Balance::Hash(HashOn::Header("x-session".parse().unwrap()))
    );
    let route = &plan.routes[0];
    assert_eq!(
        route.matches.host,
        HostMatch::Exact("api.example.com".into())
    );
    assert_eq!(route.rewrite, Some(Rewrite::StripPrefix("/orders".into())));
    assert_eq!((route.tier, &*plan.tiers[1]), (1, "standard"));
    assert!(route.breaker.is_none() && plan.routes[1].breaker.is_some());
}

#[test]
fn the_full_file_has_every_key() {
    let text = uncommented(&shipped("full.toml"));
    let mut keys = BTreeSet::new();
    collect_keys(&schema::schema(), &mut keys);
    assert!(keys.len() > 60, "{keys:?}");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with("# "))
        .flat_map(|line| line.split(|c: char| !is_word(c)))
        .collect();
    // A secret may come from the environment as well; the shipped file for Kubernetes shows it.
    keys.remove("env");
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| !words.contains(key.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(properties)) = entries.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            entries.values().for_each(|inner| collect_keys(inner, keys));
        }
        Value::Array(elements) => elements.iter().for_each(|inner| collect_keys(inner, keys)),
        _ => {}
    }
}

#[test]
fn what_is_explained_loads_to_the_same_plan() {
    let (_dir, source) = full_with_files();
    let first = source.load(FD_LIMIT).unwrap();
    let text = explain::to_toml(&first);
    let second = load(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(explain::to_toml(&second), text);
    assert_eq!(second.hash, first.hash);
    assert_eq!(second.server, first.server);
    assert_eq!(second.listeners, first.listeners);
    assert_eq!(second.clients.identify, first.clients.identify);
    assert_eq!(second.clients.known, first.clients.known);
    assert_eq!(second.rate_limits, first.rate_limits);
    assert_eq!(second.tiers, first.tiers);
    assert_eq!(second.upstreams, first.upstreams);
    assert_eq!(second.routes, first.routes);
    // Written out, since secrets are hidden there.
    let (one, other) = (&first.telemetry, &second.telemetry);
    assert_eq!(format!("{other:?}"), format!("{one:?}"));
    assert!(one.exporters.otlp.is_some() && one.exporters.splunk.is_some());
    assert_eq!(second.admin.token.unwrap().expose(), "<redacted>");
    let json = explain::to_json(&first);
    assert_eq!(json["routes"][0]["timeout"], "15s");
    assert_eq!(json["admin"]["token"], "<redacted>");
}

#[test]
fn the_schema_describes_the_file() {
    let schema = schema::schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["version"]));
    let defs = schema["$defs"].as_object().unwrap();
    for (name, definition) in defs {
        if definition.get("properties").is_some() {
            assert_eq!(definition["additionalProperties"], false, "{name}");
            for (key, property) in definition["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{name}.{key}");
            }
        }
    }
    assert_eq!(defs["RawRoute"]["properties"]["timeout"]["default"], "15s");
    assert!(!schema.to_string().contains("null"));
}

#[test]
fn the_keys_known_as_lists_are_those_of_the_schema() {
    let mut lists = BTreeSet::new();
    collect_lists(&schema::schema(), &mut lists);
    assert_eq!(
        lists.iter().map(String::as_str).collect::<Vec<_>>(),
        document::LISTS
    );
}

fn collect_lists(schema: &Value, lists: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(properties)) = entries.get("properties") {
                let found = properties.iter().filter(|(_, one)| one["type"] == "array");
                lists.extend(found.map(|(key, _)| key.clone()));
            }
            entries
                .values()
                .for_each(|inner| collect_lists(inner, lists));
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|inner| collect_lists(inner, lists)),
        _ => {}
    }
}
