//! What no database has yet, in a file: so a process that is killed while the database is away, or hangs, takes along no
//! more than what came since its last delta.
//!
//! Each delta is appended under its number before the ledger is tried; once the ledger has it, the file begins anew. What
//! a dead process left is put into the ledger under the name and the numbers of that process, and so counts once,
//! whatever of it the ledger had. Its file is locked while a process lives. Nothing waits for the disk: a file outlives
//! its process so, and a machine mostly. Bounded: what finds no room is in memory only, and counted. Depends on the rollup and
//! its sums.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::rollup::{Delta, Row};
use super::sums::{Latency, Sums, pull, push};
use crate::clock::SystemClock;

/// Bytes of all that processes leave, and of one delta.
const MOST: u64 = 1 << 30;
const MOST_OF_ONE: usize = 64 << 20;
/// Before each delta: its length, and its sum.
const HEAD: usize = 12;
/// Whoever wrote last is remembered in the ledger for eight days: what is older might count twice.
const OLDEST: Duration = Duration::from_secs(7 * 86_400);

/// The file of the process that lives.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    path: PathBuf,
    /// Made when there is something to keep.
    file: Option<File>,
    /// Bytes in it that count, and how many there may be.
    length: u64,
    room: u64,
    /// The number of the last delta in it.
    last: u64,
}

impl Journal {
    /// In `directory`, of the process that calls itself `writer`.
    pub(super) fn new(directory: &Path, writer: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            path: directory.join(format!("usage-{writer:016x}.journal")),
            file: None,
            length: 0,
            room: 0,
            last: 0,
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `delta` as the `sequence`th; the ledger has those up to `written`.
    pub(super) fn append(&mut self, sequence: u64, delta: &Delta, written: u64) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = create(&self.directory, &self.path)?;
                self.room = MOST.saturating_sub(size_of_others(&self.directory, &self.path));
                self.file.insert(file)
            }
        };
        if self.length > 0 && self.last <= written {
            file.set_len(0)?;
            self.length = 0;
        }
        let record = record(sequence, delta);
        let end = self.length + record.len() as u64;
        if end > self.room || record.len() > MOST_OF_ONE {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        }
        // What a failure leaves behind is written over by the next one, or does not add up.
        file.write_all_at(&record, self.length)?;
        self.length = end;
        self.last = sequence;
        Ok(())
    }
}

fn create(directory: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.lock()?;
    // Another process may have come before the lock, and taken it for one that was left.
    if path.exists() {
        Ok(file)
    } else {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The journals in `directory`, and of which process each is.
fn journals(directory: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let journal = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let writer = name.strip_prefix("usage-")?.strip_suffix(".journal")?;
        let writer = u64::from_str_radix(writer, 16).ok()?;
        Some((path, writer))
    };
    entries.filter_map(|entry| journal(entry.path())).collect()
}

fn size_of_others(directory: &Path, own: &Path) -> u64 {
    let others = journals(directory).into_iter();
    let others = others.filter(|(path, _)| path != own);
    let sizes = others.filter_map(|(path, _)| Some(path.metadata().ok()?.len()));
    sizes.sum()
}

/// Hands what dead processes left in `directory` to `take`: whose it is, its number, and a delta. A file that was taken
/// whole, as far as it can be read, is removed. How many rows were too old.
pub(super) fn replay<E>(
    directory: &Path,
    mut take: impl FnMut(u64, u64, &Delta) -> Result<(), E>,
) -> Result<usize, E> {
    let mut too_old = 0;
    for (path, writer) in journals(directory) {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        // Of a process that lives.
        if file.try_lock().is_err() {
            continue;
        }
        let mut reader = BufReader::new(&file);
        let deltas = std::iter::from_fn(|| next(&mut reader));
        if is_too_old(&file) {
            let rows: usize = deltas.map(|(_, delta)| delta.len()).sum();
            tracing::warn!(path = %path.display(), rows, "what an earlier process left for the usage ledger is too old");
            too_old += rows;
        } else {
            for (sequence, delta) in deltas {
                take(writer, sequence, &delta)?;
            }
        }
        remove(&path);
    }
    Ok(too_old)
}

/// Removes a journal whose deltas the ledger has. One that stays counts once all the same.
pub(super) fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a journal of the usage ledger cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

fn is_too_old(file: &File) -> bool {
    let changed = file.metadata().and_then(|metadata| metadata.modified());
    let age = changed.ok().and_then(|changed| {
        let now = UNIX_EPOCH + Duration::from_micros(SystemClock.unix_micros());
        now.duration_since(changed).ok()
    });
    age.is_some_and(|age| age > OLDEST)
}

fn record(sequence: u64, delta: &Delta) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    push(&mut bytes, sequence);
    push(&mut bytes, delta.len() as u64);
    for row in delta {
        push(&mut bytes, row.minute);
        for name in [&row.client, &row.route, &row.upstream] {
            push_bytes(&mut bytes, name.as_bytes());
        }
        for count in row.sums.counts() {
            push(&mut bytes, count);
        }
        push_bytes(&mut bytes, &row.sums.latency.encode());
    }
    let (head, body) = bytes.split_at_mut(HEAD);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let head_of = length.into_iter().chain(sum(body).to_le_bytes());
    head.iter_mut()
        .zip(head_of)
        .for_each(|(to, from)| *to = from);
    bytes
}

