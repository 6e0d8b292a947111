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
    /// Requests that do not end.
    pub stuck: f64,
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
/// A time has to grow by this factor in the mean, by this one in the typical case or in so many of the last ten seconds,
const FACTOR: f64 = 1.5;
const TYPICAL: f64 = 1.15;
const SECONDS: usize = 5;
/// by more than chance would have it once in so many days (see [`facts::surprise`]),
const UNLIKELY: f64 = 12.0;
/// by more than so many times what it swings by itself,
const BEYOND: f64 = 3.0;
/// (taken for this while that is not known),
const SWING: f64 = 0.15;
/// or by these two where requests are turned away,
const SPARED_FACTOR: f64 = 1.25;
const SPARED_BEYOND: f64 = 1.5;
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
        let turned_away = share(now.refused - now.barred, facts::turned_away);
        // Where requests are turned away, those that are not are spared the crowd, and what is slow shows in them by less.
        let bounds = if turned_away > 0.0 {
            (SPARED_FACTOR, SPARED_BEYOND)
        } else {
            (FACTOR, BEYOND)
        };
        Self {
            refused: share(now.refused, facts::refused),
            turned_away,
            failed: share(now.failed, facts::failed),
            service: slower(facts, bounds, |span| span.service),
            stuck: stuck(facts),
            queue: slower(facts, bounds, |span| span.queue),
            delivery: slower(facts, (FACTOR, BEYOND), |span| span.delivery),
            decide: slower(facts, (FACTOR, BEYOND), |span| span.decide),
            total: slower(facts, (FACTOR, BEYOND), |span| span.total),
        }
    }

    /// Whether anything is.
    #[must_use]
    pub fn any(&self) -> bool {
        let parts = [
            self.refused,
            self.failed,
            self.service,
            self.stuck,
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

/// Requests that do not end, as many more than usual as are usually under way at all.
fn stuck(facts: &Facts<'_>) -> f64 {
    /// Fewer may be a few long ones.
    const FEW: f64 = 2.0;
    let Some(usual) = facts.usual else {
        return 0.0;
    };
    let excess = facts.now.stuck() - usual.stuck();
    let least = usual.rate(usual.service.sum).max(FEW);
    if excess >= least { excess } else { 0.0 }
}

/// By how much that takes longer than usual: in the mean by `factor` and `beyond` so many times what it swings by itself.
fn slower(facts: &Facts<'_>, (factor, beyond): (f64, f64), of: fn(&Span) -> Moments) -> f64 {
    let Some(usual) = facts.usual else {
        return 0.0;
    };
    let (now, usual) = (of(&facts.now), of(usual));
    let excess = now.mean() - usual.mean();
    // A few stragglers move the mean, but not the typical case, and not in one second after another.
    let above = |span: &&Span| of(span).mean() >= usual.mean() * factor;
    let seconds = || facts.history.seconds().take(10).filter(above).count();
    let often = now.typical() >= usual.typical() * TYPICAL || seconds() >= SECONDS;
    let grown = now.mean() >= usual.mean() * factor && often;
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
    let swings = noise::swing(facts.history, &[0], SWING, mean);
    if ratio.ln() >= swings * beyond {
        excess
    } else {
        0.0
    }
}
