//! The command line of the benchmark.

use std::path::PathBuf;

use crate::load::Case;
use crate::support::arguments::{count, names};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures Tidegate, nginx and HAProxy as proxies in front of the same origin, and Tidegate, nginx and
Varnish as caches.

  --rounds N          windows per proxy and case, taken in turn     [5]
  --seconds N         length of one window                          [3]
  --warm-up N         seconds of load before the first window       [1]
  --only CASE[,CASE]  get-1k, get-64k, post-4k, h2-get-1k,
                      hit-1k, hit-64k                               [all]
  --tidegate PATH     measure this binary instead of the built one
  --without-tidegate  measure the peers alone

Example: cargo bench --bench end_to_end -- --rounds 3 --only get-1k,h2-get-1k";

/// What to measure, and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) warm_up: u32,
    pub(crate) tidegate: Option<PathBuf>,
    pub(crate) help: bool,
    only: Vec<&'static str>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            seconds: 3,
            warm_up: 1,
            tidegate: Some(PathBuf::from(env!("CARGO_BIN_EXE_tidegate"))),
            help: false,
            only: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = count(&value()?)?,
                "--seconds" => options.seconds = count(&value()?)?,
                "--warm-up" => options.warm_up = count(&value()?)?,
                "--tidegate" => options.tidegate = Some(PathBuf::from(value()?)),
                "--without-tidegate" => options.tidegate = None,
                "--only" => options.only = names(&value()?, &Case::ALL.map(|case| case.name))?,
                "--help" | "-h" => options.help = true,
                // cargo adds it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown option {other}\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    /// Whether the case is among those asked for.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.contains(&case)
    }
}