/// The next delta that is whole, and its number.
fn next(reader: &mut impl Read) -> Option<(u64, Delta)> {
    let (mut length, mut expected) = ([0; 4], [0; 8]);
    reader.read_exact(&mut length).ok()?;
    reader.read_exact(&mut expected).ok()?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let mut body = vec![0; Some(length).filter(|length| *length <= MOST_OF_ONE)?];
    reader.read_exact(&mut body).ok()?;
    if sum(&body) != u64::from_le_bytes(expected) {
        return None;
    }
    let mut bytes = body.as_slice();
    let sequence = pull(&mut bytes)?;
    let rows = pull(&mut bytes)?;
    let delta: Option<Delta> = (0..rows).map(|_| row(&mut bytes)).collect();
    Some((sequence, delta?))
}

fn row(bytes: &mut &[u8]) -> Option<Row> {
    let minute = pull(bytes)?;
    let mut name = || Some(Arc::from(std::str::from_utf8(pull_bytes(bytes)?).ok()?));
    let [client, route, upstream] = [name()?, name()?, name()?];
    let mut sums = Sums::default();
    for (_, count) in sums.counts_mut() {
        *count = pull(bytes)?;
    }
    sums.latency = Latency::decode(pull_bytes(bytes)?);
    Some(Row {
        minute,
        client,
        route,
        upstream,
        sums,
    })
}

fn push_bytes(bytes: &mut Vec<u8>, more: &[u8]) {
    push(bytes, more.len() as u64);
    bytes.extend_from_slice(more);
}

fn pull_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(pull(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// FNV-1a: it tells the torn from the whole, and nothing else is asked of it.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// How many rows the journal at `path` has.
#[cfg(test)]
pub(super) fn rows_in(path: &Path) -> usize {
    let mut reader = BufReader::new(File::open(path).unwrap());
    let deltas = std::iter::from_fn(|| next(&mut reader));
    deltas.map(|(_, delta)| delta.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn delta(requests: u64) -> Delta {
        let row = |client: &str| Row {
            minute: 60,
            client: client.into(),
            route: "".into(),
            upstream: "ü".into(),
            sums: Sums {
                requests,
                traces: u64::MAX,
                latency: Latency::of(Duration::from_millis(3), requests),
                ..Sums::default()
            },
        };
        vec![row("a"), row("b")]
    }

    fn left(directory: &Path) -> Vec<(u64, u64, Delta)> {
        let mut left = Vec::new();
        let replayed = replay(directory, |writer, sequence, delta| {
            left.push((writer, sequence, delta.clone()));
            Ok::<(), Infallible>(())
        });
        replayed.unwrap();
        left
    }

    #[test]
    fn what_a_dead_process_left_is_taken_once_and_of_one_that_lives_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made");
        let mut journal = Journal::new(&directory, 7);
        journal.append(1, &delta(1), 0).unwrap();
        journal.append(2, &delta(2), 0).unwrap();
        assert_eq!(left(&directory), []);
        drop(journal);
        assert_eq!(left(&directory), [(7, 1, delta(1)), (7, 2, delta(2))]);
        assert_eq!(left(&directory), []);
    }

    #[test]
    fn it_begins_anew_once_the_ledger_has_everything_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 7);
        journal.append(1, &delta(1), 0).unwrap();
        journal.append(2, &delta(2), 1).unwrap();
        journal.append(3, &delta(3), 2).unwrap();
        drop(journal);
        assert_eq!(left(directory.path()), [(7, 3, delta(3))]);
    }

    #[test]
    fn what_was_cut_off_or_is_noise_ends_it_and_a_ledger_that_is_away_leaves_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 7);
        journal.append(1, &delta(1), 0).unwrap();
        journal.append(2, &delta(2), 0).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let away = replay(directory.path(), |_, _, _| Err(()));
        assert_eq!(away, Err(()));
        assert!(path.exists());
        for end in bytes.len() / 2..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert_eq!(left(directory.path()), [(7, 1, delta(1))], "{end}");
        }
        let mut noise = bytes.clone();
        *noise.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &noise).unwrap();
        assert_eq!(left(directory.path()), [(7, 1, delta(1))]);
    }

    #[test]
    fn what_finds_no_room_is_refused_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 7);
        journal.append(1, &delta(1), 0).unwrap();
        journal.room = journal.length;
        assert!(journal.append(2, &delta(2), 0).is_err());
        drop(journal);
        assert_eq!(left(directory.path()), [(7, 1, delta(1))]);
    }

    #[test]
    fn all_that_processes_leave_shares_one_bound() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("usage-0000000000000001.journal");
        File::create(other).unwrap().set_len(MOST).unwrap();
        let mut journal = Journal::new(directory.path(), 7);
        let refused = journal.append(1, &delta(1), 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
    }

    #[test]
    fn what_is_too_old_is_counted_and_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path(), 7);
        journal.append(1, &delta(1), 0).unwrap();
        journal.append(2, &delta(2), 0).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let now = UNIX_EPOCH + Duration::from_micros(SystemClock.unix_micros());
        let long_ago = now - OLDEST - Duration::from_secs(60);
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        drop(file);
        let too_old = replay(directory.path(), |_, _, _| Err(()));
        assert_eq!((too_old, path.exists()), (Ok(4), false));
    }
}
