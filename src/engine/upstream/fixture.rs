//! Plans of upstreams for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::plan::{
    self, Admin, Balance, Bind, EndpointAddress, Endpoints, Plan, Protocol, Server, Telemetry,
};
use crate::engine::protection::{Mode, Settings};

pub(crate) fn address(port: u16) -> EndpointAddress {
    EndpointAddress::Socket(SocketAddr::from(([10, 0, 0, 1], port)))
}

pub(crate) fn listed(ports: &[u16]) -> Vec<plan::Endpoint> {
    let endpoint = |&port: &u16| plan::Endpoint {
        address: address(port),
        weight: 1.0,
        zone: None,
        node: None,
    };
    ports.iter().map(endpoint).collect()
}

pub(crate) fn upstream(name: &str, endpoints: Endpoints) -> plan::Upstream {
    plan::Upstream {
        name: name.into(),
        endpoints,
        protocol: Protocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(60),
        health: None,
        slow_start: Duration::ZERO,
        protection: Settings::default(),
        outlier: plan::Outlier::default(),
        retry: plan::Retry::default(),
        noisy: Mode::Off,
    }
}

pub(crate) fn fixed(name: &str, ports: &[u16]) -> plan::Upstream {
    upstream(name, Endpoints::Fixed(listed(ports)))
}

pub(crate) fn plan(upstreams: Vec<plan::Upstream>) -> Plan {
    Plan {
        source: None,
        hash: String::new(),
        server: Server {
            workers: 1,
            drain_timeout: Duration::ZERO,
            max_connections: 1,
            overload: Mode::Enforce,
            state_dir: None,
        },
        listeners: Vec::new(),
        admin: Admin {
            bind: Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            token: None,
        },
        clients: Default::default(),
        rate_limits: Vec::new(),
        tiers: vec!["standard".into()],
        upstreams: upstreams.into_iter().map(Arc::new).collect(),
        caches: Vec::new(),
        actions: Vec::new(),
        slos: Vec::new(),
        routes: Vec::new(),
        usage: Default::default(),
        shared: None,
        telemetry: Telemetry::default(),
    }
}
