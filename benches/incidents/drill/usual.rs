//! What is usual: how the load swings and who restarts where nothing is wrong. It depends on the time and the seed
//! alone.

use std::f64::consts::TAU;
use std::time::Duration;

use super::fault::Conditions;
use super::{ENDPOINTS, HEALTHY, WITHIN};

/// What the endpoints can carry of what is asked for in a burst.
const BURST: f64 = 0.75;
/// A day of the curve, and how far it swings.
const DAY: Duration = Duration::from_secs(240);
const SWING: f64 = 0.4;
/// There is a burst in each of these.
const BETWEEN_BURSTS: Duration = Duration::from_secs(12);
/// From one deploy to the next, how long nothing is done before, and from one endpoint to the next.
const BETWEEN_DEPLOYS: Duration = Duration::from_secs(80);
const BEFORE_DEPLOY: Duration = Duration::from_secs(44);
const BETWEEN_RESTARTS: Duration = Duration::from_secs(12);
/// How long an endpoint's restart takes, and how long it is cold afterwards: then it takes so many times as long.
const RESTART: Duration = Duration::from_secs(2);
const COLD: Duration = Duration::from_secs(3);
const COLD_TIMES: f64 = 1.5;

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usual {
    /// The same load all the time.
    Steady,
    /// A day's curve, in minutes.
    Curve,
    /// Everybody at once, or one client, asks for more for a moment.
    Bursts,
    /// The endpoints restart in turn: each ends what it has begun, is away, comes back cold.
    Deploys,
}

/// An endpoint that restarts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Restart {
    /// Nobody listens.
    Away(usize),
    /// It takes so many times as long.
    Cold(usize, f64),
}

impl Usual {
    /// How long to look on.
    pub(super) fn lasts(self) -> Duration {
        match self {
            Self::Steady => HEALTHY + WITHIN,
            Self::Curve => DAY + DAY / 4,
            Self::Bursts => 10 * BETWEEN_BURSTS,
            Self::Deploys => 2 * BETWEEN_DEPLOYS,
        }
    }

    /// The conditions after `time`, where `load` of the capacity is asked for on average.
    pub(super) fn at(self, time: Duration, load: f64, seed: u64) -> Conditions {
        let mut conditions = Conditions::default();
        match self {
            Self::Steady => {}
            Self::Curve => {
                let day = time.as_secs_f64() / DAY.as_secs_f64();
                conditions.rate = 1.0 + SWING * (day * TAU).sin();
            }
            Self::Bursts => burst(time, load, seed, &mut conditions),
            Self::Deploys => conditions.restart = restart(time),
        }
        conditions
    }
}

fn burst(time: Duration, load: f64, seed: u64, conditions: &mut Conditions) {
    let number = time.as_secs() / BETWEEN_BURSTS.as_secs();
    let since = time - BETWEEN_BURSTS * u32::try_from(number).unwrap_or_default();
    let mut rng = fastrand::Rng::with_seed(seed << 32 | number);
    let begin = Duration::from_secs_f64(8.0 * rng.f64());
    let end = begin + Duration::from_secs_f64(0.5 + 2.0 * rng.f64());
    let of_one_client = rng.bool();
    if !(begin..end).contains(&since) {
        return;
    }
    if of_one_client {
        conditions.flood = super::rate(BURST - load);
    } else {
        conditions.rate = BURST / load;
    }
}

fn restart(time: Duration) -> Option<Restart> {
    let seconds = time.as_secs_f64() % BETWEEN_DEPLOYS.as_secs_f64();
    let since = seconds - BEFORE_DEPLOY.as_secs_f64();
    let between = BETWEEN_RESTARTS.as_secs_f64();
    let turn = (0..ENDPOINTS).find(|turn| {
        let begin = *turn as f64 * between;
        (begin..begin + between).contains(&since)
    })?;
    let since = since - turn as f64 * between;
    let cold = RESTART..RESTART + COLD;
    match Duration::from_secs_f64(since) {
        since if since < cold.start => Some(Restart::Away(turn)),
        since if since < cold.end => Some(Restart::Cold(turn, COLD_TIMES)),
        _ => None,
    }
}
