use super::*;

const MILLI: u64 = 1_000_000;

fn at_second(seconds: u64) -> Instant {
    Instant::ZERO.after(Duration::from_secs(seconds))
}

fn p98_below_250ms() -> Settings {
    Settings {
        latency: Some(Latency {
            quantile: 0.98,
            below: Duration::from_millis(250),
            over: Duration::from_mins(5),
        }),
        availability: Some(0.999),
        min_requests: 200,
    }
}

/// One request: the second it ended in, how long it took, whether it failed.
type Line = (u64, u64, bool);

/// The log of `seconds`, `rate` requests each, of a median that `median` tells for every second, in milliseconds.
fn log(seconds: u64, rate: u64, seed: u64, median: impl Fn(u64) -> f64) -> Vec<Line> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut lines = Vec::new();
    for second in 0..seconds {
        for _ in 0..rate {
            // Two numbers make a triangle: a tail that p98 is sensitive to.
            let spread = 0.5 + rng.f64() + rng.f64();
            let took = Duration::from_secs_f64(median(second) * spread / 1e3);
            let nanos = u64::try_from(took.as_nanos()).unwrap();
            lines.push((second, nanos, false));
        }
    }
    lines
}

/// The seconds in which `signal` turned on or off while `lines` ended.
fn turns(settings: Settings, lines: &[Line], signal: usize) -> Vec<(u64, bool)> {
    let mut slo = Slo::new(settings);
    let mut turns = Vec::new();
    let mut lines = lines.iter().peekable();
    let mut on = false;
    while let Some(&&(second, ..)) = lines.peek() {
        while let Some((_, nanos, failed)) = lines.next_if(|(at, ..)| *at == second) {
            slo.record(at_second(second), *nanos, *failed);
        }
        let report = slo.judge(at_second(second));
        if report.on[signal] != on {
            on = report.on[signal];
            turns.push((second, on));
        }
    }
    turns
}

/// The first second at whose end the quantile of the log's last five minutes is not below the bound.
fn first_over(lines: &[Line], latency: Latency) -> Option<u64> {
    let seconds = lines.last()?.0;
    let begin = |second: u64| lines.partition_point(|(at, ..)| *at < second);
    (0..=seconds).find(|now| {
        let from = (now + 1).saturating_sub(latency.over.as_secs());
        let took = &lines[begin(from)..begin(now + 1)];
        let below = |line: &&Line| Duration::from_nanos(line.1) < latency.below;
        let rank = rank(latency.quantile, took.len() as u64).unwrap_or(0);
        took.len() >= 200 && (took.iter().filter(below).count() as u64) < rank
    })
}

#[test]
fn it_triggers_within_a_slice_of_an_exact_computation_over_the_log() {
    for seed in 1..=8 {
        // A rise at another second, of another steepness, each time.
        let (begins, slope) = (200 + seed * 13, 0.2 + seed as f64 / 8.0);
        let lines = log(900, 20, seed, |second| {
            (100.0 + slope * second.saturating_sub(begins) as f64).min(140.0)
        });
        let exact = first_over(&lines, p98_below_250ms().latency.unwrap()).unwrap();
        let [(found, true), ..] = turns(p98_below_250ms(), &lines, 0)[..] else {
            panic!("seed {seed}: found nothing, exactly {exact}");
        };
        assert!(
            found.abs_diff(exact) <= SLICE,
            "seed {seed}: {found}, exactly {exact}"
        );
    }
}

#[test]
fn a_sinusoid_around_the_bound_turns_it_on_once() {
    for period in [10, 60, 300, 600, 1_200] {
        // p98 of the triangle is 2.3 times the median: 250 ms at 108.7.
        let lines = log(7_200, 10, 7, |second| {
            let phase = second as f64 / period as f64 * std::f64::consts::TAU;
            108.7 * (1.0 + 0.08 * phase.sin())
        });
        let turns = turns(p98_below_250ms(), &lines, 0);
        assert_eq!(turns.len(), 1, "period {period}: {turns:?}");
    }
}

