//! What is known of each endpoint beside the exchanges that ended there: whether it is out, and how the attempts there
//! fared of late, those among them that a retry made good.
//!
//! An endpoint that was ejected is not asked, and one that is let in again is hardly asked at first: as long as that is so,
//! what it did before is what is known of it. Pure; depends on the diagnosis' facts.

use std::collections::{HashMap, VecDeque};

use super::diagnose::EndpointFact;
use super::span::Span;

/// Seconds over which attempts are counted.
const RECENT: usize = 10;
/// Attempts after which an endpoint that was out is judged by what it does now,
const KNOWN: u64 = 5;
/// and seconds without so many after which nothing is known of it any more.
const FORGOTTEN: u32 = 30;
/// The share of a second's attempts with which it begins to fail, and that below which it has ceased to.
const FAILS: f64 = 0.3;
const WORKS: f64 = 0.15;

/// An endpoint at one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) id: u64,
    /// Its checks say that it is down.
    pub(super) unhealthy: bool,
    /// It is ejected.
    pub(super) ejected: bool,
    /// Attempts there so far, and failures among them.
    pub(super) totals: (u64, u64),
    /// Requests under way there.
    pub(super) in_flight: u32,
    /// For how many seconds it has answered nothing of what it was asked.
    pub(super) silence: f64,
}

/// What the endpoints of one upstream did lately.
#[derive(Debug, Default)]
pub(super) struct Standings(HashMap<u64, Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// Attempts and failures so far, by second.
    recent: VecDeque<(u64, u64)>,
    /// Requests under way, by second.
    in_flight: VecDeque<u32>,
    /// Attempts when it was last seen ejected, and the seconds since; none when it is known anew.
    out: Option<(u64, u32)>,
    /// Attempts and failures when the last second ended.
    former: Option<(u64, u64)>,
    failing: Option<Failing>,
}

/// Seconds since an endpoint began to fail, and how many of them had passed when it was last seen to.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    passed: u32,
    until: u32,
}

impl Standings {
    /// A second has passed; whoever is not among `seen` any more is forgotten.
    pub(super) fn second(&mut self, seen: &[Seen]) -> Vec<EndpointFact> {
        self.0.retain(|id, _| seen.iter().any(|one| one.id == *id));
        let facts = seen
            .iter()
            .map(|one| self.0.entry(one.id).or_default().take(*one));
        facts.collect()
    }
}

impl Standing {
    fn take(&mut self, seen: Seen) -> EndpointFact {
        let Seen { totals, .. } = seen;
        self.out = match self.out {
            _ if seen.ejected => Some((totals.0, 0)),
            Some((at, since)) if totals.0.saturating_sub(at) < KNOWN && since < FORGOTTEN => {
                Some((at, since + 1))
            }
            _ => None,
        };
        let ejected = self.out.is_some();
        self.fail(totals);
        if !ejected || self.recent.is_empty() {
            self.recent.push_back(totals);
        }
        if self.recent.len() > RECENT + 1 {
            self.recent.pop_front();
        }
        self.in_flight.push_back(seen.in_flight);
        if self.in_flight.len() > RECENT {
            self.in_flight.pop_front();
        }
        let under_way: u32 = self.in_flight.iter().sum();
        let first = self.recent.front().copied().unwrap_or(totals);
        EndpointFact {
            id: seen.id,
            unhealthy: seen.unhealthy,
            ejected,
            failures: totals.1.saturating_sub(first.1) as f64,
            attempts: totals.0.saturating_sub(first.0) as f64,
            worst: worst(&self.recent, totals, ejected),
            in_flight: f64::from(under_way) / self.in_flight.len() as f64,
            silence: seen.silence,
            failing: f64::from(self.failing.map_or(0, |failing| failing.until)),
        }
    }

    /// Takes another second's attempts as a sign that it fails, still or again, or that it works. Without any, nothing is
    /// known of that second.
    fn fail(&mut self, totals: (u64, u64)) {
        let former = self.former.replace(totals).unwrap_or(totals);
        if let Some(failing) = &mut self.failing {
            failing.passed = failing.passed.saturating_add(1);
        }
        let attempts = totals.0.saturating_sub(former.0);
        if attempts == 0 {
            return;
        }
        let share = totals.1.saturating_sub(former.1) as f64 / attempts as f64;
        if share >= FAILS {
            let failing = self.failing.get_or_insert_default();
            failing.until = failing.passed + 1;
        } else if share < WORKS {
            self.failing = None;
        }
    }
}

