//! Active health checks: one task per endpoint that probes it and reports what it finds.
//!
//! The rounds are an interval apart ±10%, so that the checks of many endpoints (and of many proxies) do not
//! fall together; rise and fall are [`crate::policy::health`]'s. A check makes its own connection each time,
//! since a pooled one would not notice that no new ones can be made.
//!
//! Depends on engine, policy, config and clock.

mod probe;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;

use super::task::{Pause, Task};
use crate::clock::SystemClock;
use crate::config::plan;
use crate::engine::upstream::{EndpointState, UpstreamState, Upstreams};
use crate::model::{EndpointId, UpstreamId};
use crate::policy::health::{Health, Thresholds, Transition};

/// How far a round's interval is moved, either way.
const JITTER: f64 = 0.1;

/// What a check needs to speak TLS to an endpoint.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Trust and own certificate. Its ALPN is replaced by what the probe speaks.
    pub config: Arc<ClientConfig>,
    /// The name the endpoint's certificate must be for.
    pub server_name: ServerName<'static>,
}

/// Gives out TLS settings for the endpoints of upstreams that have `tls`; none: the check fails.
type TlsFor = dyn Fn(&plan::Upstream, &EndpointState) -> Option<Tls> + Send + Sync;

/// The tasks that check endpoints.
pub struct Checks {
    tls: Arc<TlsFor>,
    rng: fastrand::Rng,
    tasks: HashMap<(UpstreamId, EndpointId), Check>,
}

struct Check {
    endpoint: Arc<EndpointState>,
    _task: Task,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Checks {
    /// No checks yet. `tls` is asked at every check of an endpoint whose upstream has TLS, `seed` is where
    /// the jitter comes from.
    pub fn new(
        tls: impl Fn(&plan::Upstream, &EndpointState) -> Option<Tls> + Send + Sync + 'static,
        seed: u64,
    ) -> Self {
        Self {
            tls: Arc::new(tls),
            rng: fastrand::Rng::with_seed(seed),
            tasks: HashMap::new(),
        }
    }

    /// Starts and stops tasks so that each endpoint of each upstream with `health` has one. An endpoint that
    /// stays keeps its task, which reads changed settings by itself. Needs a tokio runtime to start them on.
    pub fn reconcile(&mut self, upstreams: &Upstreams) {
        let mut former = std::mem::take(&mut self.tasks);
        for upstream in upstreams.all() {
            if upstream.config().health.is_none() {
                continue;
            }
            for member in upstream.endpoints().members() {
                let endpoint = &member.endpoint;
                let key = (upstream.id(), endpoint.id());
                let kept = former
                    .remove(&key)
                    .filter(|check| Arc::ptr_eq(&check.endpoint, endpoint));
                let check = kept.unwrap_or_else(|| self.start(&upstream, endpoint));
                self.tasks.insert(key, check);
            }
        }
    }

    /// Reconciles now and whenever `changed` is notified, for ever.
    pub async fn supervise(mut self, upstreams: Arc<Upstreams>, changed: Arc<Notify>) {
        loop {
            self.reconcile(&upstreams);
            changed.notified().await;
        }
    }

    fn start(&mut self, upstream: &Arc<UpstreamState>, endpoint: &Arc<EndpointState>) -> Check {
        let checker = Checker {
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
            tls: Arc::clone(&self.tls),
            rng: self.rng.fork(),
        };
        Check {
            endpoint: Arc::clone(endpoint),
            _task: Task::start(|pause| checker.run(pause)),
        }
    }
}

struct Checker {
    upstream: Arc<UpstreamState>,
    endpoint: Arc<EndpointState>,
    tls: Arc<TlsFor>,
    rng: fastrand::Rng,
}

impl Checker {
    /// Checks in rounds for as long as the task lives and the upstream has checks.
    async fn run(mut self, mut pause: Pause) {
        let mut health: Option<Health> = None;
        loop {
            let config = self.upstream.config();
            let Some(settings) = &config.health else {
                return;
            };
            let thresholds = Thresholds::new(settings.rise, settings.fall);
            let health = health.get_or_insert_with(|| {
                let healthy = self.endpoint.is_healthy();
                Health::resumed(thresholds, healthy, SystemClock.now())
            });
            // A tenth of an interval at most: the first checks are spread, but not late.
            let wait = if health.is_pending() {
                settings.interval.mul_f64(JITTER * self.rng.f64())
            } else {
                jittered(settings.interval, &mut self.rng)
            };
            if !pause.wait(wait).await {
                return;
            }
            health.update(thresholds);
            let tls = config
                .tls
                .as_ref()
                .map(|_| (self.tls)(&config, &self.endpoint));
            let found = probe::probe(self.endpoint.address(), &config, settings, tls).await;
            self.report(health, found);
        }
    }

    fn report(&self, health: &mut Health, found: Result<String, probe::Unhealthy>) {
        let now = SystemClock.now();
        let transition = health.report(found.is_ok(), now);
        let message = found.unwrap_or_else(|cause| cause.to_string());
        match transition {
            Some(Transition::Down { after }) => tracing::warn!(
                upstream = %self.upstream.name(),
                endpoint = %self.endpoint.name(),
                cause = %message,
                up_for = ?after,
                "endpoint is out"
            ),
            Some(Transition::Up { after }) => tracing::info!(
                upstream = %self.upstream.name(),
                endpoint = %self.endpoint.name(),
                cause = %message,
                out_for = ?after,
                "endpoint is back"
            ),
            None => {}
        }
        self.upstream
            .set_health(&self.endpoint, health.is_healthy(), message, now);
    }
}

/// `interval` ±10%.
fn jittered(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64())
}
