//! The built binary, started on free ports and killed when dropped.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Response};
use super::metrics::Metrics;
use super::wait::{Deadline, PATIENCE, eventually_some};

/// How often a start is tried again when somebody else took a port between choosing and binding it.
const STARTS: usize = 5;

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    directory: TempDir,
    stdout: Captured,
    stderr: Captured,
    adopted: Vec<Pid>,
}

/// How to start a proxy.
///
/// In the configuration and in every argument `<dir>` stands for the proxy's own temporary directory,
/// and any other `<name>` for a loopback address that is free, the same one wherever the name recurs:
/// `<public>` is where [`Proxy::address`] points and `<admin>` where the admin API listens. The
/// `version`, a `[[listen]]`, `[admin]` and `[telemetry]` are added where the text has none.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<TempDir>,
    descriptors: Option<u64>,
}

impl Setup {
    /// With a configuration file of this text.
    pub(crate) fn config(text: &str) -> Self {
        Self {
            config: Some(complete(text)),
            ..Self::default()
        }
    }

    /// Without a file: the arguments after `run` are all there is.
    pub(crate) fn arguments(arguments: &[&str]) -> Self {
        Self::default().and_arguments(arguments)
    }

    /// More arguments after `run`.
    #[must_use]
    pub(crate) fn and_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// An environment variable.
    #[must_use]
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses a directory that already holds files, as `<dir>`.
    #[must_use]
    pub(crate) fn directory(mut self, directory: TempDir) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Lets it open so many descriptors.
    #[must_use]
    pub(crate) fn descriptors(mut self, most: u64) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Starts the proxy and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(mut self) -> Proxy {
        let mut directory = self.directory.take();
        for _ in 0..STARTS {
            let place = directory
                .take()
                .unwrap_or_else(|| tempfile::tempdir().expect("a temporary directory"));
            let mut proxy = self.spawn(place);
            match proxy.become_ready() {
                Ok(()) => return proxy,
                Err(said) if said.to_lowercase().contains("in use") => {
                    let empty = tempfile::tempdir().expect("a temporary directory");
                    directory = Some(std::mem::replace(&mut proxy.directory, empty));
                }
                Err(said) => panic!("the proxy did not become ready:\n{said}"),
            }
        }
        panic!("no free ports in {STARTS} attempts");
    }

    fn spawn(&self, directory: TempDir) -> Proxy {
        let mut names = Names::new(directory.path());
        let binary = env!("CARGO_BIN_EXE_tidegate");
        let mut command = match self.descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, binary]);
                shell
            }
        };
        command.arg("run");
        if let Some(config) = &self.config {
            let file = directory.path().join("tidegate.toml");
            std::fs::write(&file, names.fill(config)).expect("the configuration is written");
            command.arg(file);
        }
        for argument in &self.arguments {
            command.arg(names.fill(argument));
        }
        for (name, value) in &self.environment {
            command.env(name, names.fill(value));
        }
        let mut child = command
            .current_dir(directory.path())
            .env_remove("TIDEGATE_ADMIN")
            .env_remove("TIDEGATE_TOKEN")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Proxy {
            stdout: Captured::from(child.stdout.take().expect("stdout is piped")),
            stderr: Captured::from(child.stderr.take().expect("stderr is piped")),
            child,
            addresses: names.addresses,
            directory,
            adopted: Vec::new(),
        }
    }
}

