//! The content of a stored response: bytes in memory, or, when it is asked for again and again, pages of a file without a
//! name, which the kernel sends to a client from where they are.
//!
//! Sending bytes has the kernel copy them into pages of its own, for each client again; a page it only counts once more
//! (`memfd_create(2)`, `sendfile(2)`). No place of that file is written twice: what is dropped goes back to the system as
//! a hole, and whoever is being sent it keeps the pages as they were.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create, sendfile};
use rustix::io::pread;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

/// Bytes that are in pages now, in all caches: the system counts them to no process, but to its control group.
static IN_PAGES: AtomicU64 = AtomicU64::new(0);

/// Bytes of memory that stored responses have in pages.
#[must_use]
pub fn in_pages() -> u64 {
    IN_PAGES.load(Ordering::Relaxed)
}

/// From this length on pages cost less than bytes: the call that sends them is one more.
const MIN_PAGES: usize = 32 << 10;

/// What a response carries, or a slice of it.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In pages.
    Pages(Pages),
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Content {
    /// The same in pages of a file, unless it is there already or that is not worth it.
    pub(super) fn moved(&self, file: &OnceLock<Option<Arc<PageFile>>>) -> Option<Self> {
        let Self::Bytes(bytes) = self else {
            return None;
        };
        if bytes.len() < MIN_PAGES {
            return None;
        }
        let file = file.get_or_init(PageFile::create).as_ref()?;
        match file.put(bytes) {
            Ok(pages) => Some(Self::Pages(pages)),
            Err(error) => {
                tracing::debug!("a body stays in memory: {error}");
                None
            }
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pages(pages) => pages.length,
        }
    }

    /// Whether there is nothing of it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory it takes.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pages(pages) => pages.length.next_multiple_of(page_size() as u64),
        }
    }

    /// Its bytes from `from` on and before `to`, as far as there are any.
    #[must_use]
    pub fn slice(&self, from: u64, to: u64) -> Self {
        let to = to.min(self.len());
        let from = from.min(to);
        match self {
            Self::Bytes(bytes) => {
                // Neither is more than the length, which is a usize.
                let at = |place: u64| usize::try_from(place).unwrap_or(bytes.len());
                Self::Bytes(bytes.slice(at(from)..at(to)))
            }
            Self::Pages(pages) => Self::Pages(Pages {
                extent: Arc::clone(&pages.extent),
                at: pages.at + from,
                length: to - from,
            }),
        }
    }

    /// All of it, in one piece.
    ///
    /// # Errors
    /// When the system cannot read its pages.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Pages(pages) => pages.clone().take(usize::MAX),
        }
    }
}

/// Bytes in pages of a file.
#[derive(Clone, Debug)]
pub struct Pages {
    extent: Arc<Extent>,
    at: u64,
    length: u64,
}

impl Pages {
    /// Bytes that are left.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether none are left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes at most `most` bytes from the beginning.
    ///
    /// # Errors
    /// When the system cannot read them.
    pub fn take(&mut self, most: usize) -> io::Result<Bytes> {
        let length = usize::try_from(self.length).map_or(most, |length| length.min(most));
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = self.at + bytes.len() as u64;
            if pread(&self.extent.file.file, spare_capacity(&mut bytes), at)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // There may have been room for more.
        bytes.truncate(length);
        self.pass(length as u64);
        Ok(bytes.into())
    }

    /// Has the kernel send some of them to `socket`; how many.
    ///
    /// # Errors
    /// As sendfile(2) has them: would block, when the socket has no room.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        let mut at = self.at;
        let sent = sendfile(socket, &self.extent.file.file, Some(&mut at), length)?;
        self.pass(sent as u64);
        Ok(sent)
    }

    fn pass(&mut self, bytes: u64) {
        self.at += bytes;
        self.length = self.length.saturating_sub(bytes);
    }
}

/// A place of the file, until nobody needs it.
#[derive(Debug)]
struct Extent {
    file: Arc<PageFile>,
    at: u64,
    length: u64,
}

impl Drop for Extent {
    fn drop(&mut self) {
        IN_PAGES.fetch_sub(self.length, Ordering::Relaxed);
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(&self.file.file, how, self.at, self.length) {
            tracing::warn!("memory of the cache cannot be given back: {error}");
        }
    }
}

/// The file without a name.
#[derive(Debug)]
pub(super) struct PageFile {
    file: File,
    /// Where what comes next is put.
    end: AtomicU64,
}

