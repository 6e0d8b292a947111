//! A service of four endpoints behind a cache, asked by thirty clients: second by second, as sums of requests.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a small simulation"
)]

use super::{EndpointFact, Facts, Proxy, Verdict, diagnose};
use crate::incident::history::History;
use crate::incident::span::{Event, Fate, Pace};

const CLIENTS: u64 = 30;
const ENDPOINTS: u64 = 4;
/// Slots of the whole upstream, and of the limit that was learned for it.
const SLOTS: f64 = 16.0;
/// Seconds an ordinary request takes, of which its database.
const SERVICE: f64 = 0.040;
const DATABASE: f64 = 0.020;
const DATABASE_NAME: u64 = 7;
const CALLER_NAME: u64 = 8;
/// Of all requests, those that the cache is asked for, and has.
const CACHEABLE: f64 = 0.6;
const HITS: f64 = 0.8;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Client 3 asks for so many times the capacity.
    Flood(f64),
    /// Client 3 asks for things that take so many times as long, and for five times as many.
    Dear(f64),
    /// Client 3 asks for no more, but for things that take so many times as long, and the others wait for them in the upstream.
    Heavy(f64),
    /// Everybody asks for so many times as much.
    Spike(f64),
    /// Everybody asks for more each second, by this part of the first.
    Ramp(f64),
    /// Everything takes so many times as long.
    Slow(f64),
    /// Endpoint 1 does.
    SlowEndpoint(f64),
    /// The database does.
    Component(f64),
    /// The upstream fails this part.
    Errors(f64),
    /// Endpoint 1 is gone.
    Down,
    /// It takes requests and answers none.
    HangEndpoint,
    /// All do.
    Hang,
    /// The cache has this part of what it is asked for.
    Flush(f64),
    /// The upstream failed half for four seconds, and clients ask so many times again for what fails or is refused.
    Storm(f64),
    /// Clients take so much longer to read.
    SlowReaders(f64),
    /// Tidegate's loops lag by so many seconds.
    Proxy(f64),
    /// They are kept from running for so much of the time.
    Kept(f64),
}

pub(super) struct World {
    history: History,
    rng: fastrand::Rng,
    /// Requests a second that reach the upstream.
    load: f64,
    /// Requests that will be asked for again in the next second, by client.
    again: Vec<u64>,
    turned_away: bool,
    /// The part of the last second's requests that was refused or failed.
    ill: f64,
    proxy: Proxy,
    endpoints: Vec<EndpointFact>,
    /// Requests that each endpoint has taken and does not answer, by second.
    stuck: Vec<[f64; ENDPOINTS as usize]>,
    /// Seconds since the fault began.
    since: u32,
}

/// What a second is like.
struct Conditions {
    rates: Vec<f64>,
    /// How many times as fast as usual a client asks.
    pace: f64,
    service: f64,
    dear: f64,
    crowded: f64,
    slow_endpoint: f64,
    database: f64,
    errors: f64,
    down: bool,
    hangs: [bool; ENDPOINTS as usize],
    hits: f64,
    retries: f64,
    readers: f64,
    lag: f64,
    late: f64,
}

impl World {
    /// `load`: the part of the upstream's capacity in use.
    pub(super) fn new(load: f64, seed: u64) -> Self {
        Self {
            history: History::default(),
            rng: fastrand::Rng::with_seed(seed),
            load: load * SLOTS / SERVICE / (1.0 - CACHEABLE * HITS),
            again: Vec::new(),
            turned_away: false,
            ill: 0.0,
            proxy: Proxy::default(),
            endpoints: Vec::new(),
            stuck: Vec::new(),
            since: 0,
        }
    }

    pub(super) fn run(&mut self, seconds: u32, fault: Fault) {
        self.run_both(seconds, fault, Fault::None);
    }

    pub(super) fn run_both(&mut self, seconds: u32, one: Fault, other: Fault) {
        self.since = 0;
        for _ in 0..seconds {
            let mut conditions = self.conditions();
            conditions.apply(one, self.since, self.load);
            conditions.apply(other, self.since, self.load);
            self.second(&conditions);
            self.since += 1;
            // As the real one: not every second.
            let well = !self.since.is_multiple_of(3) || self.verdicts().is_empty();
            self.history.tick(well);
        }
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        diagnose(&Facts::new(&self.history, &self.endpoints, self.proxy))
    }

