//! What a file and flags come to, and how that is written out again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FD_LIMIT, minimal, plan, source};
use crate::config::plan::{
    AccessLog, Balance, Bind, EndpointAddress, Endpoints, HashOn, LogTarget, PathMatch,
};
use crate::config::{Source, diff, explain, watch};
use crate::engine::protection::Algorithm;
use crate::policy::concurrency;

#[test]
fn defaults_fill_what_is_left_out() {
    let plan = plan(&minimal(""));
    assert!(plan.server.workers >= 1);
    assert_eq!(plan.server.max_connections, 45_000);
    let [listener] = plan.listeners.as_slice() else {
        panic!("{:?}", plan.listeners)
    };
    assert_eq!(&*listener.name, "default");
    assert_eq!(listener.bind, Bind::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert!(listener.http1 && listener.http2);
    assert_eq!(listener.max_body_bytes, None);
    assert_eq!(
        plan.admin.bind,
        Bind::Tcp("127.0.0.1:9900".parse().unwrap())
    );
    let [route] = plan.routes.as_slice() else {
        panic!("{:?}", plan.routes)
    };
    assert_eq!(&*route.name, "default");
    assert_eq!(route.timeout, Duration::from_secs(15));
    assert_eq!(route.matches.path, PathMatch::Prefix("/".into()));
    assert_eq!(
        plan.telemetry.access_log,
        Some(AccessLog {
            target: LogTarget::Stdout,
            sample: 1.0
        })
    );
}

#[test]
fn the_largest_cached_body_fits_into_a_small_cache() {
    let most = |cache: &str| {
        let plan = plan(&minimal(&format!("[cache.shared]\n{cache}")));
        plan.caches.first().map(|cache| cache.max_object)
    };
    assert_eq!(most(""), Some(32 << 20));
    assert_eq!(most("memory = \"64MiB\""), Some(16 << 20));
    let small_disk = "disk = { path = \"d\", size = \"16MiB\" }";
    assert_eq!(most(small_disk), Some(4 << 20));
}

#[test]
fn few_descriptors_still_leave_room_for_connections() {
    let plan = source().load_text(Some(minimal("")), 64).unwrap();
    assert_eq!(plan.server.max_connections, 1024);
}

#[test]
fn flags_alone_make_a_plan() {
    let source = Source {
        upstreams: vec!["http://127.0.0.1:3000".to_owned(), "http://b:1".to_owned()],
        listen: Some("127.0.0.1:0".to_owned()),
        admin: Some("unix:/run/tidegate.sock".to_owned()),
        set: vec![
            "server.workers=2".to_owned(),
            "upstreams.default.connect_timeout=2s".to_owned(),
        ],
        ..Source::default()
    };
    let plan = source.load(FD_LIMIT).unwrap();
    assert_eq!(plan.source, None);
    assert_eq!(plan.server.workers, 2);
    assert_eq!(&*plan.listeners[0].name, "default");
    assert_eq!(
        plan.listeners[0].bind,
        Bind::Tcp("127.0.0.1:0".parse().unwrap())
    );
    assert_eq!(plan.admin.bind, Bind::Unix("/run/tidegate.sock".into()));
    let upstream = &plan.upstreams[0];
    assert_eq!(&*upstream.name, "default");
    assert_eq!(upstream.tls, None);
    assert_eq!(upstream.connect_timeout, Duration::from_secs(2));
    let Endpoints::Fixed(endpoints) = &upstream.endpoints else {
        panic!("{upstream:?}")
    };
    assert_eq!(endpoints.len(), 2);
}

#[test]
fn flags_go_over_the_file() {
    let text = minimal("[[listen]]\nname = \"public\"\naddress = \"0.0.0.0:80\"\n");
    let source = Source {
        upstreams: vec!["https://example.com".to_owned()],
        listen: Some("127.0.0.1:81".to_owned()),
        set: vec![
            "listen.0.header_timeout=\"3s\"".to_owned(),
            "listen.1.address=127.0.0.1:82".to_owned(),
            "upstreams.app.balance={ hash = \"path\" }".to_owned(),
        ],
        ..source()
    };
    let plan = source.load_text(Some(text), FD_LIMIT).unwrap();
    let binds: Vec<_> = plan.listeners.iter().map(|one| one.bind.clone()).collect();
    let tcp = |text: &str| Bind::Tcp(text.parse().unwrap());
    assert_eq!(binds, [tcp("127.0.0.1:81"), tcp("127.0.0.1:82")]);
    assert_eq!(&*plan.listeners[0].name, "public");
    assert_eq!(plan.listeners[0].header_timeout, Duration::from_secs(3));
    let upstream = &plan.upstreams[0];
    assert_eq!(upstream.balance, Balance::Hash(HashOn::Path));
    assert!(upstream.tls.is_some());
    let Endpoints::Fixed(endpoints) = &upstream.endpoints else {
        panic!("{upstream:?}")
    };
    assert_eq!(
        endpoints[0].address,
        EndpointAddress::Host("example.com".into(), 443)
    );
}

#[test]
fn secrets_come_from_texts_files_and_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "from-file\n").unwrap();
    let token = |value: &str| {
        let source = Source {
            file: Some(dir.path().join("tidegate.toml")),
            ..Source::default()
        };
        let text = minimal(&format!(
            "[admin]\naddress = \"0.0.0.0:1\"\ntoken = {value}\n"
        ));
        source.load_text(Some(text), FD_LIMIT)
    };
    let plan = token("{ file = \"token\" }").unwrap();
    assert_eq!(plan.admin.token.as_ref().unwrap().expose(), "from-file");
    assert_eq!(
        watch::files(&plan),
        BTreeSet::from([dir.path().join("tidegate.toml"), dir.path().join("token")])
    );
    assert!(!explain::to_toml(&plan).contains("from-file"));
    assert!(!format!("{plan:?}").contains("from-file"));
    let plan = token("\"literal\"").unwrap();
    assert_eq!(plan.admin.token.unwrap().expose(), "literal");
    let plan = token("{ env = \"CARGO_PKG_NAME\" }").unwrap();
    assert_eq!(plan.admin.token.unwrap().expose(), "tidegate");
    for wrong in [
        "{ env = \"NO_SUCH_VARIABLE_HERE\" }",
        "{}",
        "\"\"",
        "{ env = \"A\", file = \"b\" }",
    ] {
        assert_eq!(token(wrong).unwrap_err().count(), 1, "{wrong}");
    }
}

