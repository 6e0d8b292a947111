//! Upstreams over reloads, discovery and health.

use std::time::Duration;

use super::fixture::{address, fixed, listed, plan, upstream};
use super::*;
use crate::config::plan::Discover;

struct World {
    upstreams: Upstreams,
    directories: Directories,
    rng: fastrand::Rng,
}

impl World {
    fn new(first: Vec<plan::Upstream>) -> Self {
        let world = Self {
            upstreams: Upstreams::new(),
            directories: Directories::default(),
            rng: fastrand::Rng::with_seed(1),
        };
        world.apply(first);
        world
    }

    fn apply(&self, upstreams: Vec<plan::Upstream>) -> Vec<Arc<UpstreamState>> {
        let plan = plan(upstreams);
        self.upstreams
            .apply(&plan, &self.directories, Instant::ZERO)
    }

    fn pick(&mut self, name: &str, exclude: &[EndpointId]) -> Result<Lease, NoEndpoint> {
        let state = self.upstreams.get(name).unwrap();
        state.pick(Instant::ZERO, &mut self.rng, None, exclude)
    }
}

fn endpoint(state: &UpstreamState, port: u16) -> Arc<EndpointState> {
    let set = state.endpoints();
    let mut members = set.members().iter();
    let member = members.find(|m| *m.endpoint.address() == address(port));
    Arc::clone(&member.unwrap().endpoint)
}

#[test]
fn a_lease_counts_its_request_in_and_out_exactly_once() {
    let mut world = World::new(vec![fixed("a", &[1, 2])]);
    let mut lease = world.pick("a", &[]).unwrap();
    let (state, endpoint) = (Arc::clone(lease.upstream()), Arc::clone(lease.endpoint()));
    assert_eq!((state.in_flight(), endpoint.in_flight()), (1, 1));

    let latency = Duration::from_millis(3);
    assert!(!lease.observe(Instant::ZERO, Completion::Success(latency)));
    assert!(!lease.observe(Instant::ZERO, Completion::Failure(Duration::from_secs(9))));
    assert_eq!(state.in_flight(), 1, "the body still streams");
    drop(lease);
    assert_eq!((state.in_flight(), endpoint.in_flight()), (0, 0));
    assert_eq!(endpoint.latency(Instant::ZERO), Some(latency));
    assert_eq!((endpoint.requests(), endpoint.failures()), (1, 0));
}

#[test]
fn a_failure_makes_an_endpoint_dearer_and_a_drop_says_nothing() {
    let mut world = World::new(vec![fixed("a", &[1])]);
    let lease = world.pick("a", &[]).unwrap();
    let endpoint = Arc::clone(lease.endpoint());
    drop(lease);
    assert_eq!(endpoint.latency(Instant::ZERO), None);

    let took = Duration::from_millis(1);
    let mut lease = world.pick("a", &[]).unwrap();
    assert!(!lease.observe(Instant::ZERO, Completion::Failure(took)));
    assert_eq!(endpoint.latency(Instant::ZERO), None);
    assert!(endpoint.slot().latency().penalty(Instant::ZERO) > 1.0);
    assert_eq!((endpoint.requests(), endpoint.failures()), (2, 1));
}

#[test]
fn an_excluded_endpoint_is_not_picked_again() {
    let mut world = World::new(vec![fixed("a", &[1, 2])]);
    let first = world.pick("a", &[]).unwrap().endpoint().id();
    for _ in 0..10 {
        assert_ne!(world.pick("a", &[first]).unwrap().endpoint().id(), first);
    }
    let second = world.pick("a", &[first]).unwrap().endpoint().id();
    let none = world.pick("a", &[first, second]).unwrap_err();
    assert_eq!(none, NoEndpoint::NoneLeft);
}

#[test]
fn a_reload_keeps_what_was_learned_of_each_address() {
    let mut world = World::new(vec![fixed("a", &[1]), fixed("b", &[1])]);
    let held = world.pick("a", &[]).unwrap();
    let (state, old) = (Arc::clone(held.upstream()), Arc::clone(held.endpoint()));
    let latency = Duration::from_millis(20);
    old.slot().latency().observe(latency, Instant::ZERO);

    let mut changed = fixed("a", &[1, 2]);
    if let Endpoints::Fixed(endpoints) = &mut changed.endpoints {
        endpoints[0].weight = 5.0;
        endpoints[0].zone = Some("z".into());
    }
    changed.balance = Balance::PeakEwma;
    let states = world.apply(vec![changed]);

    assert_eq!(states.len(), 1);
    assert!(Arc::ptr_eq(&states[0], &state));
    assert!(Arc::ptr_eq(&endpoint(&state, 1), &old));
    assert_eq!((old.weight(), old.zone().as_deref()), (5.0, Some("z")));
    assert_eq!((state.in_flight(), old.in_flight()), (1, 1));
    let seeded = endpoint(&state, 2).latency(Instant::ZERO);
    assert_eq!(seeded, Some(latency), "the new one starts at the median");
}

