//! Who borrows the peak, over a month of ten thousand clients.
//!
//! Costs are drawn by the minute, not by the request: the measurement sees no finer. All clients follow one
//! daily curve with a quieter weekend and a noise that lasts; of the light ones, each is seen four times a day.

use tidegate::measure::peak::Costs;

use crate::for_each_seed;

const CLIENTS: u64 = 10_000;
/// Heavy and honest: clients 0 to 19.
const HEAVY: u64 = 20;
/// Run their reports in the peak from the first day: clients 20 to 24.
const REPORTERS: std::ops::Range<u64> = 20..25;
/// Has a nightly job that moves into the peak after three weeks.
const MOVER: u64 = 25;
const DAYS: u64 = 30;
const MOVES_ON: u64 = 21;
const DAY: u64 = 1_440;
/// When reports begin and how long they take.
const NOON: u64 = 13 * 60;
const REPORT: u64 = 120;
/// A monday.
const START: u64 = 4 * DAY + 2_900 * 7 * DAY;

/// The whole upstream's cost in a minute, in upstream seconds, but for reports and nightly jobs.
fn curve(minute: u64) -> f32 {
    let day = (minute % DAY) as f32 / DAY as f32;
    let weekend = (minute - START) / DAY % 7 >= 5;
    let height = if weekend { 0.6 } else { 1.0 };
    600.0 * height * (1.0 + 0.75 * ((day - 14.0 / 24.0) * std::f32::consts::TAU).cos())
}

/// Anything from -1 to 1, most of it near 0.
fn noise(rng: &mut fastrand::Rng) -> f32 {
    rng.f32() - rng.f32()
}

struct Month {
    rng: fastrand::Rng,
    costs: Costs,
    /// Of each heavy client: its share, and a noise that lasts about half an hour.
    heavy: Vec<(f32, f32)>,
    spent: Vec<(u64, f32)>,
}

impl Month {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let heavy = (0..HEAVY).map(|_| (0.01 + 0.04 * rng.f32(), 0.0));
        Self {
            heavy: heavy.collect(),
            rng,
            costs: Costs::default(),
            spent: Vec::new(),
        }
    }

    fn minute(&mut self, minute: u64) {
        let all = curve(minute);
        self.spent.clear();
        let mut light = 1.0;
        for (client, (share, lasting)) in self.heavy.iter_mut().enumerate() {
            *lasting = 0.97 * *lasting + 0.15 * noise(&mut self.rng);
            light -= *share;
            let wave = 1.0 + *lasting + 0.4 * noise(&mut self.rng);
            let cost = *share * all * wave.max(0.1);
            self.spent.push((client as u64, cost));
        }
        let seen = CLIENTS * 4 / DAY;
        for _ in 0..seen {
            let client = self.rng.u64(HEAVY + 6..CLIENTS);
            let cost = light * all / seen as f32 * 2.0 * self.rng.f32();
            self.spent.push((client, cost));
        }
        let of_day = minute % DAY;
        let in_peak = (NOON..NOON + REPORT).contains(&of_day);
        if in_peak {
            for reporter in REPORTERS {
                let cost = 30.0 + 8.0 * (reporter - REPORTERS.start) as f32;
                self.spent.push((reporter, cost * (0.5 + self.rng.f32())));
            }
        }
        let moved = minute >= START + MOVES_ON * DAY;
        let at_night = (2 * 60..4 * 60).contains(&of_day);
        let runs = if moved { in_peak } else { at_night };
        if runs {
            self.spent.push((MOVER, 50.0 * (0.5 + self.rng.f32())));
        }
        let total = self.spent.iter().map(|(_, cost)| cost).sum();
        self.costs.minute(minute, total, self.spent.drain(..));
    }

    fn borrowers(&self) -> Vec<u64> {
        let peak = self.costs.peak().unwrap();
        peak.borrowers().iter().map(|(client, _)| *client).collect()
    }
}

#[test]
fn who_runs_reports_in_the_peak_is_found_at_the_first_and_nobody_else_ever() {
    for_each_seed(|seed| {
        let mut month = Month::new(seed);
        for minute in START..START + DAYS * DAY {
            month.minute(minute);
            let day = (minute - START) / DAY;
            // While the first reports run; then every other day, and on each day after the move.
            let of_day = minute % DAY;
            let looked_at = day % 2 == 1 || day >= MOVES_ON;
            let looks = (of_day == NOON + REPORT && looked_at) || (day == 0 && of_day == NOON + 60);
            if !looks {
                continue;
            }
            let mut found = month.borrowers();
            let first: Vec<u64> = found.iter().copied().take(5).collect();
            if day < MOVES_ON {
                let all = REPORTERS.into_iter().all(|client| first.contains(&client));
                assert!(all, "seed {seed}, day {day}: {found:?}");
                assert_eq!(found.len(), 5, "seed {seed}, day {day}: {found:?}");
            } else {
                found.sort_unstable();
                let expected: Vec<u64> = (REPORTERS.start..=MOVER).collect();
                assert_eq!(found, expected, "seed {seed}, day {day}");
            }
        }
    });
}
