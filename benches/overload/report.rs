//! What became of the load, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::load::{Client, Outcome, PATIENCE, Sample, Window};
use crate::options::Options;
use crate::origin;
use crate::scenario::Scenario;
use crate::target::Target;

const HEADINGS: [&str; 9] = [
    "scenario",
    "target",
    "goodput",
    "p50 ms",
    "p99 ms",
    "victims answered",
    "sent",
    "sent late, p99 ms",
    "not answered with 200",
];

/// One scenario against one target.
#[derive(Debug)]
pub(crate) struct Row {
    scenario: Scenario,
    target: Target,
    /// Answered well and in time, of what the origin could have carried meanwhile.
    goodput: f64,
    p50: Option<Duration>,
    p99: Option<Duration>,
    /// Of the requests of clients within their share; none without such clients.
    victims_answered: Option<f64>,
    sent: usize,
    late: Option<Duration>,
    failures: BTreeMap<Outcome, usize>,
}

impl Row {
    pub(crate) fn new(
        scenario: Scenario,
        target: Target,
        clients: &[Client],
        samples: &[Sample],
        window: &Window,
    ) -> Self {
        let good = |sample: &&Sample| sample.outcome == Outcome::Answered(200);
        let mut latencies: Vec<Duration> = samples
            .iter()
            .filter(good)
            .map(|sample| sample.latency)
            .collect();
        latencies.sort();
        let mut late: Vec<Duration> = samples.iter().map(|sample| sample.late).collect();
        late.sort();
        let victims = samples.iter().filter(|sample| sample.victim);
        let answered = victims.clone().filter(good).count();
        let mut failures = BTreeMap::new();
        for sample in samples.iter().filter(|sample| !good(sample)) {
            *failures.entry(sample.outcome).or_default() += 1;
        }
        let carried = origin::CAPACITY * window.measured.as_secs_f64();
        Self {
            scenario,
            target,
            goodput: float(latencies.len()) / carried,
            p50: quantile(&latencies, 50),
            p99: quantile(&latencies, 99),
            victims_answered: clients
                .iter()
                .any(|client| client.victim)
                .then(|| float(answered) / float(victims.count())),
            sent: samples.len(),
            late: quantile(&late, 99),
            failures,
        }
    }

    fn cells(&self) -> [String; HEADINGS.len()] {
        let millis = |latency: Option<Duration>| {
            latency.map_or_else(none, |latency| {
                format!("{:.0}", latency.as_secs_f64() * 1e3)
            })
        };
        let failures = self.failures.iter().map(|(outcome, count)| match outcome {
            Outcome::Answered(status) => format!("{status}: {count}"),
            Outcome::TimedOut => format!("timeout: {count}"),
            Outcome::Broken => format!("broken: {count}"),
        });
        let failures: Vec<String> = failures.collect();
        [
            self.scenario.name().to_owned(),
            self.target.name().to_owned(),
            format!("{:.3}", self.goodput),
            millis(self.p50),
            millis(self.p99),
            self.victims_answered
                .map_or_else(none, |share| format!("{:.2}%", share * 100.0)),
            self.sent.to_string(),
            millis(self.late),
            failures.join(", "),
        ]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = HEADINGS.iter().zip(self.cells());
        let pairs: Vec<String> = pairs
            .skip(2)
            .map(|(heading, cell)| format!("{heading} {cell}"))
            .collect();
        let (scenario, target) = (self.scenario.name(), self.target.name());
        write!(f, "{scenario} {target}: {}", pairs.join(", "))
    }
}

/// Every row, as text or as Markdown.
#[derive(Debug)]
pub(crate) struct Report {
    setting: String,
    markdown: bool,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let window = options.window();
        Self {
            setting: format!(
                "Origin of {} slots x {} ms; {} s of load after {} s of the same; clients wait {} s; seed {}.",
                origin::SLOTS,
                origin::SERVICE_MILLIS,
                window.measured.as_secs(),
                window.settle.as_secs(),
                PATIENCE.as_secs(),
                window.seed,
            ),
            markdown: options.markdown,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.setting)?;
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        if self.markdown {
            writeln!(f, "| {} |", HEADINGS.join(" | "))?;
            writeln!(
                f,
                "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
            )?;
            return rows
                .iter()
                .try_for_each(|cells| writeln!(f, "| {} |", cells.join(" | ")));
        }
        let headings = HEADINGS.map(str::to_owned);
        let widths: Vec<usize> = (0..HEADINGS.len())
            .map(|column| {
                let cells = rows.iter().chain([&headings]);
                let widths = cells.filter_map(|cells| cells.get(column));
                widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for cells in [&headings].into_iter().chain(&rows) {
            let line: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn none() -> String {
    "-".to_owned()
}

/// The `percent`th of a hundred parts of sorted values.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}
