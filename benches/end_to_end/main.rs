//! Tidegate against nginx, `HAProxy` and Varnish: the same origin, the same load, one core each.
//!
//! `cargo bench --bench end_to_end -- --help` lists the options; `benches/README.md` says how to read
//! the result. Load goes to loopback only, every server listens on a free port, and whatever was
//! started is stopped, also after a panic or ctrl-c.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot be trusted stops with a message"
)]

mod load;
mod options;
mod peers;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod usage;

use std::num::NonZero;

use crate::load::{Case, Generator};
use crate::options::Options;
use crate::peers::{Peer, Place, Setting};
use crate::report::{Report, Round};
use crate::support::cleanup;

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
    let directory = tempfile::tempdir().expect("a temporary directory");
    cleanup::on_interrupt(directory.path());

    let cores = Cores::available();
    let origin = peers::start_origin(directory.path(), cores.load);
    let place = Place {
        directory: directory.path(),
        core: cores.proxy,
        origin: origin.address(),
    };
    let mut peers = Vec::new();
    if let Some(binary) = &options.tidegate {
        for setting in Setting::ALL {
            peers.push(Peer::tidegate(&place, binary, setting));
        }
    }
    for caches in [false, true] {
        for logging in [false, true] {
            peers.push(Peer::nginx(&place, caches, logging));
        }
    }
    peers.push(Peer::haproxy(&place));
    peers.push(Peer::varnish(&place));

    let generator = Generator::new(directory.path(), cores.load);
    let mut report = Report::new(&options);
    for case in Case::ALL
        .into_iter()
        .filter(|case| options.wants(case.name))
    {
        let peers = peers.iter();
        let mut peers: Vec<&Peer> = peers
            .filter(|peer| peer.caches == case.hits.is_some())
            .collect();
        for peer in &peers {
            generator.run(case, peer.address(case.protocol), options.warm_up);
            peer.truncate_log();
        }
        for round in 1..=options.rounds {
            for peer in &peers {
                let measured = measure(&generator, case, peer, options.seconds);
                eprintln!(
                    "{} {round}/{} {}: {measured}",
                    case.name, options.rounds, peer.name
                );
                report.add(case, peer.name, measured);
                peer.truncate_log();
            }
            // Who comes behind whom makes a difference: the cores are not left as they were found.
            peers.rotate_left(1);
        }
    }
    println!("{report}");
}

/// One window of load on one proxy, with what its processes spent meanwhile.
fn measure(generator: &Generator, case: Case, peer: &Peer, seconds: u32) -> Round {
    let before = peer.usage();
    let load = generator.run(case, peer.address(case.protocol), seconds);
    let spent = peer.usage().since(&before);
    Round {
        load,
        spent,
        resident_bytes: peer.resident_bytes(),
    }
}

/// The proxy has a core to itself; the origin and the load generator share another.
struct Cores {
    proxy: Option<usize>,
    load: Option<usize>,
}

impl Cores {
    fn available() -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        if count < 2 {
            eprintln!("one core only: nothing is pinned, and throughput means little");
            return Self {
                proxy: None,
                load: None,
            };
        }
        Self {
            proxy: Some(0),
            load: Some(1),
        }
    }
}
