//! Shuffle sharding: which few of the queues a client may join.
//!
//! Each client is dealt a hand of 8 out of 128 without replacement, so two clients have the same hand with a
//! probability of 1 in C(128, 8), 7e-13; an elephant that fills its hand leaves nearly everybody a queue
//! without it. The dealing is that of Kubernetes' API Priority and Fairness (`shufflesharding/dealer.go`).
//! Depends on nothing.

/// Queues of a tier.
pub(super) const QUEUES: u32 = 128;
/// Queues a client may join.
const HAND: usize = 8;

/// The queues of the client with this hash, all different.
pub(super) fn deal(client: u64) -> [u32; HAND] {
    let mut entropy = mix(client);
    let mut drawn = [0; HAND];
    let mut left = QUEUES;
    for card in &mut drawn {
        let many = u64::from(left);
        *card = u32::try_from(entropy % many).unwrap_or(0);
        entropy /= many;
        left -= 1;
    }
    // Each draw counts the queues that were left; translate it to the queue itself.
    let mut hand = drawn;
    for (index, card) in hand.iter_mut().enumerate() {
        for earlier in drawn.iter().take(index).rev() {
            *card += u32::from(*card >= *earlier);
        }
    }
    hand
}

/// The finalizer of splitmix64: clients numbered in sequence get unrelated hands.
const fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hand_is_eight_different_queues() {
        for client in 0..2_000 {
            let hand = deal(client);
            let distinct: BTreeSet<_> = hand.into_iter().collect();
            assert_eq!(distinct.len(), HAND, "{hand:?}");
            assert!(distinct.last() < Some(&QUEUES));
        }
    }

    #[test]
    fn hands_cover_the_queues_evenly() {
        let mut dealt = [0_u32; QUEUES as usize];
        for client in 0..16_000 {
            for queue in deal(client) {
                dealt[queue as usize] += 1;
            }
        }
        // 1,000 each on average; 6 standard deviations are 190.
        assert!(dealt.iter().all(|count| (810..1_190).contains(count)));
    }
}
