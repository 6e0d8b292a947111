//! Clients, a gate and an upstream of ten slots in simulated time: who is served, and how long they wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::mem;

use super::*;

const SLOTS: u32 = 10;
const SERVICE: Duration = Duration::from_millis(50);
/// Requests a second that the upstream can carry.
const CAPACITY: f64 = 200.0;
const SEEDS: u64 = 20;
const SECONDS: u64 = 10;

/// Clients that send at random, each at its rate, and do not care for the answer.
#[derive(Clone, Copy)]
struct Client {
    rate: f64,
    tier: u8,
    weight: u32,
    service: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            rate: 0.0,
            tier: 0,
            weight: 1,
            service: SERVICE,
        }
    }
}

/// What a client saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    sent: u32,
    waits: Vec<Duration>,
    /// Waiting and service together.
    times: Vec<Duration>,
    busy: Duration,
    refused: BTreeMap<&'static str, u32>,
}

impl Seen {
    fn answered(&self) -> f64 {
        self.waits.len() as f64
    }

    fn refused(&self) -> u32 {
        self.refused.values().sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done(usize),
    Look(usize),
    Send(usize),
}

/// Notes which ticket was woken.
struct Note(Arc<Mutex<Vec<usize>>>, usize);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().push(self.1);
    }
}

struct World {
    gate: Arc<Gate>,
    clients: Vec<Client>,
    seen: Vec<Seen>,
    events: BinaryHeap<Reverse<(Instant, usize, Event)>>,
    tickets: BTreeMap<usize, (usize, Instant, Ticket)>,
    running: BTreeMap<usize, (usize, Duration, Permit)>,
    woken: Arc<Mutex<Vec<usize>>>,
    rng: fastrand::Rng,
    serial: usize,
}

impl World {
    fn new(clients: Vec<Client>, queue: queue::Config, seed: u64) -> Self {
        let config = Config::try_new(Mode::Enforce, SLOTS, 10, queue).unwrap();
        let mut world = Self {
            gate: Arc::new(Gate::new(&config)),
            seen: vec![Seen::default(); clients.len()],
            clients,
            events: BinaryHeap::new(),
            tickets: BTreeMap::new(),
            running: BTreeMap::new(),
            woken: Arc::default(),
            rng: fastrand::Rng::with_seed(seed),
            serial: 0,
        };
        for client in 0..world.clients.len() {
            world.plan_send(Instant::ZERO, client);
        }
        world
    }

    fn run(mut self) -> Vec<Seen> {
        let end = Instant::ZERO.after(Duration::from_secs(SECONDS));
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > end {
                break;
            }
            match event {
                Event::Send(client) => self.send(now, client),
                Event::Done(id) => {
                    let (client, service, permit) = self.running.remove(&id).unwrap();
                    self.seen[client].busy += service;
                    succeed(permit, now, service);
                }
                Event::Look(id) => self.look(now, id),
            }
            loop {
                let woken = mem::take(&mut *self.woken.lock().unwrap());
                if woken.is_empty() {
                    break;
                }
                woken.into_iter().for_each(|id| self.look(now, id));
            }
            assert!(self.running.len() <= SLOTS as usize);
        }
        self.seen
    }

    fn send(&mut self, now: Instant, client: usize) {
        self.plan_send(now, client);
        self.seen[client].sent += 1;
        let Client {
            tier,
            weight,
            service,
            ..
        } = self.clients[client];
        let request = Request {
            client: client as u64,
            tier,
            weight,
            cost: service,
            deadline: None,
        };
        match self.gate.admit(now, &request) {
            Admitted::Permit(permit) => self.start(now, client, permit, Duration::ZERO),
            Admitted::Refused(refusal) => self.refuse(client, &refusal),
            Admitted::Queued(ticket) => {
                let id = self.serial();
                self.plan(ticket.expires(), Event::Look(id));
                self.tickets.insert(id, (client, now, ticket));
                self.look(now, id);
            }
        }
    }

    fn look(&mut self, now: Instant, id: usize) {
        let Some((client, since, mut ticket)) = self.tickets.remove(&id) else {
            return;
        };
        let waker = Waker::from(Arc::new(Note(Arc::clone(&self.woken), id)));
        match ticket.poll(now, &mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.tickets.insert(id, (client, since, ticket));
            }
            Poll::Ready(Ok(permit)) => self.start(now, client, permit, now.since(since)),
            Poll::Ready(Err(refusal)) => self.refuse(client, &refusal),
        }
    }

    fn start(&mut self, now: Instant, client: usize, permit: Permit, waited: Duration) {
        let id = self.serial();
        // Between half and one and a half of the mean: slots that are taken together are not given back together.
        let service = self.clients[client].service.mul_f64(0.5 + self.rng.f64());
        self.seen[client].waits.push(waited);
        self.seen[client].times.push(waited + service);
        self.running.insert(id, (client, service, permit));
        self.plan(now.after(service), Event::Done(id));
    }

    fn refuse(&mut self, client: usize, refusal: &Refusal) {
        let reason = refusal.reason.as_str();
        *self.seen[client].refused.entry(reason).or_default() += 1;
    }

    fn plan_send(&mut self, now: Instant, client: usize) {
        let pause = -(1.0 - self.rng.f64()).ln() / self.clients[client].rate;
        let at = now.after(Duration::from_secs_f64(pause));
        self.plan(at, Event::Send(client));
    }

    fn plan(&mut self, at: Instant, event: Event) {
        let serial = self.serial();
        self.events.push(Reverse((at, serial, event)));
    }

    fn serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }
}

