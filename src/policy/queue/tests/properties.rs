//! What holds whatever happens.

use std::collections::HashMap;

use super::*;

/// Turns after which everybody has used up what it earned before it came.
const WARM_UP: usize = 2_000;

#[derive(Clone, Debug)]
enum Step {
    Push(Request),
    Pop { block_even: bool },
    Cancel(usize),
    Settle(usize, u64),
    Wait(u64),
}

fn request() -> impl Strategy<Value = Request> {
    let deadline = prop::option::of(0_u64..3_000);
    (0_u64..40, 0_u8..4, 0_u32..5, 0_u64..200, deadline).prop_map(
        |(client, tier, weight, cost, deadline)| Request {
            client,
            tier,
            weight,
            cost: Duration::from_millis(cost),
            deadline: deadline.map(at),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => request().prop_map(Step::Push),
        3 => any::<bool>().prop_map(|block_even| Step::Pop { block_even }),
        1 => (0_usize..300).prop_map(Step::Cancel),
        1 => (0_usize..100, 0_u64..100_000).prop_map(|(which, ms)| Step::Settle(which, ms)),
        2 => (0_u64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Every waiter leaves exactly once, served, dropped, evicted or cancelled; the queue is never longer
    /// than it may be; a pop that serves nobody leaves nobody.
    #[test]
    fn every_waiter_leaves_exactly_once(steps in prop::collection::vec(step(), 1..400)) {
        let mut queue = FairQueue::new(config(Duration::from_millis(120), 24));
        let (mut now, mut waiting, mut tickets, mut accounts) =
            (0, HashMap::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(request) => {
                    let name = tickets.len();
                    if let Ok(pushed) = queue.push(at(now), &request, name) {
                        waiting.insert(name, pushed.ticket);
                        tickets.push(pushed.ticket);
                        if let Some((evicted, _)) = pushed.evicted {
                            prop_assert!(waiting.remove(&evicted).is_some());
                        }
                    }
                }
                Step::Pop { block_even } => {
                    let mut gone = Vec::new();
                    let blocked = |client| block_even && client % 2 == 0;
                    let popped = queue.pop(at(now), blocked, |name, _| gone.push(name));
                    let served = popped.as_ref().map(|popped| popped.payload);
                    for name in gone.into_iter().chain(served) {
                        prop_assert!(waiting.remove(&name).is_some());
                    }
                    prop_assert!(served.is_some() || queue.is_empty());
                    accounts.extend(popped.map(|popped| popped.account));
                }
                Step::Cancel(which) => {
                    if let Some(ticket) = tickets.get(which) {
                        let known = waiting.remove(&which).is_some();
                        prop_assert_eq!(queue.cancel(*ticket).is_some(), known);
                    }
                }
                Step::Settle(which, millis) => {
                    if let Some(account) = accounts.get(which) {
                        queue.settle(*account, Duration::from_millis(millis));
                    }
                }
                Step::Wait(millis) => now += millis,
            }
            prop_assert_eq!(queue.len() as usize, waiting.len());
            prop_assert!(queue.len() <= 24);
            let tiers: u32 = queue.tiers.iter().map(|tier| tier.waiting).sum();
            prop_assert_eq!(tiers, queue.len());
        }
        while queue.pop(at(now), |_| false, |name, _| { waiting.remove(&name); }).is_some_and(
            |popped| waiting.remove(&popped.payload).is_some(),
        ) {}
        prop_assert!(waiting.is_empty() && queue.is_empty());
    }

    /// Of clients that always wait, none gets ahead of another by more than a quantum and a turn, each by
    /// weight. The costs are alike but for a factor of four; the clients few, so that each has its queue.
    #[test]
    fn clients_that_always_wait_share_within_a_quantum(
        clients in prop::collection::vec((1_u32..5, 5_u64..20), 2..8),
        rounds in 50_usize..400,
    ) {
        let mut queue = patient(1_000);
        let send = |queue: &mut FairQueue<u64>, client: usize| {
            let (weight, cost) = clients[client];
            let request = Request {
                weight,
                cost: Duration::from_millis(cost),
                ..from(client as u64)
            };
            push(queue, at(0), request);
        };
        for client in 0..clients.len() {
            send(&mut queue, client);
            send(&mut queue, client);
        }
        let mut used = vec![0.0_f64; clients.len()];
        for turn in 0..WARM_UP + rounds {
            let client = usize::try_from(pop(&mut queue, at(0)).unwrap()).unwrap();
            let (weight, cost) = clients[client];
            if turn >= WARM_UP {
                used[client] += cost as f64 / f64::from(weight);
            }
            send(&mut queue, client);
        }
        let most = used.iter().copied().fold(0.0, f64::max);
        let least = used.iter().copied().fold(f64::INFINITY, f64::min);
        // The quantum is the average cost, at most 20 ms; so is a turn; a queue may be a turn ahead as
        // another is a turn behind.
        prop_assert!(most - least <= 60.0, "{used:?}");
    }
}
