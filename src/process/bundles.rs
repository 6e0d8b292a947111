//! Captures an incident when it opens: freezes what is known, takes a profile, and writes the bundle.
//!
//! What is known is frozen at once; the profile and the machine's seconds come after it, and the bundle is on disk as soon
//! as they are there. Captures beyond a bound are left out, and counted. A fault in here costs a bundle and nothing else.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

use crate::admin::{self, AdminState, Files};
use crate::clock::SystemClock;
use crate::incident::bundle;
use crate::incident::incidents::Incident;
use crate::incident::recorder::{self, Recorder};
use crate::observe::heap;
use crate::observe::profile::{self, Format, Profile};

/// Incidents that are captured at once; what they hold meanwhile is some megabytes each.
const AT_ONCE: usize = 4;
/// Incidents that wait to be captured.
pub(super) const WAITING: usize = 16;
/// How long the processor is sampled.
const PROFILE: Duration = Duration::from_secs(10);
/// How long the diagnosis may take to say what it is made of: it does so each second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests in flight that are kept, the oldest.
const IN_FLIGHT: usize = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// Who captures.
pub(super) struct Captures {
    state: AdminState,
    recorder: Recorder,
    room: Semaphore,
}

impl Captures {
    pub(super) fn new(state: AdminState) -> Arc<Self> {
        Arc::new(Self {
            state,
            recorder: Recorder::default(),
            room: Semaphore::new(AT_ONCE),
        })
    }

    /// Samples each second, until the runtime ends.
    pub(super) async fn record(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let snapshot = (self.state.snapshot)();
            self.recorder.take(&snapshot, seconds());
        }
    }

    /// Captures each incident that comes.
    pub(super) async fn follow(self: Arc<Self>, mut opened: mpsc::Receiver<Arc<Incident>>) {
        while let Some(incident) = opened.recv().await {
            if self.room.available_permits() == 0 {
                self.state.bundles.lose();
                tracing::warn!(
                    id = incident.id,
                    "too many incidents at once: this one is not captured"
                );
                continue;
            }
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                // There is one: nobody else takes any.
                let Ok(_room) = this.room.acquire().await else {
                    return;
                };
                this.capture(&incident).await;
            });
        }
    }

    async fn capture(self: &Arc<Self>, incident: &Arc<Incident>) {
        let began = SystemClock.now();
        let sampling = Sampling::begin();
        let upstream = incident.upstream.as_deref().map(Arc::from);
        let frozen = tokio::time::timeout(PATIENCE, self.state.latest.freeze(upstream));
        let in_flight = (self.state.inflight)(IN_FLIGHT).await;
        let frozen = frozen.await.ok().and_then(Result::ok);
        let (this, of) = (Arc::clone(self), Arc::clone(incident));
        let files = tokio::task::spawn_blocking(move || {
            admin::bundle_files(
                &this.state,
                &of,
                frozen.as_deref(),
                &in_flight,
                &this.recorder,
            )
        });
        let files = files.await.unwrap_or_default();
        if !sampling.is_none() {
            let until = SystemClock.to_std(began.after(PROFILE));
            tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
        }
        let (this, of) = (Arc::clone(self), Arc::clone(incident));
        let written = tokio::task::spawn_blocking(move || this.write(&of, files, sampling)).await;
        let size = match written {
            Ok(Ok(size)) => size,
            Ok(Err(error)) => return self.failed(incident, &error),
            Err(error) => return self.failed(incident, &error),
        };
        let bundles = &self.state.bundles;
        self.state.incidents.bundled(|id| bundles.size(id));
        let subject = format!("{} {}", incident.per, incident.subject);
        let detail = json!({ "incident": incident.id, "bytes": size });
        self.state.events.tell("bundle", subject, detail);
    }

    fn failed(&self, incident: &Incident, error: &dyn std::fmt::Display) {
        self.state.bundles.lose();
        tracing::warn!(id = incident.id, %error, "the bundle of an incident cannot be written");
    }

    /// Ends the profile, and writes the bundle. Blocks.
    fn write(
        &self,
        incident: &Incident,
        mut files: Files,
        sampling: Sampling,
    ) -> std::io::Result<usize> {
        let window = (recorder::SECONDS as u64) + PROFILE.as_secs();
        let from = seconds().saturating_sub(window);
        files.push(("host.json", admin::bundle_host(&self.state, from)));
        sampling.end(&mut files);
        let packed = bundle::pack(&files, seconds())?;
        let size = packed.len();
        self.state.bundles.keep(&incident.id, packed)?;
        Ok(size)
    }
}

/// The profiles of a bundle while they are taken. Another may be under way elsewhere; then the bundle has none of its kind.
struct Sampling {
    processor: Option<profile::Sampling>,
    memory: Option<heap::Sampling>,
}

impl Sampling {
    fn begin() -> Self {
        Self {
            processor: profile::begin().ok(),
            memory: heap::begin().ok(),
        }
    }

    const fn is_none(&self) -> bool {
        self.processor.is_none() && self.memory.is_none()
    }

    /// Ends them, and adds what there is. Blocks.
    fn end(self, files: &mut Files) {
        keep(self.processor.map(profile::Sampling::end), PROCESSOR, files);
        keep(self.memory.map(heap::Sampling::end), MEMORY, files);
    }
}

/// What the profiles are called in a bundle.
const PROCESSOR: [(Format, &str); 3] = [
    (Format::Pprof, bundle::PROFILE),
    (Format::Svg, bundle::FLAMEGRAPH),
    (Format::Folded, bundle::FOLDED),
];
const MEMORY: [(Format, &str); 3] = [
    (Format::Pprof, "heap.pb.gz"),
    (Format::Svg, "heap.svg"),
    (Format::Folded, "heap.folded"),
];

/// Adds a profile in each format; of an idle process there is nothing to draw.
fn keep(
    taken: Option<Result<Profile, profile::Error>>,
    names: [(Format, &'static str); 3],
    files: &mut Files,
) {
    match taken {
        Some(Ok(profile)) => files.extend(
            names
                .into_iter()
                .filter_map(|(format, name)| Some((name, profile.write(format).ok()?))),
        ),
        Some(Err(error)) => tracing::warn!(%error, "there is no profile of an incident"),
        None => {}
    }
}

fn seconds() -> u64 {
    SystemClock.unix_micros() / 1_000_000
}
