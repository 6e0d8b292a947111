//! How evenly something is shared, and how much of it is one's own.
//!
//! Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination" (1984). Depends on nothing.

/// Jain's index of `satisfied`, each the part that one's demand got: 1 when all fare alike, 1/n when one of n has
/// everything; none of nobody.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of clients is far below 2^53"
)]
pub fn jain(satisfied: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut count = 0_u64;
    let (mut sum, mut squares) = (0.0, 0.0);
    for x in satisfied {
        count += 1;
        sum += x;
        squares += x * x;
    }
    (squares > 0.0).then(|| sum * sum / (count as f64 * squares))
}

/// The level of max-min fair shares (Bertsekas and Gallager, "Data Networks"): whoever asks for less than the
/// level times its weight gets it all, and everybody else gets that. `demands` are (demand, weight); infinite
/// when there is enough for everybody.
#[must_use]
pub fn fair_level(capacity: f64, demands: &mut [(f64, f64)]) -> f64 {
    demands.sort_unstable_by(|(a, v), (b, w)| (a / v).total_cmp(&(b / w)));
    let mut weights: f64 = demands.iter().map(|(_, weight)| weight).sum();
    let mut left = capacity;
    for (demand, weight) in demands {
        let level = left / weights;
        if *demand > level * *weight {
            return level;
        }
        left -= *demand;
        weights -= *weight;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_index_is_one_when_all_fare_alike_and_a_share_when_one_has_all() {
        assert_eq!(jain([]), None);
        assert_eq!(jain([0.5; 7]), Some(1.0));
        assert_eq!(jain([1.0, 0.0, 0.0, 0.0]), Some(0.25));
    }

    #[test]
    fn who_asks_for_little_gets_it_and_the_others_share_the_rest() {
        let level = fair_level(10.0, &mut [(1.0, 1.0), (50.0, 1.0), (90.0, 2.0)]);
        assert!((level - 3.0).abs() < 1e-9, "{level}");
        assert!(fair_level(10.0, &mut [(1.0, 1.0), (2.0, 1.0)]).is_infinite());
        assert!(fair_level(10.0, &mut []).is_infinite());
    }

    proptest! {
        #[test]
        fn what_is_given_is_what_there_is(
            capacity in 0.1_f64..100.0,
            mut demands in proptest::collection::vec((0.0_f64..50.0, 0.1_f64..4.0), 1..20),
        ) {
            let level = fair_level(capacity, &mut demands);
            let asked: f64 = demands.iter().map(|(demand, _)| demand).sum();
            let given = demands.iter().map(|(demand, weight)| demand.min(level * weight));
            let given: f64 = given.sum();
            prop_assert!((given - asked.min(capacity)).abs() < 1e-6);
        }
    }
}
