//! The recent past of one upstream: two minutes by the second, a day by the minute, and what is usual.
//!
//! The usual is a sum that fades (time constant ten minutes), of seconds in which nothing was wrong and which are half a
//! minute old: the beginning of an incident never becomes the measure it is held to, but for the first that is ever
//! seen. Constant memory. Depends on
//! its neighbours in this room.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::span::Span;

/// Seconds kept one by one.
const SECONDS: usize = 120;
/// Minutes kept.
const MINUTES: usize = 24 * 60;
/// A second waits so long before it can become part of the usual.
const SETTLE: usize = 30;
/// What is left of the usual after a second: e^(−1/600).
const FADE: f64 = 0.998_334_721_9;
/// Seconds of the usual below which nothing is known of it.
const KNOWN: f64 = 15.0;

/// One minute, in brief.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Requests a second that asked for the upstream.
    pub demand: f64,
    /// Mean of the upstream's part, seconds; zero when nothing reached it.
    pub service: f64,
    /// The share of the samples in which it was full.
    pub saturation: f64,
    /// The share of the requests that were refused.
    pub refused: f64,
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The second under way.
    current: Span,
    /// Newest last; each with whether nothing was wrong in it.
    seconds: VecDeque<(Span, bool)>,
    usual: Span,
    minutes: VecDeque<Minute>,
    minute: Span,
}

impl History {
    /// The second under way, to be added to.
    pub fn current(&mut self) -> &mut Span {
        &mut self.current
    }

    /// A second has passed, in which, as far as is known, something was wrong or was not.
    pub fn tick(&mut self, well: bool) {
        let mut second = std::mem::take(&mut self.current);
        second.seconds = 1.0;
        self.minute.merge(&second, 1.0);
        if self.minute.seconds >= 60.0 {
            self.end_minute();
        }
        self.seconds.push_back((second, true));
        if !well {
            self.suspect();
        }
        if let Some(at) = self.seconds.len().checked_sub(SETTLE + 1)
            && let Some((settled, was_well)) = self.seconds.get(at)
            // Where nothing is known, what there is is the usual: what lags from the start would else hide all the rest.
            && (*was_well || self.usual().is_none())
        {
            self.usual.fade(FADE);
            self.usual.merge(settled, 1.0);
        }
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
    }

    /// Something is wrong in the newest second: so it may have been in those before, which have not settled yet.
    pub fn suspect(&mut self) {
        for (_, was_well) in self.seconds.iter_mut().rev().take(SETTLE / 3 + 1) {
            *was_well = false;
        }
    }

    fn end_minute(&mut self) {
        let minute = std::mem::take(&mut self.minute);
        self.minutes.push_back(Minute {
            demand: minute.rate(minute.demand),
            service: minute.service.mean(),
            saturation: minute.saturation(),
            refused: Span::share(minute.refused, minute.demand),
        });
        if self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    /// The seconds in blocks of so many, but for the newest block, the newest first: those in which all was well.
    pub(super) fn calm(&self, block: usize) -> impl Iterator<Item = Vec<&Span>> {
        let before = self.seconds.len().saturating_sub(block);
        (1..=before / block.max(1)).filter_map(move |ago| {
            let begin = before - ago * block;
            let seconds = self.seconds.range(begin..begin + block);
            let well = seconds.clone().all(|(_, well)| *well);
            well.then(|| seconds.map(|(span, _)| span).collect())
        })
    }

    /// Every stretch that is kept: the seconds, and what is usual.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.seconds().chain(std::iter::once(&self.usual))
    }

    /// The last `count` whole seconds, summed.
    #[must_use]
    pub fn last(&self, count: usize) -> Span {
        self.between(count, 0)
    }

    /// The seconds from `from` to `to` seconds ago, summed.
    #[must_use]
    pub fn between(&self, from: usize, to: usize) -> Span {
        let mut sum = Span::default();
        let newest = self.seconds.iter().rev().skip(to);
        for (second, _) in newest.take(from.saturating_sub(to)) {
            sum.merge(second, 1.0);
        }
        sum
    }

    /// How many seconds are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// Whether no second has passed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// What is usual; none before enough is known.
    #[must_use]
    pub fn usual(&self) -> Option<&Span> {
        (self.usual.seconds >= KNOWN).then_some(&self.usual)
    }

    /// The minutes of the last day, oldest first.
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = &Minute> {
        self.minutes.iter()
    }

    /// The kept seconds, newest first.
    pub fn seconds(&self) -> impl Iterator<Item = &Span> {
        self.seconds.iter().rev().map(|(second, _)| second)
    }

    /// For how many seconds `holds` has held, but for a third of them.
    pub fn held(&self, holds: impl Fn(&Span) -> bool) -> usize {
        let (mut held, mut longest) = (0_usize, 0);
        for (before, second) in self.seconds().enumerate() {
            let holds = holds(second);
            held += usize::from(holds);
            if holds && held * 3 >= (before + 1) * 2 {
                longest = before + 1;
            } else if before > longest + 30 {
                break;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::span::Event;

    fn second(history: &mut History, requests: u32, well: bool) {
        for _ in 0..requests {
            history.current().record(&Event {
                attempts: 1,
                ..Event::default()
            });
        }
        history.tick(well);
    }

    #[test]
    fn the_usual_knows_nothing_of_an_incident_nor_of_its_beginning() {
        let mut history = History::default();
        for _ in 0..60 {
            second(&mut history, 10, true);
        }
        // Nobody has noticed yet.
        for _ in 0..5 {
            second(&mut history, 100, true);
        }
        for _ in 0..100 {
            second(&mut history, 100, false);
        }
        let usual = history.usual().unwrap();
        assert!((usual.rate(usual.demand) - 10.0).abs() < 1e-6);
        assert!((history.last(10).demand - 1_000.0).abs() < 1e-6);
        assert_eq!(history.held(|span| span.rate(span.demand) > 50.0), 105);
        assert_eq!(history.held(|span| span.rate(span.demand) > 500.0), 0);
    }

    #[test]
    fn the_usual_follows_what_changes_slowly() {
        let mut history = History::default();
        for step in 0..3_600 {
            second(&mut history, 10 + step / 60, true);
        }
        let usual = history.usual().unwrap();
        assert!(usual.rate(usual.demand) > 55.0);
        assert_eq!(history.minutes().count(), 60);
    }

    #[test]
    fn what_is_never_well_is_usual_all_the_same() {
        let mut history = History::default();
        for _ in 0..100 {
            second(&mut history, 10, false);
        }
        let known = history.usual().unwrap().seconds;
        assert!((KNOWN..KNOWN + 1.0).contains(&known), "{known}");
        for _ in 0..100 {
            second(&mut history, 20, true);
        }
        let usual = history.usual().unwrap();
        assert!(usual.rate(usual.demand) > 15.0);
    }

    #[test]
    fn nothing_is_usual_at_first() {
        let mut history = History::default();
        for _ in 0..40 {
            second(&mut history, 1, true);
        }
        assert!(history.usual().is_none());
    }
}
