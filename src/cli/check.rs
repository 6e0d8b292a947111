//! `tidegate check`: every mistake at once, or the resolved plan.

use std::process::ExitCode;

use super::{CheckArgs, USAGE, color, complain, fd_limit, print};
use crate::config::{Source, explain};

pub(super) fn check(args: CheckArgs) -> ExitCode {
    let source = Source {
        file: args.file.or(args.config),
        ..Source::default()
    };
    let name = source
        .file
        .as_ref()
        .map_or_else(String::new, |file| file.display().to_string());
    match source.load(fd_limit()) {
        Ok(plan) if args.explain => print(&explain::to_toml(&plan)),
        Ok(plan) => print(&format!(
            "{name} is fine: {} listeners, {} upstreams, {} routes",
            plan.listeners.len(),
            plan.upstreams.len(),
            plan.routes.len()
        )),
        Err(mistakes) => {
            complain(&mistakes.render(color(&std::io::stderr())));
            ExitCode::from(USAGE)
        }
    }
}
