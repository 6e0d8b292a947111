//! The access log's writer: a thread that owns the file.
//!
//! It takes blocks of whole lines from a queue bounded in bytes, so a slow or full disk delays nobody: what does not fit, or cannot be written, is counted as dropped. After a failure the target
//! is opened again with a growing pause. A block cut short never glues two lines together: the next one
//! begins on a new line. Depends on the plan's log target and the clock.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::recorder::Shared;
use crate::clock::{Instant, SystemClock};
use crate::config::plan::LogTarget;

/// Once so many bytes wait to be written, further lines are dropped.
const MAX_BACKLOG: usize = 32 << 20;
/// The pause after the first failure to open or write; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Message {
    Lines { block: Vec<u8>, count: u64 },
    Target(Option<LogTarget>),
    Reopen,
    Stop,
}

/// What waits for the writer, in order. Lines are bounded; orders are few and always accepted, so that
/// whoever gives one never waits for a disk.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    backlog: usize,
}

impl Queue {
    fn push(&self, message: Message) {
        let mut state = lock(&self.state);
        state.messages.push_back(message);
        drop(state);
        self.ready.notify_one();
    }

    /// Says whether there was room.
    fn push_lines(&self, block: Vec<u8>, count: u64) -> bool {
        let mut state = lock(&self.state);
        if state.backlog > MAX_BACKLOG {
            return false;
        }
        state.backlog += block.len();
        state.messages.push_back(Message::Lines { block, count });
        drop(state);
        self.ready.notify_one();
        true
    }

