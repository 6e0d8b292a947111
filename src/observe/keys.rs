//! Label sets packed into integers, so that folding an exchange hashes no text and allocates nothing.
//!
//! Depends on the model and the exchange.

use super::exchange::Exchange;
use crate::model::{EndpointId, MethodLabel, Reason, RouteId, TierId, UpstreamId};

/// The labels of a server-side duration, packed into one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// The route, if one matched.
    pub route: Option<RouteId>,
    /// The method.
    pub method: MethodLabel,
    /// The status sent.
    pub status: u16,
}

impl ServerKey {
    pub(super) fn pack(exchange: &Exchange) -> u64 {
        let route = exchange.route.map_or(0, |id| id.index() as u64 + 1);
        (route << 24) | (exchange.method as u64) << 16 | u64::from(exchange.status)
    }

    /// The labels in `packed`.
    #[must_use]
    pub fn unpack(packed: u64) -> Self {
        Self {
            route: identity(packed >> 24).map(RouteId::new),
            method: method((packed >> 16) & 0xFF),
            status: u16::try_from(packed & 0xFFFF).unwrap_or(0),
        }
    }
}

/// The labels of a client-side duration, packed into one integer: 24 bits of upstream, 24 of endpoint, 4 of
/// method, 12 of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey {
    /// The upstream.
    pub upstream: Option<UpstreamId>,
    /// The endpoint tried last.
    pub endpoint: Option<EndpointId>,
    /// The method.
    pub method: MethodLabel,
    /// The status the upstream answered with; 0 if it did not.
    pub status: u16,
}

impl ClientKey {
    pub(super) fn pack(exchange: &Exchange) -> u64 {
        const LAST: u64 = (1 << 24) - 1;
        let upstream = exchange.upstream.map_or(0, |id| id.index() as u64 + 1);
        let endpoint = exchange.endpoint.map_or(0, |id| id.index() as u64 + 1);
        let status = exchange.upstream_status.map_or(0, u64::from);
        upstream.min(LAST) << 40
            | endpoint.min(LAST) << 16
            | (exchange.method as u64) << 12
            | status.min(0xFFF)
    }

    /// The labels in `packed`.
    #[must_use]
    pub fn unpack(packed: u64) -> Self {
        Self {
            upstream: identity(packed >> 40).map(UpstreamId::new),
            endpoint: identity((packed >> 16) & 0xFF_FFFF).map(EndpointId::new),
            method: method((packed >> 12) & 0xF),
            status: u16::try_from(packed & 0xFFF).unwrap_or(0),
        }
    }
}

/// The labels of a series of `tidegate_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedKey {
    /// Why; none would be a defect.
    pub reason: Option<Reason>,
    /// The request's tier; none before it has a route.
    pub tier: Option<TierId>,
    /// Whether the policy only observed.
    pub observed: bool,
}

impl RejectedKey {
    pub(super) fn pack(exchange: &Exchange, observed: bool) -> u64 {
        let reason = if observed {
            exchange.observed
        } else {
            exchange.reason
        };
        let reason = reason.map_or(0, |reason| reason as u64 + 1);
        let tier = exchange.tier.map_or(0, |tier| tier.index() as u64 + 1);
        tier << 16 | reason << 1 | u64::from(observed)
    }

    /// The labels in `packed`.
    #[must_use]
    pub fn unpack(packed: u64) -> Self {
        let reason = identity((packed >> 1) & 0x7FFF);
        Self {
            reason: reason.and_then(|index| Reason::ALL.get(index as usize).copied()),
            tier: identity(packed >> 16).map(TierId::new),
            observed: packed & 1 == 1,
        }
    }
}

fn identity(packed: u64) -> Option<u32> {
    u32::try_from(packed.checked_sub(1)?).ok()
}

fn method(packed: u64) -> MethodLabel {
    const METHODS: [MethodLabel; 9] = [
        MethodLabel::Get,
        MethodLabel::Head,
        MethodLabel::Post,
        MethodLabel::Put,
        MethodLabel::Delete,
        MethodLabel::Connect,
        MethodLabel::Options,
        MethodLabel::Trace,
        MethodLabel::Patch,
    ];
    let known = METHODS.into_iter().find(|method| *method as u64 == packed);
    known.unwrap_or(MethodLabel::Other)
}

/// The name-giving identity of a row keyed by "identity + 1".
#[must_use]
pub fn row_identity(key: u64) -> Option<usize> {
    identity(key).map(|index| index as usize)
}

/// The upstream's and the endpoint's index of a row of [`super::tables::Families::endpoints`].
#[must_use]
pub fn unpack_endpoint(key: u64) -> (Option<usize>, Option<usize>) {
    (row_identity(key >> 32), row_identity(key & 0xFFFF_FFFF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tables::tests::{answered, refused};

    #[test]
    fn keys_survive_packing() {
        for exchange in [answered(), refused()] {
            let server = ServerKey::unpack(ServerKey::pack(&exchange));
            assert_eq!(server.route, exchange.route);
            assert_eq!(
                (server.method, server.status),
                (exchange.method, exchange.status)
            );
            let client = ClientKey::unpack(ClientKey::pack(&exchange));
            assert_eq!(
                (client.upstream, client.endpoint),
                (exchange.upstream, exchange.endpoint)
            );
            assert_eq!(client.status, exchange.upstream_status.unwrap_or(0));
            assert_eq!(client.method, exchange.method);
        }
        for m in 0..12 {
            assert!(method(m) as u64 == m || method(m) == MethodLabel::Other);
        }
    }
}