    fn conditions(&self) -> Conditions {
        // A few clients ask for much, most for little.
        let weights: Vec<f64> = (0..CLIENTS)
            .map(|client| 1.0 / (client as f64 + 3.0))
            .collect();
        let sum: f64 = weights.iter().sum();
        Conditions {
            rates: weights
                .iter()
                .map(|weight| self.load * weight / sum)
                .collect(),
            pace: 1.0,
            service: 1.0,
            dear: 1.0,
            crowded: 0.0,
            slow_endpoint: 1.0,
            database: 1.0,
            errors: 0.001,
            down: false,
            hangs: [false; ENDPOINTS as usize],
            hits: HITS,
            retries: 0.0,
            readers: 0.0,
            lag: 0.0,
            late: 0.0,
        }
    }

    fn second(&mut self, conditions: &Conditions) {
        let mut asked: Vec<(u64, bool)> = Vec::new();
        for (client, rate) in (0..).zip(&conditions.rates) {
            let count = self.around(*rate);
            asked.extend((0..count).map(|_| (client, false)));
        }
        asked.extend(
            std::mem::take(&mut self.again)
                .into_iter()
                .map(|client| (client, true)),
        );
        self.rng.shuffle(&mut asked);
        let mut stuck = self.stuck.last().copied().unwrap_or_default();
        // Who waits for an answer holds a slot.
        let (mut work, mut all, mut ill) = (stuck.iter().sum(), 0.0, 0.0);
        self.turned_away = false;
        self.proxy = Proxy {
            lag: conditions.lag,
            late: conditions.late,
            cpu: if conditions.lag > 0.0 { 1.0 } else { 0.3 },
            descriptors: 0.1,
        };
        // A client that asks for more than its share is refused first.
        let share = SLOTS / CLIENTS as f64 * 4.0;
        let mut used = vec![0.0; CLIENTS as usize];
        for (client, repeat) in asked {
            let event = self.request(client, repeat, conditions, &mut work, &mut used, share);
            let endpoint = event.endpoint.and_then(|id| usize::try_from(id).ok());
            if let Some(endpoint) = endpoint.filter(|id| conditions.hangs[*id]) {
                stuck[endpoint] += 1.0;
                work += 1.0;
                continue;
            }
            let failed = event.fate != Fate::Answered;
            all += 1.0;
            ill += f64::from(u8::from(failed));
            if failed && self.rng.f64() < conditions.retries / (1.0 + conditions.retries) {
                let times = (conditions.retries + self.rng.f64()) as u64;
                self.again.extend((0..times.max(1)).map(|_| client));
            }
            self.history.current().record(&event);
        }
        self.stuck.push(stuck);
        let recent = self.stuck.iter().rev().take(10);
        let seconds = recent.len() as f64;
        self.endpoints = (0..ENDPOINTS)
            .map(|id| EndpointFact {
                id,
                in_flight: recent.clone().map(|all| all[id as usize]).sum::<f64>() / seconds,
                ..EndpointFact::default()
            })
            .collect();
        self.ill = if all > 0.0 { ill / all } else { 0.0 };
        let in_flight = work.min(SLOTS) as u32;
        let waiting = if work > SLOTS { 20 } else { 0 };
        for _ in 0..10 {
            self.history
                .current()
                .sample(in_flight, SLOTS as u32, waiting, self.turned_away);
        }
    }