fn over_seeds(clients: &[Client], queue: queue::Config, check: impl Fn(u64, &[Seen])) {
    for seed in 0..SEEDS {
        check(seed, &World::new(clients.to_vec(), queue, seed).run());
    }
}

/// The share of the upstream's capacity that was used.
fn goodput(seen: &[Seen]) -> f64 {
    let busy: f64 = seen.iter().map(|seen| seen.busy.as_secs_f64()).sum();
    busy / (f64::from(SLOTS) * SECONDS as f64)
}

fn quantile(times: impl Iterator<Item = Duration>, per_mille: usize) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[(times.len() - 1) * per_mille / 1_000]
}

/// Jain's index of what each got of its demand, or of its fair share where it wanted more.
fn jain(seen: &[Seen], fair: f64) -> f64 {
    let satisfied: Vec<_> = seen
        .iter()
        .map(|seen| (seen.answered() / f64::from(seen.sent).min(fair)).min(1.0))
        .collect();
    let sum: f64 = satisfied.iter().sum();
    let squares: f64 = satisfied.iter().map(|x| x * x).sum();
    sum * sum / (satisfied.len() as f64 * squares)
}

#[test]
fn fifty_clients_within_their_share_do_not_notice_one_that_floods() {
    let fair = CAPACITY / 51.0;
    for flood in [20.0 * fair, 4.0 * CAPACITY] {
        let mut clients = vec![
            Client {
                rate: fair / 2.0,
                ..Client::default()
            };
            50
        ];
        clients.push(Client {
            rate: flood,
            ..Client::default()
        });
        over_seeds(&clients, queue::Config::default(), |seed, seen| {
            let (elephant, mice) = seen.split_last().unwrap();
            let refused: u32 = mice.iter().map(Seen::refused).sum();
            assert_eq!(refused, 0, "seed {seed}");
            // Unloaded it is 74 ms: the service alone.
            let slow = quantile(mice.iter().flat_map(|mouse| mouse.times.clone()), 980);
            assert!(slow <= 74 * MS * 3 / 2, "seed {seed}: {slow:?}");
            assert!(elephant.answered() >= fair * SECONDS as f64, "seed {seed}");
            let jain = jain(seen, fair * SECONDS as f64);
            assert!(jain >= 0.95, "seed {seed}: {jain}");
            // What is left of the capacity, if it wants that much, is the elephant's.
            let goodput = goodput(seen);
            assert!(
                goodput >= if flood > CAPACITY { 0.98 } else { 0.8 },
                "seed {seed}: {goodput}"
            );
        });
    }
}

#[test]
fn at_three_times_the_capacity_the_critical_tier_is_served_whole_and_batch_its_floor() {
    let tier = |rate: f64, tier| {
        let client = Client {
            rate: rate / 10.0,
            tier,
            ..Client::default()
        };
        [client; 10]
    };
    let clients = [tier(100.0, 0), tier(250.0, 1), tier(250.0, 2)].concat();
    over_seeds(&clients, queue::Config::default(), |seed, seen| {
        let [critical, _, batch] = [0, 10, 20].map(|from| &seen[from..from + 10]);
        let sent: u32 = critical.iter().map(|seen| seen.sent).sum();
        let refused: u32 = critical.iter().map(Seen::refused).sum();
        assert!(
            f64::from(refused) <= 0.001 * f64::from(sent),
            "seed {seed}: {refused} of {sent}"
        );
        let answered = |seen: &[Seen]| seen.iter().map(Seen::answered).sum::<f64>();
        let share = answered(batch) / answered(seen);
        assert!((0.049..0.06).contains(&share), "seed {seed}: {share}");
        assert!(goodput(seen) >= 0.98, "seed {seed}: {}", goodput(seen));
    });
}

#[test]
fn at_ten_times_the_capacity_all_of_it_is_used_and_nobody_waits_beyond_max_wait() {
    for clients in [1, 200] {
        let rate = 10.0 * CAPACITY / clients as f64;
        let clients = vec![
            Client {
                rate,
                ..Client::default()
            };
            clients
        ];
        over_seeds(&clients, queue::Config::default(), |seed, seen| {
            assert!(goodput(seen) >= 0.98, "seed {seed}: {}", goodput(seen));
            let longest = quantile(seen.iter().flat_map(|seen| seen.waits.clone()), 1_000);
            assert!(longest <= 100 * MS, "seed {seed}: {longest:?}");
        });
    }
}

#[test]
fn clients_share_upstream_time_by_weight_whatever_a_request_costs() {
    let with = |rate, weight, millis| Client {
        rate,
        weight,
        service: Duration::from_millis(millis),
        ..Client::default()
    };
    let mut clients = vec![with(400.0, 1, 20), with(40.0, 1, 200), with(160.0, 2, 100)];
    clients.push(with(10.0, 1, 10));
    let queue = queue::Config::try_new(500 * MS, 1_000, Fairness::Client, 1.0).unwrap();
    over_seeds(&clients, queue, |seed, seen| {
        let total: f64 = seen[..3].iter().map(|seen| seen.busy.as_secs_f64()).sum();
        let shares = [0, 1, 2].map(|client| seen[client].busy.as_secs_f64() / total);
        for (share, due) in shares.iter().zip([0.25, 0.25, 0.5]) {
            assert!((share - due).abs() <= 0.05, "seed {seed}: {shares:?}");
        }
    });
}
