use super::*;
use crate::observe::tables::tests::{answered, refused};

fn fast() -> Option<Latency> {
    Some(Latency {
        quantile: 0.98,
        below: Duration::from_millis(1),
        over: Duration::from_mins(5),
    })
}

#[test]
fn what_a_client_did_itself_is_nobodys_failure() {
    let with = |outcome, status, reason| Exchange {
        outcome,
        status,
        reason,
        ..answered()
    };
    for (exchange, counted) in [
        (answered(), Some(false)),
        (with(Outcome::Answered, 404, None), Some(false)),
        (with(Outcome::Answered, 503, None), Some(true)),
        (with(Outcome::Answered, 101, None), None),
        (with(Outcome::Refused, 429, Some(Reason::Quota)), None),
        (with(Outcome::Refused, 429, Some(Reason::FairShare)), None),
        (
            with(Outcome::Refused, 503, Some(Reason::QueueFull)),
            Some(true),
        ),
        // gRPC says so in a trailer.
        (
            with(Outcome::Refused, 200, Some(Reason::QueueFull)),
            Some(true),
        ),
        (
            with(Outcome::UpstreamBroke, 200, Some(Reason::UpstreamReset)),
            Some(true),
        ),
        (with(Outcome::ClientGone, 499, None), Some(false)),
    ] {
        assert_eq!(counts(&exchange, fast()), counted, "{exchange:?}");
    }
    assert_eq!(counts(&with(Outcome::ClientGone, 499, None), None), None);
}

#[test]
fn the_endpoint_with_most_of_the_bad_requests_is_named() {
    let mut culprit = Culprit::default();
    for index in [1, 2, 2, 3, 2] {
        culprit.vote(EndpointId::new(index));
    }
    assert_eq!(culprit.endpoint, Some(EndpointId::new(2)));
}

/// A world with one objective of one route, judged in simulated time.
struct World {
    objectives: Objectives,
    board: Arc<Board>,
    incidents: Arc<Incidents>,
    now: Instant,
}

impl World {
    fn of(per: Per, incidents: Incidents) -> Self {
        let (board, incidents) = (Arc::new(Board::default()), Arc::new(incidents));
        let directories = Arc::new(Directories::default());
        for name in ["other", "orders"] {
            directories.routes.intern(name);
        }
        let objective = Objective {
            name: "fast".into(),
            per,
            settings: Settings {
                latency: fast(),
                availability: None,
                min_requests: 10,
            },
            routes: vec![RouteId::new(1)],
        };
        board.set(vec![objective]);
        let objectives = Objectives::new(
            Arc::clone(&board),
            Arc::clone(&incidents),
            Arc::default(),
            directories,
            Instant::ZERO,
        );
        Self {
            objectives,
            board,
            incidents,
            now: Instant::ZERO,
        }
    }

    fn second(&mut self, exchanges: &[(Exchange, &str)]) {
        self.now = self.now.after(SECOND);
        let mut each = exchanges
            .iter()
            .map(|(exchange, client)| (exchange, *client));
        self.objectives.batch(&mut each, self.now);
        self.objectives.tick(self.now);
    }
}

#[test]
fn a_slow_route_opens_one_incident_and_a_withdrawn_promise_closes_it() {
    let mut world = World::of(Per::Route, Incidents::default());
    for _ in 0..30 {
        world.second(&[(answered(), "a"), (refused(), "b")]);
    }
    let [incident] = &world.incidents.all()[..] else {
        panic!("{:?}", world.incidents.all());
    };
    assert_eq!((&*incident.subject, &*incident.slo), ("orders", "fast"));
    assert_eq!(incident.signals, ["latency"]);
    assert!(
        incident
            .what
            .starts_with("p98 21 ms over 300s, promised below 1 ms")
    );
    assert_eq!(incident.closed_at, None);
    world.board.set(Vec::new());
    world.second(&[]);
    assert!(world.incidents.all()[0].closed_at.is_some());
}

#[test]
fn what_is_promised_holds_for_the_next_request_already() {
    let mut world = World::of(Per::Route, Incidents::default());
    let promised = world.board.wanted.load_full();
    world.board.set(Vec::new());
    world.second(&[]);
    let promised = promised.iter().map(|one| Objective::clone(one));
    world.board.set(promised.collect());
    world.second(&[(answered(), "a")]);
    assert_eq!(world.board.standings()[0].subjects[0].report.requests, 1);
}

#[test]
fn more_subjects_than_the_bound_are_counted() {
    let mut world = World::of(Per::Client, Incidents::default());
    for client in 0..MAX_SUBJECTS as u64 + 3 {
        let client = crate::model::ClientId::new(client);
        let exchange = Exchange {
            client,
            ..answered()
        };
        world.second(&[(exchange, "one of many")]);
    }
    assert_eq!(world.board.untracked(), 3);
    assert_eq!(world.board.standings()[0].subjects.len(), MAX_SUBJECTS);
}

#[test]
fn an_incident_of_an_earlier_process_goes_on_or_ends_when_nobody_comes_back() {
    let mut world = World::of(Per::Route, Incidents::default());
    for _ in 0..30 {
        world.second(&[(answered(), "a")]);
    }
    let kept = world.incidents.all();
    let restored = || {
        let incidents = Incidents::default();
        incidents.restore(kept.iter().map(|one| (**one).clone()).collect());
        World::of(Per::Route, incidents)
    };
    let mut busy = restored();
    (0..100).for_each(|_| busy.second(&[(answered(), "a")]));
    let all = busy.incidents.all();
    assert_eq!((all.len(), &all[0].closed_at), (1, &None));
    let mut idle = restored();
    (0..59).for_each(|_| idle.second(&[]));
    assert_eq!(idle.incidents.all()[0].closed_at, None);
    (0..2).for_each(|_| idle.second(&[]));
    assert!(idle.incidents.all()[0].closed_at.is_some());
}