#[test]
fn what_is_explained_is_toml_as_people_write_it() {
    let text = explain::to_toml(&plan(&minimal("health = { tcp = true }\n")));
    assert!(text.starts_with("version = 1\n\n[server]\n"), "{text}");
    assert!(text.contains("\n[upstreams.app]\n"), "{text}");
}

#[test]
fn equal_plans_have_equal_hashes_and_others_do_not() {
    let plain = plan(&minimal(""));
    let spelled = plan(&minimal("connect_timeout = \"1000ms\" # the default\n"));
    let other = plan(&minimal("connect_timeout = \"2s\"\n"));
    assert_eq!(plain.hash, spelled.hash);
    assert_ne!(plain.hash, other.hash);
}

#[test]
fn a_difference_names_what_changed() {
    let before = plan(&minimal(
        "[upstreams.old]\nendpoints = [\"o:1\"]\n[[routes]]\nname = \"orders\"\nupstream = \"app\"\n[admin]\ntoken = \"a\"\n",
    ));
    let after = plan(&minimal(
        "health = { tcp = true }\n[server]\nworkers = 77\n[upstreams.new]\nendpoints = [\"o:1\"]\n[[routes]]\nname = \"orders\"\nupstream = \"app\"\ntimeout = \"5s\"\nmatch = { host = \"a.com\" }\n[admin]\ntoken = \"b\"\n",
    ));
    let changes = diff::diff(&before, &after);
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let workers = before.server.workers;
    assert_eq!(
        lines,
        [
            format!("server: workers {workers} → 77"),
            "admin: token <redacted> → <redacted>".to_owned(),
            "upstream app: health none → {\"tcp\":true,\"interval\":\"5s\",\"timeout\":\"1s\",\"rise\":2,\"fall\":3}".to_owned(),
            "upstream old removed".to_owned(),
            "upstream new added".to_owned(),
            "route orders: match.host none → a.com".to_owned(),
            "route orders: timeout 15s → 5s".to_owned(),
        ]
    );
    let restart: Vec<&str> = changes
        .needing_restart()
        .map(|one| one.subject.as_str())
        .collect();
    assert_eq!(restart, ["server", "admin"]);
    assert!(diff::diff(&before, &before).is_empty());
}

