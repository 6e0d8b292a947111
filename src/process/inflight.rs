//! Asks every worker for the requests it has under way.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::clock::SystemClock;
use crate::observe::inflight::InFlight;
use crate::proxy::worker::Command;

/// A worker that does not answer within this time is left out: it hangs, which is what is to be seen.
const PATIENCE: Duration = Duration::from_secs(1);

/// The oldest requests of all workers, at most `limit`.
pub(super) async fn collect(workers: Vec<UnboundedSender<Command>>, limit: usize) -> InFlight {
    let asked: Vec<_> = workers
        .iter()
        .map(|worker| {
            let (reply, answer) = oneshot::channel();
            // One that has ended has nothing under way; its answer fails at once.
            let _ended = worker.send(Command::InFlight(limit, reply));
            answer
        })
        .collect();
    let mut all = InFlight::default();
    let until =
        tokio::time::Instant::from_std(SystemClock.to_std(SystemClock.now().after(PATIENCE)));
    for answer in asked {
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok((oldest, count))) => {
                all.oldest.extend(oldest);
                all.total += count;
            }
            Ok(Err(_ended)) => {}
            Err(_late) => all.silent_workers += 1,
        }
    }
    all.oldest.sort_by_key(|request| Reverse(request.age));
    all.oldest.truncate(limit);
    all
}
