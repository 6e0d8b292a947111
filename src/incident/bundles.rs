//! Where bundles are: a directory, or memory where there is none; the newest of them, bounded in number and size.
//!
//! A bundle is there whole or not at all. Everything here waits for a disk. Depends on nothing.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Bundles in a directory, and their bytes.
const MOST: usize = 20;
const MOST_BYTES: u64 = 256 << 20;
/// Bundles in memory.
const MOST_IN_MEMORY: usize = 4;
const END: &str = ".tar.zst";

/// The bundles.
#[derive(Debug)]
pub struct Bundles {
    directory: Option<PathBuf>,
    memory: Mutex<VecDeque<(String, Vec<u8>)>>,
    lost: AtomicU64,
}

impl Bundles {
    /// Those in `directory`, which is made when there is something to keep; none: in memory.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            memory: Mutex::default(),
            lost: AtomicU64::new(0),
        }
    }

    /// There is no bundle of an incident, and there should be.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Bundles that there should be and are not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Keeps the bundle of an incident, in the place of the oldest where there are too many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, id: &str, packed: Vec<u8>) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            if memory.len() == MOST_IN_MEMORY {
                memory.pop_front();
            }
            memory.push_back((id.to_owned(), packed));
            return Ok(());
        };
        let path = path(directory, id).ok_or(io::ErrorKind::InvalidInput)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        make_room(directory, packed.len() as u64)?;
        let beside = directory.join(".new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        let written = file.write_all(&packed).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // A full disk is not to be made fuller.
            let _left = fs::remove_file(&beside);
            return Err(error);
        }
        fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    }

    /// The bundle of an incident, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(directory) = &self.directory else {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let found = memory.iter().find(|(known, _)| known == id);
            return Ok(found.map(|(_, packed)| packed.clone()));
        };
        let Some(path) = path(directory, id) else {
            return Ok(None);
        };
        match fs::read(path) {
            Ok(packed) => Ok(Some(packed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many bytes the bundle of an incident has, if there is one.
    #[must_use]
    pub fn size(&self, id: &str) -> Option<u64> {
        let Some(directory) = &self.directory else {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let found = memory.iter().find(|(known, _)| known == id);
            return found.map(|(_, packed)| packed.len() as u64);
        };
        let found = fs::metadata(path(directory, id)?).ok()?;
        Some(found.len())
    }
}

/// Where the bundle of `id` is; an id has nothing but letters and digits.
fn path(directory: &Path, id: &str) -> Option<PathBuf> {
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then(|| directory.join(format!("{id}{END}")))
}

/// Deletes the oldest until there is room for one more of `size` bytes.
fn make_room(directory: &Path, size: u64) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(END) {
            let known = entry.metadata()?;
            kept.push((known.modified()?, known.len(), entry.path()));
        }
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, size, _)| size).sum();
    let mut count = kept.len();
    for (_, one, path) in kept {
        if count < MOST && bytes.saturating_add(size) <= MOST_BYTES {
            break;
        }
        fs::remove_file(path)?;
        bytes -= one;
        count -= 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_on_disk_and_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let on_disk = Bundles::new(Some(directory.path().join("bundles")));
        for (bundles, most) in [(on_disk, MOST), (Bundles::new(None), MOST_IN_MEMORY)] {
            assert_eq!(bundles.read("a0").unwrap(), None);
            for number in 0..=most {
                let id = format!("a{number}");
                bundles.keep(&id, vec![7; number]).unwrap();
                // Times of files are as coarse as the kernel's ticks.
                if let Some(directory) = &bundles.directory {
                    let file = File::open(path(directory, &id).unwrap()).unwrap();
                    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
                    file.set_modified(at).unwrap();
                }
            }
            assert_eq!(bundles.read("a0").unwrap(), None, "the oldest made room");
            assert_eq!(bundles.read("a1").unwrap(), Some(vec![7]));
            assert_eq!(bundles.size(&format!("a{most}")), Some(most as u64));
        }
    }

    #[test]
    fn an_id_is_no_way_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret.tar.zst"), "x").unwrap();
        let inner = directory.path().join("bundles");
        fs::create_dir(&inner).unwrap();
        let bundles = Bundles::new(Some(inner));
        assert_eq!(bundles.read("../secret").unwrap(), None);
        assert_eq!(bundles.size("../secret"), None);
        assert!(bundles.keep("../other", Vec::new()).is_err());
    }
}
