//! `io.prometheus.client`, the definitions of the binary exposition format, as far as they are written here.
//!
//! Source: `client_model`, `io/prometheus/client/metrics.proto`.

use prost::Message;

use super::out::{Row, seconds};
use crate::measure::native;
use crate::observe::exemplars::Exemplar as Trace;

/// What of a value is counted as zero, in seconds: as other exporters say it, 2^-128.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(super) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

impl MetricType {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A gauge, or a counter: they are written alike.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub(super) positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub(super) kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

/// Writes one family; none without a series, which readers refuse.
pub(super) fn family(
    out: &mut Vec<u8>,
    name: String,
    help: &str,
    kind: MetricType,
    metric: Vec<Metric>,
) {
    if metric.is_empty() {
        return;
    }
    let family = MetricFamily {
        name: Some(name),
        help: Some(help.to_owned()),
        kind: Some(kind.into()),
        metric,
    };
    out.extend_from_slice(&family.encode_length_delimited_to_vec());
}

pub(super) fn labels(labels: &[(&'static str, impl AsRef<str>)]) -> Vec<LabelPair> {
    let pairs = labels.iter().map(|(name, value)| LabelPair {
        name: Some((*name).to_owned()),
        value: Some(value.as_ref().to_owned()),
    });
    pairs.collect()
}

pub(super) fn number(kind: MetricType, label: Vec<LabelPair>, value: f64) -> Metric {
    let value = Some(Value { value: Some(value) });
    let (gauge, counter) = match kind {
        MetricType::Counter => (None, value),
        _ => (value, None),
    };
    Metric {
        label,
        gauge,
        counter,
        histogram: None,
    }
}

pub(super) fn histogram(label: Vec<LabelPair>, row: Row<'_>) -> Metric {
    let mut exemplars = row.exemplars.iter();
    let mut below = 0;
    let bucket = row.histogram.buckets().map(|(bound, count)| {
        below += count;
        Bucket {
            cumulative_count: Some(below),
            upper_bound: Some(bound.map_or(f64::INFINITY, |nanos| seconds(nanos.into()))),
            exemplar: exemplars.next().and_then(Option::as_ref).map(exemplar),
        }
    });
    let bucket = bucket.collect();
    let native = row.histogram.native();
    let (positive_span, positive_delta) = spans(native.buckets());
    Metric {
        label,
        gauge: None,
        counter: None,
        histogram: Some(Histogram {
            sample_count: Some(row.histogram.count()),
            sample_sum: Some(seconds(row.histogram.sum_nanos())),
            bucket,
            schema: Some(native::SCHEMA),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(native.zero()),
            positive_span,
            positive_delta,
        }),
    }
}

/// Runs of buckets that follow each other, and each bucket's count less that of the one before.
fn spans(buckets: impl Iterator<Item = (i16, u64)>) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, _) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in buckets {
        let gap = i32::from(index) - next;
        match spans.last_mut() {
            Some(BucketSpan {
                length: Some(length),
                ..
            }) if gap == 0 => *length += 1,
            _ => spans.push(BucketSpan {
                offset: Some(gap),
                length: Some(1),
            }),
        }
        next = i32::from(index) + 1;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
    }
    (spans, deltas)
}

fn exemplar(trace: &Trace) -> Exemplar {
    let name = format!("{:032x}", trace.trace);
    let (seconds_since, micros) = (trace.at / 1_000_000, trace.at % 1_000_000);
    Exemplar {
        label: labels(&[("trace_id", name)]),
        value: Some(seconds(trace.nanos.into())),
        timestamp: Some(Timestamp {
            seconds: i64::try_from(seconds_since).unwrap_or(i64::MAX),
            nanos: i32::try_from(micros * 1_000).unwrap_or(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_runs_and_differences() {
        let (spans, deltas) = spans([(-3, 5), (-2, 2), (4, 2)].into_iter());
        let span = |offset, length| BucketSpan {
            offset: Some(offset),
            length: Some(length),
        };
        assert_eq!(spans, [span(-3, 2), span(5, 1)]);
        assert_eq!(deltas, [5, -3, 0]);
    }
}
