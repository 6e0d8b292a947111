//! The command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::Window;
use crate::scenario::Scenario;
use crate::support::arguments::{count, names};
use crate::target::Target;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures what Tidegate, nginx and HAProxy make of an origin's capacity when too much is asked of it.

  --seconds N             length of the measurement of each row          [10]
  --settle N              seconds of the same load before it             [3]
  --seed N                seed of the arrivals                           [1]
  --scenario NAME[,NAME]  1x, 2x, 5x, 10x, flood                         [all]
  --target NAME[,NAME]    direct, tidegate, nginx, haproxy, haproxy-maxconn
                                                                         [all]
  --tidegate PATH         measure this binary instead of the built one
  --markdown              print the table as Markdown

Example: cargo bench --bench overload -- --seconds 5 --scenario 10x,flood --target direct,tidegate";

/// What to measure, and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) tidegate: PathBuf,
    pub(crate) markdown: bool,
    pub(crate) help: bool,
    seconds: u32,
    settle: u32,
    seed: u32,
    scenarios: Vec<&'static str>,
    targets: Vec<&'static str>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            tidegate: PathBuf::from(env!("CARGO_BIN_EXE_tidegate")),
            markdown: false,
            help: false,
            seconds: 10,
            settle: 3,
            seed: 1,
            scenarios: Scenario::ALL.map(Scenario::name).to_vec(),
            targets: Target::ALL.map(Target::name).to_vec(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--seconds" => options.seconds = count(&value()?)?,
                "--settle" => options.settle = count(&value()?)?,
                "--seed" => options.seed = count(&value()?)?,
                "--scenario" => options.scenarios = names(&value()?, &options.scenarios)?,
                "--target" => options.targets = names(&value()?, &options.targets)?,
                "--tidegate" => options.tidegate = PathBuf::from(value()?),
                "--markdown" => options.markdown = true,
                "--help" | "-h" => options.help = true,
                // cargo adds it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown option {other}\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    /// Whether the row is among those asked for.
    pub(crate) fn wants(&self, scenario: Scenario, target: Target) -> bool {
        self.scenarios.contains(&scenario.name()) && self.targets.contains(&target.name())
    }

    /// When load comes, and which part of it counts.
    pub(crate) fn window(&self) -> Window {
        Window {
            settle: Duration::from_secs(u64::from(self.settle)),
            measured: Duration::from_secs(u64::from(self.seconds)),
            seed: u64::from(self.seed),
        }
    }
}
