//! What outlives the process: a directory with a few small files, each replaced whole or not at all.
//!
//! The directory is made when there is something to keep. One that cannot be written costs a warning and shows
//! in status and metrics; requests never notice.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use crate::clients::Hasher;
use crate::config::plan::{Plan, Redis};
use crate::fleet;
use crate::observe::status::Status;

/// The file of the key that clients are hashed with.
const KEY_FILE: &str = "client-hash.key";
/// The length of that key.
const KEY_BYTES: usize = 32;

/// The state directory.
#[derive(Debug)]
pub(super) struct State {
    directory: Option<PathBuf>,
    key: Key,
    status: Arc<Status>,
}

struct Key {
    bytes: Vec<u8>,
    /// Whether it was made here and is in no file yet.
    fresh: bool,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl State {
    /// Of `plan`, with the key that it gives, else the one that was kept, else a random one.
    pub(super) fn open(plan: &Plan, status: Arc<Status>) -> io::Result<Self> {
        let directory = plan.server.state_dir.clone();
        let kept = || std::fs::read(directory.as_ref()?.join(KEY_FILE)).ok();
        let key = match &plan.clients.hash_key {
            Some(key) => Key {
                bytes: key.expose().as_bytes().to_vec(),
                fresh: false,
            },
            None => match kept().filter(|key| key.len() == KEY_BYTES) {
                Some(bytes) => Key {
                    bytes,
                    fresh: false,
                },
                None => Key {
                    bytes: random()?,
                    fresh: true,
                },
            },
        };
        let mut state = Self {
            directory,
            key,
            status,
        };
        let shares = plan.rate_limits.iter().any(|limit| limit.settings.shared);
        if let (Some(place), None, true) = (&plan.shared, &plan.clients.hash_key, shares) {
            state.agree(place);
        }
        Ok(state)
    }

    /// Takes over the key of those it shares quotas with, who would otherwise count each client apart.
    fn agree(&mut self, place: &Redis) {
        match fleet::common_key(place, &self.key.bytes) {
            Ok(key) if key == self.key.bytes => {}
            Ok(key) if key.len() == KEY_BYTES => {
                if let Some(directory) = &self.directory
                    && let Err(error) = replace(directory, KEY_FILE, &key)
                {
                    tracing::warn!(%error, "the key that clients are hashed with cannot be kept");
                }
                self.key = Key {
                    bytes: key,
                    fresh: false,
                };
            }
            Ok(_) => {
                tracing::error!(%place, "what is kept there for the hashes of clients is no key of Tidegate")
            }
            Err(error) => tracing::warn!(
                %place, %error,
                "the processes of the fleet cannot agree on a key: this one counts its clients apart until it is started \
                 again; a `hash_key` in [clients] needs no agreement"
            ),
        }
    }

    /// The key, if it is not of the configuration.
    pub(super) fn own_key(&self, plan: &Plan) -> Option<Vec<u8>> {
        let own = plan.clients.hash_key.is_none();
        own.then(|| self.key.bytes.clone())
    }

    /// What clients are hashed with.
    pub(super) fn hasher(&self) -> Hasher {
        Hasher::new(&self.key.bytes)
    }

    /// Whether there is anywhere to keep anything.
    pub(super) const fn is_kept(&self) -> bool {
        self.directory.is_some()
    }

    /// Whether what was written last, under whatever name, is there.
    pub(super) fn is_written(&self) -> bool {
        self.status.state_error().is_none()
    }

    /// What was written under this name; none when nothing was, or it cannot be read.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.directory.as_ref()?.join(name);
        match std::fs::read(&path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what was kept cannot be read");
                None
            }
        }
    }

    /// Replaces what is kept under this name, and keeps what it cannot be understood without. Blocks.
    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let Some(directory) = &self.directory else {
            return;
        };
        let result = self
            .keep_key(directory)
            .and_then(|()| replace(directory, name, content));
        if let Err(error) = &result
            && self.status.state_error().is_none()
        {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "what should outlive a restart cannot be written");
        }
        self.status
            .state_written(result.err().map(|error| error.to_string()));
    }

    /// Names of clients mean nothing without the key they were hashed with.
    fn keep_key(&self, directory: &Path) -> io::Result<()> {
        if self.key.fresh && !directory.join(KEY_FILE).exists() {
            replace(directory, KEY_FILE, &self.key.bytes)?;
        }
        Ok(())
    }
}

fn random() -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    let filled = SystemRandom::new().fill(&mut key);
    filled.map_err(|_none| io::Error::other("the system has no randomness"))?;
    Ok(key)
}

/// Writes a file beside, makes sure that it is on disk, and moves it to its place.
fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let beside = directory.join(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}
