//! What is asked in these tests, and what it knows.

use super::*;

pub(super) fn plan() -> Plan {
    let route = plan::Route {
        name: "orders".into(),
        matches: plan::Match {
            host: plan::HostMatch::Below("example.com".into()),
            path: plan::PathMatch::Prefix("/orders".into()),
            methods: vec![Method::GET],
            headers: Vec::new(),
        },
        upstream: 0,
        timeout: Duration::from_secs(15),
        idle_timeout: Duration::from_secs(60),
        tier: 0,
        cache: None,
        slo: None,
        breaker: None,
        rate_limits: Vec::new(),
        rewrite: None,
        request_headers: plan::HeaderEdits::default(),
        response_headers: plan::HeaderEdits::default(),
    };
    Plan {
        source: Some(PathBuf::from("gate<1>.toml")),
        hash: "abc".into(),
        server: plan::Server {
            workers: 2,
            drain_timeout: Duration::from_secs(30),
            max_connections: 100,
            overload: Mode::Enforce,
            state_dir: None,
        },
        listeners: Vec::new(),
        admin: plan::Admin {
            bind: plan::Bind::Unix(PathBuf::from("admin.sock")),
            token: None,
        },
        clients: Default::default(),
        rate_limits: Vec::new(),
        tiers: vec!["standard".into()],
        upstreams: Vec::new(),
        caches: Vec::new(),
        actions: Vec::new(),
        slos: Vec::new(),
        routes: vec![Arc::new(route)],
        usage: Default::default(),
        shared: None,
        telemetry: plan::Telemetry::default(),
    }
}

pub(super) fn snapshot() -> Snapshot {
    Snapshot {
        bundles_lost: 0,
        isolations: vec![("client", 1), ("route", 0)],
        loops: Vec::new(),
        issuers: vec![IssuerView {
            url: "https://idp/keys".into(),
            keys: 2,
            failures: 3,
        }],
        caches: Vec::new(),
        rate_limits: vec![RateLimitView {
            name: "per-client".into(),
            decisions: [("enforce", 7, 3), ("observe", 0, 0)],
            evictions: 1,
        }],
        usage: UsageView::default(),
        fleet: None,
        slos: Vec::new(),
        causes: vec![("load_spike", true), ("noisy_client", false)],
        route_circuits: Vec::new(),
        listeners: vec![ListenerView {
            name: "public".into(),
            address: "127.0.0.1:8080".into(),
            connections: 3,
            parked: 2,
        }],
        upstreams: vec![UpstreamView {
            name: "orders".into(),
            protocol: "http1",
            endpoints: vec![EndpointView {
                address: "10.0.0.1:8080".into(),
                latency: Some(Duration::from_micros(1_500)),
                ..EndpointView::default()
            }],
            ..UpstreamView::default()
        }],
    }
}

pub(super) fn in_flight(limit: usize) -> InFlight {
    let view = inflight::View {
        request_id: "slow".into(),
        method: "GET".into(),
        path: Some("/orders".into()),
        age: Duration::from_millis(2_500),
        phase: Phase::Wait,
        route: Some(RouteId::new(1)),
        upstream: Some(UpstreamId::new(2)),
        endpoint: Some(EndpointId::new(0)),
        attempts: 1,
    };
    InFlight {
        oldest: vec![view; limit.min(2)],
        total: 7,
        silent_workers: 0,
    }
}

/// One incident of an earlier process.
/// The bundle of that incident.
pub(super) fn bundles() -> Bundles {
    let files = [
        (FLAMEGRAPH, b"<svg/>".to_vec()),
        (FOLDED, b"main;serve 3\n".to_vec()),
    ];
    let bundles = Bundles::new(None);
    let packed = pack(&files, 0).unwrap();
    bundles.keep(INCIDENT, packed).unwrap();
    bundles
}

pub(super) fn incidents() -> Incidents {
    let incidents = Incidents::default();
    let kept = serde_json::json!({
        "id": INCIDENT, "opened_at": "2026-11-26T23:00:00Z", "slo": "fast", "per": "route",
        "subject": "orders", "signals": ["latency"], "what": "p98 300 ms",
    });
    incidents.restore(vec![serde_json::from_value(kept).unwrap()]);
    incidents
}