#[test]
fn bounds_that_are_left_out_follow_those_that_are_given() {
    let adaptive = |min, initial, max| {
        Algorithm::Adaptive(concurrency::Config::try_new(min, initial, max).unwrap())
    };
    for (text, expected) in [
        ("max = 2", adaptive(2, 2, 2)),
        ("min = 5000", adaptive(5_000, 5_000, 5_000)),
        ("initial = 100", adaptive(4, 100, 2_000)),
        ("algorithm = \"fixed\", max = 7", Algorithm::Fixed(7)),
        ("algorithm = \"fixed\"", Algorithm::Fixed(32)),
    ] {
        let plan = plan(&minimal(&format!("concurrency = {{ {text} }}\n")));
        assert_eq!(plan.upstreams[0].protection.algorithm, expected, "{text}");
    }
}

#[test]
fn the_password_of_a_ledger_is_shown_to_nobody() {
    let with = |password: &str| {
        plan(&minimal(&format!(
            "[usage]\nstore = \"postgres://gate:{password}@db.internal:5433/usage?sslmode=require\"\n"
        )))
    };
    let (old, new) = (with("first-one"), with("second-one"));
    let shown = explain::to_json(&old).to_string();
    assert!(
        shown.contains("postgres://gate@db.internal:5433/usage"),
        "{shown}"
    );
    assert!(!shown.contains("first-one") && !format!("{old:?}").contains("first-one"));
    let changes = diff::diff(&old, &new);
    let told: Vec<String> = changes.into_iter().map(ToString::to_string).collect();
    assert_eq!(told, ["usage: store <redacted> → <redacted>"]);
}

#[test]
fn the_place_where_a_fleet_meets_is_shown_without_its_password() {
    let with = |url: &str| plan(&minimal(&format!("[shared]\nredis = \"{url}\"\n")));
    for (url, shown) in [
        ("redis://:hidden@a", "redis://a:6379"),
        ("rediss://gate:hidden@a:7000/3", "rediss://gate@a:7000/3"),
        (
            "unix:///run/redis.sock?pass=hidden",
            "unix:///run/redis.sock",
        ),
        (
            "redis-cluster://:hidden@a:1,:hidden@b:2",
            "redis-cluster://a:1,b:2",
        ),
    ] {
        let plan = with(url);
        let explained = explain::to_json(&plan);
        assert_eq!(explained["shared"]["redis"], shown);
        assert!(
            !explained.to_string().contains("hidden") && !format!("{plan:?}").contains("hidden")
        );
        assert_eq!(
            with(shown).shared.map(|redis| redis.shown),
            Some(shown.to_owned())
        );
    }
    let changes = diff::diff(&with("redis://:one@a"), &with("redis://:other@a"));
    let told: Vec<String> = changes.into_iter().map(ToString::to_string).collect();
    assert_eq!(told, ["shared: redis <redacted> → <redacted>"]);
}
