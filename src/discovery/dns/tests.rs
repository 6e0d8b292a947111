//! Look-ups against a DNS server in this process, in paused time.

use std::future::pending;
use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::clock::Instant;
use crate::engine::upstream::fixture::{plan, upstream};

/// What the server answers: records by name and type, or a failure to every question.
#[derive(Default)]
struct Zone {
    records: Vec<Record>,
    failure: Option<ResponseCode>,
    questions: u32,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Zone>>);

impl Server {
    async fn start(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = server.answer(&question).to_vec().unwrap();
                socket.send_to(&answer, peer).await.unwrap();
            }
        });
        address
    }

    fn answer(&self, question: &Message) -> Message {
        let mut zone = self.0.lock().unwrap();
        zone.questions += 1;
        let query = question.queries[0].clone();
        let asked = |r: &&Record| r.name == *query.name() && r.record_type() == query.query_type();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.response_code = zone.failure.unwrap_or(ResponseCode::NoError);
        if zone.failure.is_none() {
            answer.add_answers(zone.records.iter().filter(asked).cloned());
        }
        answer.add_query(query);
        answer
    }

    fn set(&self, records: Vec<Record>) {
        let mut zone = self.0.lock().unwrap();
        zone.records = records;
        zone.failure = None;
    }

    fn fail(&self, code: ResponseCode) {
        self.0.lock().unwrap().failure = Some(code);
    }

    fn questions(&self) -> u32 {
        self.0.lock().unwrap().questions
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn a(host: &str, ttl: u32, last: u8) -> Record {
    let data = RData::A(A([10, 0, 0, last].into()));
    Record::from_rdata(name(host), ttl, data)
}

fn aaaa(host: &str, ttl: u32) -> Record {
    let data = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
    Record::from_rdata(name(host), ttl, data)
}

fn srv(host: &str, ttl: u32, priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let data = RData::SRV(SRV::new(priority, weight, port, name(target)));
    Record::from_rdata(name(host), ttl, data)
}

/// A running discovery of one upstream with a floor of 5 s.
struct World {
    server: Server,
    upstreams: Upstreams,
    discovery: Discovery,
    directories: Arc<Directories>,
    changed: Arc<Notify>,
}

impl World {
    async fn new(records: Vec<Record>, name: &str, port: Option<u16>) -> Self {
        let server = Server::default();
        server.set(records);
        let address = server.start().await;
        let directories = Arc::new(Directories::default());
        let changed = Arc::new(Notify::new());
        let discovery =
            Discovery::with_server(address, Arc::clone(&directories), Arc::clone(&changed));
        let mut world = Self {
            server,
            upstreams: Upstreams::new(),
            discovery: discovery.unwrap(),
            directories,
            changed,
        };
        world.watch(name, port);
        world
    }

    fn watch(&mut self, name: &str, port: Option<u16>) {
        let discover = Discover {
            name: name.into(),
            port,
            refresh: Duration::from_secs(5),
        };
        let plan = plan(vec![upstream("orders", Endpoints::Dns(discover))]);
        self.upstreams
            .apply(&plan, &self.directories, Instant::ZERO);
        self.discovery.reconcile(&self.upstreams);
    }

    /// Whether the endpoints change within this many seconds.
    async fn changes_within(&self, seconds: u64) -> bool {
        let changed = self.changed.notified();
        timeout(Duration::from_secs(seconds), changed).await.is_ok()
    }

    /// Addresses and weights, sorted by address.
    fn endpoints(&self) -> Vec<(String, f64)> {
        let set = self.upstreams.get("orders").unwrap().endpoints();
        let members = set.members().iter();
        members
            .map(|member| (member.endpoint.name().to_string(), member.weight))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.endpoints().into_iter().map(|(name, _)| name).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_and_aaaa_are_looked_up_together() {
    let host = "orders.internal.";
    let records = vec![a(host, 60, 2), a(host, 60, 1), aaaa(host, 60)];
    let world = World::new(records, host, Some(8080)).await;
    assert!(world.changes_within(1).await);
    let expected = ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"];
    assert_eq!(world.names(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_ttl() {
    let host = "orders.internal.";
    let world = World::new(vec![a(host, 30, 1)], host, Some(80)).await;
    assert!(world.changes_within(1).await);
    world.server.set(vec![a(host, 30, 2)]);
    assert!(!world.changes_within(28).await);
    assert!(world.changes_within(3).await);
    assert_eq!(world.names(), ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_below_the_floor_is_raised_to_it() {
    let host = "orders.internal.";
    let world = World::new(vec![a(host, 0, 1)], host, Some(80)).await;
    assert!(world.changes_within(1).await);
    world.server.set(vec![a(host, 0, 2)]);
    assert!(!world.changes_within(4).await);
    assert!(world.changes_within(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_failure_or_an_empty_answer_keeps_the_last_good_one() {
    let host = "orders.internal.";
    let world = World::new(vec![a(host, 1, 1)], host, Some(80)).await;
    assert!(world.changes_within(1).await);
    for code in [
        ResponseCode::NXDomain,
        ResponseCode::ServFail,
        ResponseCode::NoError,
    ] {
        world.server.set(Vec::new());
        world.server.fail(code);
        let before = world.server.questions();
        assert!(!world.changes_within(60).await, "{code}");
        assert!(world.server.questions() > before + 10, "{code}: it goes on");
        assert_eq!(world.names(), ["10.0.0.1:80"], "{code}");
    }
    world.server.set(vec![a(host, 1, 9)]);
    assert!(world.changes_within(6).await);
    assert_eq!(world.names(), ["10.0.0.9:80"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_set_in_another_order_is_no_change() {
    let host = "orders.internal.";
    let world = World::new(vec![a(host, 1, 1), a(host, 1, 2)], host, Some(80)).await;
    assert!(world.changes_within(1).await);
    world.server.set(vec![a(host, 1, 2), a(host, 1, 1)]);
    assert!(!world.changes_within(60).await);
}

#[tokio::test(start_paused = true)]
async fn srv_gives_ports_and_weights_of_its_lowest_priority() {
    let service = "_http._tcp.orders.internal.";
    let records = vec![
        srv(service, 60, 10, 3, 8001, "one.internal."),
        srv(service, 60, 10, 0, 8002, "two.internal."),
        srv(service, 60, 10, 5, 8003, "lost.internal."),
        srv(service, 60, 20, 9, 8004, "two.internal."),
        a("one.internal.", 60, 1),
        a("two.internal.", 7, 2),
    ];
    let world = World::new(records.clone(), service, None).await;
    assert!(world.changes_within(1).await);
    let expected = [("10.0.0.1:8001", 3.0), ("10.0.0.2:8002", 1.0)];
    let expected = expected.map(|(name, weight)| (name.to_owned(), weight));
    assert_eq!(world.endpoints(), expected);

    // Targets count towards the TTL; the next priority serves once the first is gone.
    world.server.set(records[3..].to_vec());
    assert!(!world.changes_within(5).await);
    assert!(world.changes_within(3).await);
    assert_eq!(world.names(), ["10.0.0.2:8004"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_starts_anew_only_for_another_name() {
    let records = vec![a("one.internal.", 600, 1), a("two.internal.", 600, 2)];
    let mut world = World::new(records, "one.internal.", Some(80)).await;
    assert!(world.changes_within(1).await);
    let asked = world.server.questions();
    world.watch("one.internal.", Some(80));
    assert!(!world.changes_within(60).await);
    assert_eq!(world.server.questions(), asked);

    world.watch("two.internal.", Some(80));
    assert_eq!(
        world.names(),
        ["10.0.0.1:80"],
        "kept until there is an answer"
    );
    assert!(world.changes_within(1).await);
    assert_eq!(world.names(), ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_needs_no_look_up() {
    let world = World::new(Vec::new(), "127.0.0.1", Some(80)).await;
    assert!(world.changes_within(1).await);
    assert_eq!(world.names(), ["127.0.0.1:80"]);
    assert_eq!(world.server.questions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_discovery_asks_no_more() {
    let host = "orders.internal.";
    let world = World::new(vec![a(host, 1, 1)], host, Some(80)).await;
    assert!(world.changes_within(1).await);
    drop(world.discovery);
    let asked = world.server.questions();
    let minute = timeout(Duration::from_secs(60), pending::<()>()).await;
    assert!(minute.is_err());
    assert_eq!(world.server.questions(), asked);
}
