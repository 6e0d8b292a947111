//! A Redis server of one's own, from Debian's package, in a directory that is gone with it. It listens on a Unix socket and
//! keeps nothing on disk.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The server. Killed and removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    directory: TempDir,
    process: Option<Child>,
}

impl Server {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self {
            directory,
            process: None,
        };
        server.run();
        server
    }

    /// Starts it, again if it was killed: it has forgotten everything.
    pub(crate) fn run(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(self.socket())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server runs: scripts/install-test-packages.sh installs it");
        self.process = Some(process);
        let mut attempts = (0..2_000).map(|_| self.say(&["PING"]));
        assert!(
            attempts.any(|answer| answer == "PONG"),
            "redis-server does not answer"
        );
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// Where it is, as the configuration has it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What it answers to a command; nothing when it does not.
    pub(crate) fn say(&self, command: &[&str]) -> String {
        let answer = Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .args(command)
            .output()
            .expect("redis-cli runs");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("redis.sock")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
