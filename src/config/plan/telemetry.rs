//! What is written where, and sent to whom.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::{Notify, Secret};

/// `[telemetry]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// The access log; none: off.
    pub access_log: Option<AccessLog>,
    /// An exchange that took longer is kept whatever is sampled.
    pub slow: Duration,
    /// Who is sent what.
    pub exporters: Exporters,
}

/// Who is sent traces, lines, events and notices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exporters {
    /// Traces to a collector.
    pub otlp: Option<Otlp>,
    /// Traces to Zipkin.
    pub zipkin: Option<Zipkin>,
    /// Lines and events to Splunk.
    pub splunk: Option<Splunk>,
    /// Notices of incidents, to each of these.
    pub notify: Vec<Notify>,
}

impl Exporters {
    /// The largest share of new traces that anybody is sent; none when nobody is sent traces.
    #[must_use]
    pub fn trace_sample(&self) -> Option<f64> {
        let otlp = self.otlp.as_ref().map(|otlp| otlp.sample);
        let zipkin = self.zipkin.as_ref().map(|zipkin| zipkin.sample);
        [otlp, zipkin].into_iter().flatten().reduce(f64::max)
    }
}

/// `access_log = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub target: LogTarget,
    /// The share of unremarkable exchanges that is written, 0 to 1. Failures, refusals and slow ones always are.
    pub sample: f64,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, opened for appending; opened again on SIGHUP.
    File(PathBuf),
}

/// `otlp = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// The collector, with the path that takes traces.
    pub endpoint: Uri,
    /// What is spoken to it.
    pub protocol: OtlpProtocol,
    /// The share of new traces that is sent, 0 to 1.
    pub sample: f64,
    /// Headers of every request.
    pub headers: Vec<(HeaderName, Secret)>,
    /// CA certificates to check it with; none: the system's.
    pub ca: Option<PathBuf>,
}

/// What carries OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.
    Http,
    /// gRPC.
    Grpc,
}

/// `zipkin = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Zipkin {
    /// What takes spans.
    pub endpoint: Uri,
    /// The share of new traces that is sent, 0 to 1.
    pub sample: f64,
}

/// `splunk = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Splunk {
    /// The collector, with the path that takes events.
    pub url: Uri,
    /// Its token.
    pub token: Secret,
    /// The index everything goes to; none: the token's own.
    pub index: Option<String>,
    /// Whether the indexer's acknowledgement is waited for.
    pub acknowledge: bool,
    /// CA certificates to check it with; none: the system's.
    pub ca: Option<PathBuf>,
    /// Where what cannot be delivered waits; none: only in memory.
    pub spill: Option<Spill>,
}

/// `spill = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// A directory.
    pub path: PathBuf,
    /// Bytes it may hold.
    pub size: u64,
}