    fn pop(&self) -> Message {
        let mut state = lock(&self.state);
        loop {
            if let Some(message) = state.messages.pop_front() {
                if let Message::Lines { block, .. } = &message {
                    state.backlog -= block.len();
                }
                return message;
            }
            let waited = self.ready.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The other threads' side of the writer.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl LogWriter {
    /// Starts the thread. It ends after [`Self::stop`], and drops `done` then.
    pub(super) fn start(
        shared: Arc<Shared>,
        done: impl Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let queue = Arc::new(Queue::default());
        let writer = Self {
            queue: Arc::clone(&queue),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                run(&queue, &shared);
                drop(done);
            })?;
        Ok((writer, thread))
    }

    /// Queues a block of `count` whole lines; drops and counts them when too much is waiting.
    pub(super) fn write(&self, block: Vec<u8>, count: u64) {
        if count == 0 {
            self.shared.pool.give_lines(block);
        } else if !self.queue.push_lines(block, count) {
            self.shared.drops.add_lines(count);
        }
    }

    /// Changes the target for the lines queued after. With none, lines still on their way go where the
    /// others went.
    pub(super) fn set_target(&self, target: Option<LogTarget>) {
        self.queue.push(Message::Target(target));
    }

    /// Opens the target again, as after its file was moved away.
    pub(super) fn reopen(&self) {
        self.queue.push(Message::Reopen);
    }

    /// Ends the thread after everything queued so far.
    pub(super) fn stop(&self) {
        self.queue.push(Message::Stop);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(queue: &Queue, shared: &Shared) {
    let mut sink = Sink::default();
    loop {
        match queue.pop() {
            Message::Lines { block, count } => {
                let lost = sink.write(&block, count, SystemClock.now());
                shared.drops.add_lines(lost);
                shared.pool.give_lines(block);
            }
            Message::Target(target) => sink.aim(target, SystemClock.now()),
            Message::Reopen => sink.open(SystemClock.now()),
            Message::Stop => return,
        }
    }
}

/// The open file and what is known of it.
#[derive(Debug, Default)]
struct Sink {
    target: Option<LogTarget>,
    file: Option<File>,
    /// The file ends within a line.
    torn: bool,
    retry_at: Instant,
    pause: Duration,
}

impl Sink {
    /// Turns to `target`, if it is another one.
    fn aim(&mut self, target: Option<LogTarget>, now: Instant) {
        if target.is_some() && self.target != target {
            self.target = target;
            self.file = None;
            self.torn = false;
            self.open(now);
        }
    }

    /// Opens the target, again if it is open. When that fails, the file that is open stays in use.
    fn open(&mut self, now: Instant) {
        let Some(target) = &self.target else {
            return;
        };
        match open(target, self.torn) {
            Ok((file, torn)) => {
                if !self.pause.is_zero() {
                    tracing::info!("the access log is open again");
                }
                self.file = Some(file);
                self.torn = torn;
                self.pause = Duration::ZERO;
            }
            Err(error) => self.failed(&error, now),
        }
    }

    fn failed(&mut self, error: &io::Error, now: Instant) {
        if self.pause.is_zero() {
            tracing::error!(%error, target = ?self.target, "the access log cannot be written");
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        self.retry_at = now.after(self.pause);
    }

    /// Writes a block of `count` lines and returns how many of them were lost.
    fn write(&mut self, block: &[u8], count: u64, now: Instant) -> u64 {
        if self.file.is_none() && now >= self.retry_at {
            self.open(now);
        }
        let Some(file) = &mut self.file else {
            return count;
        };
        match write_block(file, &mut self.torn, block) {
            Ok(()) => 0,
            Err(broken) => {
                self.file = None;
                self.failed(&broken.error, now);
                count.saturating_sub(broken.lines)
            }
        }
    }
}

/// Opens `target`; says whether what is in it ends within a line.
fn open(target: &LogTarget, torn: bool) -> io::Result<(File, bool)> {
    match target {
        // A handle of its own: the standard library's would buffer what failed and write it later.
        LogTarget::Stdout => {
            let handle = io::stdout().as_fd().try_clone_to_owned()?;
            Ok((File::from(handle), torn))
        }
        LogTarget::File(path) => {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o640).open(path)?;
            let torn = ends_within_a_line(path).unwrap_or(false);
            Ok((file, torn))
        }
    }
}

fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A write that failed after so many lines of its block.
#[derive(Debug)]
struct Broken {
    lines: u64,
    error: io::Error,
}

/// Writes all of `block`, on a new line. `torn` says before and after whether the last line is incomplete.
fn write_block(out: &mut impl Write, torn: &mut bool, block: &[u8]) -> Result<(), Broken> {
    if *torn {
        write_some(out, b"\n").map_err(|(_, error)| Broken { lines: 0, error })?;
        *torn = false;
    }
    write_some(out, block).map_err(|(written, error)| {
        let done = block.get(..written).unwrap_or_default();
        *torn = done.last().is_some_and(|last| *last != b'\n');
        let lines = done.iter().filter(|byte| **byte == b'\n').count() as u64;
        Broken { lines, error }
    })
}

/// As `write_all`, but tells how much was written before the failure, and gives a target that is not ready (a
/// standard output someone made non-blocking) a second.
fn write_some(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    const WAIT: Duration = Duration::from_millis(5);
    let mut rest = bytes;
    let mut patience = 200;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err((bytes.len() - rest.len(), ErrorKind::WriteZero.into())),
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                std::thread::park_timeout(WAIT);
            }
            Err(error) => return Err((bytes.len() - rest.len(), error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::observe::recorder::{Drops, Pool, Sampling};

    /// Takes so many bytes, then fails.
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.room);
            self.content.extend_from_slice(&bytes[..n]);
            self.room -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            sampling: Sampling::off(),
            drops: Drops::default(),
            pool: Pool::default(),
        })
    }

    struct Running {
        writer: LogWriter,
        thread: JoinHandle<()>,
        shared: Arc<Shared>,
    }

    fn started(target: &Path) -> Running {
        let shared = shared();
        let (writer, thread) = LogWriter::start(Arc::clone(&shared), ()).unwrap();
        writer.set_target(Some(LogTarget::File(target.into())));
        Running {
            writer,
            thread,
            shared,
        }
    }

    impl Running {
        fn finish(self) -> u64 {
            self.writer.stop();
            self.thread.join().unwrap();
            self.shared.drops.lines()
        }
    }

