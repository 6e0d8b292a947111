//! Medians over rounds, as Markdown.

use std::fmt;

use crate::load::{Case, Load};
use crate::options::Options;
use crate::usage::Usage;

/// The name the ratios are computed for.
pub(crate) const TIDEGATE: &str = "Tidegate";

/// One window on one proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) load: Load,
    pub(crate) spent: Usage,
    pub(crate) resident_bytes: u64,
}

impl Round {
    fn per_second(&self) -> f64 {
        float(self.load.requests) / self.load.seconds
    }

    fn cpu_micros(&self) -> f64 {
        float(self.spent.cpu_nanos) / 1e3 / float(self.load.requests)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} requests/s, {:.1} µs CPU a request, p99 {:.0} µs",
            self.per_second(),
            self.cpu_micros(),
            self.load.p99_micros
        )
    }
}

/// Every window, by case and proxy.
#[derive(Debug)]
pub(crate) struct Report {
    setting: String,
    cases: Vec<(Case, Vec<Series>)>,
}

#[derive(Debug)]
struct Series {
    peer: &'static str,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            setting: format!(
                "Median of {} rounds of {} s, taken in turn.",
                options.rounds, options.seconds
            ),
            cases: Vec::new(),
        }
    }

    /// Adds the next round of a proxy.
    pub(crate) fn add(&mut self, case: Case, peer: &'static str, round: Round) {
        let at = self.cases.iter().position(|(of, _)| of.name == case.name);
        let series = match at.and_then(|at| self.cases.get_mut(at)) {
            Some((_, series)) => series,
            None => {
                self.cases.push((case, Vec::new()));
                &mut self.cases.last_mut().expect("one was just pushed").1
            }
        };
        match series.iter_mut().find(|series| series.peer == peer) {
            Some(series) => series.rounds.push(round),
            None => series.push(Series {
                peer,
                rounds: vec![round],
            }),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.setting)?;
        for (case, series) in &self.cases {
            let ours = series.iter().find(|series| series.peer == TIDEGATE);
            writeln!(f, "\n**{}**\n", case.describe())?;
            writeln!(
                f,
                "| proxy | requests/s | p50 ms | p99 ms | CPU µs/request | user | system | RSS MiB \
                 | Tidegate ÷ it, CPU | Tidegate ÷ it, requests/s |"
            )?;
            writeln!(
                f,
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            )?;
            for one in series {
                one.row(f, ours.filter(|ours| ours.peer != one.peer))?;
            }
        }
        Ok(())
    }
}

impl Series {
    fn row(&self, f: &mut fmt::Formatter<'_>, ours: Option<&Self>) -> fmt::Result {
        let (user, system) = self.split();
        writeln!(
            f,
            "| {} | {:.0} | {:.2} | {:.2} | {:.1} | {user:.1} | {system:.1} | {:.1} | {} | {} |",
            self.peer,
            self.median(Round::per_second),
            self.median(|round| round.load.p50_micros / 1e3),
            self.median(|round| round.load.p99_micros / 1e3),
            self.median(Round::cpu_micros),
            self.median(|round| float(round.resident_bytes) / 1_048_576.0),
            self.ratio(ours, Round::cpu_micros),
            self.ratio(ours, Round::per_second),
        )
    }

    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    /// The CPU time of a request in user mode and in the kernel. Ticks are coarse: they give only the
    /// proportion, over all rounds, in which the scheduler's exact count is divided.
    fn split(&self) -> (f64, f64) {
        let user: u64 = self.rounds.iter().map(|round| round.spent.user_ticks).sum();
        let system: u64 = self
            .rounds
            .iter()
            .map(|round| round.spent.system_ticks)
            .sum();
        let cpu = self.median(Round::cpu_micros);
        let share = float(user) / float((user + system).max(1));
        (cpu * share, cpu * (1.0 - share))
    }

    /// Ours over this one, round by round, so that what disturbs the machine for a while cancels out.
    fn ratio(&self, ours: Option<&Self>, value: impl Fn(&Round) -> f64) -> String {
        let Some(ours) = ours else {
            return "–".to_owned();
        };
        let pairs = ours.rounds.iter().zip(&self.rounds);
        let ratio = median(pairs.map(|(ours, its)| value(ours) / value(its)).collect());
        format!("{ratio:.2}")
    }
}

/// The middle value, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = values.get(middle.wrapping_sub(1)).copied();
    lower.map_or(upper, |lower| f64::midpoint(lower, upper))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