impl PageFile {
    /// Makes it; none where the system has no such files, or limits how long one may be.
    pub(super) fn create() -> Option<Arc<Self>> {
        // Who writes behind the limit is killed for it.
        if getrlimit(Resource::Fsize).current.is_some() {
            return None;
        }
        let file = memfd_create("tidegate-cache", MemfdFlags::CLOEXEC).ok()?;
        Some(Arc::new(Self {
            file: file.into(),
            end: AtomicU64::new(0),
        }))
    }

    fn put(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Pages> {
        let length = bytes.len() as u64;
        let whole = length.next_multiple_of(page_size() as u64);
        let at = self.end.fetch_add(whole, Ordering::Relaxed);
        IN_PAGES.fetch_add(whole, Ordering::Relaxed);
        // Dropped, it takes back what was written.
        let extent = Arc::new(Extent {
            file: Arc::clone(self),
            at,
            length: whole,
        });
        self.file.write_all_at(bytes, at)?;
        Ok(Pages { extent, at, length })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bytes(length: usize) -> Bytes {
        (0..251).cycle().take(length).collect::<Vec<u8>>().into()
    }

    /// A file, and `length` bytes in its pages.
    fn paged(length: usize) -> (OnceLock<Option<Arc<PageFile>>>, Content) {
        let file = OnceLock::new();
        let content = Content::from(bytes(length)).moved(&file).unwrap();
        assert!(content.moved(&file).is_none());
        (file, content)
    }

    fn pages_of(content: Content) -> Pages {
        match content {
            Content::Pages(pages) => pages,
            Content::Bytes(_) => panic!("it is in memory"),
        }
    }

    #[test]
    fn what_is_in_pages_reads_as_it_came() {
        for length in [40_000, 65_536, 300_000] {
            let whole = bytes(length);
            let (_file, content) = paged(length);
            assert_eq!(content.len(), length as u64);
            assert_eq!(content.read().unwrap(), whole);
            let slice = content.slice(4_095, 20_000);
            assert_eq!(slice.read().unwrap(), whole[4_095..20_000]);
            let of_slice = slice.slice(1, u64::MAX);
            assert_eq!(of_slice.read().unwrap(), whole[4_096..20_000]);
            let mut pages = pages_of(content);
            let mut taken = Vec::new();
            while !pages.is_empty() {
                taken.extend_from_slice(&pages.take(7_001).unwrap());
            }
            assert_eq!(taken, whole);
        }
    }

    #[test]
    fn bytes_and_pages_are_cut_alike() {
        let bytes = Content::from(bytes(50_000));
        let (_file, pages) = paged(50_000);
        for (from, to) in [
            (0, 0),
            (3, 2),
            (49_999, 60_000),
            (70_000, 80_000),
            (0, 50_000),
        ] {
            let cut = pages.slice(from, to);
            assert_eq!(cut.read().unwrap(), bytes.slice(from, to).read().unwrap());
            assert_eq!(cut.is_empty(), bytes.slice(from, to).is_empty());
        }
    }

    #[test]
    fn what_is_short_stays_in_memory() {
        let file = OnceLock::new();
        assert!(Content::from(bytes(MIN_PAGES - 1)).moved(&file).is_none());
        assert!(Content::from(bytes(MIN_PAGES)).moved(&file).is_some());
    }

    #[test]
    fn pages_are_given_back_once_nobody_needs_them() {
        let (file, content) = paged(100_000);
        let other = Content::from(bytes(100_000)).moved(&file).unwrap();
        let blocks = || {
            let file = file.get().unwrap().as_ref().unwrap();
            file.file.metadata().unwrap().blocks()
        };
        let both = blocks();
        assert_eq!(content.weight() + other.weight(), both * 512);
        let slice = content.slice(99_000, 100_000);
        drop(content);
        assert_eq!(blocks(), both);
        drop(slice);
        assert_eq!(blocks(), both / 2);
        assert_eq!(other.read().unwrap(), bytes(100_000));
        drop(other);
        assert_eq!(blocks(), 0);
    }

    #[test]
    fn the_kernel_sends_them() {
        let (_file, content) = paged(1 << 20);
        let mut pages = pages_of(content.slice(1, u64::MAX));
        // Who is being sent them keeps them.
        drop(content);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).map(|_length| read)
        });
        while !pages.is_empty() {
            pages.send(ours.as_fd()).unwrap();
        }
        drop(ours);
        assert_eq!(reader.join().unwrap().unwrap(), bytes(1 << 20)[1..]);
    }
}
