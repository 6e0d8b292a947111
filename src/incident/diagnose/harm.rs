//! Whether anything is wrong at all, before anybody asks why.

use super::facts::{self, Facts};
use super::noise;
use crate::incident::span::{Moments, Span};

/// What clients suffer, each as the excess over the usual; zero where they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Harm {
    /// The share of requests refused.
    pub refused: f64,
    /// The share refused for want of room.
    pub turned_away: f64,
    /// The share failed by the upstream.
    pub failed: f64,
    /// The upstream's part of the time, seconds.
    pub service: f64,
    /// The wait in the queue, seconds.
    pub queue: f64,
    /// The clients' part of the time, seconds.
    pub delivery: f64,
    /// Tidegate's own part, seconds.
    pub decide: f64,
    /// All of it, of whatever was not refused: more than the parts when the cache stops answering.
    pub total: f64,
}

/// Refusals or failures below this share, or fewer than this, are weather.
const SHARE: f64 = 0.02;
const COUNT: f64 = 5.0;
/// A time has to grow by this factor in the mean, by this one in the typical case,
const FACTOR: f64 = 1.5;
const TYPICAL: f64 = 1.15;
/// by more than chance would have it once in so many days (see [`facts::surprise`]),
const UNLIKELY: f64 = 12.0;
/// by more than so many times what it swings by itself,
const BEYOND: f64 = 3.0;
/// and by so many seconds: a twentieth of the usual is nobody's incident on a fast upstream.
const LEAST: f64 = 0.010;

impl Harm {
    /// What is wrong by `facts`.
    #[must_use]
    pub fn of(facts: &Facts<'_>) -> Self {
        let share = |count: f64, of: fn(&Span) -> f64| {
            let (now, usual) = facts.pair(of);
            let excess = now - usual.unwrap_or(0.0);
            if count >= COUNT && excess >= SHARE.max(usual.unwrap_or(0.0) * 0.5) {
                excess
            } else {
                0.0
            }
        };
        let now = &facts.now;
        Self {
            refused: share(now.refused, facts::refused),
            turned_away: share(now.refused - now.barred, facts::turned_away),
            failed: share(now.failed, facts::failed),
            service: slower(facts, |span| span.service),
            queue: slower(facts, |span| span.queue),
            delivery: slower(facts, |span| span.delivery),
            decide: slower(facts, |span| span.decide),
            total: slower(facts, |span| span.total),
        }
    }

    /// Whether anything is.
    #[must_use]
    pub fn any(&self) -> bool {
        let parts = [
            self.refused,
            self.failed,
            self.service,
            self.queue,
            self.delivery,
            self.decide,
            self.total,
        ];
        parts.iter().any(|part| *part > 0.0)
    }

    /// Whether requests are turned away or kept waiting: the upstream has more to do than it can.
    #[must_use]
    pub fn crowded(&self) -> bool {
        self.turned_away > 0.0 || self.queue > 0.0
    }
}

fn slower(facts: &Facts<'_>, of: fn(&Span) -> Moments) -> f64 {
    let Some(usual) = facts.usual else {
        return 0.0;
    };
    let (now, usual) = (of(&facts.now), of(usual));
    let excess = now.mean() - usual.mean();
    let grown = now.mean() >= usual.mean() * FACTOR && now.typical() >= usual.typical() * TYPICAL;
    let ratio = Span::share(now.mean(), usual.mean());
    let chance = facts::surprise(now.count, ratio, usual.spread()) < UNLIKELY && usual.mean() > 0.0;
    if now.count < COUNT || !grown || chance || excess < LEAST {
        return 0.0;
    }
    let mean = |_key, block: &[&Span]| {
        let moments = || block.iter().map(|span| of(span));
        let count = moments().map(|one| one.count).sum();
        Span::share(moments().map(|one| one.sum).sum(), count)
    };
    let swings = noise::swing(facts.history, &[0], mean).unwrap_or_default();
    if ratio.ln() >= swings * BEYOND {
        excess
    } else {
        0.0
    }
}
