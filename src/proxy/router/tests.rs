//! Which route wins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::plan::{Admin, Bind, HeaderEdits, Route, Server, Telemetry};

/// `host path methods header`, where a host may be `*` or begin with `*.`, and a path ends in `=` when it is
/// exact. Empty methods and header match all.
fn route(spec: &str) -> Arc<Route> {
    let mut words = spec.split(' ');
    let host = match words.next().unwrap() {
        "*" => HostMatch::Any,
        host => match host.strip_prefix("*.") {
            Some(domain) => HostMatch::Below(domain.into()),
            None => HostMatch::Exact(host.into()),
        },
    };
    let path = words.next().unwrap();
    let path = match path.strip_suffix('=') {
        Some(path) => PathMatch::Exact(path.into()),
        None => PathMatch::Prefix(path.into()),
    };
    let methods = words.next().unwrap_or_default().split(',');
    let methods = methods.filter(|m| !m.is_empty());
    let header = words.next().and_then(|header| header.split_once(':'));
    Arc::new(Route {
        name: spec.into(),
        matches: Match {
            host,
            path,
            methods: methods.map(|m| m.parse().unwrap()).collect(),
            headers: header
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .into_iter()
                .collect(),
        },
        upstream: 0,
        timeout: Duration::from_secs(15),
        idle_timeout: Duration::from_secs(60),
        tier: 0,
        cache: None,
        slo: None,
        breaker: None,
        rate_limits: Vec::new(),
        rewrite: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    })
}

fn router(specs: &[&str]) -> Router {
    Router::new(&Plan {
        source: None,
        hash: String::new(),
        server: Server {
            workers: 1,
            drain_timeout: Duration::ZERO,
            max_connections: 1,
            overload: crate::engine::protection::Mode::Enforce,
            state_dir: None,
        },
        listeners: Vec::new(),
        admin: Admin {
            bind: Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            token: None,
        },
        clients: Default::default(),
        rate_limits: Vec::new(),
        tiers: vec!["standard".into()],
        upstreams: Vec::new(),
        caches: Vec::new(),
        actions: Vec::new(),
        slos: Vec::new(),
        routes: specs.iter().map(|spec| route(spec)).collect(),
        usage: Default::default(),
        shared: None,
        telemetry: Telemetry::default(),
    })
}

fn get(router: &Router, host: &str, path: &str) -> Option<usize> {
    router.find(host, path, &Method::GET, &HeaderMap::new())
}

#[test]
fn an_exact_host_beats_the_longest_wildcard_beats_any_host() {
    let router = router(&[
        "* /",
        "*.example.com /",
        "*.b.example.com /",
        "a.b.example.com /",
    ]);
    for (host, expected) in [
        ("a.b.example.com", 3),
        ("c.b.example.com", 2),
        ("x.c.b.example.com", 2),
        ("b.example.com", 1),
        ("example.com", 0),
        ("badexample.com", 0),
        ("other", 0),
        ("", 0),
    ] {
        assert_eq!(get(&router, host, "/"), Some(expected), "{host}");
    }
}

#[test]
fn case_port_and_trailing_dot_of_a_host_do_not_matter() {
    let router = router(&[
        "api.example.com /",
        "[::1] /",
        "10.0.0.1 /",
        "*.example.com /",
    ]);
    for (host, expected) in [
        ("API.Example.com", Some(0)),
        ("api.example.com:8080", Some(0)),
        ("api.example.com.", Some(0)),
        ("api.example.com.:443", Some(0)),
        ("[::1]", Some(1)),
        ("[::1]:8080", Some(1)),
        ("10.0.0.1:80", Some(2)),
        ("W.EXAMPLE.COM:1", Some(3)),
        ("[::2]:80", None),
    ] {
        assert_eq!(get(&router, host, "/"), expected, "{host}");
    }
}

#[test]
fn an_exact_path_beats_the_longest_prefix() {
    let router = router(&[
        "* /",
        "* /orders",
        "* /orders/new",
        "* /orders/new=",
        "* /orders/",
    ]);
    for (path, expected) in [
        ("/", 0),
        ("/ordersx", 0),
        ("/orders", 1),
        ("/orders/", 1),
        ("/orders/1", 1),
        ("/orders/newer", 1),
        ("/orders/new", 3),
        ("/orders/new/1", 2),
        ("/orders/new/", 2),
        ("*", 0),
    ] {
        assert_eq!(get(&router, "h", path), Some(expected), "{path}");
    }
}

#[test]
fn a_prefix_length_inside_a_character_is_no_prefix() {
    let router = router(&["* /abc"]);
    assert_eq!(get(&router, "h", "/aé"), None);
    assert_eq!(get(&router, "h", "/abé"), None);
}

#[test]
fn more_predicates_beat_fewer_and_the_file_decides_the_rest() {
    let router = router(&[
        "* /",
        "* / GET",
        "* / GET x-canary:1",
        "* /  x-canary:1",
        "* / POST,PUT",
    ]);
    let mut canary = HeaderMap::new();
    canary.append("x-canary", "0".parse().unwrap());
    canary.append("x-canary", "1".parse().unwrap());
    let none = HeaderMap::new();
    for (method, headers, expected) in [
        (Method::GET, &canary, 2),
        (Method::GET, &none, 1),
        (Method::PUT, &none, 4),
        (Method::PUT, &canary, 3),
        (Method::HEAD, &none, 0),
    ] {
        let found = router.find("h", "/x", &method, headers);
        assert_eq!(found, Some(expected), "{method} {headers:?}");
    }
}

#[test]
fn routes_that_decline_leave_the_request_to_less_specific_ones() {
    let router = router(&[
        "a.example.com /orders/new POST",
        "a.example.com /orders DELETE",
        "*.example.com /orders PUT",
        "*.com /",
        "* /orders/new=",
    ]);
    let find = |host, path, method| router.find(host, path, &method, &HeaderMap::new());
    assert_eq!(find("a.example.com", "/orders/new", Method::POST), Some(0));
    assert_eq!(
        find("a.example.com", "/orders/new", Method::DELETE),
        Some(1)
    );
    assert_eq!(find("a.example.com", "/orders/new", Method::PUT), Some(2));
    assert_eq!(find("a.example.com", "/orders/new", Method::GET), Some(3));
    assert_eq!(find("a.org", "/orders/new", Method::GET), Some(4));
    assert_eq!(find("a.org", "/orders", Method::GET), None);
}

#[test]
fn thousands_of_routes_are_found_by_hash() {
    let specs: Vec<String> = (0..5_000)
        .map(|n| format!("h{}.example.com /svc{n}/v1", n % 50))
        .collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let router = router(&specs);
    for n in [0, 1_234, 4_999] {
        let host = format!("h{}.example.com", n % 50);
        assert_eq!(get(&router, &host, &format!("/svc{n}/v1/x")), Some(n));
    }
}

#[test]
fn an_empty_plan_routes_nothing() {
    assert_eq!(get(&router(&[]), "h", "/"), None);
}
