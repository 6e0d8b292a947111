//! The command line. Parses, calls the library, turns outcomes into exit codes: 0 ok, 1 failed, 2 usage or
//! configuration error.

mod breaker;
mod cache;
mod check;
mod client;
mod clients;
mod demo;
mod diagnose;
mod incidents;
mod inflight;
mod isolate;
mod query;
mod run;
mod sar;
mod status;
mod table;
mod top;
mod upstreams;
mod usage;
mod why;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::query::QueryArgs;
use crate::config::{Source, schema};

/// An adaptive resilience proxy.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    #[command(after_help = "Example:\n  tidegate run --upstream http://127.0.0.1:3000")]
    Run(RunArgs),
    /// Check a configuration and name every mistake in it.
    #[command(after_help = "Example:\n  tidegate check tidegate.toml --explain")]
    Check(CheckArgs),
    /// Print the JSON Schema of the configuration.
    #[command(after_help = "Example:\n  tidegate schema > tidegate.schema.json")]
    Schema,
    /// Show the proxy at work between built-in origins and clients.
    ///
    /// Fifty clients go about their day, and then things go wrong as they do in life; the terminal tells what Tidegate
    /// says about it and what the clients feel.
    #[command(after_help = "Example:\n  tidegate demo --scenario cache-flush --off")]
    Demo(demo::DemoArgs),
    /// Show what runs, on which configuration, and how it fares.
    #[command(after_help = "Example:\n  tidegate status --admin http://10.0.0.7:9900")]
    Status(QueryArgs),
    /// Watch upstreams, clients and requests in the terminal, with what is wrong and what to do about it.
    #[command(after_help = "Example:\n  tidegate top --view clients")]
    Top(top::TopArgs),
    /// Show each upstream with its endpoints, their health and their load.
    ///
    /// Rates, errors and P99 are those of the last seconds. LATENCY is the median of an upstream's exchanges,
    /// and the moving average of an endpoint's.
    #[command(after_help = "Example:\n  tidegate upstreams -o json | jq '.upstreams[].in_flight'")]
    Upstreams(QueryArgs),
    /// Show who takes most of the upstreams, and what is said against whom.
    ///
    /// COST is the time a client's requests held a place at an upstream, SHARE its share of that since the start, 10S
    /// of the last ten seconds, PEAK of the busiest minutes of the week.
    #[command(after_help = "Example:\n  tidegate clients --sort peak-share --limit 10")]
    Clients(clients::ClientsArgs),
    /// Report who used what: requests, cost, the part of the peak, latency, refusals.
    ///
    /// COST is the time that requests held a place at an upstream; PEAK the part of the busiest twentieth of the range.
    #[command(
        after_help = "Example:\n  tidegate usage --from -30d --by client -o html > usage.html"
    )]
    Usage(usage::UsageArgs),
    /// Say what is wrong, most likely cause first, with the numbers that speak for it and what to do about it.
    #[command(after_help = "Example:\n  tidegate diagnose")]
    Diagnose(diagnose::DiagnoseArgs),
    /// List what was promised and missed, or show one such incident.
    #[command(
        after_help = "Examples:\n  tidegate incidents\n  tidegate incidents show 6442c0f1e2a00"
    )]
    Incidents(incidents::IncidentsArgs),
    /// Show this machine second by second, as sar does.
    #[command(after_help = "Example:\n  tidegate sar -q --from 10m --step 10")]
    Sar(sar::SarArgs),
    /// Show the requests under way, the oldest first.
    #[command(after_help = "Example:\n  tidegate inflight --limit 10")]
    Inflight(inflight::InFlightArgs),
    /// Explain why a request was answered as it was: each decision, what was seen and what it was held to.
    ///
    /// Known are the requests of the last minutes that were refused or failed, and one in a hundred others.
    #[command(after_help = "Example:\n  tidegate why 01932c6e-7c3e-7b11-a4d3-0242ac120002")]
    Why(why::WhyArgs),
    /// Show the breakers, or hold one open or closed for a time.
    #[command(
        after_help = "Example:\n  tidegate breaker orders open --ttl 30m --reason \"database migration\""
    )]
    Breaker(breaker::BreakerArgs),
    /// Show who is held apart, or hold a client, a route or an endpoint apart for a time.
    #[command(
        after_help = "Examples:\n  tidegate isolate client reports --to throttle=10/s --ttl 30m --reason \"runs exports in the peak\"\n  \
                      tidegate isolate endpoint shop/10.0.0.7:8080 --ttl 1h --reason \"disk is failing\""
    )]
    Isolate(isolate::IsolateArgs),
    /// Let go who is held apart.
    #[command(after_help = "Example:\n  tidegate release 4f1c9a02b7d1")]
    Release(isolate::ReleaseArgs),
    /// Show the caches, or purge what they hold.
    #[command(after_help = "Example:\n  tidegate cache purge --url https://example.com/news")]
    Cache(cache::CacheArgs),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  tidegate completions bash > /etc/bash_completion.d/tidegate"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to run.
#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration file.
    #[arg(value_name = "CONFIG")]
    file: Option<PathBuf>,
    /// The same.
    #[arg(short, long, value_name = "CONFIG", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// An endpoint of the service behind; may be given several times.
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<String>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Sets one value of the configuration.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

impl RunArgs {
    fn source(self) -> Source {
        Source {
            file: self.file.or(self.config),
            upstreams: self.upstreams,
            listen: self.listen,
            admin: self.admin,
            set: self.set,
        }
    }
}

/// What to check.
#[derive(Debug, Args)]
struct CheckArgs {
    /// The configuration file.
    #[arg(value_name = "CONFIG", required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The same.
    #[arg(short, long, value_name = "CONFIG", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Print the resolved plan.
    #[arg(long)]
    explain: bool,
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args.source()),
        Command::Check(args) => check::check(args),
        Command::Schema => {
            let text = serde_json::to_string_pretty(&schema::schema()).unwrap_or_default();
            print(&text)
        }
        Command::Demo(args) => demo::demo(&args),
        Command::Status(query) => status::status(query),
        Command::Top(args) => top::top(args),
        Command::Upstreams(query) => upstreams::upstreams(query),
        Command::Clients(args) => clients::clients(args),
        Command::Usage(args) => usage::usage(args),
        Command::Diagnose(args) => diagnose::diagnose(args),
        Command::Incidents(args) => incidents::incidents(args),
        Command::Sar(args) => sar::sar(args),
        Command::Inflight(args) => inflight::inflight(args),
        Command::Why(args) => why::why(args),
        Command::Breaker(args) => breaker::breaker(args),
        Command::Isolate(args) => isolate::isolate(args),
        Command::Release(args) => isolate::release(args),
        Command::Cache(args) => cache::cache(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

const USAGE: u8 = 2;

/// Writes `text` and a line end; a reader that has gone is no failure.
fn print(text: &str) -> ExitCode {
    emit(format!("{}\n", text.trim_end()).as_bytes())
}

/// Writes `bytes` as they are.
fn emit(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Writes `text` to where errors go. When that is gone there is nobody to tell.
fn complain(text: &str) {
    let _nobody = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// Whether what goes to `stream` is coloured: when a terminal shows it, and nobody asked for none.
fn color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The number of descriptors this process may open, raised as far as permitted.
fn fd_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    current
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(1 << 20)
}
