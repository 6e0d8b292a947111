//! The commands that read the admin API, as a shell runs them.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, Setup, free_address};
use crate::support::raw_origin::RawOrigin;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::wire;

/// The commands, each with the path it reads.
const COMMANDS: [&str; 2] = ["status", "upstreams"];

#[test]
fn status_says_what_runs_and_on_what() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    assert_eq!(proxy.get("/").text(), "ok");
    eventually("the exchange to be counted", PATIENCE, || {
        proxy.status()["exchanges"]["total"] == 1
    });

    let text = shown(&["status", "--admin", &url(&proxy)]);

    let file = proxy.config_file();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    assert!(line("tidegate").ends_with(env!("CARGO_PKG_VERSION")));
    assert!(line("state").ends_with("running"));
    assert!(line("process").contains(&proxy.pid().to_string()));
    assert!(line("configuration").contains(file.to_str().expect("a path in UTF-8")));
    assert!(line("listener").contains(&format!("public {}", proxy.address())));
    assert!(line("exchanges").ends_with("1, 0 errors (0.0%)"));
    assert!(line("answered").ends_with(" 1"));
}

#[test]
fn upstreams_shows_each_endpoint_under_its_upstream() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    let text = shown(&["upstreams", "--admin", &url(&proxy)]);

    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("UPSTREAM "), "{text}");
    assert!(lines[1].starts_with("origin "), "{text}");
    assert!(lines[1].contains(" 1/1 up "), "{text}");
    assert!(
        lines[2].starts_with(&format!("  {}  healthy ", origin.address())),
        "{text}"
    );
}

#[test]
fn clients_are_shown_with_what_they_took_and_ranked_as_asked() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    for key in ["a", "b", "b"] {
        client.request("GET", "/", &[("x-api-key", key)], b"");
    }
    eventually("the clients to be counted", PATIENCE, || {
        proxy.status()["exchanges"]["total"] == 3
    });

    let sorted = [
        "clients",
        "--sort",
        "requests",
        "--limit",
        "1",
        "--admin",
        &url(&proxy),
    ];
    let text = shown(&sorted);

    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("CLIENT "), "{text}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[1..3], ["2", "0"], "{text}");
    assert!(
        text.ends_with("\n1 of 2 clients followed by name\n"),
        "{text}"
    );
}

#[test]
fn json_is_what_the_api_answers_to_the_byte() {
    let json = "{ \"upstreams\":[],\n  \"more\": 1.50 }";
    let api = answering("200 OK", json);
    let output = tidegate(&["upstreams", "-o", "json", "--admin", &api.url()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), format!("{json}\n"));

    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let status = shown(&["status", "--output", "json", "--admin", &url(&proxy)]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
    assert_eq!(status["pid"], proxy.pid());
}

#[test]
fn the_admin_may_be_a_socket_and_may_stand_in_the_environment() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let api = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the command connects");
        let mut stream = BufReader::new(stream);
        let head = wire::read_head(&mut stream).expect("it is HTTP");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"upstreams\":[]}";
        stream.get_mut().write_all(answer).expect("it reads");
        head.expect("a request").line
    });
    let output = command(&["upstreams"])
        .env("TIDEGATE_ADMIN", format!("unix:{}", path.display()))
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(api.join().unwrap(), "GET /api/v1/upstreams HTTP/1.1");

    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let output = command(&["status"])
        .env("TIDEGATE_ADMIN", proxy.admin().to_string())
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains(&proxy.pid().to_string()));
}

#[test]
fn an_admin_that_is_not_there_is_named_with_what_to_do() {
    let nobody = format!("http://{}", free_address());
    for command in COMMANDS {
        for admin in [nobody.as_str(), "unix:/nonexistent/tidegate.sock"] {
            let said = failed(&[command, "--admin", admin]);
            assert!(
                said.contains(&format!("nothing answers at {admin}")),
                "{said}"
            );
            assert!(said.contains("is tidegate running? pass --admin"), "{said}");
        }
    }
}