pub(super) const INCIDENT: &str = "6442c0f1e2a00";

/// An empty ledger.
pub(super) fn ledger() -> Ledger {
    let ledger = Ledger::of(&plan::Usage::default(), None);
    // Lives as long as a connection to it does.
    std::mem::forget(Store::open(&ledger.place, ledger.keep).unwrap());
    ledger
}

/// A state whose supervisor takes every command: reloads for the reason "bad" fail.
pub(super) fn state() -> AdminState {
    let directories = Directories::default();
    for name in ["other", "orders"] {
        directories.routes.intern(name);
    }
    for name in ["a", "b", "orders"] {
        directories.upstreams.intern(name);
    }
    directories.endpoints.intern("orders/10.0.0.1:8080");
    let (commands, mut taken) = mpsc::channel(4);
    let isolations = Arc::new(Isolations::default());
    let held = Arc::clone(&isolations);
    let status = Arc::new(Status::default());
    let drained = Arc::clone(&status);
    tokio::spawn(async move {
        while let Some(command) = taken.recv().await {
            match command {
                Command::Reload { reason, reply } if reason == "bad" => {
                    drop(reply.send(Err("gate.toml:1:1 no".into())));
                }
                Command::Reload { reply, .. } => drop(reply.send(Ok("def".into()))),
                Command::Drain { .. } => drop(drained.begin_drain()),
                Command::Breaker {
                    upstream, reply, ..
                } => {
                    let answer = match upstream.as_str() {
                        "orders" => Ok(()),
                        "idle" => Err(NoBreaker::NotActing(Mode::Off)),
                        _ => Err(NoBreaker::NoUpstream),
                    };
                    let _gone = reply.send(answer);
                }
                Command::Isolate { order, reply } => {
                    let _gone = reply.send(held.add(order).map(|()| true));
                }
                Command::Release { id, reply, .. } => drop(reply.send(held.release(&id))),
            }
        }
    });
    AdminState {
        events: Arc::new(events()),
        host_samples: Arc::new(Host::open(None)),
        isolations,
        caches: Arc::default(),
        plan: Arc::new(ArcSwap::from_pointee(plan())),
        directories: Arc::new(directories),
        metrics: metrics_of(&[answered(), refused()]),
        latest: Arc::default(),
        timelines: Arc::default(),
        feed: Arc::default(),
        objectives: Arc::default(),
        incidents: Arc::new(incidents()),
        bundles: Arc::new(bundles()),
        usage: ledger(),
        status,
        snapshot: Arc::new(snapshot),
        inflight: Arc::new(|limit| Box::pin(std::future::ready(in_flight(limit)))),
        explain: |plan| serde_json::json!({ "hash": plan.hash }),
        token: None,
        host: Some("gate.internal".into()),
        commands,
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn is_problem(&self, status: u16) -> bool {
        self.status == status
            && self.header("content-type") == "application/problem+json"
            && self.json()["status"] == status
    }
}

pub(super) async fn send(state: &AdminState, request: Request<Body>) -> Answer {
    let response = router(state.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        // A bundle is no text; nobody reads it here.
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

pub(super) async fn get_with(state: &AdminState, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(state, request.body(Body::empty()).unwrap()).await
}

pub(super) async fn get_path(state: &AdminState, path: &str) -> Answer {
    get_with(state, path, &[("host", "localhost:9900")]).await
}

pub(super) async fn delete(state: &AdminState, path: &str) -> Answer {
    let request = Request::delete(path).header("host", "127.0.0.1:9900");
    send(state, request.body(Body::empty()).unwrap()).await
}

pub(super) async fn post_json(state: &AdminState, path: &str, body: &str) -> Answer {
    let request = Request::post(path)
        .header("host", "127.0.0.1:9900")
        .header("content-type", "application/json; charset=utf-8")
        .body(Body::from(body.to_owned()));
    send(state, request.unwrap()).await
}