    fn request(
        &mut self,
        client: u64,
        repeat: bool,
        conditions: &Conditions,
        work: &mut f64,
        used: &mut [f64],
        share: f64,
    ) -> Event {
        let pace = self.pace(repeat, conditions.pace);
        self.history.current().pace(pace);
        let hit = (self.rng.f64() < CACHEABLE).then(|| self.rng.f64() < conditions.hits);
        let mut event = Event {
            client,
            hit,
            ..Event::default()
        };
        let read = 0.001 + self.exponential(conditions.readers);
        event.phases = [0.0002, 0.00005 + conditions.lag, 0.0, 0.0, 0.0, 0.0, read];
        if hit == Some(true) {
            return event;
        }
        let stuck = self.stuck.last().copied().unwrap_or_default();
        let mut endpoint = self.rng.u64(0..ENDPOINTS);
        if stuck[endpoint as usize] > 3.0 {
            // The balancer turns to the others.
            endpoint = (endpoint + 1) % ENDPOINTS;
        }
        let mut database = self.exponential(DATABASE) * conditions.database;
        let mut service = (self.exponential(SERVICE - DATABASE) + database) * conditions.service;
        if client == 3 {
            service *= conditions.dear;
            database *= conditions.dear;
        }
        if endpoint == 1 {
            service *= conditions.slow_endpoint;
        }
        service += self.exponential(conditions.crowded);
        let mine = used.get(client as usize).copied().unwrap_or_default();
        if *work + service > SLOTS || (*work > 0.8 * SLOTS && mine > share) {
            self.turned_away = true;
            event.fate = Fate::Refused;
            // Whether it would have been stored is not told.
            event.hit = None;
            return event;
        }
        event.attempts = 1;
        event.endpoint = Some(endpoint);
        if conditions.hangs[endpoint as usize] {
            return event;
        }
        if *work > 0.9 * SLOTS {
            event.phases[2] = self.exponential(0.04);
        }
        let down = conditions.down && endpoint == 1;
        if down {
            event.fate = Fate::Unreachable;
            event.phases[3] = 0.001;
            return event;
        }
        *work += service;
        if let Some(mine) = used.get_mut(client as usize) {
            *mine += service;
        }
        if self.rng.f64() < conditions.errors {
            event.fate = Fate::Failed;
        }
        event.phases[4] = service;
        let database = database * conditions.service;
        let current = self.history.current();
        current.component(DATABASE_NAME, database);
        // What calls the database tells of itself too.
        current.component(CALLER_NAME, database + 0.002);
        event
    }

    /// Of clients that ask at random moments, four in ten are hasty by chance.
    fn pace(&mut self, repeat: bool, times: f64) -> Pace {
        Pace {
            after_failure: repeat || self.rng.f64() < self.ill,
            hasty: repeat || self.rng.f64() < 1.0 - (-0.5 * times).exp(),
        }
    }

    fn around(&mut self, rate: f64) -> u64 {
        // Normal, which Poisson's comes near enough to for the rates here.
        let twelve: f64 = (0..12).map(|_| self.rng.f64()).sum();
        (rate + (twelve - 6.0) * rate.sqrt()).round().max(0.0) as u64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.rng.f64()).ln()
    }
}

impl Conditions {
    fn apply(&mut self, fault: Fault, since: u32, load: f64) {
        match fault {
            Fault::None => {}
            Fault::Flood(times) => {
                let more = times * SLOTS / SERVICE / (1.0 - CACHEABLE * HITS);
                if let Some(rate) = self.rates.get_mut(3) {
                    *rate += more;
                }
            }
            Fault::Dear(times) => {
                self.dear = times;
                if let Some(rate) = self.rates.get_mut(3) {
                    *rate *= 5.0;
                }
            }
            Fault::Heavy(times) => {
                self.dear = times;
                self.crowded = SERVICE * 0.05 * (times - 1.0);
            }
            Fault::Spike(times) => {
                self.pace = times;
                self.rates.iter_mut().for_each(|rate| *rate *= times);
            }
            Fault::Ramp(part) => {
                let times = 1.0 + part * f64::from(since);
                // Not beyond what is twice the capacity.
                let most = 2.0 * SLOTS / SERVICE / (1.0 - CACHEABLE * HITS) / load;
                self.pace = times.min(most);
                self.rates
                    .iter_mut()
                    .for_each(|rate| *rate *= times.min(most));
            }
            Fault::Slow(times) => self.service = times,
            Fault::SlowEndpoint(times) => self.slow_endpoint = times,
            Fault::Component(times) => self.database = times,
            Fault::Errors(part) => self.errors = part,
            Fault::Down => self.down = true,
            Fault::HangEndpoint => self.hangs[1] = true,
            Fault::Hang => self.hangs = [true; ENDPOINTS as usize],
            Fault::Flush(hits) => self.hits = hits,
            Fault::Storm(times) => {
                self.retries = times;
                self.errors = if since < 4 { 0.5 } else { 0.25 };
            }
            Fault::SlowReaders(seconds) => self.readers = seconds,
            Fault::Proxy(lag) => self.lag = lag,
            Fault::Kept(late) => self.late = late,
        }
    }
}
