//! `[slos.NAME]`, written out again.

use crate::config::plan::Slo;
use crate::config::raw::{RawLatency, RawPer, RawSlo};
use crate::config::units::{Ratio, Time};
use crate::engine::slo::{Latency, Per};

pub(super) fn slo(slo: &Slo) -> RawSlo {
    let latency = |latency: Latency| RawLatency {
        quantile: Ratio(latency.quantile).into(),
        below: Some(Time(latency.below).into()),
        over: Time(latency.over).into(),
    };
    let settings = &slo.settings;
    RawSlo {
        latency: settings.latency.map(|one| latency(one).into()),
        availability: settings.availability.map(|ratio| Ratio(ratio).into()),
        per: match slo.per {
            Per::Route => RawPer::Route,
            Per::Upstream => RawPer::Upstream,
            Per::Endpoint => RawPer::Endpoint,
            Per::Client => RawPer::Client,
        },
        min_requests: i64::try_from(settings.min_requests)
            .unwrap_or(i64::MAX)
            .into(),
    }
}