/// The largest share of attempts that failed from any of these moments on, in which some did: what was ejected for it
/// has not failed often.
fn worst(recent: &VecDeque<(u64, u64)>, totals: (u64, u64), ejected: bool) -> f64 {
    let some = if ejected { 2 } else { 3 };
    let since = recent.iter().map(|(attempts, failures)| {
        let failed = totals.1.saturating_sub(*failures);
        let share = Span::share(failed as f64, totals.0.saturating_sub(*attempts) as f64);
        if failed < some { 0.0 } else { share }
    });
    since.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_last_seconds_needs_some_failures() {
        let recent = VecDeque::from([(100, 1), (110, 1), (120, 3), (124, 7)]);
        // Four of four, six of ten, and then never enough.
        for (recent, totals, ejected, expected) in [
            (&recent, (124, 7), false, 1.0),
            (&recent, (130, 9), false, 0.6),
            (&VecDeque::from([(100, 1)]), (110, 3), false, 0.0),
            (&VecDeque::from([(100, 1)]), (110, 3), true, 0.2),
            (&VecDeque::new(), (110, 3), false, 0.0),
        ] {
            let found = worst(recent, totals, ejected);
            assert!((found - expected).abs() < 1e-9, "{totals:?}: {found}");
        }
    }

    #[test]
    fn who_fails_does_so_from_the_first_second_to_the_last_until_it_works() {
        let mut standings = Standings::default();
        let mut totals = (100, 0);
        let mut second = |attempts, failures| {
            totals = (totals.0 + attempts, totals.1 + failures);
            let seen = Seen {
                id: 7,
                totals,
                ..Seen::default()
            };
            let failing = standings.second(&[seen]).pop().unwrap().failing;
            std::time::Duration::from_secs_f64(failing).as_secs()
        };
        let mut course = |seconds: &[(u64, u64)]| {
            let course = seconds.iter().map(|(all, failed)| second(*all, *failed));
            course.collect::<Vec<_>>()
        };
        // Out for a moment.
        let moment = [(10, 1), (5, 5), (0, 0), (0, 0), (1, 0), (10, 0)];
        assert_eq!(course(&moment), [0, 1, 1, 1, 0, 0]);
        // It fails again when it is let in, and in between as well as not.
        let again = [(6, 5), (0, 0), (0, 0), (2, 2), (0, 0), (5, 1), (4, 2)];
        assert_eq!(course(&again), [1, 1, 1, 4, 4, 4, 7]);
    }

    #[test]
    fn who_was_ejected_stands_by_what_it_did_until_it_is_asked_again_or_forgotten() {
        let mut standings = Standings::default();
        let mut second = |ejected, totals| {
            let seen = Seen {
                id: 7,
                ejected,
                totals,
                ..Seen::default()
            };
            let fact = standings.second(&[seen]).pop().unwrap();
            (fact.ejected, fact.failures, fact.worst)
        };
        for count in 0..20 {
            assert_eq!(second(false, (count * 10, 0)), (false, 0.0, 0.0));
        }
        assert_eq!(second(true, (193, 3)), (true, 3.0, 1.0));
        for _ in 0..5 {
            assert_eq!(second(true, (193, 3)), (true, 3.0, 1.0));
        }
        // Let in, and hardly asked.
        assert_eq!(second(false, (194, 3)), (true, 3.0, 0.75));
        assert_eq!(second(false, (199, 3)), (false, 3.0, 1.0 / 3.0));
        for count in 0..20 {
            second(false, (200 + count * 10, 3));
        }
        assert_eq!(second(true, (393, 6)), (true, 3.0, 1.0));
        for _ in 0..FORGOTTEN {
            assert!(second(false, (393, 6)).0);
        }
        assert!(!second(false, (393, 6)).0);
    }
}
