//! The purges, on disk: nothing that was purged comes back with a restart.
//!
//! Entries are only appended, each behind its length and checksums. One that broke off at the end was never
//! acknowledged and is dropped; anything else that does not fit means that purges may be lost, and then nothing
//! on disk can be trusted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::codec::{Reader, Writer, sum};
use super::rules::{Marks, Rules};
use crate::cache::purge::Scope;

/// Bytes before each entry: its length, and the checksums of that and of the entry.
const HEADER: usize = 12;
/// Bytes that a journal may have before it is written anew without what is not needed any more.
const ROOMY: u64 = 4 << 20;

/// What a journal holds.
#[derive(Debug)]
pub(super) enum Former {
    /// There is none.
    Missing,
    /// It cannot be trusted.
    Damaged,
    /// The number of the last run, and the purges.
    Run(u64, Rules),
}

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Its size when it was begun.
    begun: u64,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("purges")
}

/// Reads what former runs left.
///
/// # Errors
/// When it is there and cannot be read.
pub(super) fn read(directory: &Path) -> io::Result<Former> {
    let bytes = match fs::read(path(directory)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Former::Missing),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes).map_or(Former::Damaged, |(run, rules)| Former::Run(run, rules)))
}

fn parse(bytes: &[u8]) -> Option<(u64, Rules)> {
    let mut from = Reader(bytes);
    let mut run = None;
    let mut rules = Rules::default();
    while let Some(entry) = next(&mut from)? {
        let mut entry = Reader(entry);
        let kind = entry.u8()?;
        if run.is_none() {
            (kind == 0).then_some(())?;
            run = Some(entry.u64()?);
            rules.set_floor(entry.u64()?);
            continue;
        }
        let marks = Marks {
            hard: entry.u64()?,
            soft: entry.u64()?,
            soft_at: entry.u64()?,
        };
        let text = entry.text()?.to_owned();
        let scope = match kind {
            1 => Scope::Url(text),
            2 => Scope::Prefix(text),
            3 => Scope::Tag(text),
            _ => return None,
        };
        rules.add(scope, marks);
    }
    Some((run?, rules))
}

/// The next entry, `Some(None)` at the end or where the last broke off, `None` where it is damaged.
fn next<'a>(from: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    let Some((header, rest)) = from.0.split_at_checked(HEADER) else {
        return Some(None);
    };
    let mut fields = Reader(header);
    let length = fields.u32()?;
    (fields.u32()? == sum(&[&length.to_le_bytes()])).then_some(())?;
    let Some((entry, rest)) = rest.split_at_checked(usize::try_from(length).ok()?) else {
        return Some(None);
    };
    (fields.u32()? == sum(&[entry])).then_some(())?;
    from.0 = rest;
    Some(Some(entry))
}

fn append(out: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let mut header = Writer::default();
    let length = u32::try_from(entry.len()).ok()?;
    header.u32(length);
    header.u32(sum(&[&length.to_le_bytes()]));
    header.u32(sum(&[entry]));
    out.extend_from_slice(&header.0);
    out.extend_from_slice(entry);
    Some(())
}

fn purge(scope: &Scope, marks: Marks) -> Option<Vec<u8>> {
    let (kind, text) = match scope {
        Scope::Url(text) => (1, text),
        Scope::Prefix(text) => (2, text),
        Scope::Tag(text) => (3, text),
    };
    let mut entry = Writer::default();
    entry.u8(kind);
    entry.u64(marks.hard);
    entry.u64(marks.soft);
    entry.u64(marks.soft_at);
    entry.bytes(text.as_bytes())?;
    Some(entry.0)
}

impl Journal {
    /// Begins a journal in the place of the former, with what of the purges is still needed.
    ///
    /// # Errors
    /// When it cannot be written; then the former is still there.
    pub(super) fn begin(directory: &Path, run: u64, rules: &Rules) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut first = Writer::default();
        first.u8(0);
        first.u64(run);
        first.u64(rules.floor());
        let first = std::iter::once(Some(first.0));
        let purges = rules.all().map(|(scope, marks)| purge(scope, *marks));
        for entry in first.chain(purges) {
            let written = entry.and_then(|entry| append(&mut bytes, &entry));
            written.ok_or(io::ErrorKind::InvalidInput)?;
        }
        let (path, new) = (path(directory), directory.join("purges.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()?;
        let begun = bytes.len() as u64;
        Ok(Self {
            path,
            file,
            bytes: begun,
            begun,
        })
    }

    /// Adds purges; `durable`: so that they outlive the machine's power.
    ///
    /// # Errors
    /// When they may not be there.
    pub(super) fn add<'a>(
        &mut self,
        purges: impl Iterator<Item = (&'a Scope, Marks)>,
        durable: bool,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (scope, marks) in purges {
            let written = purge(scope, marks).and_then(|entry| append(&mut bytes, &entry));
            written.ok_or(io::ErrorKind::InvalidInput)?;
        }
        self.file.write_all(&bytes)?;
        self.bytes += bytes.len() as u64;
        if durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Whether it is time to begin it anew.
    pub(super) const fn is_long(&self) -> bool {
        self.bytes > ROOMY && self.bytes / 2 > self.begun
    }

    /// The directory it is in.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}
