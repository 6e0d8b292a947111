//! What the tables count, and exchanges for everybody's tests.

use super::*;
use crate::model::{ClientId, EndpointId, MethodLabel, Phases, Reason, TierId};
use crate::observe::keys::row_identity;

/// An ordinary exchange of 21 ms: route 1 to upstream 2, endpoint 3.
pub(crate) fn answered() -> Exchange {
    let mut phases = Phases::default();
    for (i, phase) in (1..).zip([Phase::Receive, Phase::Decide, Phase::Queue]) {
        phases.add(phase, Duration::from_millis(i));
    }
    for phase in [Phase::Connect, Phase::Wait, Phase::Body] {
        phases.add(phase, Duration::from_millis(4));
    }
    phases.add(Phase::Deliver, Duration::from_millis(3));
    Exchange {
        started: 1_790_000_000_123_456,
        client: ClientId::new(4),
        route: Some(RouteId::new(1)),
        upstream: Some(UpstreamId::new(2)),
        endpoint: Some(EndpointId::new(3)),
        method: MethodLabel::Get,
        status: 200,
        upstream_status: Some(200),
        outcome: Outcome::Answered,
        reason: None,
        observed: None,
        cache: None,
        tier: Some(TierId::new(1)),
        attempts: 1,
        phases,
        bytes_in: 10,
        bytes_out: 1_000,
        target: 5,
        trace: 0,
        validator: 0,
        retry_after: 0,
        conditional: false,
        in_lane: false,
    }
}

/// A request no route matched.
pub(crate) fn refused() -> Exchange {
    Exchange {
        route: None,
        upstream: None,
        endpoint: None,
        tier: None,
        status: 404,
        upstream_status: None,
        outcome: Outcome::Refused,
        reason: Some(Reason::NoRoute),
        attempts: 0,
        ..answered()
    }
}

#[test]
fn reasons_stand_where_their_position_says() {
    for (i, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, i);
    }
}

#[test]
fn an_exchange_is_counted_once_in_every_family() {
    let mut tables = Tables::new(Instant::ZERO);
    tables.fold(&answered(), Instant::ZERO);
    let families = tables.families();
    let (_, server) = families.server.iter().next().unwrap();
    let server = &server.histogram;
    assert_eq!((server.count(), server.sum_nanos()), (1, 21_000_000));
    let (_, client) = families.client.iter().next().unwrap();
    assert_eq!(client.histogram.sum_nanos(), 12_000_000);
    let (key, phases) = families.phases.iter().next().unwrap();
    assert_eq!(row_identity(key), Some(2));
    assert_eq!(
        phases.iter().map(Histogram::sum_nanos).sum::<u128>(),
        21_000_000
    );
    assert_eq!(families.bytes.iter().next().unwrap().1, &(10, 1_000));
    assert_eq!(families.totals.by_outcome, [1, 0, 0, 0, 0]);
}

#[test]
fn a_refusal_counts_its_reason_and_no_upstream_time() {
    let mut tables = Tables::new(Instant::ZERO);
    tables.fold(&refused(), Instant::ZERO);
    let families = tables.families();
    assert_eq!(families.client.iter().count(), 0);
    let rejected: Vec<_> = families.rejected.iter().collect();
    let [(key, 1)] = rejected[..] else {
        panic!("{rejected:?}")
    };
    let expected = RejectedKey {
        reason: Some(Reason::NoRoute),
        tier: None,
        observed: false,
    };
    assert_eq!(RejectedKey::unpack(key), expected);
    assert_eq!(families.totals.errors, 0);
}

#[test]
fn what_a_policy_would_have_refused_counts_beside_what_was() {
    let mut tables = Tables::new(Instant::ZERO);
    let exchange = Exchange {
        observed: Some(Reason::QueueFull),
        ..answered()
    };
    tables.fold(&exchange, Instant::ZERO);
    let (key, count) = tables.families().rejected.iter().next().unwrap();
    let expected = RejectedKey {
        reason: Some(Reason::QueueFull),
        tier: Some(TierId::new(1)),
        observed: true,
    };
    assert_eq!((RejectedKey::unpack(key), count), (expected, &1));
}

#[test]
fn the_summary_of_an_upstream_tells_its_own_time() {
    let mut tables = Tables::new(Instant::ZERO);
    let failed = Exchange {
        status: 502,
        ..answered()
    };
    tables.fold(&answered(), Instant::ZERO);
    tables.fold(&failed, Instant::ZERO);
    let route = tables.route(RouteId::new(1), Instant::ZERO).unwrap();
    let upstream = tables.upstream(UpstreamId::new(2), Instant::ZERO).unwrap();
    assert_eq!((route.requests, route.errors), (2, 1));
    assert_eq!((upstream.requests, upstream.errors), (2, 1));
    assert!(route.recent.p50 > Some(Duration::from_millis(19)));
    assert!(upstream.recent.p50 < Some(Duration::from_millis(14)));
    assert_eq!(tables.route(RouteId::new(0), Instant::ZERO), None);
    assert_eq!(tables.route(RouteId::new(9), Instant::ZERO), None);
}

#[test]
fn every_phase_has_its_recent_quantiles_and_so_has_the_total() {
    let mut tables = Tables::new(Instant::ZERO);
    tables.fold(&answered(), Instant::ZERO);
    let later = Instant::ZERO.after(Duration::from_secs(40));
    let upstream = UpstreamId::new(2);
    let [ten, minute, _, hour] = *tables.latencies(upstream, later).unwrap();
    assert!(ten.iter().all(|sketch| sketch.count() == 0));
    for span in [minute, hour] {
        let medians = span.map(|sketch| sketch.quantile(0.5).unwrap().as_secs_f64() * 1e3);
        for (median, exact) in medians.into_iter().zip([1., 2., 3., 4., 4., 4., 3., 21.]) {
            assert!((median / exact - 1.0).abs() < 0.01, "{median} for {exact}");
        }
    }
    assert!(tables.latencies(UpstreamId::new(1), later).is_none());
}

#[test]
fn more_series_than_the_bound_end_in_one() {
    let mut tables = Tables::new(Instant::ZERO);
    for route in 0..2 * MAX_SERIES {
        let route = Some(RouteId::new(u32::try_from(route).unwrap()));
        tables.fold(
            &Exchange {
                route,
                ..answered()
            },
            Instant::ZERO,
        );
    }
    let families = tables.families();
    assert_eq!(families.server.iter().count(), MAX_SERIES);
    let (other, folded) = families.server.other().unwrap();
    assert_eq!(
        (other.histogram.count(), folded),
        (MAX_SERIES as u64, MAX_SERIES as u64)
    );
    assert_eq!(families.totals.exchanges, 2 * MAX_SERIES as u64);
}
