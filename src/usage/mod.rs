//! Who used what: the ledger, and the reports made of it.
//!
//! [`rollup`] folds every exchange into [`sums`] by minute, client, route and upstream on the observer's thread;
//! [`writer`] puts them into the [`store`] from a thread of its own, so that a slow disk delays nobody; [`report`] asks.
//! May depend on observe, measure and clients, and on the engine's directories for names.

mod database;
mod journal;
mod migrate;
mod peak;
mod postgres;
mod rank;
pub mod report;
pub mod rollup;
mod squeeze;
pub mod store;
pub mod sums;
mod traces;
pub mod writer;

#[cfg(test)]
#[path = "../../tests/support/postgresql.rs"]
pub(crate) mod postgresql;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::rollup::Folder;
use self::store::{Keep, Place};
use self::writer::{Health, Writer};
use crate::clock::SystemClock;
use crate::config::plan::{Usage, UsageStore};
use crate::engine::registry::Directories;

/// How long hours and minutes are kept, if days are.
const HOURS: Duration = Duration::from_secs(90 * 86_400);
const MINUTES: Duration = Duration::from_secs(8 * 86_400);

/// Where the ledger is, and how it fares.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Where it is.
    pub place: Place,
    /// The same, as it can be shown to anybody.
    pub shown: String,
    /// How long it is kept.
    pub keep: Keep,
    /// How it fares.
    pub health: Arc<Health>,
    /// Where what is in no database yet is kept; in none: in memory only.
    directory: Option<PathBuf>,
}

impl Ledger {
    /// The ledger that a plan asks for; what it has not written yet outlives the process in `directory`.
    #[must_use]
    pub fn of(usage: &Usage, directory: Option<&Path>) -> Self {
        let place = match &usage.store {
            UsageStore::File(file) => Place::File(file.clone()),
            // Of its own in each process, and in each test of one.
            UsageStore::Memory => {
                Place::Memory(format!("tidegate-{:x}", SystemClock.unix_micros()))
            }
            UsageStore::Postgres { url, .. } => Place::Postgres(url.clone()),
        };
        Self {
            place,
            shown: usage.store.to_string(),
            keep: Keep {
                minutes: MINUTES.min(usage.keep),
                hours: HOURS.min(usage.keep),
                days: usage.keep,
            },
            health: Arc::default(),
            directory: directory
                .filter(|_| !matches!(usage.store, UsageStore::Memory))
                .map(Path::to_owned),
        }
    }

    /// Starts to write, and what the observer is to hand its exchanges to.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(&self, directories: &Arc<Directories>) -> io::Result<(Writer, Folder)> {
        let health = Arc::clone(&self.health);
        let (writer, deltas) = Writer::start(
            self.place.clone(),
            self.keep,
            Arc::clone(&health),
            self.directory.as_deref(),
        )?;
        let now = SystemClock.now();
        Ok((
            writer,
            Folder::new(Arc::clone(directories), deltas, health, now),
        ))
    }
}
