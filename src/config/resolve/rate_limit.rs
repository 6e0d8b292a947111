//! Checks of `[rate_limits.NAME]`.

use super::{Check, address, protection};
use crate::config::diagnostic::suggest;
use crate::config::plan::{Per, RateLimit};
use crate::config::raw::{Raw, RawCost, RawRateLimit, RawScope, Spanned};
use crate::engine::rate::{Cost, Quota, Settings};

impl Check<'_> {
    /// The rate limits, in the order of their names.
    pub(super) fn rate_limits(&mut self, raw: &Raw) -> Vec<RateLimit> {
        let limits = raw.rate_limits.iter();
        limits
            .filter_map(|(name, one)| self.rate_limit(name, one))
            .collect()
    }

    fn rate_limit(
        &mut self,
        name: &Spanned<String>,
        raw: &Spanned<RawRateLimit>,
    ) -> Option<RateLimit> {
        let name = self.name(name);
        let per = self.per(&raw.per);
        let max_keys = self.whole(&raw.max_keys, "max_keys", 1..=100_000_000_u32);
        let hint = "write how much in what time, such as `quota = \"100/s\"`";
        let quota = self.required(raw.quota.as_ref(), &raw.span(), "quota", hint);
        let cost = match raw.cost {
            RawCost::Requests => Cost::Requests,
            RawCost::UpstreamTime => Cost::UpstreamTime,
            RawCost::Bytes => Cost::Bytes,
        };
        let burst = raw.burst.as_ref();
        let burst = burst.map(|one| (self.whole(one, "burst", 1..=i64::MAX), one.span()));
        let rate = quota?;
        let parts = |amount: u64| amount.saturating_mul(cost.parts());
        let whole = u64::try_from(burst.as_ref().map_or(0, |(burst, _)| *burst)).unwrap_or(0);
        let at_once = if burst.is_some() { whole } else { rate.amount };
        let quota = Quota::try_new(parts(rate.amount), rate.period, parts(at_once.max(1)));
        let quota = self.take(rate.span(), quota)?;
        if let (Some((_, place)), true) = (burst, quota.is_calendar()) {
            self.error_hint(
                place,
                "a quota of the calendar has no burst: all of it may come at once",
                "take it out",
            );
        }
        Some(RateLimit {
            name,
            per: per?,
            settings: Settings {
                mode: protection::mode(raw.mode),
                quota,
                cost,
                count_cache_hits: raw.count_cache_hits,
                max_keys: usize::try_from(max_keys).unwrap_or(usize::MAX),
                shared: *raw.scope == RawScope::Shared,
            },
        })
    }

    fn per(&mut self, raw: &Spanned<String>) -> Option<Per> {
        Some(match raw.as_str() {
            "client" => Per::Client,
            "route" => Per::Route,
            "address" => Per::Address,
            "tier" => Per::Tier,
            other => match other.strip_prefix("header:") {
                Some(name) => Per::Header(self.take(raw.span(), address::header_name(name))?),
                None => {
                    self.error_hint(
                        raw.span(),
                        format!("`{}` has no quota of its own", other.escape_debug()),
                        "write `client`, `route`, `address`, `tier` or `header:NAME`",
                    );
                    return None;
                }
            },
        })
    }

    /// The positions of the limits that a route names.
    pub(super) fn limits_of(&mut self, names: &[Spanned<String>], whole: &Raw) -> Vec<usize> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let position = whole.rate_limits.keys().position(|known| **known == **name);
            match position {
                Some(position) if found.contains(&position) => {
                    self.error(
                        name.span(),
                        format!("rate limit `{}` stands here twice", **name),
                    );
                }
                Some(position) => found.push(position),
                None if self.was_lost(&["rate_limits", name]) => {}
                None => {
                    let known: Vec<&str> =
                        whole.rate_limits.keys().map(|key| key.as_str()).collect();
                    self.error_hint(
                        name.span(),
                        format!("there is no rate limit `{}`", name.escape_debug()),
                        suggest(name, &known).hint,
                    );
                }
            }
        }
        found
    }
}
