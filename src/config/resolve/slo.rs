//! Checks of `[slos.NAME]`.

use std::time::Duration;

use super::Check;
use crate::config::diagnostic::suggest;
use crate::config::plan::Slo;
use crate::config::raw::{Raw, RawLatency, RawPer, RawRoute, RawSlo, Spanned};
use crate::config::units::Ratio;
use crate::engine::slo::{Latency, Per, Settings};

/// The shortest window: a slice.
const SHORTEST: Duration = Duration::from_secs(5);

impl Check<'_> {
    /// The objectives, in the order of their names.
    pub(super) fn slos(&mut self, raw: &Raw) -> Vec<Slo> {
        let slos = raw.slos.iter();
        slos.filter_map(|(name, one)| self.slo(name, one)).collect()
    }

    fn slo(&mut self, name: &Spanned<String>, raw: &Spanned<RawSlo>) -> Option<Slo> {
        let lost = ["latency", "availability"].map(|key| self.was_dropped(&raw.span(), key));
        if raw.latency.is_none() && raw.availability.is_none() && lost == [false; 2] {
            self.error_hint(
                raw.span(),
                "the objective promises nothing",
                "add `latency = { quantile = 0.98, below = \"250ms\", over = \"5m\" }` or `availability = 0.999`",
            );
        }
        let latency = match &raw.latency {
            Some(latency) => Some(self.latency(latency)?),
            None => None,
        };
        let availability = raw.availability.as_ref();
        let availability = availability.map(|ratio| self.inside(ratio, "availability"));
        let min_requests = self.whole(&raw.min_requests, "min_requests", 1..=1_000_000_u32);
        Some(Slo {
            name: self.name(name),
            per: match raw.per {
                RawPer::Route => Per::Route,
                RawPer::Upstream => Per::Upstream,
                RawPer::Endpoint => Per::Endpoint,
                RawPer::Client => Per::Client,
            },
            settings: Settings {
                latency,
                availability,
                min_requests: min_requests.into(),
            },
        })
    }

    fn latency(&mut self, raw: &Spanned<RawLatency>) -> Option<Latency> {
        let hint = "say how fast: `below = \"250ms\"`";
        let below = self.required(raw.below.as_ref(), &raw.span(), "below", hint);
        let below = below.map(|below| self.above_zero(below, "below"));
        if !(SHORTEST..=Latency::LONGEST).contains(&raw.over.0) {
            self.error(raw.over.span(), "`over` must be from 5s to 1h");
        }
        Some(Latency {
            quantile: self.inside(&raw.quantile, "quantile"),
            below: below?,
            over: raw.over.0,
        })
    }

    /// A share that is neither nothing nor all.
    fn inside(&mut self, ratio: &Spanned<Ratio>, key: &str) -> f64 {
        if ratio.0 <= 0.0 || ratio.0 >= 1.0 {
            self.error(ratio.span(), format!("`{key}` must be above 0 and below 1"));
        }
        ratio.0
    }

    /// The position of the objective that a route names.
    pub(super) fn slo_of(&mut self, route: &RawRoute, whole: &Raw) -> Option<usize> {
        let name = route.slo.as_ref()?;
        let found = whole.slos.keys().position(|known| **known == **name);
        if found.is_none() && !self.was_lost(&["slos", name]) {
            let known: Vec<&str> = whole.slos.keys().map(|key| key.as_str()).collect();
            self.error_hint(
                name.span(),
                format!("there is no objective `{}`", name.escape_debug()),
                suggest(name, &known).hint,
            );
        }
        found
    }
}
