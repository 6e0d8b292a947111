//! Traces to a collector by OTLP, over HTTP or gRPC, and to Zipkin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;

use super::client::{Answer, Broken, Client, GZIP, gzip};
use super::queue::Queue;
use super::retry::{Patience, Verdict, pause, verdict};
use crate::config::plan::{Otlp, OtlpProtocol, Zipkin};
use crate::engine::registry::Directories;
use crate::observe::trace::context::is_within;
use crate::observe::trace::spans::{Span, build};
use crate::observe::trace::{Record, encode_otlp, encode_zipkin, framed};

/// Requests in a batch.
const BATCH: usize = 512;
/// How long a batch may wait to become full.
const LINGER: Duration = Duration::from_secs(1);
/// A batch is given up after so many failures in a row: after a minute.
const MAX_FAILURES: u32 = 7;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Sends what comes to a collector, until nothing more will come.
pub(super) async fn otlp(
    config: &Otlp,
    queue: &Queue<Arc<Vec<Record>>>,
    directories: &Directories,
    host: &str,
) {
    let grpc = config.protocol == OtlpProtocol::Grpc;
    let mut client = Client::new(&config.endpoint, config.ca.as_deref(), grpc);
    for (name, value) in &config.headers {
        client = client.with(name.clone(), value.expose());
    }
    if grpc {
        client = client.with(http::header::TE, "trailers");
    }
    let encode = |spans: &mut dyn Iterator<Item = Span>| {
        let message = gzip(&encode_otlp(spans, host));
        Bytes::from(if grpc {
            framed(&message, true)
        } else {
            message
        })
    };
    let patience = Patience::new("otlp");
    let mut to = if grpc {
        Destination {
            client,
            kind: "application/grpc",
            coding: Some((GRPC_ENCODING, "gzip")),
            judge: grpc_verdict,
            patience,
        }
    } else {
        Destination {
            client,
            kind: "application/x-protobuf",
            coding: GZIP,
            judge: verdict,
            patience,
        }
    };
    forward(&mut to, queue, directories, config.sample, encode).await;
}

/// Sends what comes to Zipkin, until nothing more will come.
pub(super) async fn zipkin(
    config: &Zipkin,
    queue: &Queue<Arc<Vec<Record>>>,
    directories: &Directories,
) {
    let mut to = Destination {
        client: Client::new(&config.endpoint, None, false),
        kind: "application/json",
        coding: GZIP,
        judge: verdict,
        patience: Patience::new("zipkin"),
    };
    let encode = |spans: &mut dyn Iterator<Item = Span>| Bytes::from(gzip(&encode_zipkin(spans)));
    forward(&mut to, queue, directories, config.sample, encode).await;
}

struct Destination {
    client: Client,
    kind: &'static str,
    coding: Option<(HeaderName, &'static str)>,
    judge: fn(&Result<Answer, Broken>) -> Verdict,
    patience: Patience,
}

async fn forward(
    to: &mut Destination,
    queue: &Queue<Arc<Vec<Record>>>,
    directories: &Directories,
    sample: f64,
    encode: impl Fn(&mut dyn Iterator<Item = Span>) -> Bytes,
) {
    while let Some((taken, _)) = queue.take(BATCH, LINGER).await {
        let records = taken.iter().flat_map(|records| records.iter());
        let kept = records.filter(|one| one.forced || is_within(one.context.trace, sample));
        let count = kept.clone().count() as u64;
        if count == 0 {
            continue;
        }
        // Spans are large: those of one request at a time stay in the processor's cache.
        let body = encode(&mut kept.flat_map(|record| build(record, directories)));
        drop(taken);
        let way = queue.counts().on_the_way(count);
        if deliver(to, &body, || queue.is_closed()).await {
            way.arrived();
        }
    }
}

/// Whether `body` was taken, in the end.
async fn deliver(to: &mut Destination, body: &Bytes, closing: impl Fn() -> bool) -> bool {
    loop {
        let answer = to
            .client
            .post(to.kind, to.coding.clone(), body.clone())
            .await;
        match (to.judge)(&answer) {
            Verdict::Taken => {
                to.patience.worked();
                return true;
            }
            Verdict::Refused(what) => {
                tracing::warn!("an export was refused: {what}");
                return false;
            }
            Verdict::Later(what, asked) => {
                let wait = to.patience.failed(&what, asked);
                if closing() || to.patience.failures() > MAX_FAILURES {
                    return false;
                }
                pause(wait).await;
            }
        }
    }
}

/// What a gRPC answer says; the statuses that speak for trying again are OTLP's.
fn grpc_verdict(answer: &Result<Answer, Broken>) -> Verdict {
    match answer {
        Ok(answer) if answer.status.is_success() => match answer.grpc_status() {
            Some(0) => Verdict::Taken,
            Some(status @ (1 | 4 | 8 | 10 | 11 | 14 | 15)) => Verdict::Later(
                format!("answered gRPC status {status}"),
                answer.retry_after(),
            ),
            Some(status) => Verdict::Refused(format!("answered gRPC status {status}")),
            None => Verdict::Refused("answered without a gRPC status".to_owned()),
        },
        other => verdict(other),
    }
}
