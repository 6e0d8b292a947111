//! What goes wrong in a drill, and what has to be said of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::clients;
use super::usual::Restart;

/// The endpoint that faults of one endpoint befall.
pub(super) const VICTIM: usize = 1;

/// How an endpoint is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gone {
    #[default]
    No,
    /// Nobody listens any more.
    Refuses,
    /// Every connection is closed at once.
    Resets,
    /// Every request is answered with 500.
    Fails,
    /// No request is answered at all.
    Hangs,
}

/// How the cache comes to answer less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bust {
    #[default]
    No,
    /// Half of what could be stored may not be any more.
    HalfStored,
    /// Nothing may be stored any more.
    NotStored,
    /// Every URL is asked for once: somebody added a parameter.
    NewUrls,
}

/// How things are at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Conditions {
    /// Times as long as usual: everything, the database, the victim.
    pub(crate) service: f64,
    pub(crate) database: f64,
    pub(crate) victim: f64,
    /// The part of the requests that fails.
    pub(crate) errors: f64,
    pub(crate) gone: Gone,
    pub(crate) bust: Bust,
    /// Times as many requests as usual: of everybody, and how many the noisy client makes besides, a second.
    pub(crate) rate: f64,
    pub(crate) flood: f64,
    /// Times as long as usual: the noisy client's requests.
    pub(crate) dear: f64,
    /// Times that clients ask again at once for what failed, or for what they gave up.
    pub(crate) again: u32,
    /// How long a client waits.
    pub(crate) patience: Duration,
    /// The pause clients make while they send a body.
    pub(crate) pause: Duration,
    /// The endpoint that restarts.
    pub(crate) restart: Option<Restart>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            service: 1.0,
            database: 1.0,
            victim: 1.0,
            errors: 0.001,
            gone: Gone::No,
            bust: Bust::No,
            rate: 1.0,
            flood: 0.0,
            dear: 1.0,
            again: 0,
            patience: Duration::from_secs(5),
            pause: Duration::ZERO,
            restart: None,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// One client makes so many requests a second more.
    Flood(f64),
    /// One client asks for what takes so many times as long, and three times as often.
    Dear(f64),
    /// Everybody makes so many times as many requests.
    Spike(f64),
    /// The same, but bit by bit.
    Overload(f64),
    /// Everything takes so many times as long in the end, a little more each minute.
    Leak(f64),
    Slow(f64),
    SlowEndpoint(f64),
    SlowDatabase(f64),
    Errors(f64),
    Down(Gone),
    Cache(Bust),
    /// A third fails, and clients ask so many times again.
    Storm(u32),
    /// Clients give up after a quarter of a second, and ask so many times again.
    Impatience(u32),
    SlowClients(Duration),
    /// The proxy gets half of the processor, in turns of this length.
    Stalls(Duration),
}

impl Fault {
    /// The conditions with this fault among them.
    pub(super) fn apply(self, mut conditions: Conditions) -> Conditions {
        match self {
            Self::Flood(rate) => conditions.flood = rate,
            Self::Dear(times) => (conditions.dear, conditions.flood) = (times, 20.0),
            Self::Spike(times) | Self::Overload(times) => conditions.rate = times,
            Self::Slow(times) | Self::Leak(times) => conditions.service = times,
            Self::SlowEndpoint(times) => conditions.victim = times,
            Self::SlowDatabase(times) => conditions.database = times,
            Self::Errors(part) => conditions.errors = part,
            Self::Down(gone) => conditions.gone = gone,
            Self::Cache(bust) => conditions.bust = bust,
            Self::Storm(again) => (conditions.errors, conditions.again) = (0.33, again),
            Self::Impatience(again) => {
                (conditions.patience, conditions.again) = (Duration::from_millis(250), again);
            }
            Self::SlowClients(pause) => conditions.pause = pause,
            Self::Stalls(_) => {}
        }
        conditions
    }

    /// How long it takes to be there in full.
    pub(super) const fn grows(self) -> Duration {
        match self {
            Self::Overload(_) => Duration::from_secs(110),
            // A drift is told from half an hour on.
            Self::Leak(_) => Duration::from_secs(40 * 60),
            _ => Duration::ZERO,
        }
    }

    /// This fault when `part` of the time that it takes to grow has passed.
    pub(super) fn grown(self, part: f64) -> Self {
        let of = |times: f64| 1.0 + (times - 1.0) * part;
        match self {
            Self::Overload(times) => Self::Overload(of(times)),
            Self::Leak(times) => Self::Leak(of(times)),
            other => other,
        }
    }

    /// In turns of what length the proxy does not run.
    pub(super) const fn stalls(self) -> Option<Duration> {
        match self {
            Self::Stalls(turn) => Some(turn),
            _ => None,
        }
    }

    /// The contract's word for it.
    pub(crate) const fn cause(self) -> &'static str {
        match self {
            Self::Flood(_) | Self::Dear(_) => "noisy_client",
            Self::Spike(_) => "load_spike",
            Self::Overload(_) => "sustained_overload",
            Self::Leak(_) => "upstream_leak",
            Self::Slow(_) => "slow_upstream",
            Self::SlowEndpoint(_) => "slow_endpoint",
            Self::SlowDatabase(_) => "slow_component",
            Self::Errors(_) => "upstream_errors",
            Self::Down(_) => "endpoint_down",
            Self::Cache(_) => "cache_failure",
            Self::Storm(_) | Self::Impatience(_) => "retry_storm",
            Self::SlowClients(_) => "slow_clients",
            Self::Stalls(_) => "proxy_saturated",
        }
    }

    /// Cause and subject of the right verdict.
    pub(super) fn verdict(self, endpoints: &[SocketAddr]) -> (String, String) {
        let subject = match self {
            Self::Flood(_) | Self::Dear(_) => clients::source(clients::NOISY).to_string(),
            Self::SlowEndpoint(_) | Self::Down(_) => {
                let victim = endpoints.get(VICTIM);
                format!("app/{}", victim.expect("there is a victim"))
            }
            Self::SlowDatabase(_) => "db".to_owned(),
            Self::Stalls(_) => "tidegate".to_owned(),
            _ => "app".to_owned(),
        };
        (self.cause().to_owned(), subject)
    }
}
