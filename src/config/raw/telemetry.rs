//! `[telemetry]`: what is written where, and sent to whom.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawSecret, Spanned};
use crate::config::units::{Ratio, Size, Time};

/// What is written where.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawTelemetry {
    /// One line per exchange.
    pub(crate) access_log: RawAccessLog,
    /// An exchange that took longer is kept by access log and traces whatever they sample.
    pub(crate) slow: Time,
    /// Traces to a collector, by OTLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otlp: Option<Spanned<RawOtlp>>,
    /// Traces to Zipkin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipkin: Option<Spanned<RawZipkin>>,
    /// Access log lines and events to Splunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) splunk: Option<Spanned<RawSplunk>>,
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self {
            access_log: RawAccessLog::default(),
            slow: Time::secs(1),
            otlp: None,
            zipkin: None,
            splunk: None,
        }
    }
}

/// One line per exchange.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAccessLog {
    /// One JSON object a line.
    pub(crate) format: RawLogFormat,
    /// `stdout`, `off`, or a file, opened again on SIGHUP.
    pub(crate) path: Spanned<String>,
    /// The share of unremarkable exchanges that is written. Failures, refusals and slow ones always are.
    pub(crate) sample: Ratio,
}

impl Default for RawAccessLog {
    fn default() -> Self {
        Self {
            format: RawLogFormat::Json,
            path: "stdout".to_owned().into(),
            sample: Ratio(1.0),
        }
    }
}

/// How an access log line looks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawLogFormat {
    /// One JSON object.
    Json,
}

/// Traces to a collector, by OTLP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoint"]))]
pub(crate) struct RawOtlp {
    /// The collector's URL; over HTTP without a path, `/v1/traces` is asked.
    #[schemars(required)]
    pub(crate) endpoint: Option<Spanned<String>>,
    /// What is spoken to it.
    pub(crate) protocol: RawOtlpProtocol,
    /// The share of new traces that is sent. Failures, refusals and slow exchanges always are.
    pub(crate) sample: Ratio,
    /// Headers that every request to it carries.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<Spanned<String>, Spanned<RawSecret>>,
    /// CA certificates that its certificate is checked with. Without: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<Spanned<String>>,
}

/// The share of traces that is sent unless told otherwise.
const SAMPLE: Ratio = Ratio(0.01);

impl Default for RawOtlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: RawOtlpProtocol::Http,
            sample: SAMPLE,
            headers: BTreeMap::new(),
            ca: None,
        }
    }
}

/// What carries OTLP.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawOtlpProtocol {
    /// Protobuf over HTTP/1.
    Http,
    /// gRPC.
    Grpc,
}

/// Traces to Zipkin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoint"]))]
pub(crate) struct RawZipkin {
    /// The URL that takes spans, with its path: `http://…:9411/api/v2/spans`.
    #[schemars(required)]
    pub(crate) endpoint: Option<Spanned<String>>,
    /// The share of new traces that is sent. Failures, refusals and slow exchanges always are.
    pub(crate) sample: Ratio,
}

impl Default for RawZipkin {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: SAMPLE,
        }
    }
}

/// Access log lines and events to Splunk's HTTP Event Collector.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url", "token"]))]
pub(crate) struct RawSplunk {
    /// The collector's URL; without a path, `/services/collector/event` is asked.
    #[schemars(required)]
    pub(crate) url: Option<Spanned<String>>,
    /// The collector's token.
    #[schemars(required)]
    pub(crate) token: Option<Spanned<RawSecret>>,
    /// The index everything goes to. Without: the token's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Spanned<String>>,
    /// Whether a batch counts as delivered only once the indexer has acknowledged it; the token must be set so.
    pub(crate) acknowledge: bool,
    /// CA certificates that its certificate is checked with. Without: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<Spanned<String>>,
    /// Where what cannot be delivered waits on disk. Without: only in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spill: Option<Spanned<RawSpill>>,
}

/// Where what cannot be delivered waits on disk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(crate) struct RawSpill {
    /// A directory of its own, made if it is missing.
    #[schemars(required)]
    pub(crate) path: Option<Spanned<String>>,
    /// What it may hold; beyond it, what is newest is dropped and counted.
    pub(crate) size: Spanned<Size>,
}

impl Default for RawSpill {
    fn default() -> Self {
        Self {
            path: None,
            size: Size(64 << 20).into(),
        }
    }
}