    #[test]
    fn a_block_cut_short_does_not_glue_two_lines_together() {
        let mut disk = Disk {
            room: 7,
            content: Vec::new(),
        };
        let mut torn = false;
        let broken = write_block(&mut disk, &mut torn, b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((broken.lines, torn), (1, true));
        let again = write_block(&mut disk, &mut torn, b"four\n").unwrap_err();
        assert_eq!((again.lines, torn), (0, true));
        disk.room = 100;
        write_block(&mut disk, &mut torn, b"five\n").unwrap();
        assert_eq!(disk.content, b"one\ntwo\nfive\n");
        assert!(!torn);
    }

    #[test]
    fn a_block_cut_between_lines_needs_no_new_line() {
        let mut disk = Disk {
            room: 4,
            content: Vec::new(),
        };
        let mut torn = false;
        let broken = write_block(&mut disk, &mut torn, b"one\ntwo\n").unwrap_err();
        assert_eq!((broken.lines, torn), (1, false));
    }

    #[test]
    fn lines_go_to_the_file_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let running = started(&path);
        running.writer.write(b"one\n".to_vec(), 1);
        assert_eq!(running.finish(), 0);
        std::fs::rename(&path, &moved).unwrap();

        let running = started(&moved);
        running.writer.write(b"two\n".to_vec(), 1);
        running
            .writer
            .set_target(Some(LogTarget::File(path.clone())));
        running.writer.write(b"three\n".to_vec(), 1);
        running.writer.set_target(None);
        running.writer.write(b"four\n".to_vec(), 1);
        assert_eq!(running.finish(), 0);
        let old = std::fs::read_to_string(&moved).unwrap();
        let new = std::fs::read_to_string(&path).unwrap();
        assert_eq!(format!("{old}{new}"), "one\ntwo\nthree\nfour\n");
        assert!(new.ends_with("three\nfour\n"));
    }

    #[test]
    fn reopening_follows_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut sink = Sink::default();
        sink.aim(Some(LogTarget::File(path.clone())), Instant::ZERO);
        assert_eq!(sink.write(b"one\n", 1, Instant::ZERO), 0);
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(sink.write(b"two\n", 1, Instant::ZERO), 0);
        sink.open(Instant::ZERO);
        assert_eq!(sink.write(b"three\n", 1, Instant::ZERO), 0);
        assert_eq!(std::fs::read(&moved).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn a_directory_that_comes_back_is_found_after_the_pause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later").join("log");
        let mut sink = Sink::default();
        sink.aim(Some(LogTarget::File(path.clone())), Instant::ZERO);
        assert_eq!(sink.write(b"one\n", 1, Instant::ZERO), 1);
        std::fs::create_dir(dir.path().join("later")).unwrap();
        assert_eq!(
            sink.write(b"two\n", 1, Instant::ZERO),
            1,
            "not before the pause"
        );
        let later = Instant::ZERO.after(FIRST_PAUSE);
        assert_eq!(sink.write(b"three\n", 1, later), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn the_pause_between_attempts_is_bounded() {
        let mut sink = Sink::default();
        for _ in 0..100 {
            sink.failed(&ErrorKind::StorageFull.into(), Instant::ZERO);
        }
        assert_eq!(sink.pause, LAST_PAUSE);
    }

    #[test]
    fn a_full_disk_costs_lines_and_they_are_counted() {
        let running = started(Path::new("/dev/full"));
        running.writer.write(b"one\ntwo\n".to_vec(), 2);
        running.writer.write(b"three\n".to_vec(), 1);
        assert_eq!(running.finish(), 3);
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_continued_on_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"{\"ts\":\"20").unwrap();
        let running = started(&path);
        running.writer.write(b"one\n".to_vec(), 1);
        assert_eq!(running.finish(), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"ts\":\"20\none\n");
    }

    #[test]
    fn more_than_the_bound_is_dropped_and_counted_without_waiting() {
        let shared = shared();
        // No thread takes anything.
        let writer = LogWriter {
            queue: Arc::default(),
            shared: Arc::clone(&shared),
        };
        let block = vec![b'\n'; MAX_BACKLOG / 2 + 1];
        for _ in 0..3 {
            writer.write(block.clone(), 5);
        }
        assert_eq!(shared.drops.lines(), 5);
        assert!(matches!(
            writer.queue.pop(),
            Message::Lines { count: 5, .. }
        ));
        writer.write(block, 5);
        assert_eq!(shared.drops.lines(), 5);
    }

    #[test]
    fn the_end_of_the_thread_is_told() {
        let (done, ended) = channel::<()>();
        let (writer, thread) = LogWriter::start(shared(), done).unwrap();
        writer.stop();
        assert!(ended.recv().is_err());
        thread.join().unwrap();
    }
}
