//! What the hosts of an upstream's endpoints add to a verdict about them, where their node exporters are known.
//!
//! Depends on the diagnosis and the engine's upstreams.

use super::diagnose::{Evidence, Subject};
use super::watch::id;
use crate::engine::upstream::{HostLoad, UpstreamState};

/// The numbers of the host of the endpoint a verdict is about, against its peers'; or those of all, where it is about
/// the upstream.
pub(super) fn evidence(upstream: &UpstreamState, subject: Subject) -> Vec<Evidence> {
    let pool = upstream.endpoints();
    let hosts = pool.members().iter();
    let hosts = hosts.filter_map(|member| Some((id(&member.endpoint), member.endpoint.host()?)));
    let (own, peers): (Vec<_>, Vec<_>) = match subject {
        Subject::Endpoint(id) => hosts.partition(|(index, _)| *index == id),
        Subject::Upstream => (hosts.collect(), Vec::new()),
        _ => return Vec::new(),
    };
    let number = |what, unit, of: fn(&HostLoad) -> f64| {
        Some(Evidence {
            what,
            value: mean(&own, of)?,
            baseline: mean(&peers, of),
            unit,
        })
    };
    let numbers = [
        number("its host's processors in use", "ratio", |host| host.cpu),
        number("its host's wait for disks", "ratio", |host| host.iowait),
        number("its host's memory in use", "ratio", |host| host.memory),
        number("its host's growth of memory", "bytes/s", |host| {
            host.memory_slope
        }),
    ];
    numbers.into_iter().flatten().collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few endpoints")]
fn mean(hosts: &[(u64, HostLoad)], of: fn(&HostLoad) -> f64) -> Option<f64> {
    let sum: f64 = hosts.iter().map(|(_, host)| of(host)).sum();
    (!hosts.is_empty()).then(|| sum / hosts.len() as f64)
}