#[test]
fn how_a_host_is_doing_is_forgotten_with_its_node_exporter() {
    let with = |node: Option<&str>| {
        let mut upstream = fixed("a", &[1]);
        if let Endpoints::Fixed(endpoints) = &mut upstream.endpoints {
            endpoints[0].node = node.map(Into::into);
        }
        upstream
    };
    let world = World::new(vec![with(Some("http://n/metrics"))]);
    let endpoint = endpoint(&world.upstreams.get("a").unwrap(), 1);
    let load = HostLoad {
        cpu: 0.5,
        iowait: 0.0,
        memory: 0.5,
        memory_slope: 0.0,
        load: 1.0,
    };
    for (next, known) in [
        (Some("http://n/metrics"), Some(load)),
        (Some("http://m/metrics"), None),
        (None, None),
    ] {
        endpoint.set_host(Some(load));
        world.apply(vec![with(next)]);
        assert_eq!(endpoint.node().as_deref(), next);
        assert_eq!(endpoint.host(), known, "{next:?}");
    }
}

#[test]
fn what_a_plan_no_longer_has_is_retired_while_its_leases_live_on() {
    let mut world = World::new(vec![fixed("a", &[1, 2]), fixed("b", &[1])]);
    let generation = world.upstreams.generation();
    let lease = world.pick("b", &[]).unwrap();
    let gone = endpoint(&world.upstreams.get("a").unwrap(), 2);

    world.apply(vec![fixed("a", &[1])]);
    assert!(world.upstreams.generation() > generation);
    assert!(gone.is_retired() && lease.endpoint().is_retired());
    assert!(lease.upstream().is_retired() && world.upstreams.get("b").is_none());
    let kept = world.upstreams.get("a").unwrap();
    assert!(!kept.is_retired() && !endpoint(&kept, 1).is_retired());

    let id = lease.endpoint().id();
    let states = world.apply(vec![fixed("a", &[1]), fixed("b", &[1])]);
    assert_eq!(
        endpoint(&states[1], 1).id(),
        id,
        "an address keeps its identity"
    );
    let name = world.directories.endpoints.name(id.index()).unwrap();
    assert_eq!(&*name, "b/10.0.0.1:1");
}

#[test]
fn a_discovered_list_survives_reloads_and_counts_as_a_change_only_once() {
    let discover = |name: &str| {
        let discover = Discover {
            name: name.into(),
            port: Some(80),
            refresh: Duration::from_secs(5),
        };
        upstream("a", Endpoints::Dns(discover))
    };
    let mut world = World::new(vec![discover("one.internal")]);
    assert_eq!(world.pick("a", &[]).unwrap_err(), NoEndpoint::Unknown);

    let state = world.upstreams.get("a").unwrap();
    let set = |ports: &[u16]| state.set_endpoints(listed(ports), &world.directories, Instant::ZERO);
    let change = set(&[1, 2]);
    assert_eq!((change.added, change.removed, change.any), (2, 0, true));
    assert_eq!(set(&[1, 2]), Change::default());
    let generation = world.upstreams.generation();
    let change = set(&[2, 3]);
    assert_eq!((change.added, change.removed, change.any), (1, 1, true));
    assert!(world.upstreams.generation() > generation);

    let kept = endpoint(&state, 2);
    world.apply(vec![discover("two.internal")]);
    assert!(Arc::ptr_eq(&endpoint(&state, 2), &kept));
}

#[test]
fn an_address_that_is_listed_twice_is_one_endpoint() {
    let world = World::new(vec![fixed("a", &[1, 1, 2])]);
    let state = world.upstreams.get("a").unwrap();
    assert_eq!(state.endpoints().members().len(), 2);
}

#[test]
fn unhealthy_endpoints_are_left_out_until_too_many_are() {
    let mut world = World::new(vec![fixed("a", &[1, 2, 3])]);
    let state = world.upstreams.get("a").unwrap();
    let fail = |port| state.set_health(&endpoint(&state, port), false, "refused", Instant::ZERO);
    assert!(fail(1));
    assert!(!fail(1), "it was out already");
    for _ in 0..12 {
        let lease = world.pick("a", &[]).unwrap();
        assert_ne!(*lease.endpoint().address(), address(1));
    }
    let message = endpoint(&state, 1).health_message().unwrap();
    assert_eq!(*message, "refused");
    assert!(!state.endpoints().is_panicking());
    fail(2);
    assert!(state.endpoints().is_panicking());
}

#[test]
fn health_outlives_a_reload_and_ends_with_its_checks() {
    let mut checked = fixed("a", &[1, 2, 3]);
    checked.health = Some(plan::Health {
        probe: plan::Probe::Tcp,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    });
    let world = World::new(vec![checked.clone()]);
    let state = world.upstreams.get("a").unwrap();
    let out = endpoint(&state, 1);
    state.set_health(&out, false, "refused", Instant::ZERO);
    world.apply(vec![checked]);
    assert!(!out.is_healthy());
    world.apply(vec![fixed("a", &[1, 2, 3])]);
    assert!(out.is_healthy() && out.health_message().is_none());
}
