//! How much room an upstream has, and whether more of it would help: the signal for autoscalers.
//!
//! The knee that the concurrency limit has found is the capacity; what is asked for against it is the utilisation.
//! More endpoints help when the queue is the trouble. They do not when every request takes longer on all of them at a
//! load as usual: then they wait together for something they share.

use super::diagnose::Facts;
use super::span::Span;
use crate::engine::protection::LimitReport;

/// The signal for one upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// What is asked for ÷ what it can carry; above 1 when some of it is turned away.
    pub utilisation: f64,
    /// The part of what it can carry that nobody asks for.
    pub headroom: f64,
    /// How many times as much of it there should be, for a utilisation of 70%.
    pub desired_factor: f64,
    /// Whether more of it would help.
    pub scale_out_helps: bool,
}

/// The utilisation to aim at: at 70% a queue is short (M/M/c) and one endpoint of four may be lost.
const TARGET: f64 = 0.7;
/// Above this a longer service at equal load is what everything waits for.
const DRAGS: f64 = 1.5;

impl Scale {
    /// By what is known of the upstream now, whose limit is `limit`.
    #[must_use]
    pub fn of(facts: &Facts<'_>, limit: LimitReport) -> Self {
        let now = &facts.now;
        let learned = match limit {
            LimitReport::Adaptive(report) => report.elasticity.is_some(),
            LimitReport::Fixed(_) => true,
        };
        let in_use = now.utilisation();
        // A limit that was never reached is a guess: what is in use of it says little.
        let known = if learned || now.saturation() > 0.0 {
            in_use
        } else {
            in_use.min(TARGET)
        };
        let turned_away = Span::share(now.refused - now.barred, now.demand);
        let utilisation = known.max(now.saturation()) / (1.0 - turned_away).max(0.05);
        let slower = facts.usual.map_or(1.0, |usual| {
            Span::share(now.service.typical(), usual.service.typical())
        });
        let busier = facts.usual.map_or(1.0, |usual| {
            Span::share(now.rate(now.demand), usual.rate(usual.demand))
        });
        let drags = slower > DRAGS && busier < 1.3 && spread(now) < DRAGS;
        Self {
            utilisation,
            headroom: (1.0 - utilisation).clamp(0.0, 1.0),
            desired_factor: (utilisation / TARGET).max(0.1),
            scale_out_helps: utilisation > TARGET && !drags,
        }
    }
}

/// How far the slowest endpoint is from the fastest.
fn spread(now: &Span) -> f64 {
    let asked = now.endpoints.iter().filter(|(_, tally)| tally.count >= 5.0);
    let means: Vec<f64> = asked.map(|(_, tally)| tally.mean()).collect();
    let most = means.iter().copied().fold(0.0, f64::max);
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    if least > 0.0 && least.is_finite() {
        most / least
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::diagnose::Proxy;
    use crate::incident::history::History;
    use crate::incident::span::{Event, Fate};

    /// Minutes of an upstream of which `used` of ten slots are in use; then ten seconds in which each request takes
    /// `slower` times as long and `refused` of ten are turned away.
    fn scale(used: u32, slower: f64, refused: u32) -> Scale {
        let mut history = History::default();
        for second in 0..80 {
            let late = second >= 70;
            for request in 0..20_u32 {
                let endpoint = Some(u64::from(request % 2));
                let mut event = Event {
                    endpoint,
                    attempts: 1,
                    ..Event::default()
                };
                event.phases[4] = if late { 0.05 * slower } else { 0.05 };
                if late && request % 10 < refused {
                    event = Event {
                        fate: Fate::Refused,
                        ..Event::default()
                    };
                }
                history.current().record(&event);
            }
            let waiting = if late && refused > 0 { 5 } else { 0 };
            history
                .current()
                .sample(used, 10, waiting, late && refused > 0);
            history.tick(!late);
        }
        Scale::of(
            &Facts::new(&history, &[], Proxy::default()),
            LimitReport::Fixed(10),
        )
    }

    #[test]
    fn room_is_what_nobody_asks_for() {
        let idle = scale(3, 1.0, 0);
        assert!((idle.utilisation - 0.3).abs() < 1e-9 && (idle.headroom - 0.7).abs() < 1e-9);
        assert!(!idle.scale_out_helps);
        assert!(idle.desired_factor < 0.5);
        let full = scale(10, 1.0, 5);
        assert!(full.utilisation > 1.9 && full.headroom <= 0.0);
        assert!(full.scale_out_helps && full.desired_factor > 2.0);
    }

    #[test]
    fn more_of_what_waits_together_does_not_help() {
        assert!(!scale(10, 4.0, 2).scale_out_helps);
    }
}
