//! Families of durations, written here: the library offers nobody else a way to make an exemplar, and it spells the
//! labels of a series out again for each of its two and twenty lines, which are most of a scrape.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::measure::histogram::Histogram;
use crate::observe::exemplars::{Exemplar, Timed};

/// What one series holds.
#[derive(Clone, Copy)]
pub(super) struct Row<'h> {
    histogram: &'h Histogram,
    exemplars: &'h [Option<Exemplar>],
}

impl<'h> From<&'h Histogram> for Row<'h> {
    fn from(histogram: &'h Histogram) -> Self {
        let exemplars = &[];
        Self {
            histogram,
            exemplars,
        }
    }
}

impl<'h> From<&'h Timed> for Row<'h> {
    fn from(timed: &'h Timed) -> Self {
        Self {
            histogram: &timed.histogram,
            exemplars: timed.exemplars(),
        }
    }
}

/// Writes the family `name`, whose name gets `_seconds`.
pub(super) fn histograms<'h, const N: usize, R: Into<Row<'h>>>(
    out: &mut String,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(&'static str, Arc<str>); N], R)>,
) -> fmt::Result {
    writeln!(out, "# HELP {name}_seconds {help}")?;
    writeln!(out, "# TYPE {name}_seconds histogram")?;
    writeln!(out, "# UNIT {name}_seconds seconds")?;
    let bounds: Vec<String> = Histogram::default()
        .buckets()
        .map(|(bound, _)| bound.map_or_else(|| "+Inf".to_owned(), |nanos| seconds(nanos.into())))
        .collect();
    let mut digits = itoa::Buffer::new();
    for (labels, row) in rows {
        let (labels, row) = (spelled(&labels), row.into());
        let sum = seconds(row.histogram.sum_nanos());
        out.extend([name, "_seconds_sum{", &labels, "} ", &sum, "\n"]);
        let count = digits.format(row.histogram.count());
        out.extend([name, "_seconds_count{", &labels, "} ", count, "\n"]);
        let mut exemplars = row.exemplars.iter();
        let mut below = 0;
        for ((_, count), bound) in row.histogram.buckets().zip(&bounds) {
            below += count;
            let below = digits.format(below);
            out.extend([
                name,
                "_seconds_bucket{le=\"",
                bound,
                "\",",
                &labels,
                "} ",
                below,
            ]);
            if let Some(exemplar) = exemplars.next().and_then(Option::as_ref) {
                write_exemplar(out, exemplar)?;
            }
            out.push('\n');
        }
    }
    Ok(())
}

/// What an exemplar begins with. In the value of a label its quotation mark would be escaped.
pub(super) const EXEMPLAR: &str = " # {trace_id=\"";

fn write_exemplar(out: &mut String, exemplar: &Exemplar) -> fmt::Result {
    let Exemplar { trace, nanos, at } = exemplar;
    let value = seconds((*nanos).into());
    let (second, micros) = (at / 1_000_000, at % 1_000_000);
    write!(
        out,
        "{EXEMPLAR}{trace:032x}\"}} {value} {second}.{micros:06}"
    )
}

fn spelled(labels: &[(&'static str, Arc<str>)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend([*name, "=\""]);
        for one in value.chars() {
            match one {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(one),
            }
        }
        out.push('"');
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "the format's numbers are f64")]
fn seconds(nanos: u128) -> String {
    format!("{:?}", nanos as f64 / 1e9)
}
