//! What services say of themselves: the time of their parts, and metrics of their own.

use std::sync::Arc;

use super::out::Out;
use super::{Exposition, OTHER};
use crate::observe::keys::row_identity;
use crate::observe::readings::Kind;

impl Exposition {
    pub(super) fn services(&self, out: &mut Out) {
        let components = &self.families.components;
        let labels = |upstream, name: Option<&Arc<str>>| {
            let name = name.map_or_else(|| OTHER.into(), Arc::clone);
            [("upstream", upstream), ("component", name)]
        };
        let rows = components.iter().map(|(upstream, name, histogram)| {
            (labels(self.upstream_name(Some(upstream)), name), histogram)
        });
        let other = components.other();
        let other = other.map(|(histogram, _)| (labels(OTHER.into(), None), histogram));
        out.histograms(
            "tidegate_component_duration_seconds",
            "Time upstreams say, in Server-Timing, that their parts took.",
            rows.chain(other),
        );
        let help = "What services add to counters of their own, in x-tidegate-metric.";
        out.counters(
            "tidegate_service_counter",
            help,
            self.readings(Kind::Counter),
        );
        let help = "What services say of gauges of their own, in x-tidegate-metric.";
        out.gauges("tidegate_service_gauge", help, self.readings(Kind::Gauge));
    }

    fn readings(&self, kind: Kind) -> impl Iterator<Item = ([(&'static str, Arc<str>); 3], f64)> {
        let or_other = |text: Option<&str>| Arc::from(text.unwrap_or(OTHER));
        self.families.readings.of(kind).map(move |one| {
            let route = one.route.map(|key| self.route_name(row_identity(key)));
            let labels = [
                ("metric", or_other(one.name)),
                ("http_route", route.unwrap_or_else(|| OTHER.into())),
                ("client", or_other(one.client)),
            ];
            (labels, one.value)
        })
    }
}
