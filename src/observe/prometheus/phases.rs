//! Durations: of requests, of what upstreams took for them, and of each phase.

use std::sync::Arc;

use super::out::Out;
use super::{Exposition, OTHER};
use crate::measure::histogram::Histogram;
use crate::model::{EndpointId, Phase, RouteId, UpstreamId};
use crate::observe::keys::{ClientKey, ServerKey, row_identity, unpack_endpoint};

type Phases = [Histogram; Phase::ALL.len()];

impl Exposition {
    pub(super) fn durations(&self, out: &mut Out) {
        let labels = |route, method: &str, status: Arc<str>| {
            [
                ("http_route", route),
                ("http_request_method", method.into()),
                ("http_response_status_code", status),
            ]
        };
        let rows = self.families.server.iter().map(|(key, timed)| {
            let key = ServerKey::unpack(key);
            let route = self.route_name(key.route.map(RouteId::index));
            let status = key.status.to_string().into();
            (labels(route, key.method.as_str(), status), timed)
        });
        let other = self.families.server.other();
        let other = other.map(|(timed, _)| (labels(OTHER.into(), OTHER, OTHER.into()), timed));
        let help = "Time from a request's first byte to the last byte of its response.";
        let name = "http_server_request_duration_seconds";
        out.histograms(name, help, rows.chain(other));
        self.upstream_durations(out);
    }

    fn upstream_durations(&self, out: &mut Out) {
        let labels = |upstream, endpoint, method: &str, status: Arc<str>| {
            [
                ("upstream", upstream),
                ("endpoint", endpoint),
                ("http_request_method", method.into()),
                ("http_response_status_code", status),
            ]
        };
        let rows = self.families.client.iter().map(|(key, timed)| {
            let key = ClientKey::unpack(key);
            let upstream = self.upstream_name(key.upstream.map(UpstreamId::index));
            let endpoint = self.endpoint_name(&upstream, key.endpoint.map(EndpointId::index));
            let status = match key.status {
                0 => "".into(),
                status => status.to_string().into(),
            };
            let labels = labels(upstream, endpoint, key.method.as_str(), status);
            (labels, timed)
        });
        let other = self.families.client.other();
        let other = other.map(|(timed, _)| {
            let labels = labels(OTHER.into(), OTHER.into(), OTHER, OTHER.into());
            (labels, timed)
        });
        let help = "Time an upstream took: connecting, waiting for its response, its body.";
        let name = "http_client_request_duration_seconds";
        out.histograms(name, help, rows.chain(other));
    }

    pub(super) fn phases(&self, out: &mut Out) {
        let help = "Time exchanges spent in each phase; the phases of one sum to its total.";
        let rows = self.upstream_phases();
        let rows = rows.flat_map(|(upstream, row)| each([("upstream", upstream)], row));
        let rows = rows.map(|([upstream], phase, one)| ([upstream, ("phase", phase)], one));
        out.histograms("tidegate_phase_duration_seconds", help, rows);
        let help = "Time exchanges spent in each phase, by the endpoint that was tried last.";
        let rows = self.endpoint_phases();
        let rows = rows.flat_map(|(labels, row)| each(labels, row));
        let rows = rows.map(|([upstream, endpoint], phase, one)| {
            ([upstream, endpoint, ("phase", phase)], one)
        });
        out.histograms("tidegate_endpoint_phase_duration_seconds", help, rows);
        let rows = self
            .upstream_phases()
            .filter(|(upstream, _)| !upstream.is_empty());
        let rows = rows.filter_map(|(upstream, row)| {
            Some(([("upstream", upstream)], row.get(Phase::Queue as usize)?))
        });
        let help = "Time requests waited for a slot at their upstream.";
        out.histograms("tidegate_queue_wait_seconds", help, rows);
    }

    /// By upstream, whose name is empty where a request had none.
    fn upstream_phases(&self) -> impl Iterator<Item = (Arc<str>, &Phases)> {
        let rows = self.families.phases.iter();
        let rows = rows.map(|(key, row)| (self.upstream_name(row_identity(key)), row));
        let other = self.families.phases.other();
        rows.chain(other.map(|(row, _)| (OTHER.into(), row)))
    }

    fn endpoint_phases(&self) -> impl Iterator<Item = ([(&'static str, Arc<str>); 2], &Phases)> {
        let labels = |upstream, endpoint| [("upstream", upstream), ("endpoint", endpoint)];
        let rows = self.families.endpoints.iter().map(move |(key, row)| {
            let (upstream, endpoint) = unpack_endpoint(key);
            let upstream = self.upstream_name(upstream);
            let endpoint = self.endpoint_name(&upstream, endpoint);
            (labels(upstream, endpoint), row)
        });
        let other = self.families.endpoints.other();
        rows.chain(other.map(move |(row, _)| (labels(OTHER.into(), OTHER.into()), row)))
    }
}

/// One row for each phase.
fn each<L: Clone>(labels: L, row: &Phases) -> impl Iterator<Item = (L, Arc<str>, &Histogram)> {
    let phases = Phase::ALL.into_iter().zip(row);
    phases.map(move |(phase, histogram)| (labels.clone(), phase.as_str().into(), histogram))
}
