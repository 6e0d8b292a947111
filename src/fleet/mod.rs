//! How the processes of a fleet share quotas: by Redis or Valkey, ten times a second, behind the requests' back.
//!
//! Every process decides by what it knows ([`crate::engine::rate`]). Here it tells the server what it used and learns what all
//! have used. While the server cannot be reached each goes by its part of the quotas, of as many as there were last.
//!
//! Depends on the engine; the plan says where the server is.

mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use self::link::Link;
use crate::config::plan::Redis;
use crate::engine::rate::{EVERY, Fleet, Limit, Moment};

/// The pause after the server could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether there is anything to share.
const ALONE: Duration = Duration::from_secs(1);
/// How long the processes may take to agree on a key.
const AGREE: Duration = Duration::from_secs(2);
/// How long whoever goes takes to say so.
const FAREWELL: Duration = Duration::from_millis(500);

/// The key that all processes hash their clients with who meet at `place`: the one that is there, or else `own`, which is
/// there from now on. Blocks, for as long as a server may take.
///
/// # Errors
/// When the server cannot be asked.
pub fn common_key(place: &Redis, own: &[u8]) -> Result<Vec<u8>, String> {
    let (place, own) = (place.clone(), own.to_vec());
    // Whoever asks may be on a runtime of its own.
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let asked = async { tokio::time::timeout(AGREE, link::common_key(&place, &own)).await };
        let key = runtime.block_on(asked);
        // A name that takes long to look up is not waited for.
        runtime.shutdown_background();
        let key = key.map_err(|_late| "it takes too long".to_owned())?;
        key.map_err(|error| error.to_string())
    });
    asked
        .join()
        .unwrap_or_else(|_panic| Err("a defect".to_owned()))
}

/// How the meeting goes.
#[derive(Debug, Default)]
pub struct Health {
    meets: AtomicBool,
    errors: AtomicU64,
}

impl Health {
    /// Whether there is a quota to share and a place to meet at.
    #[must_use]
    pub fn meets(&self) -> bool {
        self.meets.load(Ordering::Relaxed)
    }

    /// How often the server could not be told.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Who a process is among others.
#[derive(Clone)]
pub struct Identity {
    /// What all processes of its fleet have in common, and no others.
    pub common: u64,
    /// What no other process has.
    pub own: u64,
    /// The key of their hashes, where it is for whoever comes to find; none when each has it from its configuration.
    pub key: Option<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("common", &self.common)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// What a process knows of its fleet, and how the meeting goes.
#[derive(Clone, Debug)]
pub struct Member {
    identity: Identity,
    fleet: Arc<Fleet>,
    health: Arc<Health>,
}

impl Member {
    /// A process that has met nobody.
    #[must_use]
    pub const fn new(identity: Identity, fleet: Arc<Fleet>, health: Arc<Health>) -> Self {
        Self {
            identity,
            fleet,
            health,
        }
    }

    /// Meets the others again and again until `stop`: where `agenda` says, for those of its limits that are shared.
    /// `tell` hears of each beginning and end of an outage, with the reason.
    pub async fn meet(
        self,
        agenda: impl Fn() -> (Option<Redis>, Vec<Arc<Limit>>),
        now: impl Fn() -> Moment,
        tell: impl Fn(Option<&str>),
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut link: Option<Link> = None;
        loop {
            let over = tokio::select! {
                _ = ticks.tick() => false,
                _ = &mut stop => true,
            };
            let (place, mut limits) = agenda();
            limits.retain(|limit| limit.is_shared());
            let place = place.filter(|_| !limits.is_empty());
            self.health.meets.store(place.is_some(), Ordering::Relaxed);
            match place {
                None => {
                    link = None;
                    self.is_alone();
                    ticks.reset_after(ALONE);
                }
                Some(place) => match self.round(&mut link, place, &limits, &now).await {
                    Ok(()) => self.is_back(&tell),
                    Err(error) => {
                        link = None;
                        self.is_away(&error, &tell);
                        ticks.reset_after(PAUSE);
                    }
                },
            }
            if over {
                if let Some(link) = &mut link {
                    // Whoever is not told finds out within seconds.
                    let _late = tokio::time::timeout(FAREWELL, link.leave()).await;
                }
                return;
            }
        }
    }

    async fn round(
        &self,
        link: &mut Option<Link>,
        place: Redis,
        limits: &[Arc<Limit>],
        now: impl Fn() -> Moment,
    ) -> redis::RedisResult<()> {
        let link = match link.take().filter(|link| link.is_to(&place)) {
            Some(open) => link.insert(open),
            None => link.insert(Link::open(place, self.identity.clone()).await?),
        };
        if let Some(count) = link.count(now().monotonic).await? {
            self.fleet.set_processes(count);
        }
        for limit in limits {
            link.share(limit, &now).await?;
        }
        Ok(())
    }

    fn is_back(&self, tell: impl Fn(Option<&str>)) {
        if self.fleet.is_away() {
            self.fleet.set_away(false);
            tell(None);
        }
    }

    fn is_away(&self, error: &redis::RedisError, tell: impl Fn(Option<&str>)) {
        self.health.errors.fetch_add(1, Ordering::Relaxed);
        if !self.fleet.is_away() {
            self.fleet.set_away(true);
            tell(Some(&error.to_string()));
        }
    }

    fn is_alone(&self) {
        self.fleet.set_away(false);
        self.fleet.set_processes(1);
    }
}
