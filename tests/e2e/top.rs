//! `tidegate top` in a real terminal of 80 columns: tmux.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::isolation::{ask, config, isolate};
use super::protection::held;
use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wait::{Deadline, PATIENCE, eventually, eventually_some};

/// A terminal of its own server, which ends with it.
struct Terminal {
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Terminal {
    /// Runs `tidegate top` against `proxy`, with or without colours.
    fn start(proxy: &Proxy, colours: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let terminal = Self {
            socket: directory.path().join("tmux"),
            _directory: directory,
        };
        let command = format!(
            "env TERM=screen NO_COLOR={} {} top --admin http://{}",
            if colours { "" } else { "1" },
            env!("CARGO_BIN_EXE_tidegate"),
            proxy.admin()
        );
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            &command,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .env_remove("TMUX")
            .output()
            .expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "0"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "0"])
    }

    /// Waits until the screen has these lines and no others, as [`masked`] has them.
    fn is(&self, expected: &[&str]) {
        let deadline = Deadline::after(PATIENCE);
        let mut seen = masked(&self.screen());
        while seen != expected && deadline.tick() {
            seen = masked(&self.screen());
        }
        assert_eq!(seen, expected);
    }

    /// Waits until a line of the screen begins and goes on so.
    fn shows(&self, begin: &str, and: &str) -> String {
        eventually_some(
            &format!("{begin:?} … {and:?} on the screen"),
            PATIENCE,
            || {
                let screen = self.screen();
                let mut lines = screen.lines();
                let found = lines.find(|line| line.contains(begin) && line.contains(and));
                found.map(str::to_owned)
            },
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The lines that have something on them, numbers and what is not known as `#`, a row of those as one.
fn masked(screen: &str) -> Vec<String> {
    let is_number =
        |word: &str| word == "-" || word.starts_with(|first: char| first.is_ascii_digit());
    let lines = screen.lines().map(|line| {
        let words = line.split_whitespace();
        let mut words: Vec<_> = words
            .map(|word| if is_number(word) { "#" } else { word })
            .collect();
        words.dedup_by(|one, before| *one == "#" && *before == "#");
        words.join(" ")
    });
    lines.filter(|line| !line.is_empty()).collect()
}

/// Whether anything on a screen with its escapes has another colour than the terminal's own.
fn is_coloured(screen: &str) -> bool {
    let mut escapes = screen.split("\x1b[").skip(1);
    escapes.any(|escape| {
        let set = escape.split('m').next().unwrap_or_default();
        let mut codes = set.split(';').map_while(|code| code.parse().ok());
        codes.any(|code: u8| matches!(code, 30..=38 | 40..=48 | 90..=107))
    })
}

/// A proxy that has answered `web` three times and `reports` once, which is isolated since, with a request of `web` under way.
fn busy() -> (Origin, Proxy, Client) {
    let (gate, origin) = held();
    let proxy = Proxy::start(&config(&[&origin], ""));
    gate.let_through(4);
    for client in ["web", "web", "web", "reports"] {
        assert_eq!(ask(&proxy, client).status, 200);
    }
    isolate(&proxy, "client", "reports", "lane", "30m");
    let mut client = proxy.client();
    client.send(b"GET /slow/report HTTP/1.1\r\nhost: a\r\nx-api-key: web\r\n\r\n");
    origin.wait_for_in_flight(1);
    (origin, proxy, client)
}

#[test]
fn every_view_of_a_terminal_is_as_expected() {
    let (_origin, proxy, _client) = busy();
    let terminal = Terminal::start(&proxy, false);
    let head = [
        "tidegate # up # connections # in flight # failed",
        "◇ nothing is wrong",
    ];
    let keys = "q quit Tab view ↑↓ select Enter detail i isolate s sort / filter";
    terminal.is(&[
        head[0],
        head[1],
        "[1 Upstreams] # Clients # In flight # Isolations",
        "UPSTREAM STATE BREAKER LOAD QUEUE REQ/S ERRORS P50 P98",
        "> shop # up closed #",
        "# healthy #",
        keys,
    ]);
    terminal.press(&["2", "s", "Up"]);
    let sorted = "# Upstreams [2 Clients] # In flight # Isolations by REQUESTS";
    let headings = "CLIENT FLAGS REQUESTS REFUSED # OVERALL PEAK P98";
    terminal.is(&[
        head[0],
        head[1],
        sorted,
        headings,
        "> web #",
        "reports #",
        keys,
    ]);
    terminal.press(&["3"]);
    terminal.is(&[
        head[0],
        head[1],
        "# Upstreams # Clients [3 In flight] # Isolations",
        "REQUEST PHASE UPSTREAM ENDPOINT TRY AGE",
        "> GET /slow/report wait shop #",
        keys,
    ]);
    terminal.press(&["4"]);
    terminal.is(&[
        head[0],
        head[1],
        "# Upstreams # Clients # In flight [4 Isolations]",
        "SUBJECT KIND TO REASON LEFT REFUSED",
        "> reports client lane a test #",
        "q quit Tab view ↑↓ select Enter detail r release s sort / filter",
    ]);
}

#[test]
fn rows_of_a_terminal_are_filtered_and_tell_more() {
    let (_origin, proxy, _client) = busy();
    eventually("the last minute to be known", PATIENCE, || {
        let shop = proxy.admin_get("/api/v1/upstreams").json();
        let mut windows = shop["upstreams"][0]["windows"]
            .as_array()
            .into_iter()
            .flatten();
        windows.any(|one| one["over_seconds"] == 60 && one["phases"][0] != Value::Null)
    });
    let terminal = Terminal::start(&proxy, false);
    terminal.shows("> shop", "");
    terminal.press(&["Enter"]);
    terminal.shows("shop: the last minute by phase", "");
    terminal.shows("wait ", "p50");
    terminal.press(&["Escape"]);
    terminal.press(&["2", "/"]);
    terminal.press(&["-l", "rep"]);
    terminal.press(&["Enter"]);
    terminal.shows("[2 Clients]", "/rep");
    terminal.shows("> reports", "");
    let screen = terminal.screen();
    assert!(!screen.contains("web"), "{screen}");
    terminal.press(&["Enter"]);
    terminal.shows("│ client reports", "");
    terminal.shows("│ shop: 1 requests", "");
    terminal.press(&["Escape"]);
    terminal.press(&["Escape"]);
    terminal.shows("web ", "");
}

#[test]
fn a_terminal_has_colours_unless_they_are_unwanted() {
    let (_origin, proxy, _client) = busy();
    for colours in [true, false] {
        let terminal = Terminal::start(&proxy, colours);
        terminal.shows("> shop", "");
        terminal.press(&["4"]);
        terminal.shows("> reports", "a test");
        let screen = terminal.tmux(&["capture-pane", "-e", "-p", "-t", "0"]);
        assert_eq!(is_coloured(&screen), colours, "{screen:?}");
    }
}

#[test]
fn a_terminal_shows_what_goes_on_and_isolates() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&format!(
        "[upstreams.shop]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"shop\"\nupstream = \"shop\"\n",
        origin.address()
    ));
    assert_eq!(proxy.get("/").status, 200);
    let terminal = Terminal::start(&proxy, false);
    terminal.shows("◇ nothing is wrong", "");
    terminal.shows("UPSTREAM", "BREAKER LOAD QUEUE REQ/S ERRORS");
    let shop = terminal.shows("> shop", "1/1 up");
    assert!(shop.contains("closed"), "{shop}");
    terminal.press(&["2"]);
    let client = terminal.shows("> 127.0.0.1", "");
    assert!(client.split_whitespace().nth(2) == Some("1"), "{client}");
    terminal.press(&["i"]);
    terminal.shows("client 127.0.0.1", "");
    terminal.press(&["Left"]);
    terminal.shows("to ", "‹ block ›");
    terminal.press(&["-l", "a test"]);
    terminal.press(&["Enter"]);
    terminal.shows("is in block", "");
    assert_eq!(proxy.get("/").status, 429);
    let listed = proxy.admin_get("/api/v1/isolations").json();
    let one: &Value = &listed["isolations"][0];
    assert_eq!(
        (&one["reason"], &one["to"]),
        (&"a test".into(), &"block".into())
    );
    terminal.press(&["4"]);
    terminal.shows("> 127.0.0.1", "block a test");
    terminal.press(&["r"]);
    terminal.shows("is released", "");
    assert_eq!(proxy.get("/").status, 200);
    terminal.press(&["q"]);
    eventually("the terminal to end", PATIENCE, || {
        terminal.tmux(&["list-sessions"]).is_empty()
    });
}
