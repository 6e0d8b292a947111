//! The task by which this process shares quotas with the others of its fleet.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::quotas;
use crate::config::plan::Plan;
use crate::engine::rate::Fleet;
use crate::fleet::{Health, Identity, Member};
use crate::observe::events::Events;
use crate::proxy::worker::Shared;

/// How long the last word may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the fleet stands, and the task that meets it.
pub(super) struct Meeting {
    pub(super) fleet: Arc<Fleet>,
    pub(super) health: Arc<Health>,
    /// The key of the hashes by which clients are counted, if the processes have to agree on it.
    key: Option<Vec<u8>>,
    task: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Meeting {
    pub(super) fn new(fleet: &Arc<Fleet>, key: Option<Vec<u8>>) -> Self {
        Self {
            fleet: Arc::clone(fleet),
            health: Arc::default(),
            key,
            task: None,
        }
    }

    /// Meets the others, as the running plan says, until the [end](Self::end).
    pub(super) fn begin(
        &mut self,
        plan: &Arc<ArcSwap<Plan>>,
        shared: &Arc<Shared>,
        events: Arc<Events>,
        own: u64,
    ) {
        let hasher = Arc::clone(shared.live.load().clients.hasher());
        let identity = Identity {
            common: hasher.id(b"fleet", b"").hash(),
            own,
            key: self.key.take(),
        };
        let (fleet, health) = (Arc::clone(&self.fleet), Arc::clone(&self.health));
        let member = Member::new(identity, fleet, health);
        let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
        let agenda = move || {
            (
                plan.load().shared.clone(),
                shared.live.load().limits.clone(),
            )
        };
        let told = move |error: Option<&str>| tell(&events, error);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(member.meet(agenda, quotas::now, told, stopped));
        self.task = Some((stop, task));
    }

    /// Tells what is not told yet, and that this process goes.
    pub(super) async fn end(&mut self) {
        if let Some((stop, task)) = self.task.take() {
            // A task that has ended by itself needs no stop.
            let _ended = stop.send(());
            match tokio::time::timeout(PATIENCE, task).await {
                Ok(Ok(())) => {}
                Ok(Err(_panic)) => tracing::error!(
                    "the last of what was used of shared quotas was not told: a defect"
                ),
                Err(_late) => tracing::warn!(
                    "the last of what was used of shared quotas was not told: the server takes too long"
                ),
            }
        }
    }
}

fn tell(events: &Events, error: Option<&str>) {
    match error {
        Some(error) => tracing::warn!(
            %error,
            "the processes of the fleet cannot be told what is used of shared quotas; each goes by its part"
        ),
        None => tracing::info!("the processes of the fleet share their quotas again"),
    }
    let detail = json!({ "away": error.is_some(), "error": error });
    events.tell("shared", "quotas", detail);
}