#[test]
fn a_token_is_sent_and_a_wrong_one_is_told_apart_from_silence() {
    let origin = Origin::saying("ok");
    let token = "correct-horse-battery-staple";
    let proxy = Setup::config(&format!(
        "[admin]\naddress = \"<admin>\"\ntoken = {{ env = \"TEST_TOKEN\" }}\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\nmatch = {{ path_prefix = \"/\" }}\nupstream = \"origin\"\n",
        origin.address()
    ))
    .environment("TEST_TOKEN", token)
    .start();
    let admin = url(&proxy);
    let with = |token: &str| {
        let mut command = command(&["status", "--admin", &admin]);
        command.env("TIDEGATE_TOKEN", token);
        command.output().expect("the binary runs")
    };

    assert_eq!(with(token).status.code(), Some(0));
    for wrong in ["", "wrong"] {
        let output = with(wrong);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("401") && said.contains("TIDEGATE_TOKEN"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let unsendable = with("two\nlines");
    assert_eq!(unsendable.status.code(), Some(2), "{unsendable:?}");
}

#[test]
fn an_answer_that_is_not_the_apis_is_no_success() {
    for (status, body, part) in [
        ("200 OK", "hello", "is not what tidegate"),
        (
            "404 Not Found",
            "no such page",
            "404 Not Found: no such page",
        ),
        (
            "503 Service Unavailable",
            "{\"detail\":\"This took too long.\"}",
            "took too long",
        ),
    ] {
        let api = answering(status, body);
        for command in COMMANDS {
            for output in ["table", "json"] {
                let said = failed(&[command, "-o", output, "--admin", &api.url()]);
                assert!(said.contains(part) && said.contains(&api.url()), "{said}");
            }
        }
    }
}

#[test]
fn an_answer_of_another_shape_is_no_table_but_still_json() {
    let api = answering("200 OK", "{}");
    for command in COMMANDS {
        let said = failed(&[command, "--admin", &api.url()]);
        assert!(said.contains("missing field"), "{said}");
        let json = shown(&[command, "-o", "json", "--admin", &api.url()]);
        assert_eq!(json, "{}\n");
    }
}

#[test]
fn an_answer_that_breaks_off_or_never_ends_is_no_success() {
    let silent = RawOrigin::start(|mut conversation| {
        conversation.read_request();
    });
    let said = failed(&["status", "--admin", &silent.url()]);
    assert!(said.contains("broke off"), "{said}");

    let half = answering_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec());
    let said = failed(&["status", "--admin", &half.url()]);
    assert!(said.contains("broke off"), "{said}");

    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(33 << 20, b' ');
    let said = failed(&["status", "--admin", &answering_raw(endless).url()]);
    assert!(said.contains("more than 32 MiB"), "{said}");
}

#[test]
fn a_table_fits_eighty_columns_and_cannot_command_the_terminal() {
    let name = "x".repeat(300);
    let traffic = r#"{"total":{"requests":1,"errors":0,"bytes_in":0,"bytes_out":0},"recent":{
        "over_seconds":10,"requests":123456,"errors":1234,"p50_ms":1.0,"p98_ms":2.0,"p99_ms":9999.9}}"#;
    let json = format!(
        r#"{{"upstreams":[{{"name":"{name}","protocol":"http1","balance":"b","in_flight":12345,
        "connections":12345,"traffic":{traffic},"endpoints":[{{"address":"{name}:1","zone":null,
        "weight":1.0,"healthy":false,"state":"unhealthy","message":"\u001b[2Jgone","in_flight":0,
        "latency_ms":null,"connections":0}}]}}]}}"#
    );
    let api = answering("200 OK", &json);

    let text = shown(&["upstreams", "--admin", &api.url()]);

    let table: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(table.len(), 3, "{text}");
    for line in table {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(
        text.contains("gone") && !text.contains('\u{1b}'),
        "{text:?}"
    );
}

#[test]
fn a_mistake_on_the_command_line_is_two() {
    for command in COMMANDS {
        for arguments in [
            ["--admin", "https://127.0.0.1:9900"],
            ["--admin", "http://127.0.0.1:9900/path"],
            ["-o", "yaml"],
        ] {
            let output = tidegate(&[command, arguments[0], arguments[1]]);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        }
    }
}

#[test]
fn every_command_has_an_example_and_is_completed() {
    let completions = shown(&["completions", "bash"]);
    for command in COMMANDS {
        let help = shown(&[command, "--help"]);
        assert!(
            help.contains(&format!("Example:\n  tidegate {command}")),
            "{help}"
        );
        assert!(help.contains("TIDEGATE_ADMIN") && help.contains("TIDEGATE_TOKEN"));
        assert!(
            completions.contains(&format!("tidegate,{command})")),
            "{command}"
        );
    }
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.admin())
}

/// An API that answers every request with this body and closes.
fn answering(status: &str, body: &str) -> RawOrigin {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    answering_raw((head + body).into_bytes())
}

fn answering_raw(bytes: Vec<u8>) -> RawOrigin {
    RawOrigin::start(move |mut conversation| {
        conversation.read_request();
        conversation.write(&bytes);
    })
}

/// What a command prints that must succeed.
#[track_caller]
fn shown(arguments: &[&str]) -> String {
    let output = tidegate(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    let text = text(&output.stdout);
    assert!(
        !text.contains('\u{1b}'),
        "colour without a terminal: {text:?}"
    );
    text
}

/// What a command complains of that must fail.
#[track_caller]
fn failed(arguments: &[&str]) -> String {
    let output = tidegate(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

fn tidegate(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(arguments)
        .env_remove("TIDEGATE_ADMIN")
        .env_remove("TIDEGATE_TOKEN")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
