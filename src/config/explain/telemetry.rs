//! What is written where and sent to whom, written out again.

use super::{REDACTED, path};
use crate::config::plan::{LogTarget, Otlp, OtlpProtocol, Splunk, Telemetry};
use crate::config::raw::{
    RawAccessLog, RawLogFormat, RawOtlp, RawOtlpProtocol, RawSecret, RawSpill, RawSplunk,
    RawTelemetry, RawZipkin, Spanned,
};
use crate::config::units::{Ratio, Size, Time};

pub(super) fn telemetry(telemetry: &Telemetry) -> RawTelemetry {
    let (target, sample) = match &telemetry.access_log {
        None => ("off".to_owned().into(), 1.0),
        Some(log) => {
            let target = match &log.target {
                LogTarget::Stdout => "stdout".to_owned().into(),
                LogTarget::File(file) => path(file),
            };
            (target, log.sample)
        }
    };
    let to = &telemetry.exporters;
    RawTelemetry {
        access_log: RawAccessLog {
            format: RawLogFormat::Json,
            path: target,
            sample: Ratio(sample),
        },
        slow: Time(telemetry.slow),
        otlp: to.otlp.as_ref().map(|to| otlp(to).into()),
        zipkin: to.zipkin.as_ref().map(|to| {
            let zipkin = RawZipkin {
                endpoint: Some(to.endpoint.to_string().into()),
                sample: Ratio(to.sample),
            };
            zipkin.into()
        }),
        splunk: to.splunk.as_ref().map(|to| splunk(to).into()),
    }
}

fn hidden() -> Spanned<RawSecret> {
    RawSecret::Literal(REDACTED.to_owned()).into()
}

fn otlp(to: &Otlp) -> RawOtlp {
    let names = to.headers.iter().map(|(name, _)| name.to_string().into());
    RawOtlp {
        endpoint: Some(to.endpoint.to_string().into()),
        protocol: match to.protocol {
            OtlpProtocol::Http => RawOtlpProtocol::Http,
            OtlpProtocol::Grpc => RawOtlpProtocol::Grpc,
        },
        sample: Ratio(to.sample),
        headers: names.map(|name| (name, hidden())).collect(),
        ca: to.ca.as_deref().map(path),
    }
}

fn splunk(to: &Splunk) -> RawSplunk {
    RawSplunk {
        url: Some(to.url.to_string().into()),
        token: Some(hidden()),
        index: to.index.clone().map(Spanned::from),
        acknowledge: to.acknowledge,
        ca: to.ca.as_deref().map(path),
        spill: to.spill.as_ref().map(|spill| {
            let spill = RawSpill {
                path: Some(path(&spill.path)),
                size: Size(spill.size).into(),
            };
            spill.into()
        }),
    }
}
