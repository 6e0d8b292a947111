//! `tidegate top` in a real terminal of 80 columns: tmux.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wait::{PATIENCE, eventually, eventually_some};

/// A terminal of its own server, which ends with it.
struct Terminal {
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Terminal {
    /// Runs `tidegate top` against `proxy`.
    fn start(proxy: &Proxy) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let terminal = Self {
            socket: directory.path().join("tmux"),
            _directory: directory,
        };
        let command = format!(
            "TERM=screen NO_COLOR=1 {} top --admin http://{}",
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

    /// Waits until a line of the screen begins and goes on so.
    fn shows(&self, begin: &str, and: &str) -> String {
        eventually_some(
            &format!("{begin:?} … {and:?} on the screen"),
            PATIENCE,
            || {
                let screen = self.tmux(&["capture-pane", "-p", "-t", "0"]);
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

#[test]
fn a_terminal_shows_what_goes_on_and_isolates() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::start(&format!(
        "[upstreams.shop]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"shop\"\nupstream = \"shop\"\n",
        origin.address()
    ));
    assert_eq!(proxy.get("/").status, 200);
    let terminal = Terminal::start(&proxy);
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
