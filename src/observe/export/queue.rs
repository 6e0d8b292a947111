//! A queue bounded by weight, from any thread to one task, which counts what became of what was left in it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::lock;

/// What became of things, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
}

impl Counts {
    /// Taken by the server.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Without room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Not taken in the end.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Still here.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn drop_more(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// `count` things on their way to the server: not taken, unless [`OnTheWay::arrived`] says otherwise.
    pub(super) fn on_the_way(&self, count: u64) -> OnTheWay<'_> {
        let counts = self;
        OnTheWay { counts, count }
    }
}

/// Things on their way to a server.
#[derive(Debug)]
pub(super) struct OnTheWay<'a> {
    counts: &'a Counts,
    count: u64,
}

impl OnTheWay<'_> {
    /// They were taken.
    pub(super) fn arrived(mut self) {
        let count = std::mem::take(&mut self.count);
        self.counts.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// They are kept elsewhere.
    pub(super) fn kept(mut self) {
        self.count = 0;
    }
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        self.counts.failed.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<(T, usize, u64)>,
    weight: usize,
    closed: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    ready: Notify,
    bound: usize,
    counts: Arc<Counts>,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize) -> Self {
        Self::counted(bound, Arc::default())
    }

    /// A queue that counts into `counts`, as others may.
    pub(super) fn counted(bound: usize, counts: Arc<Counts>) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                weight: 0,
                closed: false,
            }),
            ready: Notify::new(),
            bound,
            counts,
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Leaves `item`, which is `count` things, or counts them as dropped when there is no room.
    pub(super) fn push(&self, item: T, weight: usize, count: u64) {
        let mut waiting = lock(&self.waiting);
        if waiting.weight + weight > self.bound || waiting.closed {
            drop(waiting);
            return self.counts.drop_more(count);
        }
        waiting.weight += weight;
        waiting.items.push_back((item, weight, count));
        drop(waiting);
        self.counts.waiting.fetch_add(count, Ordering::Relaxed);
        self.ready.notify_one();
    }

    /// The next items, up to a weight of `most` or one item, and how many things they are. Waits for the first,
    /// and then `linger` for more, unless the queue is closed; none when nothing will come.
    pub(super) async fn take(&self, most: usize, linger: Duration) -> Option<(Vec<T>, u64)> {
        loop {
            let (enough, some, closed) = {
                let waiting = lock(&self.waiting);
                let some = !waiting.items.is_empty();
                (waiting.weight >= most, some, waiting.closed)
            };
            if some && !enough && !closed {
                super::retry::pause(linger).await;
            }
            if some {
                let taken = self.now(most);
                if taken.1 > 0 {
                    return Some(taken);
                }
            } else if closed {
                return None;
            } else {
                self.ready.notified().await;
            }
        }
    }

    fn now(&self, most: usize) -> (Vec<T>, u64) {
        let mut waiting = lock(&self.waiting);
        let (mut taken, mut total, mut things) = (Vec::new(), 0, 0);
        while let Some((_, weight, _)) = waiting.items.front() {
            if !taken.is_empty() && total + weight > most {
                break;
            }
            let Some((item, weight, count)) = waiting.items.pop_front() else {
                break;
            };
            waiting.weight -= weight;
            total += weight;
            things += count;
            taken.push(item);
        }
        drop(waiting);
        self.counts.waiting.fetch_sub(things, Ordering::Relaxed);
        (taken, things)
    }

    /// Nothing more is taken in; what is left can be taken out without lingering.
    pub(super) fn close(&self) {
        lock(&self.waiting).closed = true;
        self.ready.notify_one();
    }

    /// Whether nothing more will come.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }

    /// Counts what is left as not taken; how much that was.
    pub(super) fn lose(&self) -> u64 {
        let (_, things) = self.now(usize::MAX);
        drop(self.counts.on_the_way(things));
        things
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_counted_and_the_rest_comes_in_batches() {
        let queue = Queue::new(10);
        for item in 0..5 {
            queue.push(item, 3, 2);
        }
        assert_eq!((queue.counts().dropped(), queue.counts().waiting()), (4, 6));
        assert_eq!(queue.take(6, SOON).await, Some((vec![0, 1], 4)));
        assert_eq!(queue.take(6, SOON).await, Some((vec![2], 2)));
        queue.close();
        queue.push(9, 1, 1);
        assert_eq!(
            (queue.take(6, SOON).await, queue.counts().dropped()),
            (None, 5)
        );
    }

    #[test]
    fn what_is_not_taken_is_counted_as_failed() {
        let counts = Counts::default();
        counts.on_the_way(3).arrived();
        counts.on_the_way(5).kept();
        drop(counts.on_the_way(7));
        assert_eq!((counts.sent(), counts.failed()), (3, 7));
    }
}
