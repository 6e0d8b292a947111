//! A `PostgreSQL` server of one's own, from Debian's package, in a directory that is gone with it. It listens on a Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The server. Killed and removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    directory: TempDir,
    process: Option<Child>,
}

impl Server {
    /// Makes a server and starts it.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
        let mut server = Self {
            directory,
            process: None,
        };
        let made = server
            .command("initdb")
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8"])
            .args(["--locale=C", "--username=tidegate", "--pgdata"])
            .arg(server.data())
            .output()
            .expect("initdb runs: scripts/install-test-packages.sh installs it");
        assert!(made.status.success(), "initdb: {made:?}");
        server.run();
        server
    }

    /// Starts it, again if it was stopped.
    pub(crate) fn run(&mut self) {
        let process = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres runs");
        self.process = Some(process);
        // Each takes as long as a program takes to start.
        let mut attempts = (0..2_000).map(|_| self.sql("postgres", "SELECT 1"));
        assert!(
            attempts.any(|(answered, _)| answered),
            "postgres does not answer"
        );
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // What it has begun ends once it is gone.
            process.kill().expect("it is ours");
            process.wait().expect("it is ours");
        }
        let left = self.data().join("postmaster.pid");
        drop(std::fs::remove_file(left));
    }

    /// A database of this name, and its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        let name = name.get(..60).unwrap_or(name);
        let (made, said) = self.sql("postgres", &format!("CREATE DATABASE {name}"));
        assert!(made, "{said}");
        let directory = self.directory.path().display().to_string();
        let host = directory.replace('/', "%2F");
        format!("postgres://tidegate:no-secret@{host}/{name}")
    }

    /// Carries out a statement; whether that worked, and what it said.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> (bool, String) {
        let done = self
            .command("psql")
            .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", "tidegate", "-d", database, "-c", sql, "-h"])
            .arg(self.directory.path())
            .output()
            .expect("psql runs");
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        (done.status.success(), said)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One of its programs, as somebody who is not root: it refuses to be.
    fn command(&self, program: &str) -> Command {
        let path = installed().join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
            command.args(["--pdeathsig=KILL", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.directory.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where Debian puts the newest.
fn installed() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let versions = versions.filter_map(|entry| Some(entry.ok()?.path()));
    let version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    };
    let newest = versions.max_by_key(version);
    newest.map_or_else(|| Path::new("/usr/bin").to_owned(), |path| path.join("bin"))
}
