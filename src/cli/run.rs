//! `tidegate run`: the proxy itself.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use super::{USAGE, color, complain, fd_limit};
use crate::config::Source;
use crate::process::{self, Inherited, Stop};

pub(super) fn run(source: Source) -> ExitCode {
    log_to_stderr(LevelFilter::INFO);
    let limit = fd_limit();
    let plan = match source.load(limit) {
        Ok(plan) => plan,
        Err(mistakes) => {
            complain(&mistakes.render(color(&std::io::stderr())));
            return ExitCode::from(USAGE);
        }
    };
    let inherited = match Inherited::from_env() {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&format!(
                "tidegate: the sockets handed over cannot be used: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    // Nobody but a signal stops a proxy that runs by itself.
    let (_stop, stopped) = Stop::pair();
    let listeners: Vec<String> = plan
        .listeners
        .iter()
        .map(|listener| listener.name.to_string())
        .collect();
    let ready = |admin: &str| {
        tracing::info!(listeners = ?listeners, admin, "tidegate is ready");
    };
    match process::run(source, limit, plan, inherited, stopped, ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ process::Error::Tls(_)) => {
            complain(&format!("tidegate: {error}"));
            ExitCode::from(USAGE)
        }
        Err(error) => {
            complain(&format!("tidegate: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Begins the process's own log, of `least` and worse unless `TIDEGATE_LOG` says: on standard error, JSON unless somebody reads it at a terminal.
pub(super) fn log_to_stderr(least: LevelFilter) {
    let level = std::env::var("TIDEGATE_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(color(&std::io::stderr()))
        .with_max_level(level.unwrap_or(least));
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
}
