use super::*;

/// A monday at midnight, in minutes.
const MONDAY: u64 = 4 * 1_440 + 1_000 * 10_080;
const DAY: u64 = 1_440;

/// Everybody's curve: busy around 14:00, quiet at night.
fn curve(minute: u64) -> f32 {
    let day = (minute % DAY) as f32 / DAY as f32;
    1.0 + 0.8 * ((day - 14.0 / 24.0) * std::f32::consts::TAU).cos()
}

fn hour(minute: u64) -> u64 {
    minute % DAY / 60
}

/// Runs the minutes, in which the rest costs 100 at a curve of one, and the clients what they say.
fn run(costs: &mut Costs, minutes: std::ops::Range<u64>, clients: impl Fn(u64) -> Vec<(u64, f32)>) {
    for minute in minutes {
        let spent = clients(minute);
        let total = 100.0 * curve(minute) + spent.iter().map(|(_, cost)| cost).sum::<f32>();
        costs.minute(minute, total, spent);
    }
}

#[test]
fn whoever_follows_the_curve_has_a_score_of_one_however_heavy() {
    let mut costs = Costs::default();
    run(&mut costs, MONDAY..MONDAY + 3 * DAY, |minute| {
        vec![(1, 50.0 * curve(minute))]
    });
    let peak = costs.peak().unwrap();
    let part = peak.part(1).unwrap();
    assert!((part.score - 1.0).abs() < 0.02, "{part:?}");
    assert!((part.inside - 1.0 / 3.0).abs() < 0.01, "{part:?}");
    assert!(!part.borrows);
    assert_eq!((part.rise, peak.part(2)), (None, None));
}

#[test]
fn reports_at_noon_are_borrowing_while_the_first_peak_lasts() {
    let mut costs = Costs::default();
    let reports = |minute| match hour(minute) {
        13 | 14 => vec![(1, 10.0), (2, 30.0 * curve(minute))],
        _ => vec![(2, 30.0 * curve(minute))],
    };
    run(&mut costs, MONDAY..MONDAY + DAY / 2 + 90, reports);
    let borrowers = costs.peak().unwrap().borrowers();
    assert_eq!(borrowers.len(), 1, "{borrowers:?}");
    assert_eq!(borrowers[0].0, 1);
    run(&mut costs, MONDAY + DAY / 2 + 90..MONDAY + 5 * DAY, reports);
    let borrowers = costs.peak().unwrap().borrowers();
    assert_eq!(borrowers.len(), 1, "{borrowers:?}");
    assert!(borrowers[0].1.score > 10.0, "{borrowers:?}");
}

#[test]
fn a_peak_that_one_makes_alone_is_nobodys_loss() {
    let mut costs = Costs::default();
    run(&mut costs, MONDAY..MONDAY + 7 * DAY, |minute| {
        match hour(minute) {
            2 => vec![(1, 300.0)],
            _ => Vec::new(),
        }
    });
    let part = costs.peak().unwrap().part(1).unwrap();
    assert!(part.inside > 0.5 && part.score > 10.0, "{part:?}");
    assert!(part.crowding < 1.0 && !part.borrows, "{part:?}");
}

#[test]
fn a_job_that_moves_from_the_night_into_the_peak_shows_on_the_first_day() {
    let mut costs = Costs::default();
    let at = |when: u64| {
        move |minute| match hour(minute) {
            now if now == when => vec![(1, 20.0), (2, 20.0 * curve(minute))],
            _ => vec![(2, 20.0 * curve(minute))],
        }
    };
    run(&mut costs, MONDAY..MONDAY + 21 * DAY, at(3));
    assert_eq!(costs.peak().unwrap().borrowers(), []);
    run(&mut costs, MONDAY + 21 * DAY..MONDAY + 22 * DAY, at(14));
    let borrowers = costs.peak().unwrap().borrowers();
    assert_eq!(borrowers.len(), 1, "{borrowers:?}");
    let part = borrowers[0].1;
    assert!(
        part.outside > 0.005,
        "the week still knows its nights: {part:?}"
    );
    assert!(part.rise.is_some_and(|rise| rise > 10.0), "{part:?}");
}

#[test]
fn whoever_grows_at_all_hours_has_not_moved() {
    let mut costs = Costs::default();
    let of = |times: f32| move |minute| vec![(1, 5.0 * times * curve(minute))];
    run(&mut costs, MONDAY..MONDAY + 21 * DAY, of(1.0));
    run(&mut costs, MONDAY + 21 * DAY..MONDAY + 22 * DAY, of(4.0));
    let part = costs.peak().unwrap().part(1).unwrap();
    assert!(part.rise.is_some_and(|rise| rise < 1.5), "{part:?}");
    assert!(!part.borrows, "{part:?}");
}

#[test]
fn a_level_load_has_no_peak_and_nor_has_a_short_time() {
    let mut costs = Costs::default();
    for minute in 0..MIN_MINUTES - 1 {
        costs.minute(MONDAY + minute, curve(MONDAY + minute), [(1, 0.5)]);
        assert!(costs.peak().is_none());
    }
    let mut costs = Costs::default();
    for minute in 0..2 * MIN_MINUTES {
        costs.minute(MONDAY + minute, 10.0, [(1, 10.0)]);
    }
    assert!(costs.peak().is_none());
}

#[test]
fn a_pause_and_a_clock_that_is_set_back_do_no_harm() {
    let mut costs = Costs::default();
    run(&mut costs, MONDAY..MONDAY + DAY, |_| vec![(1, 10.0)]);
    let after = MONDAY + 30 * DAY;
    costs.minute(after, 5.0, [(1, 4.0)]);
    costs.minute(MONDAY, 1_000.0, [(1, 1_000.0)]);
    let totals: f32 = costs.totals.iter().sum();
    assert!((totals - 5.0).abs() < 1e-6, "{totals}");
    let profile = costs.clients.get(1).unwrap();
    let known = hour_of(after) - 167..=hour_of(after);
    let known: f64 = known.map(|hour| profile.spent(hour)).sum();
    assert!((known - 4.0).abs() < 1e-6, "{known}");
}

#[test]
fn more_clients_than_the_bound_leave_the_heavy_ones_known() {
    let mut costs = Costs::default();
    let mut client = 100;
    for minute in 0..300 {
        let mut spent = vec![(1, 50.0)];
        spent.extend((0..200).map(|_| {
            client += 1;
            (client, 0.1)
        }));
        costs.minute(MONDAY + minute, 70.0 + minute as f32, spent);
    }
    assert_eq!(costs.clients.len(), MAX_CLIENTS);
    let part = costs.peak().unwrap().part(1).unwrap();
    assert!(part.inside > 0.1, "{part:?}");
}
