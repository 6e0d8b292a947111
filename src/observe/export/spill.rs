//! Batches that wait on disk, a file each, while nobody takes them.
//!
//! A file's name tells its place and how many things are in it, so a process that starts anew goes on with what the
//! last one left.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::plan::Spill;

const ENDING: &str = ".hec.gz";

/// One batch on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    /// Things in it.
    pub(super) count: u64,
    size: u64,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    bound: u64,
    size: u64,
    next: u64,
    files: VecDeque<Kept>,
}

impl Directory {
    /// Makes the directory, or finds what is in it.
    pub(super) fn open(spill: &Spill) -> io::Result<Self> {
        std::fs::create_dir_all(&spill.path)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&spill.path)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some((place, count)) = name.to_str().and_then(parse) {
                let size = entry.metadata()?.len();
                let path = entry.path();
                found.push((place, Kept { path, count, size }));
            }
        }
        found.sort_by_key(|(place, _)| *place);
        Ok(Self {
            path: spill.path.clone(),
            bound: spill.size,
            size: found.iter().map(|(_, kept)| kept.size).sum(),
            next: found.last().map_or(0, |(place, _)| place + 1),
            files: found.into_iter().map(|(_, kept)| kept).collect(),
        })
    }

    /// A place for a batch of `size` bytes; none when it does not fit.
    pub(super) fn reserve(&mut self, size: u64, count: u64) -> Option<Kept> {
        if self.size + size > self.bound {
            return None;
        }
        let path = self
            .path
            .join(format!("{:016x}-{count}{ENDING}", self.next));
        self.next += 1;
        self.size += size;
        Some(Kept { path, count, size })
    }

    /// It was written.
    pub(super) fn add(&mut self, kept: Kept) {
        self.files.push_back(kept);
    }

    /// The oldest, to be sent.
    pub(super) fn oldest(&mut self) -> Option<Kept> {
        self.files.pop_front()
    }

    /// It was not taken.
    pub(super) fn put_back(&mut self, kept: Kept) {
        self.files.push_front(kept);
    }

    /// It was taken, or could not be written: its room is free.
    pub(super) fn remove(&mut self, kept: &Kept) {
        self.size = self.size.saturating_sub(kept.size);
        if let Err(error) = std::fs::remove_file(&kept.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %kept.path.display(), "a delivered batch stays on disk");
        }
    }
}

/// Writes a batch so that its file is there whole or not at all.
pub(super) fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("part");
    std::fs::write(&partial, body)?;
    std::fs::rename(partial, path)
}

fn parse(name: &str) -> Option<(u64, u64)> {
    let (place, count) = name.strip_suffix(ENDING)?.split_once('-')?;
    Some((u64::from_str_radix(place, 16).ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_again_in_order_and_the_bound_holds() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill {
            path: dir.path().join("spill"),
            size: 25,
        };
        let mut directory = Directory::open(&spill).unwrap();
        for count in [3, 4] {
            let kept = directory.reserve(10, count).unwrap();
            write(&kept.path, &[b'x'; 10]).unwrap();
            directory.add(kept);
        }
        assert_eq!(directory.reserve(10, 5), None);
        drop(directory);
        std::fs::write(spill.path.join("other"), "not ours").unwrap();

        let mut directory = Directory::open(&spill).unwrap();
        let first = directory.oldest().unwrap();
        assert_eq!((first.count, directory.oldest().unwrap().count), (3, 4));
        assert!(directory.oldest().is_none() && directory.reserve(10, 5).is_none());
        directory.remove(&first);
        assert!(!first.path.exists());
        let next = directory.reserve(10, 5).unwrap();
        assert!(next.path.ends_with("0000000000000002-5.hec.gz"), "{next:?}");
    }
}
