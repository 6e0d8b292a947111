//! What the hosts of an upstream's endpoints add to a verdict about them, where their node exporters are known.
//!
//! Depends on the diagnosis and the engine's upstreams.

use super::diagnose::{Evidence, Subject};
use super::watch::id;
use crate::engine::upstream::UpstreamState;

/// What is known of the host of the endpoint with this id: the parts of its processors, of its wait for disks and of its
/// memory that are in use, and by how many bytes a second the last grows.
pub(super) type Host = (u64, [f64; 4]);

/// The hosts of an upstream's endpoints, as far as their exporters answer.
pub(super) fn of(upstream: &UpstreamState) -> Vec<Host> {
    let pool = upstream.endpoints();
    let members = pool.members().iter();
    let known = members.filter_map(|member| {
        let host = member.endpoint.host()?;
        let numbers = [host.cpu, host.iowait, host.memory, host.memory_slope];
        Some((id(&member.endpoint), numbers))
    });
    known.collect()
}

/// The numbers of the host of the endpoint a verdict is about, against its peers'; or those of all, where it is about
/// the upstream.
pub(super) fn evidence(hosts: &[Host], subject: Subject) -> Vec<Evidence> {
    let hosts = hosts.iter().copied();
    let (own, peers): (Vec<_>, Vec<_>) = match subject {
        Subject::Endpoint(id) => hosts.partition(|(of, _)| *of == id),
        Subject::Upstream => (hosts.collect(), Vec::new()),
        _ => return Vec::new(),
    };
    let told = [
        ("its host's processors in use", "ratio"),
        ("its host's wait for disks", "ratio"),
        ("its host's memory in use", "ratio"),
        ("its host's growth of memory", "bytes/s"),
    ];
    let (own, peers) = (means(&own), means(&peers));
    let numbers = told
        .into_iter()
        .enumerate()
        .filter_map(|(at, (what, unit))| {
            Some(Evidence {
                what,
                value: own?.get(at).copied()?,
                baseline: peers.and_then(|peers| peers.get(at).copied()),
                unit,
            })
        });
    numbers.collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few endpoints")]
fn means(hosts: &[Host]) -> Option<[f64; 4]> {
    let count = hosts.len() as f64;
    let mut sums = [0.0; 4];
    for (_, host) in hosts {
        for (sum, number) in sums.iter_mut().zip(host) {
            *sum += number / count;
        }
    }
    (!hosts.is_empty()).then_some(sums)
}
