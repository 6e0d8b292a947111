//! How much somebody may have in a time, written out again.

use super::{protection, whole};
use crate::config::plan::RateLimit;
use crate::config::raw::{RawCost, RawRateLimit, RawScope};
use crate::config::units::Rate;
use crate::engine::rate::Cost;

pub(super) fn rate_limit(limit: &RateLimit) -> RawRateLimit {
    let settings = &limit.settings;
    let (quota, parts) = (&settings.quota, settings.cost.parts());
    let burst = i64::try_from(quota.burst() / parts).unwrap_or(i64::MAX);
    let rate = Rate {
        amount: quota.amount() / parts,
        period: quota.period(),
    };
    RawRateLimit {
        mode: protection::mode(settings.mode),
        per: limit.per.to_string().into(),
        quota: Some(rate.into()),
        burst: (!quota.is_calendar()).then(|| burst.into()),
        cost: match settings.cost {
            Cost::Requests => RawCost::Requests,
            Cost::UpstreamTime => RawCost::UpstreamTime,
            Cost::Bytes => RawCost::Bytes,
        },
        scope: if settings.shared {
            RawScope::Shared.into()
        } else {
            RawScope::Local.into()
        },
        count_cache_hits: settings.count_cache_hits,
        max_keys: whole(settings.max_keys),
    }
}
