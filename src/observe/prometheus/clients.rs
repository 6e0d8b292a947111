//! What clients took, by name for the heaviest of each upstream.

use std::sync::Arc;
use std::time::Duration;

use super::out::Out;
use super::{Exposition, OTHER};
use crate::model::UpstreamId;
use crate::observe::accounts::{Class, Series, Standing, Sums};

type Labels = [(&'static str, Arc<str>); 2];

impl Exposition {
    pub(super) fn clients(&self, out: &mut Out) {
        let requests = self.rows().flat_map(|(labels, sums, _)| {
            let counts = Class::ALL.into_iter().zip(sums.by_class);
            counts.filter_map(move |(class, count)| {
                let [client, upstream] = labels.clone();
                let class = ("class", class.as_str().into());
                (count > 0).then_some(([client, upstream, class], count))
            })
        });
        out.counters(
            "tidegate_client_requests",
            "Requests by client, for the heaviest of each upstream; what a client did before it was one of them, and \
             all others, are __other__.",
            requests,
        );
        let seconds = self.rows().map(|(labels, sums, _)| {
            let time = Duration::from_nanos(sums.upstream_nanos);
            (labels, time.as_secs_f64())
        });
        out.counters(
            "tidegate_client_upstream_seconds",
            "Time that a client's requests held of the upstream's concurrency.",
            seconds,
        );
        let shares = self.rows();
        let shares = shares.filter_map(|(labels, _, share)| Some((labels, share?)));
        out.gauges(
            "tidegate_client_peak_share_ratio",
            "A client's share of the upstream's time in the busiest twentieth of the last week's minutes.",
            shares,
        )
    }

    fn rows(&self) -> impl Iterator<Item = (Labels, Sums, Option<f64>)> + '_ {
        self.client_series.iter().flat_map(|series| {
            let upstream = self.name_of_series(series);
            let (other, share) = series.other;
            let named = series.clients.iter();
            let named = named.map(|(name, (sums, share))| (name.as_str(), *sums, *share));
            let rows = named.chain([(OTHER, other, share)]);
            rows.map(move |(name, sums, share)| {
                let labels = [
                    ("client", Arc::from(name)),
                    ("upstream", Arc::clone(&upstream)),
                ];
                (labels, sums, share)
            })
        })
    }

    fn name_of_series(&self, series: &Series) -> Arc<str> {
        match series.of {
            Standing::NoUpstream => "".into(),
            Standing::Upstream(upstream) => self.upstream_name(Some(UpstreamId::index(upstream))),
            Standing::Others => OTHER.into(),
        }
    }
}
