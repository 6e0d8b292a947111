//! The end: no new connections, exchanges finish, and what is held back is written.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::Process;
use crate::clock::SystemClock;
use crate::proxy::worker::{Command, Handle};

/// How long the observer may take, after the last exchange, to write what it holds.
const OBSERVER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How long the ledger may take after that.
const LEDGER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long each cache may take to write what it stored last.
const CACHE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a drain looks whether the workers have ended.
const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(20);

impl Process {
    /// Stops accepting, lets exchanges finish, and ends the workers.
    pub(super) async fn drain(mut self) {
        self.status.begin_drain();
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping]) {
            tracing::warn!(%error, "the service manager could not be told");
        }
        let timeout = self.plan.load().server.drain_timeout;
        tracing::info!(?timeout, "draining");
        if self.sockets.is_handed_over() {
            self.quotas.hand_over();
        }
        let timeout_seconds = timeout.as_secs_f64();
        let detail = json!({ "timeout_seconds": timeout_seconds });
        self.events.tell("drain", "process", detail);
        // A socket is closed when its last descriptor is: ours first, then each worker's.
        self.sockets.close();
        self.shared.draining.store(true, Ordering::Relaxed);
        let until = SystemClock.now().after(timeout);
        for worker in &self.workers {
            worker.tell(Command::Drain);
        }
        while !self.workers.iter().all(Handle::is_finished) && SystemClock.now() < until {
            let look = SystemClock.to_std(SystemClock.now().after(DRAIN_LOOK));
            tokio::time::sleep_until(tokio::time::Instant::from_std(look)).await;
        }
        for worker in &self.workers {
            worker.tell(Command::Cut);
        }
        for worker in self.workers.drain(..) {
            worker.join();
        }
        self.meeting.end().await;
        self.quotas.write();
        self.caches.close(CACHE_PATIENCE);
        if !self.collector.stop(OBSERVER_PATIENCE) {
            tracing::warn!("the access log's target was too slow; its last lines are lost");
        }
        // The observer is gone, and with it whoever hands anything to the ledger.
        let until = SystemClock.now().after(LEDGER_PATIENCE);
        while !self.writer.is_finished() && SystemClock.now() < until {
            let look = SystemClock.to_std(SystemClock.now().after(DRAIN_LOOK));
            tokio::time::sleep_until(tokio::time::Instant::from_std(look)).await;
        }
        tracing::info!("drained");
    }
}
