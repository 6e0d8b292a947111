//! Keeps what was used of the rate limits over a restart, and over a kill but for the last second.
//!
//! One file, written once a second when something changed: for each policy its name, what its keys and counts
//! mean, the period of the calendar, and a key and a count for each whose count matters. The clients in it are
//! keyed hashes. It ends with its own SHA-256: what was damaged is not taken for a quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::time::MissedTickBehavior;

use super::state::State;
use crate::clock::SystemClock;
use crate::engine::rate::{Limit, Moment};
use crate::proxy::worker::Shared;

const FILE: &str = "rate-limits";
const MAGIC: &[u8] = b"tidegate rate limits 1\n";
/// How often it is looked whether something changed.
const LOOK: Duration = Duration::from_secs(1);
/// Writing takes at most this share of the time.
const SHARE: u32 = 10;

/// What is kept of the quotas.
#[derive(Debug)]
pub(super) struct Quotas {
    state: Arc<State>,
    shared: Arc<Shared>,
    /// Whether another process has taken over, whose file it is now.
    over: AtomicBool,
}

/// The time now, as quotas go by it.
pub(super) fn now() -> Moment {
    Moment {
        monotonic: SystemClock.now(),
        unix: SystemClock.unix_micros() / 1_000_000,
    }
}

impl Quotas {
    pub(super) fn new(state: Arc<State>, shared: Arc<Shared>) -> Arc<Self> {
        let over = AtomicBool::new(false);
        Arc::new(Self {
            state,
            shared,
            over,
        })
    }

    /// Writes again and again until the runtime ends.
    pub(super) async fn keep(self: Arc<Self>) {
        if !self.state.is_kept() {
            return;
        }
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut next) = (0, SystemClock.now());
        loop {
            ticks.tick().await;
            let version = version(&self.kept());
            let began = SystemClock.now();
            if version == written || began < next {
                continue;
            }
            let this = Arc::clone(&self);
            // A slow disk holds up nobody but itself.
            if tokio::task::spawn_blocking(move || this.write())
                .await
                .is_err()
            {
                tracing::error!("what was used of the rate limits could not be written: a defect");
            }
            written = version;
            let ended = SystemClock.now();
            next = ended.after(ended.since(began) * SHARE);
        }
    }

    /// Writes what is used now.
    pub(super) fn write(&self) {
        let kept = self.kept();
        if !kept.is_empty() && !self.over.load(Ordering::Acquire) {
            self.state.write(FILE, &encode(&kept, now()));
        }
    }

    /// Writes for the last time: whoever takes over goes on from here.
    pub(super) fn hand_over(&self) {
        self.write();
        self.over.store(true, Ordering::Release);
    }

    fn kept(&self) -> Vec<Arc<Limit>> {
        let live = self.shared.live.load();
        let limits = live.limits.iter();
        limits.filter(|limit| limit.is_kept()).cloned().collect()
    }
}

/// Puts back what was kept.
pub(super) fn restore(state: &State, limits: &[Arc<Limit>]) {
    let kept = limits.iter().any(|limit| limit.is_kept());
    let Some(content) = state.read(FILE).filter(|_| kept) else {
        return;
    };
    if decode(&content, limits, now()).is_none() {
        tracing::warn!("what was kept of the rate limits is damaged; they begin anew");
    }
}

fn version(limits: &[Arc<Limit>]) -> u64 {
    limits.iter().map(|limit| limit.version()).sum()
}

fn encode(limits: &[Arc<Limit>], now: Moment) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&now.unix.to_be_bytes());
    for limit in limits {
        text(&mut out, limit.name());
        text(&mut out, limit.shape());
        let period = limit.settings().quota.period_at(now);
        out.extend_from_slice(&period.to_be_bytes());
        let count = out.len();
        out.extend_from_slice(&[0; 8]);
        let mut used: u64 = 0;
        for (key, amount) in limit.used(now) {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&amount.to_be_bytes());
            used += 1;
        }
        if let Some(place) = out.get_mut(count..count + 8) {
            place.copy_from_slice(&used.to_be_bytes());
        }
    }
    let hash = digest(&SHA256, &out);
    out.extend_from_slice(hash.as_ref());
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Puts back what `content` says of each of `limits`, as far as it still counts; none when it is damaged.
fn decode(content: &[u8], limits: &[Arc<Limit>], now: Moment) -> Option<()> {
    let (body, hash) = content.split_last_chunk::<32>()?;
    if digest(&SHA256, body).as_ref() != hash {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let written = number(&mut rest)?;
    let passed = now
        .unix
        .saturating_sub(written)
        .saturating_mul(1_000_000_000);
    while !rest.is_empty() {
        let name = words(&mut rest)?;
        let shape = words(&mut rest)?;
        let period = number(&mut rest)?;
        let mut same = limits.iter();
        let limit = same.find(|limit| &**limit.name() == name && limit.shape() == shape);
        let limit = limit.filter(|limit| limit.settings().quota.period_at(now) == period);
        for _ in 0..number(&mut rest)? {
            let (key, used) = (number(&mut rest)?, number(&mut rest)?);
            let Some(limit) = limit else { continue };
            // Of a sliding quota, some came back while nothing ran.
            let calendar = limit.settings().quota.is_calendar();
            let used = if calendar {
                used
            } else {
                used.saturating_sub(passed)
            };
            limit.restore(key, now, used);
        }
    }
    Some(())
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*bytes))
}

fn words<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