impl Proxy {
    /// Starts with a configuration of this text; see [`Setup`] for what is filled in.
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        Setup::config(config).start()
    }

    /// Starts with one upstream called `origin` that takes every request.
    #[track_caller]
    pub(crate) fn in_front_of(origin: SocketAddr) -> Self {
        Self::start(&format!(
            "[upstreams.origin]
             endpoints = [\"{origin}\"]
             [[routes]]
             name = \"all\"
             match = {{ path_prefix = \"/\" }}
             upstream = \"origin\"\n"
        ))
    }

    /// Starts without a file: `run --upstream URL` and addresses.
    #[track_caller]
    pub(crate) fn without_file(upstream: &str) -> Self {
        Setup::arguments(&[
            "--upstream",
            upstream,
            "--listen",
            "<public>",
            "--admin",
            "<admin>",
        ])
        .start()
    }

    /// The URL of the public listener, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The public listener.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of("public")
    }

    /// The admin listener.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address_of("admin")
    }

    /// The address that `<name>` stood for.
    #[track_caller]
    pub(crate) fn address_of(&self, name: &str) -> SocketAddr {
        *self.addresses.get(name).expect("the name is configured")
    }

    /// What `<dir>` stood for.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file, to be changed and reloaded.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory().join("tidegate.toml")
    }

    /// A new connection to the public listener.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Whether a signal has stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Waits until the process ends.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually_some("the proxy to end", PATIENCE, || {
            child.try_wait().expect("it is our child")
        })
    }

    /// Makes a process that this one started (after a handover) end with it too.
    pub(crate) fn adopt(&mut self, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        self.adopted.push(pid.expect("the number of a process"));
    }

    /// A GET to the admin API.
    #[track_caller]
    pub(crate) fn admin_get(&self, path: &str) -> Response {
        Client::connect(self.admin()).get(path)
    }

    /// A POST of JSON to the admin API.
    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str, body: &Value) -> Response {
        let json = [("content-type", "application/json")];
        Client::connect(self.admin()).request("POST", path, &json, body.to_string().as_bytes())
    }

    /// `GET /api/v1/status`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let response = self.admin_get("/api/v1/status");
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// A scrape of `/metrics`.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let response = self.admin_get("/metrics");
        assert_eq!(response.status, 200, "{}", response.text());
        Metrics::parse(&response.text())
    }

    /// Waits until a scrape satisfies `condition`: what was measured arrives a little later.
    #[track_caller]
    pub(crate) fn metrics_until(
        &self,
        what: &str,
        mut condition: impl FnMut(&Metrics) -> bool,
    ) -> Metrics {
        eventually_some(what, PATIENCE, || {
            Some(self.metrics()).filter(|metrics| condition(metrics))
        })
    }

    /// The access log so far, from `<dir>/access.log` or standard output.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        let file = std::fs::read_to_string(self.directory().join("access.log"));
        let text = file.unwrap_or_else(|_| self.stdout.text());
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| entry.get("request_id").is_some())
            .collect()
    }

    /// Waits for the access log entry that satisfies `condition`.
    #[track_caller]
    pub(crate) fn access_log_entry(
        &self,
        what: &str,
        mut condition: impl FnMut(&Value) -> bool,
    ) -> Value {
        eventually_some(what, PATIENCE, || {
            self.access_log().into_iter().find(|entry| condition(entry))
        })
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until `/readyz` says so; gives back what the process said when it ends instead.
    fn become_ready(&mut self) -> Result<(), String> {
        let deadline = Deadline::after(PATIENCE);
        let admin = self.admin();
        while !is_ready(admin) {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.stderr.wait_for_end();
                return Err(format!("it ended with {status}\n{}", self.stderr.text()));
            }
            if !deadline.tick() {
                return Err(format!("{admin}/readyz says no\n{}", self.stderr.text()));
            }
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Neither fails but for a process that is gone.
        self.child.kill().ok();
        self.child.wait().ok();
        for pid in &self.adopted {
            kill_process(*pid, Signal::KILL).ok();
        }
        if std::thread::panicking() {
            eprintln!("the proxy wrote:\n{}", self.stderr.text());
        }
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    Client::try_connect(admin)
        .ok()
        .and_then(|mut client| client.try_request("/readyz"))
        .is_some_and(|response| response.status == 200)
}

/// Adds the tables that a test does not care about.
fn complete(text: &str) -> String {
    let has = |what: &str| text.lines().any(|line| line.trim_start().starts_with(what));
    let mut whole = String::new();
    if !has("version") {
        whole.push_str("version = 1\n");
    }
    whole.push_str(text);
    whole.push('\n');
    if !has("[[listen]]") {
        whole.push_str("[[listen]]\nname = \"public\"\naddress = \"<public>\"\n");
    }
    if !has("[admin]") {
        whole.push_str("[admin]\naddress = \"<admin>\"\n");
    }
    if !has("[telemetry") {
        whole.push_str(
            "[telemetry]\naccess_log = { format = \"json\", path = \"<dir>/access.log\" }\n",
        );
    }
    if !has("[server]") {
        // A machine that is busy with other tests is no overload.
        whole.push_str("[server]\nworkers = 2\noverload = \"off\"\n");
    }
    whole
}

/// The `<names>` in a configuration, and what they stand for.
struct Names {
    directory: String,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Names {
    fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_str().expect("a path in UTF-8").to_owned(),
            addresses: BTreeMap::new(),
        }
    }

    fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            filled.push_str(before);
            match after.split_once('>') {
                Some(("dir", tail)) => {
                    filled.push_str(&self.directory);
                    rest = tail;
                }
                Some((name, tail)) if is_name(name) => {
                    let address = self.addresses.entry(name.to_owned());
                    filled.push_str(&address.or_insert_with(free_address).to_string());
                    rest = tail;
                }
                _ => {
                    filled.push('<');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A loopback address that is free, and that no other test of this process was given: listeners that
/// share a port by `SO_REUSEPORT` would not notice.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        if given.insert(address.port()) {
            return address;
        }
    }
}

/// What a process writes, read as it comes so that it never blocks on a full pipe.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Captured {
    fn from(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream
                .read_until(b'\n', &mut line)
                .is_ok_and(|count| count > 0)
            {
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn wait_for_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}
