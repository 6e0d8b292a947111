//! Keeps the keys of those who issue tokens fresh. What was fetched last stays while an issuer
//! cannot be reached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::fetch::{self, NotFetched};
use crate::clients::Issuer;
use crate::clock::{Instant, SystemClock};
use crate::proxy::worker::Shared;

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);
/// Bound on one fetch.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a fetch that failed, or that a token asked for.
const PAUSE: Duration = Duration::from_secs(5);
/// The least time between two fetches because of a token that names an unknown key.
const LEAST: Duration = Duration::from_secs(30);
/// The largest answer.
const MOST_BYTES: usize = 1 << 20;

/// Why an issuer's keys are not renewed.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error("{0}")]
    Fetch(#[from] NotFetched),
    #[error("{0}")]
    Keys(#[from] crate::clients::NoKeySet),
}

/// When an issuer was asked, and when it will be.
#[derive(Clone, Copy)]
struct Times {
    asked: Instant,
    due: Instant,
}

/// Keeps the keys of the issuers in the running plan fresh until the runtime ends.
pub(super) async fn fetch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times: HashMap<Arc<str>, Times> = HashMap::new();
    loop {
        ticks.tick().await;
        let live = shared.live.load_full();
        let mut kept = HashMap::new();
        for (url, refresh, issuer) in live.clients.issuers() {
            let now = SystemClock.now();
            let known = times.get(url).copied();
            let wanted = issuer.is_wanted();
            let is_due = known.is_none_or(|times| {
                now >= times.due || (wanted && now >= times.asked.after(LEAST))
            });
            let mut next = known.unwrap_or(Times {
                asked: now,
                due: now,
            });
            if is_due {
                let fetched = renew(url, issuer).await;
                next = Times {
                    asked: now,
                    due: now.after(if fetched { refresh } else { PAUSE.min(refresh) }),
                };
            }
            kept.insert(Arc::clone(url), next);
        }
        times = kept;
    }
}

/// Fetches once; whether that succeeded.
async fn renew(url: &str, issuer: &Issuer) -> bool {
    const TYPES: &str = "application/jwk-set+json, application/json";
    let fetched = fetch::get(url, TYPES, MOST_BYTES, PATIENCE).await;
    let renewed = fetched.map_err(NotRenewed::from);
    match renewed.and_then(|text| Ok(issuer.replace(&text)?)) {
        Ok(()) => true,
        Err(error) => {
            issuer.failed();
            tracing::warn!(url, %error, "keys of an issuer of tokens were not fetched; what was known stays");
            false
        }
    }
}
