//! The load: wrk for HTTP/1.1, h2load for HTTP/2 and at a given rate, each on the core it is given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the client speaks to the proxy. To the origin, every proxy speaks HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// With prior knowledge, without TLS.
    Http2,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    path: &'static str,
    post_bytes: usize,
    /// Of an answer out of a cache: requests a second on each connection, the same for every cache.
    pub(crate) hits: Option<u32>,
}

impl Case {
    /// Every case, in the order they are run.
    pub(crate) const ALL: [Self; 6] = [
        Self::http1("get-1k", "/1k", 0),
        Self::http1("get-64k", "/64k", 0),
        Self::http1("post-4k", "/1k", 4_096),
        Self {
            name: "h2-get-1k",
            protocol: Protocol::Http2,
            path: "/1k",
            post_bytes: 0,
            hits: None,
        },
        Self::hit("hit-1k", "/1k", 320),
        Self::hit("hit-64k", "/64k", 80),
    ];

    const fn http1(name: &'static str, path: &'static str, post_bytes: usize) -> Self {
        Self {
            name,
            protocol: Protocol::Http1,
            path,
            post_bytes,
            hits: None,
        }
    }

    const fn hit(name: &'static str, path: &'static str, rate: u32) -> Self {
        Self {
            hits: Some(rate),
            ..Self::http1(name, path, 0)
        }
    }

    /// What the case is, for the heading of a table.
    pub(crate) fn describe(self) -> String {
        let load = match (self.protocol, self.hits) {
            (Protocol::Http1, None) => "HTTP/1.1, 64 connections",
            (Protocol::Http1, Some(rate)) => {
                return format!(
                    "{} (HTTP/1.1, 64 connections of {rate} requests/s)",
                    self.name
                );
            }
            (Protocol::Http2, _) => "HTTP/2, 8 connections of 8 streams",
        };
        format!("{} ({load})", self.name)
    }
}

/// What one window of load saw. Every answer was a 2xx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// Runs the load generators.
#[derive(Debug)]
pub(crate) struct Generator {
    directory: PathBuf,
    core: Option<usize>,
}

impl Generator {
    pub(crate) fn new(directory: &Path, core: Option<usize>) -> Self {
        for case in Case::ALL {
            let script = directory.join(format!("{}.lua", case.name));
            std::fs::write(script, wrk_script(case)).expect("a script is written");
        }
        Self {
            directory: directory.to_owned(),
            core,
        }
    }

    /// Sends `case` to `address` for `seconds`; panics unless every answer is a 2xx.
    pub(crate) fn run(&self, case: Case, address: SocketAddr, seconds: u32) -> Load {
        assert!(address.ip().is_loopback(), "load goes to loopback only");
        let url = format!("http://{address}{}", case.path);
        match (case.protocol, case.hits) {
            (Protocol::Http1, None) => self.wrk(case, &url, seconds),
            (Protocol::Http1, Some(rate)) => {
                let rate = format!("--rps={rate}");
                self.h2load(&["--h1", "-c64", &rate], &url, seconds)
            }
            (Protocol::Http2, _) => self.h2load(&["-c8", "-m8"], &url, seconds),
        }
    }

    fn wrk(&self, case: Case, url: &str, seconds: u32) -> Load {
        let mut command = self.command("wrk");
        command
            .args(["-t1", "-c64", "--timeout", "10s", "-d"])
            .arg(format!("{seconds}s"))
            .arg("-s")
            .arg(self.directory.join(format!("{}.lua", case.name)))
            .arg(url);
        let text = output_of(command);
        // requests, microseconds, p50, p99, errors
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .unwrap_or_else(|| panic!("wrk reported nothing:\n{text}"));
        let numbers: Vec<f64> = line
            .split_whitespace()
            .map(|word| word.parse().expect("wrk reports numbers"))
            .collect();
        let &[requests, micros, p50_micros, p99_micros, errors] = numbers.as_slice() else {
            panic!("wrk reported {line}");
        };
        assert!(errors < 0.5 && requests > 0.5, "{url} failed:\n{text}");
        Load {
            requests: whole(requests),
            seconds: micros / 1e6,
            p50_micros,
            p99_micros,
        }
    }

    fn h2load(&self, arguments: &[&str], url: &str, seconds: u32) -> Load {
        let log = self.directory.join("h2load.log");
        drop(std::fs::remove_file(&log));
        let mut command = self.command("h2load");
        command
            .args(["-t1", "-D"])
            .arg(seconds.to_string())
            .args(arguments)
            .arg("--log-file")
            .arg(&log)
            .arg(url);
        let text = output_of(command);
        // One line a request: start in microseconds, status, duration in microseconds.
        let lines = std::fs::read_to_string(&log).expect("h2load writes its log");
        let mut durations = Vec::new();
        for line in lines.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[_, status, micros] = words.as_slice() else {
                panic!("h2load logged {line}");
            };
            assert!(status.starts_with('2'), "{url} answered {status}:\n{text}");
            durations.push(micros.parse::<f64>().expect("h2load logs numbers"));
        }
        let failed = text.lines().any(|line| {
            line.starts_with("requests:")
                && !(line.contains(" 0 failed,")
                    && line.contains(" 0 errored,")
                    && line.ends_with(" 0 timeout"))
        });
        assert!(!failed && !durations.is_empty(), "{url} failed:\n{text}");
        durations.sort_by(f64::total_cmp);
        Load {
            requests: u64::try_from(durations.len()).unwrap_or(u64::MAX),
            seconds: f64::from(seconds),
            p50_micros: quantile(&durations, 50),
            p99_micros: quantile(&durations, 99),
        }
    }

    fn command(&self, program: &str) -> Command {
        // It ends with this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = self.core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command.arg(program);
        command
    }
}

fn output_of(mut command: Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?} failed:\n{text}");
    text
}

/// The `percent`th of a hundred parts of sorted values.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of requests in a few seconds"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

fn wrk_script(case: Case) -> String {
    let request = if case.post_bytes > 0 {
        format!(
            "wrk.method = 'POST'\nwrk.body = string.rep('x', {})\n",
            case.post_bytes
        )
    } else {
        String::new()
    };
    format!(
        "{request}\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT %d %d %f %f %d\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"
    )
}
