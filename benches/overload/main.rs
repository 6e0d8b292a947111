//! Overload: what of an origin's capacity arrives when more is asked of it than it can carry, and who gets it.
//!
//! The origin has a fixed number of slots and a fixed service time. It queues without bound and works on
//! when nobody waits for the answer any more, as a thread pool with a backlog does: that is what makes
//! overload dangerous. Load comes at its own pace, whatever the answers do, and a client waits one second.
//! `cargo bench --bench overload -- --help` lists the options; `benches/README.md` says how to read the
//! result. Load goes to loopback only, every server listens on a free port, and whatever was started is
//! stopped, also after a panic or ctrl-c.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot be trusted stops with a message"
)]

mod load;
mod options;
mod origin;
mod report;
mod scenario;
#[path = "../support/mod.rs"]
mod support;
mod target;

use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::options::Options;
use crate::origin::Origin;
use crate::report::{Report, Row};
use crate::scenario::Scenario;
use crate::support::cleanup;
use crate::target::Target;

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    if options.help {
        println!("{}", options::HELP);
        return;
    }
    raise_descriptor_limit();
    let directory = tempfile::tempdir().expect("a temporary directory");
    cleanup::on_interrupt(directory.path());

    let mut report = Report::new(&options);
    for scenario in Scenario::ALL {
        for target in Target::ALL {
            if !options.wants(scenario, target) {
                continue;
            }
            let row = measure(scenario, target, directory.path(), &options);
            eprintln!("{row}");
            report.add(row);
        }
    }
    println!("{report}");
}

/// One scenario against one target. Origin and proxy are new each time: no backlog and nothing learned
/// passes from one row to the next.
fn measure(scenario: Scenario, target: Target, directory: &Path, options: &Options) -> Row {
    let origin = Origin::start();
    let place = support::fresh(directory, &format!("{}-{}", scenario.name(), target.name()));
    let running = target.start(&place, origin.address(), &options.tidegate);
    let clients = scenario.clients(origin::CAPACITY);
    let samples = load::run(running.address(), &clients, &options.window());
    Row::new(scenario, target, &clients, &samples, &options.window())
}

/// Thousands of requests wait at once, in every process: ask for as many descriptors as are to be had.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}