#[test]
fn it_ends_when_the_trouble_has_left_the_window_and_stayed_away() {
    let trouble = 600..700;
    let lines = log(1_500, 10, 3, |second| {
        if trouble.contains(&second) {
            400.0
        } else {
            50.0
        }
    });
    let [(on, true), (off, false)] = turns(p98_below_250ms(), &lines, 0)[..] else {
        panic!("{:?}", turns(p98_below_250ms(), &lines, 0));
    };
    // 2% of five minutes are six seconds of nothing but slow requests.
    assert!((605..=615).contains(&on), "{on}");
    // Gone from the window, but for 2% of it, five minutes later, and a minute more.
    assert!((1_045..=1_065).contains(&off), "{off}");
}

#[test]
fn too_few_requests_say_nothing() {
    let lines: Vec<Line> = (0..199).map(|second| (second, 900 * MILLI, true)).collect();
    for signal in 0..3 {
        assert_eq!(turns(p98_below_250ms(), &lines, signal), []);
    }
}

/// `rate` requests a second for `seconds` from `from` on, one in `one_in` of which fails; of 0, none.
fn failing(from: u64, seconds: u64, rate: u64, one_in: u64) -> Vec<Line> {
    let lines = (from..from + seconds).flat_map(|second| (0..rate).map(move |n| (second, n)));
    let fails = |second: u64, n: u64| one_in > 0 && (second * rate + n).is_multiple_of(one_in);
    lines
        .map(|(second, n)| (second, MILLI, fails(second, n)))
        .collect()
}

#[test]
fn a_burst_burns_fast_and_a_drizzle_burns_slowly() {
    // An hour of health, and then 10% of failures: 14.4 times the budget of an hour are gone after 8.64 minutes.
    let mut lines = failing(0, 3_600, 10, 0);
    lines.extend(failing(3_600, 1_800, 10, 10));
    let fast = turns(p98_below_250ms(), &lines, 1);
    assert_eq!(fast.len(), 1);
    assert!((3_600 + 515..=3_600 + 525).contains(&fast[0].0), "{fast:?}");
    // 1% burns ten times too fast: never fast, and slowly once 6/10 of six hours are like that.
    let mut lines = failing(0, 21_600, 2, 0);
    lines.extend(failing(21_600, 21_600, 2, 100));
    assert_eq!(turns(p98_below_250ms(), &lines, 1), []);
    let slow = turns(p98_below_250ms(), &lines, 2);
    assert_eq!(slow.len(), 1);
    assert!((34_540..=34_600).contains(&slow[0].0), "{slow:?}");
}

#[test]
fn a_burn_is_over_once_the_short_window_is_clean() {
    let mut lines = failing(0, 600, 10, 2);
    lines.extend(failing(600, 1_200, 10, 0));
    let turns = turns(p98_below_250ms(), &lines, 1);
    let [(on, true), (off, false)] = turns[..] else {
        panic!("{turns:?}");
    };
    // The first 200 requests; and five minutes but for what 1.3% of them is, plus a minute.
    assert!(on <= 20, "{on}");
    assert!((950..=970).contains(&off), "{off}");
}

#[test]
fn the_budget_that_is_left_is_that_of_six_hours() {
    let mut slo = Slo::new(p98_below_250ms());
    for (second, nanos, failed) in failing(0, 1_000, 10, 2_000) {
        slo.record(at_second(second), nanos, failed);
    }
    let report = slo.judge(at_second(999));
    assert!((report.budget.unwrap() - 0.5).abs() < 1e-9);
    assert!((report.burn[2] - 0.5).abs() < 1e-9);
    assert_eq!(slo.judge(at_second(30_000)).budget, Some(1.0));
    assert!(slo.slices.is_empty());
}

#[test]
fn a_day_is_kept_in_bounded_memory() {
    let mut slo = Slo::new(p98_below_250ms());
    for second in 0..86_400 {
        slo.record(at_second(second), MILLI, false);
        slo.judge(at_second(second));
    }
    assert!(slo.slices.len() <= 4_322, "{}", slo.slices.len());
    let report = slo.judge(at_second(86_399));
    assert_eq!(report.requests, 305);
    assert!(slo.quantile(at_second(86_399)).unwrap().as_secs_f64() < 1.01e-3);
}

#[test]
fn what_an_earlier_process_found_lasts_until_it_is_seen_to_be_over() {
    let mut slo = Slo::new(p98_below_250ms());
    slo.resume([true, false, false]);
    assert!(slo.judge(at_second(1)).on[0]);
    assert!(slo.judge(at_second(60)).on[0]);
    assert!(!slo.judge(at_second(61)).on[0]);
}
