//! The incident bench: every cause that shows within a minute, at three strengths and two loads, and pairs of causes;
//! what the proxy says is wrong, as a confusion matrix.
//!
//! `make bench-incidents`; what it takes is a number of seeds or a range of them (`--seeds 1..5`; one unless told), of drills at a time (four), and a
//! word that the drills' names must contain. `benches/README.md` says how to read the result.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot be trusted stops with a message"
)]

mod drill;
#[path = "../../tests/support/mod.rs"]
#[allow(dead_code, reason = "a drill uses a part of the vocabulary")]
mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::drill::fault::{Bust, Fault, Gone};
use self::drill::usual::Usual;
use self::drill::{Drill, Outcome};

/// What is asked of the bench.
struct Options {
    seeds: Range<u64>,
    at_once: usize,
    only: String,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: 0..1,
            at_once: 4,
            only: String::new(),
        };
        // Cargo adds `--bench`.
        let mut arguments = arguments.filter(|one| one != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let number = |text: &str| text.parse().map_err(|error| format!("{name}: {error}"));
            match name.as_str() {
                "--seeds" => {
                    let (first, end) = value.split_once("..").unwrap_or(("0", &value));
                    options.seeds = number(first)?..number(end)?;
                }
                "--at-once" => {
                    let at_once: u64 = number(&value)?;
                    options.at_once = usize::try_from(at_once).unwrap_or(1);
                }
                "--only" => options.only = value,
                _ => return Err(format!("{name} is not --seeds, --at-once or --only")),
            }
        }
        Ok(options)
    }
}

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    drill::end_on_interrupt();
    let mut drills = drills(options.seeds);
    drills.retain(|drill| drill.name().contains(&options.only));
    drills.reverse();
    let drills = Mutex::new(drills);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..options.at_once {
            let (drills, outcomes) = (&drills, &outcomes);
            scope.spawn(move || {
                drill::take_turns(number, options.at_once);
                let next = || lock(drills).pop();
                while let Some(drill) = next() {
                    let outcome = drill.run();
                    if drill::interrupted() {
                        return;
                    }
                    println!("{outcome}");
                    lock(outcomes).push(outcome);
                }
            });
        }
    });
    report(
        &outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    );
    if drill::interrupted() {
        std::process::exit(130);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Single faults, pairs and none, mixed, so that what runs side by side differs.
fn drills(seeds: Range<u64>) -> Vec<Drill> {
    let ms = Duration::from_millis;
    let strengths = [
        [
            Fault::Flood(400.0),
            Fault::Flood(600.0),
            Fault::Flood(900.0),
        ],
        [Fault::Dear(6.0), Fault::Dear(12.0), Fault::Dear(25.0)],
        [Fault::Slow(2.0), Fault::Slow(3.0), Fault::Slow(6.0)],
        [
            Fault::SlowEndpoint(4.0),
            Fault::SlowEndpoint(8.0),
            Fault::SlowEndpoint(20.0),
        ],
        [
            Fault::SlowDatabase(3.0),
            Fault::SlowDatabase(6.0),
            Fault::SlowDatabase(12.0),
        ],
        [Fault::Errors(0.1), Fault::Errors(0.3), Fault::Errors(0.7)],
        [
            Fault::Down(Gone::Refuses),
            Fault::Down(Gone::Resets),
            Fault::Down(Gone::Fails),
        ],
        [
            Fault::Cache(Bust::HalfStored),
            Fault::Cache(Bust::NotStored),
            Fault::Cache(Bust::NewUrls),
        ],
        [Fault::Storm(2), Fault::Storm(4), Fault::Storm(8)],
        [
            Fault::SlowClients(ms(100)),
            Fault::SlowClients(ms(300)),
            Fault::SlowClients(ms(1_000)),
        ],
        [
            Fault::Stalls(ms(50)),
            Fault::Stalls(ms(100)),
            Fault::Stalls(ms(250)),
        ],
    ];
    // As many times as much as fills the endpoints to 150%, 250% and 400%.
    let spikes = |load: f64| [1.5, 2.5, 4.0].map(|of_capacity| Fault::Spike(of_capacity / load));
    let overloads =
        |load: f64| [1.3, 1.8, 2.5].map(|of_capacity| Fault::Overload(of_capacity / load));
    // Nothing is answered any more, by all or by one; and everything with an error.
    let extremes = [
        Fault::Slow(250.0),
        Fault::Down(Gone::Hangs),
        Fault::Errors(1.0),
    ];
    let pairs = [
        [Fault::Slow(4.0), Fault::SlowClients(ms(300))],
        [Fault::Flood(400.0), Fault::Errors(0.2)],
        [Fault::Cache(Bust::NewUrls), Fault::SlowEndpoint(8.0)],
        [Fault::SlowDatabase(6.0), Fault::Down(Gone::Refuses)],
        [Fault::Slow(8.0), Fault::Impatience(4)],
    ];
    let mut all = Vec::new();
    for seed in seeds {
        // Three quarters of an hour each: they begin first, and five seeds have them once.
        if seed % 5 == 0 {
            for (times, load) in [(1.5, 0.5), (2.0, 0.3), (3.0, 0.3)] {
                let faults = vec![Fault::Leak(times)];
                let usual = Usual::Steady;
                all.push(Drill {
                    faults,
                    usual,
                    load,
                    seed,
                });
            }
        }
        for load in [0.3, 0.5] {
            let mut add = |faults, usual| {
                all.push(Drill {
                    faults,
                    usual,
                    load,
                    seed,
                });
            };
            for usual in [Usual::Curve, Usual::Bursts, Usual::Deploys] {
                add(vec![], usual);
            }
            let mut add = |faults| add(faults, Usual::Steady);
            for number in 0..3 {
                add(vec![]);
                for strengths in &strengths {
                    add(vec![strengths[number]]);
                }
                add(vec![spikes(load)[number]]);
                add(vec![overloads(load)[number]]);
            }
            extremes.iter().for_each(|fault| add(vec![*fault]));
            pairs.iter().for_each(|pair| add(pair.to_vec()));
        }
    }
    all
}

fn report(outcomes: &[Outcome]) {
    let mut matrix = BTreeMap::<String, BTreeMap<String, usize>>::new();
    let [mut single, mut pairs, mut healthy] = [(0, 0); 3];
    let mut delays = Vec::new();
    for outcome in outcomes {
        let faults = &outcome.drill.faults;
        let kind = match faults.len() {
            0 => &mut healthy,
            1 => &mut single,
            _ => &mut pairs,
        };
        *kind = (kind.0 + usize::from(outcome.is_right()), kind.1 + 1);
        delays.extend(outcome.after);
        if faults.len() < 2 {
            let cause = faults.first().map_or("nothing", |fault| fault.cause());
            let said = outcome.found.first().map_or("nothing", |one| &one.0);
            let row = matrix.entry(cause.to_owned()).or_default();
            *row.entry(said.to_owned()).or_default() += 1;
        }
    }
    println!("\n| cause | said first |\n| --- | --- |");
    for (cause, said) in &matrix {
        let said: Vec<_> = said
            .iter()
            .map(|(said, count)| format!("{said} {count}"))
            .collect();
        println!("| {cause} | {} |", said.join(", "));
    }
    println!();
    for (what, (right, of)) in [("single", single), ("pairs", pairs), ("nothing", healthy)] {
        println!("{what}: {right} of {of} right");
    }
    delays.sort_by(f64::total_cmp);
    if let (Some(middle), Some(last)) = (delays.get(delays.len() / 2), delays.last()) {
        println!(
            "seconds to the verdict: half within {middle:.1}, all that are right within {last:.1}"
        );
    }
}
