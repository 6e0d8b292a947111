//! A background task that ends with its handle, and the pause between its rounds.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running task. Dropping the handle ends it.
#[derive(Debug)]
pub(super) struct Task {
    handle: JoinHandle<()>,
    _alive: watch::Sender<()>,
}

impl Task {
    /// Starts what `body` makes of its [`Pause`].
    pub(super) fn start<F>(body: impl FnOnce(Pause) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (alive, ended) = watch::channel(());
        Self {
            handle: tokio::spawn(body(Pause(ended))),
            _alive: alive,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Waits between two rounds of a task.
#[derive(Debug)]
pub(super) struct Pause(watch::Receiver<()>);

impl Pause {
    /// Waits for `duration` and says whether the task should go on. Relative to the runtime's own time, so
    /// that a paused runtime can be wound forward.
    pub(super) async fn wait(&mut self, duration: Duration) -> bool {
        tokio::time::timeout(duration, self.0.changed())
            .await
            .is_err()
    }
}
