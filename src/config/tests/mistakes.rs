//! What is refused, and in which words.

use proptest::prelude::*;

use super::{FD_LIMIT, load, minimal, refused, shipped, source};
use crate::config::Source;

#[test]
fn every_mistake_is_reported_at_once() {
    let text = r#"version = 2

[server]
wrokers = 4
drain_timeout = "5x"

[[lisen]]
address = "0.0.0.0:80"

[[listen]]
address = "0.0.0.0"
protocols = ["http3"]

[admin]
address = "0.0.0.0:9900"

[upstreams.orders]
endpoints = ["10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 0 }]
idle_timeout = 60
breaker = { failure_ratio = 0 }
health = { interval = "1s" }

[[routes]]
name = "orders"
match = { host = "a.*.com", path_prefix = "orders", methods = ["get"] }
upstream = "order"

[[routes]]
name = "orders"
upstream = "orders"
rewrite = {}
"#;
    let expected = "\
tidegate.toml:1:11: version 2 is not supported; this Tidegate reads version 1
tidegate.toml:4:1: unknown key `wrokers`; did you mean `workers`?
tidegate.toml:5:17: `5x` is not a duration; write a number with ms, s, m, h or d, such as \"250ms\"
tidegate.toml:7:3: unknown key `lisen`; did you mean `listen`?
tidegate.toml:11:11: `0.0.0.0` is not an address to listen on; write an IP address and a port, such as \"0.0.0.0:8080\", or \"unix:/path\"
tidegate.toml:12:14: `http3` is not known here; did you mean `http1`?
tidegate.toml:15:11: the admin API at 0.0.0.0:9900 would be open to the network; give `[admin]` a `token`, or use a loopback address or unix socket
tidegate.toml:18:69: a weight must be above 0 and at most 1000000, not 0
tidegate.toml:19:16: `60` is not a duration; write a number with ms, s, m, h or d, such as \"250ms\"
tidegate.toml:20:29: `failure_ratio` must be above zero
tidegate.toml:21:10: `health` does not say what to check; add `path = \"/healthz\"`, `grpc = \"\"` or `tcp = true`
tidegate.toml:25:18: `a.*.com` has its `*` in the wrong place; only \"*.example.com\" is understood
tidegate.toml:25:43: `orders` is not a path; it must begin with `/`
tidegate.toml:25:64: `get` is not a method; methods are in capitals: `GET`
tidegate.toml:26:12: there is no upstream `order`; did you mean `orders`?
tidegate.toml:29:8: there already is a route `orders`
tidegate.toml:31:11: `rewrite` does not say what to do; add `strip_prefix` or `replace_prefix`";
    assert_eq!(refused(text), expected);
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let errors = load("version = 1\n[upstreams.app]\nendpoint = [\"a:1\"]\n").unwrap_err();
    let expected = "\
error: unknown key `endpoint`
 --> tidegate.toml:3:1
  |
3 | endpoint = [\"a:1\"]
  | ^^^^^^^^
  |
  = help: did you mean `endpoints`?
";
    assert_eq!(errors.render(false), expected);
    assert_eq!(errors.count(), 1);
}

#[test]
fn a_syntax_error_stands_alone() {
    let errors = load("version = 1\nserver = [\n").unwrap_err();
    assert_eq!(errors.count(), 1);
    assert!(errors.to_string().starts_with("tidegate.toml:"), "{errors}");
}

#[test]
fn an_unreadable_file_names_itself() {
    let source = Source {
        file: Some("no/such.toml".into()),
        ..Source::default()
    };
    assert_eq!(
        source.load(FD_LIMIT).unwrap_err().to_string(),
        "cannot read no/such.toml: No such file or directory"
    );
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(
        refused(""),
        "tidegate.toml:1:1: `version` is missing; begin the file with `version = 1`\n\
         tidegate.toml:1:1: there is no upstream; add `[upstreams.NAME]` with `endpoints = [\"host:port\"]`, or use --upstream URL"
    );
    assert_eq!(
        refused("version = 1\n[upstreams.a]\n[upstreams.b]\nendpoints = []\n"),
        "tidegate.toml:1:1: there are several upstreams and no route; add `[[routes]]` with `name`, `match` and `upstream`\n\
         tidegate.toml:2:12: upstream `a` has neither `endpoints` nor `discover`; write `endpoints = [\"host:port\"]` or `discover = { dns = \"name:port\" }`\n\
         tidegate.toml:4:13: `endpoints` is empty; write `endpoints = [\"host:port\"]`"
    );
    assert_eq!(
        refused(&minimal("[[routes]]\n")),
        "tidegate.toml:4:1: `name` is missing; a route needs `name` and `upstream`\n\
         tidegate.toml:4:1: `upstream` is missing; a route needs `name` and `upstream`"
    );
}

#[test]
fn one_mistake_does_not_drag_others_along() {
    for (text, expected) in [
        (
            "version = 1\nupstreams = 5\n".to_owned(),
            "tidegate.toml:2:13: expected a table, found integer `5`",
        ),
        (
            "version = 1\n[upstream.app]\nendpoints = [\"a:1\"]\n[[routes]]\nname = \"a\"\nupstream = \"app\"\n"
                .to_owned(),
            "tidegate.toml:2:2: unknown key `upstream`; did you mean `upstreams`?",
        ),
        (
            "version = \"1\"\n[upstreams.app]\nendpoints = [5]\n".to_owned(),
            "tidegate.toml:1:11: expected a whole number, found string \"1\"\n\
             tidegate.toml:3:14: expected an address such as \"10.0.0.1:8080\", or { address = \"…\", weight = 1 }, found integer `5`",
        ),
        (
            minimal("health = { pth = \"/\" }\nbalance = { hash = \"cookie\" }\n"),
            "tidegate.toml:4:12: unknown key `pth`; did you mean `path`?\n\
             tidegate.toml:5:11: `cookie` cannot be hashed; write `client`, `path` or `header:NAME`",
        ),
    ] {
        assert_eq!(refused(&text), expected);
    }
}

#[test]
fn contradictions_are_refused() {
    for (more, expected) in [
        (
            "discover = { dns = \"a:1\" }\n",
            "has both `endpoints` and `discover`",
        ),
        (
            "tls = {}\n[upstreams.b]\nendpoints = [\"http://b\"]\ntls = {}\n",
            "without TLS",
        ),
        (
            "health = { path = \"/\", tcp = true }\n",
            "more than one of",
        ),
        ("health = { grpc = \"\" }\n", "gRPC needs HTTP/2"),
        (
            "tls = { client_key = \"k\" }\n",
            "needs `client_certificate`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\n[[listen]]\nname = \"b\"\naddress = \"127.0.0.1:1\"\n",
            "already has this address",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:9900\"\n",
            "already has the admin API's address",
        ),
        ("[[listen]]\nprotocols = []\n", "speaks no protocol"),
        (
            "[[listen]]\nmax_header_bytes = \"1KiB\"\n",
            "must be from 8KiB to 16MiB",
        ),
        (
            "[[listen]]\nmax_headers = -1\n",
            "`max_headers` must be from 1 to 10000, not -1",
        ),
        (
            "[[routes]]\nname = \"a\"\nupstream = \"app\"\nmatch = { path = \"/a\", path_prefix = \"/a\" }\n",
            "has both `path` and `path_prefix`",
        ),
        (
            "[[routes]]\nname = \"a\"\nupstream = \"app\"\n[[routes]]\nname = \"b\"\nupstream = \"app\"\n",
            "never be reached",
        ),
        (
            "[[routes]]\nname = \"a\"\nupstream = \"app\"\nheaders = { request = { remove = [\"Content-Length\"] } }\n",
            "frames the message",
        ),
        (
            "[[routes]]\nname = \"a\"\nupstream = \"app\"\nheaders = { request = { set = { \"a b\" = \"c\" } } }\n",
            "is not a header name",
        ),
        (
            "[[routes]]\nname = \"a\"\nupstream = \"app\"\ntimeout = \"0s\"\n",
            "`timeout` must be above zero",
        ),
        (
            "[telemetry]\naccess_log = { sample = 1.5 }\n",
            "`1.5` is not a ratio",
        ),
        (
            "[telemetry]\notlp = { sample = 0.5 }\n",
            "`endpoint` is missing",
        ),
        (
            "[telemetry]\nzipkin = { endpoint = \"127.0.0.1:9411\" }\n",
            "is not a URL to send to",
        ),
        (
            "[telemetry]\nsplunk = { url = \"https://splunk:8088\" }\n",
            "`token` is missing",
        ),
        (
            "[telemetry]\notlp = { endpoint = \"http://c\", headers = { \"a b\" = \"c\" } }\n",
            "`a b` is not a header name",
        ),
        ("[server]\nworkers = [1]\n", "found a list"),
        ("retry = [\"5s\"]\n", "`retry` is a table, not a list"),
    ] {
        let text = refused(&minimal(more));
        assert!(text.contains(expected), "{more}\n{text}");
    }
}

#[test]
fn files_that_cannot_be_read_name_themselves() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.crt"), "").unwrap();
    let text = minimal(
        "[[listen]]\ntls = { certificate = \"empty.crt\", key = \"no.key\" }\n[admin]\ntoken = { file = \"no.token\" }\n",
    );
    let source = Source {
        file: Some(dir.path().join("tidegate.toml")),
        ..Source::default()
    };
    let errors = source.load_text(Some(text), FD_LIMIT).unwrap_err();
    let messages: Vec<&str> = errors.iter().map(|one| one.message()).collect();
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(
        messages,
        [
            format!("{} holds no certificate", path("empty.crt")),
            format!("cannot read {}: No such file or directory", path("no.key")),
            format!(
                "cannot read {}: No such file or directory",
                path("no.token")
            ),
        ]
    );
}

#[test]
fn a_mistake_in_a_flag_names_the_flag() {
    let source = Source {
        upstreams: vec!["127.0.0.1".to_owned()],
        listen: Some("8080".to_owned()),
        set: vec![
            "server.worker=2".to_owned(),
            "server.drain_timeout=5".to_owned(),
            "listen.7.name=x".to_owned(),
            "version.x=1".to_owned(),
            "nonsense".to_owned(),
            "upstreams.default.retry.attempts=0".to_owned(),
        ],
        ..Source::default()
    };
    let errors = source.load(FD_LIMIT).unwrap_err();
    let expected = "\
--upstream 127.0.0.1: `127.0.0.1` is not an endpoint; write \"host:port\", \"http://host:port\", \"https://host\" or \"unix:/path\"
--listen 8080: `8080` is not an address to listen on; write an IP address and a port, such as \"0.0.0.0:8080\", or \"unix:/path\"
--set server.worker=2: unknown key `worker`; did you mean `workers`?
--set server.drain_timeout=5: `5` is not a duration; write a number with ms, s, m, h or d, such as \"250ms\"
--set listen.7.name=x: `listen` has no element 7, only 1
--set version.x=1: `version` is not a table
--set nonsense: `=` is missing; write a path and a value, such as `server.workers=2`
--set upstreams.default.retry.attempts=0: `attempts` must be from 1 to 10, not 0";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn processes_need_a_place_to_meet() {
    assert_eq!(
        refused(&minimal("[shared]\n")),
        "tidegate.toml:4:1: `redis` is missing; write `redis = \"redis://HOST:6379\"`"
    );
    for (url, why) in [
        ("a", "it has no scheme"),
        ("http://u:hidden@a", ""),
        ("redis://u:hidden@a:port", ""),
        ("redis-cluster://u:hidden@a:1,u:hidden@", ""),
    ] {
        let found = refused(&minimal(&format!("[shared]\nredis = \"{url}\"\n")));
        let begin = format!("tidegate.toml:1:1: `redis` of [shared] is no URL of Redis: {why}");
        assert!(found.starts_with(&begin), "{found}");
        assert!(!found.contains("hidden"), "{found}");
    }
}

#[test]
fn an_objective_says_what_it_cannot_promise() {
    let text = minimal(
        "[slos.none]\n[slos.wrong]\navailability = 1\nlatency = { quantile = 0, over = \"2h\" }\n\
         [[routes]]\nname = \"all\"\nupstream = \"app\"\nslo = \"wrogn\"\n",
    );
    let said = refused(&text);
    for mistake in [
        "tidegate.toml:4:1: the objective promises nothing; add `latency",
        "tidegate.toml:7:11: `below` is missing; say how fast",
        "tidegate.toml:7:34: `over` must be from 5s to 1h",
        "tidegate.toml:7:24: `quantile` must be above 0 and below 1",
        "tidegate.toml:11:7: there is no objective `wrogn`; did you mean `wrong`?",
    ] {
        assert!(said.contains(mistake), "{mistake}\n{said}");
    }
}

#[test]
fn an_action_is_on_a_cause_that_has_one() {
    let text = minimal("[actions.noisy_clients]\n[actions.load_spike]\nttl = \"0s\"\n");
    let said = refused(&text);
    for mistake in [
        "tidegate.toml:4:10: nothing can be done about `noisy_clients` by itself; did you mean `noisy_client`?",
        "tidegate.toml:6:7: `ttl` must be above zero",
    ] {
        assert!(said.contains(mistake), "{mistake}\n{said}");
    }
}

#[test]
fn a_notice_that_can_reach_nobody_is_refused() {
    let text = minimal(
        "[[notify]]\n[[notify]]\nfile = \"a\"\nexec = [\"b\"]\n[[notify]]\nexec = []\n[[notify]]\nwebhook = \"hooks\"\n\
         [[notify]]\nfile = \"a\"\nsecret = \"s\"\n",
    );
    let said = refused(&text);
    for mistake in [
        "tidegate.toml:4:1: `notify` needs one of `webhook`, `exec` and `file`; write an entry for each",
        "tidegate.toml:5:1: `notify` needs one of",
        "tidegate.toml:9:8: `exec` names no program",
        "tidegate.toml:11:11: `webhook` is not a URL to send to",
        "tidegate.toml:14:10: `secret` and `ca` belong to a `webhook`",
    ] {
        assert!(said.contains(mistake), "{mistake}\n{said}");
    }
    assert!(!said.contains("hooks"), "{said}");
}

#[test]
fn each_policy_says_what_it_cannot_work_with() {
    let text = minimal(
        "concurrency = { min = 9, initial = 5, max = 7 }
queue = { max_wait = \"0s\", max_length = -1, max_client_share = 0, fairness = \"clients\" }
breaker = { slow_call = \"0s\", min_requests = 0 }
outlier = { slow_factor = 1, consecutive_failures = 0 }
retry = { attempts = 11, hedge = { after = \"p10\" } }
[[routes]]
name = \"a\"
upstream = \"app\"
tier = \"bacth\"
",
    );
    let expected = "\
tidegate.toml:4:45: `max` is 7, below `min`, which is 9
tidegate.toml:5:22: `max_wait` must be above zero
tidegate.toml:5:41: `max_length` must be from 0 to 1000000, not -1
tidegate.toml:5:64: `max_client_share` must be above zero
tidegate.toml:5:78: `clients` is not known here; did you mean `client`?
tidegate.toml:6:25: `slow_call` must be above zero
tidegate.toml:6:46: `min_requests` must be from 1 to 1000000, not 0
tidegate.toml:7:27: `slow_factor` must be above 1, not 1
tidegate.toml:7:53: `consecutive_failures` must be from 1 to 1000000, not 0
tidegate.toml:8:22: `attempts` must be from 1 to 10, not 11
tidegate.toml:8:44: `p10` does not say when; write a quantile from p50 to p99.9, such as \"p95\", or a duration
tidegate.toml:12:8: there is no tier `bacth`; did you mean `batch`?";
    assert_eq!(refused(&text), expected);
}

#[test]
fn endpoint_flags_need_one_upstream_to_mean() {
    let text = minimal(
        "[upstreams.b]\nendpoints = [\"b:1\"]\n[[routes]]\nname = \"a\"\nupstream = \"b\"\n",
    );
    let source = Source {
        upstreams: vec!["c:1".to_owned()],
        ..source()
    };
    assert_eq!(
        source
            .load_text(Some(text), FD_LIMIT)
            .unwrap_err()
            .to_string(),
        "--upstream c:1: the file has several upstreams; this could mean any of them; write `--set upstreams.NAME.endpoints=[…]`"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(text: String) {
        drop(load(&text).map_err(|errors| errors.render(true)));
    }

    #[test]
    fn no_damage_to_a_full_file_panics(
        from in 0_usize..9_000,
        length in 0_usize..40,
        with in "[\\[\\]{}=\"'.,#a-z0-9 \\n\u{e9}-]{0,12}",
    ) {
        let text = shipped("full.toml");
        let from = text.floor_char_boundary(from);
        let to = text.ceil_char_boundary((from + length).min(text.len()));
        let damaged = format!("{}{with}{}", &text[..from], &text[to..]);
        drop(load(&damaged).map_err(|errors| errors.render(false)));
    }

    #[test]
    fn no_flag_panics(set in ".{0,30}", listen in ".{0,20}", upstream in ".{0,20}") {
        let source = Source {
            upstreams: vec![upstream],
            listen: Some(listen),
            set: vec![set.clone(), format!("listen.0.{set}"), format!("upstreams.app.{set}=1")],
            ..source()
        };
        drop(source.load_text(Some(minimal("")), FD_LIMIT).map_err(|errors| errors.render(false)));
    }
}

#[test]
fn a_client_that_could_not_be_recognised_or_would_be_another_is_refused() {
    let text = minimal(
        r#"[[clients.identify]]
[[clients.identify]]
header = "x-api-key"
tls_san = true
[[clients.identify]]
tls_san = true
[[clients.identify]]
jwt = { jwks = "ftp://idp/keys" }
[[clients.identify]]
address = { v4 = 33 }
[[clients.known]]
name = "a"
keys = ["top-secret", "sha256:12"]
[[clients.known]]
name = "b"
addresses = ["10.0.0.0/8", "ten"]
declared_rate = "50"
tier = "high"
[[clients.known]]
name = "c"
weight = 0
[[clients.known]]
claims = ["x"]
[[clients.known]]
name = "b"
keys = ["sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
addresses = ["10.0.0.0/8"]
[[clients.known]]
name = "d"
keys = ["sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
"#,
    );
    let said = refused(&text);
    let expected = "\
tidegate.toml:4:1: this does not say what to look at; write one of `header = \"x-api-key\"`, `jwt = { … }`, `tls_san = true` and `address = {}`
tidegate.toml:5:1: this says several things to look at; write one of `header = \"x-api-key\"`, `jwt = { … }`, `tls_san = true` and `address = {}`
tidegate.toml:8:1: no listener asks its clients for certificates; give a listener's `tls` a `client_ca`, or take `tls_san` out
tidegate.toml:11:7: `claim` is missing; a token needs `claim` and `jwks`
tidegate.toml:11:16: `ftp://idp/keys` is no http or https URL
tidegate.toml:13:18: `v4` must be from 1 to 32, not 33
tidegate.toml:15:8: a key of this client stands here in the clear, or its hash is cut short; write `sha256:` and the 64 digits that `printf %s KEY | sha256sum` prints, or { env = … } or { file = … }
tidegate.toml:19:28: `ten` is neither an address nor a network; write one such as \"10.0.0.0/8\"
tidegate.toml:20:17: `50` is not a rate; write a number, `/`, and s, m, h, day or month, such as \"100/s\"
tidegate.toml:21:8: there is no tier `high`; known here: `critical`, `standard`, `batch`
tidegate.toml:23:8: nothing says how this client is recognised; give it `keys`, `claims`, `sans`, `addresses` or `values`
tidegate.toml:24:10: `weight` must be from 1 to 1000, not 0
tidegate.toml:25:1: `name` is missing; write `name = \"reports\"` and how it is recognised, such as `keys`
tidegate.toml:28:8: there already is a client `b`
tidegate.toml:30:14: there already is a client with the address `10.0.0.0/8`
tidegate.toml:32:8: a key of this client is also one of `b`";
    assert_eq!(said, expected);
    assert!(!said.contains("top-secret"), "a key is not shown");
}

#[test]
fn a_rate_limit_says_what_it_cannot_work_with() {
    let text = minimal(
        r#"[rate_limits.a]
[rate_limits.b]
quota = "10"
per = "host"
[rate_limits.c]
quota = "10/day"
burst = 5
scope = "shared"
[rate_limits.d]
quota = "10/s"
burst = 0
cost = "upstream time"
max_keys = 0
[rate_limits.e]
quota = "0/s"
per = "header:x y"
[[routes]]
name = "r"
upstream = "app"
rate_limits = ["c", "c", "f", "b"]
"#,
    );
    let expected = "\
tidegate.toml:4:1: `quota` is missing; write how much in what time, such as `quota = \"100/s\"`
tidegate.toml:6:9: `10` is not a rate; write a number, `/`, and s, m, h, day or month, such as \"100/s\"
tidegate.toml:7:7: `host` has no quota of its own; write `client`, `route`, `address`, `tier` or `header:NAME`
tidegate.toml:10:9: a quota of the calendar has no burst: all of it may come at once; take it out
tidegate.toml:11:9: there is nothing that the processes could share a quota by; say where Redis or Valkey is: `[shared]` with `redis = \"redis://HOST\"`
tidegate.toml:14:9: `burst` must be at least 1, not 0
tidegate.toml:15:8: `upstream time` is not known here; did you mean `upstream-time`?
tidegate.toml:16:12: `max_keys` must be from 1 to 100000000, not 0
tidegate.toml:18:9: a quota and its burst must be from 1 to 2^43, and the burst refill within a hundred years
tidegate.toml:19:7: `x y` is not a header name
tidegate.toml:23:21: rate limit `c` stands here twice
tidegate.toml:23:26: there is no rate limit `f`; did you mean `a`?";
    assert_eq!(refused(&text), expected);
}

#[test]
fn node_exporters_are_bounded_and_one_may_stand_for_many_endpoints() {
    let endpoints = |count: u32, same: bool| {
        let one = |at: u32| {
            let host = if same { 0 } else { at };
            format!(
                "{{ address = \"h:{}\", node = \"http://h{host}:9100/metrics\" }}",
                at + 1
            )
        };
        let all: Vec<_> = (0..count).map(one).collect();
        format!(
            "version = 1\n[upstreams.app]\nendpoints = [\n{}]\n",
            all.join(",\n")
        )
    };
    let text = refused(&endpoints(257, false));
    assert!(text.starts_with("tidegate.toml:260:"), "{text}");
    assert!(
        text.contains("there are more than 256 node exporters"),
        "{text}"
    );
    assert!(load(&endpoints(257, true)).is_ok());
    assert!(load(&endpoints(256, false)).is_ok());
}

#[test]
fn a_ledger_that_is_nowhere_is_refused_without_its_password() {
    for (store, said) in [
        (
            "postgres://gate:hidden@db:port/usage",
            "no URL of PostgreSQL",
        ),
        (
            "postgres://gate:hidden@db/usage?sslmode=maybe",
            "no URL of PostgreSQL",
        ),
        ("mysql://gate:hidden@db/usage", "no place for a ledger"),
    ] {
        let refused = refused(&minimal(&format!("[usage]\nstore = \"{store}\"\n")));
        assert!(refused.contains(said), "{refused}");
        assert!(!refused.contains("hidden"), "{refused}");
    }
}
