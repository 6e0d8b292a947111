//! The segments: files that are only appended to, and deleted in the order they were begun to make room.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::index::Place;
use super::record::{self, HEADER, Header, Stored};

/// What a segment's name ends with.
const ENDING: &str = "segment";
/// The least and most bytes after which another segment is begun, and how many there should be.
const LEAST_SEGMENT: u64 = 1 << 20;
const MOST_SEGMENT: u64 = 64 << 20;
const SEGMENTS: u64 = 32;

/// What is known of a segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    bytes: u64,
    /// The URLs, by hash, of what is in it.
    pub(super) urls: Vec<u64>,
    /// The oldest epoch of what is in it.
    oldest: Option<u64>,
}

impl Segment {
    fn holds(&mut self, url: u64, epoch: u64) {
        self.urls.push(url);
        self.oldest = Some(self.oldest.map_or(epoch, |oldest| oldest.min(epoch)));
    }
}

/// The segments of a directory.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    segments: BTreeMap<u64, Segment>,
    /// The one that is written.
    open: Option<(u64, File)>,
    total: u64,
}

fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:016x}.{ENDING}"))
}

/// The segments there are, the oldest first.
fn listed(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|ending| ending == ENDING) {
            let stem = name.file_stem().and_then(|stem| stem.to_str());
            found.extend(stem.and_then(|stem| u64::from_str_radix(stem, 16).ok()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes every segment.
///
/// # Errors
/// When one stays.
pub(super) fn wipe(directory: &Path) -> io::Result<()> {
    for segment in listed(directory)? {
        fs::remove_file(path(directory, segment))?;
    }
    File::open(directory)?.sync_all()
}

/// Reads the record at `place`.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(directory: &Path, place: Place) -> io::Result<Bytes> {
    let file = File::open(path(directory, place.segment))?;
    let length = usize::try_from(place.length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place.offset)?;
    Ok(bytes.into())
}

impl Log {
    /// The segments that former runs left. `each` learns of every record, the oldest first, and says the hash of
    /// its URL: purged ones too, for they replace what they replaced. What follows a damaged record in a segment is lost; `damaged` is told.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn open(
        directory: &Path,
        mut each: impl FnMut(Stored, Place) -> u64,
        mut damaged: impl FnMut(u64),
    ) -> io::Result<Self> {
        let mut log = Self {
            directory: directory.to_owned(),
            segments: BTreeMap::new(),
            open: None,
            total: 0,
        };
        for id in listed(directory)? {
            let file = File::open(path(directory, id))?;
            let mut segment = Segment {
                bytes: file.metadata()?.len(),
                ..Segment::default()
            };
            let whole = scan(&file, segment.bytes, |header, stored, (offset, length)| {
                let place = Place {
                    segment: id,
                    offset,
                    length,
                };
                segment.holds(each(stored, place), header.epoch);
            });
            if !whole {
                damaged(id);
            }
            log.total += segment.bytes;
            log.segments.insert(id, segment);
        }
        Ok(log)
    }

    /// Bytes of all segments.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The oldest epoch of any record.
    pub(super) fn oldest(&self) -> Option<u64> {
        let oldest = self.segments.values();
        oldest.filter_map(|segment| segment.oldest).min()
    }

    /// Appends a record of `url` and `epoch`, given in two parts, to a store of `size` bytes.
    ///
    /// # Errors
    /// When it may not be there. The next goes into another segment.
    pub(super) fn append(
        &mut self,
        (head, body): (&[u8], &[u8]),
        (url, epoch): (u64, u64),
        size: u64,
    ) -> io::Result<Place> {
        let (id, mut file) = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let segment = self.segments.entry(id).or_default();
        let offset = segment.bytes;
        let written = file.write_all(head).and_then(|()| file.write_all(body));
        if let Err(error) = written {
            // Half a record at the end is none, but takes room; if it cannot be cut off, it counts.
            let bytes = match file.set_len(offset) {
                Ok(()) => offset,
                Err(_) => file.metadata().map_or(offset, |file| file.len()),
            };
            segment.bytes = bytes;
            self.total += bytes - offset;
            return Err(error);
        }
        let length = (head.len() + body.len()) as u64;
        segment.bytes += length;
        segment.holds(url, epoch);
        self.total += length;
        let target = (size / SEGMENTS).clamp(LEAST_SEGMENT, MOST_SEGMENT);
        if segment.bytes < target {
            self.open = Some((id, file));
        }
        Ok(Place {
            segment: id,
            offset,
            length,
        })
    }

    /// Deletes the oldest segment: which, and the URLs that were in it.
    ///
    /// # Errors
    /// When it cannot be deleted. Then it is still there, with all its records.
    pub(super) fn evict(&mut self) -> io::Result<Option<(u64, Vec<u64>)>> {
        let Some(oldest) = self.segments.first_entry() else {
            return Ok(None);
        };
        let id = *oldest.key();
        match fs::remove_file(path(&self.directory, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let segment = oldest.remove();
        if self.open.as_ref().is_some_and(|(open, _)| *open == id) {
            self.open = None;
        }
        self.total -= segment.bytes;
        Ok(Some((id, segment.urls)))
    }

    fn begin(&mut self) -> io::Result<(u64, File)> {
        let newest = self.segments.last_key_value();
        let mut id = newest.map_or(1, |(newest, _)| newest + 1);
        loop {
            let new = OpenOptions::new()
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(path(&self.directory, id));
            match new {
                Ok(file) => return Ok((id, file)),
                // One that could not be deleted.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => id += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Tells `each` record of a segment of `end` bytes, with its offset and length. Whether it is whole.
fn scan(file: &File, end: u64, mut each: impl FnMut(Header, Stored, (u64, u64))) -> bool {
    let mut from = BufReader::with_capacity(64 << 10, file);
    let mut at = 0;
    let mut bytes = Vec::new();
    while at < end {
        bytes.resize(HEADER, 0);
        let header = match from.read_exact(&mut bytes) {
            Ok(()) => record::header(&bytes),
            Err(_) => None,
        };
        let Some(header) = header else { return false };
        bytes.resize(HEADER + header.head, 0);
        let Some(head) = bytes.get_mut(HEADER..) else {
            return false;
        };
        if from.read_exact(head).is_err() {
            return false;
        }
        let Some((header, stored)) = record::stored(&bytes) else {
            return false;
        };
        let length = (bytes.len() as u64).saturating_add(header.body);
        let next = at.saturating_add(length);
        let Ok(skipped) = i64::try_from(header.body) else {
            return false;
        };
        if next > end || from.seek_relative(skipped).is_err() {
            return false;
        }
        each(header, stored, (at, length));
        at = next;
    }
    true
}
