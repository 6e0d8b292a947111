//! The ketama ring: nginx's consistent hash, from pingora, with pool indices on its points.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use pingora_ketama::{Bucket, Continuum};

use super::whole;

/// Buckets per unit of weight. Each is 160 points, so that an endpoint of weight one has 640 and its share of
/// the keys is off by about 4%, and a weight of 1.25 is exact.
const FINEST: f64 = 4.0;

/// Bound on all buckets together: a million points, 8 MiB.
const MAX_BUCKETS: f64 = 6_400.0;

/// The number of endpoints the ring's 16-bit indices can tell apart.
const MAX_MEMBERS: usize = u16::MAX as usize;

pub(super) struct Ring {
    continuum: Continuum,
    /// The pool index behind each point, in the ring's order.
    owners: Box<[u32]>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("points", &self.owners.len())
            .finish_non_exhaustive()
    }
}

impl Ring {
    pub(super) fn new(members: impl Iterator<Item = (SocketAddr, f64)> + Clone) -> Self {
        let members = members.take(MAX_MEMBERS);
        let scale = scale_for(members.clone().map(|(_, weight)| weight).sum());
        let mut index_of = HashMap::new();
        let mut buckets = Vec::new();
        for (index, (place, weight)) in (0_u32..).zip(members) {
            let units = whole((weight * scale).round()).max(1);
            buckets.push(Bucket::new(place, units));
            index_of.insert(place, index);
        }
        let continuum = Continuum::new(&buckets);
        let mut owners = Vec::new();
        let mut point = 0;
        // The ring does not tell its length, but it does tell when it wraps.
        while let Some(place) = continuum.get_addr(&mut point) {
            owners.push(index_of.get(place).copied().unwrap_or_default());
            if point == 0 {
                break;
            }
        }
        Self {
            continuum,
            owners: owners.into(),
        }
    }

    /// The pool indices from `key`'s point once around the ring; an index comes up once for each of its
    /// points.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.continuum.node_idx(&key.to_le_bytes());
        let (before, from) = self.owners.split_at(start.min(self.owners.len()));
        from.iter().chain(before).map(|&owner| owner as usize)
    }
}

/// Buckets per unit of weight. Halved, not fitted, when there are too many: an endpoint more or less then
/// almost never moves the points of the others.
fn scale_for(total_weight: f64) -> f64 {
    let mut scale = FINEST;
    while total_weight * scale > MAX_BUCKETS {
        scale /= 2.0;
    }
    scale
}
