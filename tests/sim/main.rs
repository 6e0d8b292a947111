//! Overload in simulated time: the policies that run in production, in front of a modelled upstream.
//!
//! Everything is driven by one event heap and one seeded generator, so that a scenario of minutes takes
//! milliseconds and repeats to the digit. Each number asserted is asserted for every one of [`SEEDS`].

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a simulation's numbers are small and positive, and a world that cannot go on fails the test"
)]

mod load;
mod upstream;
mod world;

mod borrowing;
mod capacity;
mod ejection;
mod fairness;
#[cfg(feature = "proxy")]
mod flush;
mod outage;
mod overload;
mod variance;

/// Every scenario is run with this many seeds.
const SEEDS: u64 = 20;

/// Runs `scenario` with every seed, on all cores, and returns what each run gave.
fn for_each_seed<T: Send>(scenario: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let mut results: Vec<(u64, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let scenario = &scenario;
                scope.spawn(move || {
                    (first..SEEDS)
                        .step_by(threads as usize)
                        .map(|seed| (seed, scenario(seed)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap());
        joined.flatten().collect()
    });
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}
