//! One scrape's answer, written family by family in the format its reader asked for.
//!
//! Written here, because the library for it offers nobody else a way to make an exemplar or a native histogram, spells
//! the labels of a series out again for each of its two and twenty lines, which are most of a scrape, and builds a
//! compiler of protocol definitions for the binary format.

use std::fmt::Write as _;

use super::proto;
use super::proto::MetricType;
use crate::measure::histogram::Histogram;
use crate::observe::exemplars::{Exemplar, Timed};
use crate::observe::process::Process;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0 text: with units and exemplars.
    OpenMetrics,
    /// The older text format: counters are described by their whole name, and there is no unit and no exemplar.
    Classic,
    /// `io.prometheus.client.MetricFamily`, delimited: with native histograms beside the classic ones.
    Protobuf,
}

impl Format {
    /// The content type of an answer in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The value of a counter or gauge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "the format's numbers are f64")]
    const fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        }
    }
}

/// What one series of a histogram holds.
#[derive(Clone, Copy)]
pub(super) struct Row<'h> {
    pub(super) histogram: &'h Histogram,
    pub(super) exemplars: &'h [Option<Exemplar>],
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

/// Writes whole families.
pub(super) struct Out {
    format: Format,
    text: String,
    bytes: Vec<u8>,
}

impl Out {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(64 << 10),
            bytes: Vec::new(),
        }
    }

    /// All that was written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        match self.format {
            Format::OpenMetrics => {
                self.text.push_str("# EOF\n");
                self.text.into_bytes()
            }
            Format::Classic => self.text.into_bytes(),
            Format::Protobuf => self.bytes,
        }
    }

    /// A family of counters, whose name gets `_total`.
    pub(super) fn counters<const N: usize, L: AsRef<str>, V: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, L); N], V)>,
    ) {
        self.numbers((name, "_total"), help, MetricType::Counter, rows);
    }

    /// One counter without labels, whose name gets `_total`; nothing when there is no value.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: Option<impl Into<Number>>) {
        if let Some(value) = value {
            self.counters::<0, &str, _>(name, help, [([], value)]);
        }
    }

    pub(super) fn gauges<const N: usize, L: AsRef<str>, V: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, L); N], V)>,
    ) {
        self.numbers((name, ""), help, MetricType::Gauge, rows);
    }

    /// One gauge without labels; nothing when there is no value.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: Option<impl Into<Number>>) {
        if let Some(value) = value {
            self.gauges::<0, &str, _>(name, help, [([], value)]);
        }
    }

    fn numbers<const N: usize, L: AsRef<str>, V: Into<Number>>(
        &mut self,
        (name, suffix): (&str, &str),
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = ([(&'static str, L); N], V)>,
    ) {
        let rows = rows.into_iter();
        if self.format == Format::Protobuf {
            let metrics = rows.map(|(labels, value)| {
                proto::number(kind, proto::labels(&labels), value.into().as_f64())
            });
            let name = format!("{name}{suffix}");
            proto::family(&mut self.bytes, name, help, kind, metrics.collect());
            return;
        }
        self.describe((name, suffix), help, kind);
        let mut digits = itoa::Buffer::new();
        for (labels, value) in rows {
            self.text.extend([name, suffix]);
            if !labels.is_empty() {
                self.text.push('{');
                spell(&mut self.text, &labels);
                self.text.push('}');
            }
            self.text.push(' ');
            match value.into() {
                Number::Whole(value) => self.text.push_str(digits.format(value)),
                Number::Real(value) => spell_number(&mut self.text, value),
            }
            self.text.push('\n');
        }
    }

    fn describe(&mut self, (name, suffix): (&str, &str), help: &str, kind: MetricType) {
        let suffix = if self.format == Format::Classic {
            suffix
        } else {
            ""
        };
        let text = &mut self.text;
        text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
        text.extend(["# TYPE ", name, suffix, " ", kind.as_str(), "\n"]);
        if self.format == Format::OpenMetrics
            && let Some((_, unit)) = name.rsplit_once('_')
            && ["seconds", "bytes"].contains(&unit)
        {
            text.extend(["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    /// A family of durations.
    pub(super) fn histograms<'h, const N: usize, L: AsRef<str>, R: Into<Row<'h>>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, L); N], R)>,
    ) {
        let rows = rows.into_iter().map(|(labels, row)| (labels, row.into()));
        if self.format == Format::Protobuf {
            let metrics = rows.map(|(labels, row)| proto::histogram(proto::labels(&labels), row));
            let (name, kind) = (name.to_owned(), MetricType::Histogram);
            proto::family(&mut self.bytes, name, help, kind, metrics.collect());
            return;
        }
        self.describe((name, ""), help, MetricType::Histogram);
        let bounds: Vec<String> = Histogram::default()
            .buckets()
            .map(|(bound, _)| {
                bound.map_or_else(|| "+Inf".to_owned(), |nanos| text_of(seconds(nanos.into())))
            })
            .collect();
        let mut spelled = String::new();
        for (labels, row) in rows {
            spelled.clear();
            spell(&mut spelled, &labels);
            self.series(name, &spelled, row, &bounds);
        }
    }

    fn series(&mut self, name: &str, labels: &str, row: Row<'_>, bounds: &[String]) {
        let mut digits = itoa::Buffer::new();
        let text = &mut self.text;
        let sum = text_of(seconds(row.histogram.sum_nanos()));
        text.extend([name, "_sum{", labels, "} ", &sum, "\n"]);
        let count = digits.format(row.histogram.count());
        text.extend([name, "_count{", labels, "} ", count, "\n"]);
        let mut exemplars = row.exemplars.iter();
        let mut below = 0;
        for ((_, count), bound) in row.histogram.buckets().zip(bounds) {
            below += count;
            let below = digits.format(below);
            text.extend([name, "_bucket{le=\"", bound, "\",", labels, "} ", below]);
            if let Some(exemplar) = exemplars.next().and_then(Option::as_ref)
                && self.format == Format::OpenMetrics
            {
                spell_exemplar(text, exemplar);
            }
            text.push('\n');
        }
    }

    /// The conventional metrics of any process.
    pub(super) fn process(&mut self, process: &Process) {
        let help = "User and system CPU time.";
        self.counter("process_cpu_seconds", help, process.cpu_seconds);
        let help = "Resident memory.";
        self.gauge(
            "process_resident_memory_bytes",
            help,
            process.resident_bytes,
        );
        let help = "Address space.";
        self.gauge("process_virtual_memory_bytes", help, process.virtual_bytes);
        let help = "Since the Unix epoch.";
        self.gauge(
            "process_start_time_seconds",
            help,
            process.start_time_seconds,
        );
        self.gauge(
            "process_open_fds",
            "Open file descriptors.",
            process.open_fds,
        );
        let help = "Limit on open file descriptors.";
        self.gauge("process_max_fds", help, process.max_fds);
        self.gauge("process_threads", "Threads.", process.threads);
    }
}

fn spell_exemplar(text: &mut String, exemplar: &Exemplar) {
    let Exemplar { trace, nanos, at } = exemplar;
    let value = text_of(seconds((*nanos).into()));
    let (second, micros) = (at / 1_000_000, at % 1_000_000);
    // Writing to a string cannot fail.
    let _infallible = write!(
        text,
        " # {{trace_id=\"{trace:032x}\"}} {value} {second}.{micros:06}"
    );
}

fn spell(text: &mut String, labels: &[(&'static str, impl AsRef<str>)]) {
    for (at, (name, value)) in labels.iter().enumerate() {
        text.extend([if at == 0 { "" } else { "," }, name, "=\""]);
        for one in value.as_ref().chars() {
            match one {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                _ => text.push(one),
            }
        }
        text.push('"');
    }
}

fn spell_number(text: &mut String, value: f64) {
    if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        text.push_str(&text_of(value));
    }
}

fn text_of(value: f64) -> String {
    format!("{value:?}")
}

/// Nanoseconds as the formats have them.
#[expect(clippy::cast_precision_loss, reason = "the format's numbers are f64")]
pub(super) fn seconds(nanos: u128) -> f64 {
    nanos as f64 / 1e9
}
