//! Random operations, of which none may bring about a change the state machine does not know.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    End(Outcome),
    GiveUp,
    Wait(u64),
    Force(Position, u64),
    Auto,
    Update(f64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Failure),
        3 => (1..3_000_u64).prop_map(|millis| Outcome::Success(MS * u32::try_from(millis).unwrap())),
        1 => Just(Outcome::Ignored),
    ];
    let position = prop_oneof![Just(Position::Open), Just(Position::Closed)];
    prop_oneof![
        20 => Just(Step::Admit),
        20 => outcome.prop_map(Step::End),
        2 => Just(Step::GiveUp),
        6 => (0..4_000_u64).prop_map(Step::Wait),
        1 => (position, 0..20_000_u64).prop_map(|(p, ms)| Step::Force(p, ms)),
        1 => Just(Step::Auto),
        1 => (0.1..1.0, 1_000..20_000_u64).prop_map(|(r, ms)| Step::Update(r, ms)),
    ]
}

/// The changes the state machine knows, by what may bring them about; `ordered`: whether an operator brought about the last.
fn is_legal(transition: Transition, ordered: bool) -> bool {
    use State::{Closed, HalfOpen, Open, Recovering};
    match transition.why {
        Why::Tripped(_) => matches!(
            (transition.from, transition.to),
            (Closed | Recovering, Open)
        ),
        Why::ProbesFailed(_) => (transition.from, transition.to) == (HalfOpen, Open),
        Why::ProbesPassed => (transition.from, transition.to) == (HalfOpen, Recovering),
        Why::Elapsed => match (transition.from, transition.to) {
            (Open, HalfOpen) | (Recovering, Closed) => true,
            (Open, Closed) => ordered,
            _ => false,
        },
        Why::Operator => matches!(transition.to, Open | Closed | HalfOpen),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_only_legal_transitions_follow_each_other(
        steps in proptest::collection::vec(step(), 1..400),
        seed in any::<u64>(),
    ) {
        let settings = Settings { min_requests: 3, slow_call: Some(SECOND), ..Settings::default() };
        let mut bench = Bench::new(settings);
        bench.rng = fastrand::Rng::with_seed(seed);
        let mut held = Vec::new();
        let mut told = State::Closed;
        let mut ordered = false;
        for step in steps {
            match step {
                Step::Admit => {
                    let state = bench.state();
                    match bench.admit() {
                        Ok(permit) => {
                            prop_assert!(state != State::Open);
                            prop_assert_eq!(permit.is_probe(), state == State::HalfOpen);
                            held.push(permit);
                        }
                        Err(refused) => {
                            prop_assert!(state != State::Closed);
                            prop_assert_eq!(refused.state, state);
                        }
                    }
                }
                Step::End(outcome) => {
                    if let Some(permit) = held.pop() {
                        bench.record(permit, outcome);
                    }
                }
                Step::GiveUp => drop(held.pop()),
                Step::Wait(millis) => bench.wait(Duration::from_millis(millis)),
                Step::Force(position, millis) => {
                    bench.force(position, Duration::from_millis(millis));
                }
                Step::Auto => bench.breaker.auto(bench.now),
                Step::Update(failure_ratio, millis) => {
                    let window = Duration::from_millis(millis);
                    let changed = Settings { failure_ratio, window, ..settings };
                    bench.breaker.update(Config::try_new(changed).unwrap(), bench.now);
                }
            }
            for transition in bench.breaker.transitions(bench.now) {
                prop_assert_eq!(transition.from, told);
                prop_assert!(is_legal(transition, ordered), "{:?}", transition);
                ordered = transition.why == Why::Operator;
                prop_assert!(transition.at <= bench.now);
                told = transition.to;
            }
            prop_assert_eq!(told, bench.state());
        }
    }
}
