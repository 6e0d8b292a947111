//! Each worker's end of observation.
//!
//! A [`Recorder`] belongs to one worker and takes no lock to record: an exchange is appended to a batch, its
//! line encoded behind it, and full batches are handed to the observer over a bounded channel. When the
//! observer lags, the batch grows up to a bound; beyond it exchanges and lines are dropped and counted. The
//! buffers come back through a pool, so a steady worker does not allocate. Depends on the exchange and the
//! encoder.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::access_log::{Encoder, is_remarkable};
use super::components::Told;
use super::exchange::{Exchange, Line};
use super::names::Names;
use super::trace;
use super::why::Record;

/// A batch is handed over at this many exchanges,
const FLUSH_EXCHANGES: usize = 1_024;
/// or at this many bytes of lines.
const FLUSH_LINES: usize = 256 << 10;
/// While the observer lags, a worker keeps at most this many exchanges
const MAX_EXCHANGES: usize = 65_536;
/// and this many bytes of lines.
const MAX_LINES: usize = 8 << 20;
/// and so many requests with the decisions about them.
const MAX_RECORDS: usize = 8_192;
/// and so many whose traces are kept,
const MAX_TRACES: usize = 8_192;
/// and so many words of upstreams on their own time.
const MAX_TOLD: usize = 65_536;

/// What was dropped because someone behind could not keep up, since the start.
#[derive(Debug, Default)]
pub struct Drops {
    exchanges: AtomicU64,
    lines: AtomicU64,
    decisions: AtomicU64,
    traces: AtomicU64,
    told: AtomicU64,
}

impl Drops {
    /// Exchanges that are in no metric.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Access-log lines that were encoded, or should have been, and never written.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Requests whose decisions should have been kept and were not.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Relaxed)
    }

    /// Requests whose traces should have been kept and were not.
    #[must_use]
    pub fn traces(&self) -> u64 {
        self.traces.load(Ordering::Relaxed)
    }

    /// Durations of upstreams' components that are in no metric.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    pub(super) fn add_exchanges(&self, count: usize) {
        self.exchanges.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn add_lines(&self, count: u64) {
        self.lines.fetch_add(count, Ordering::Relaxed);
    }
}

/// The share of unremarkable exchanges whose line is written, and what is remarkable; shared by all recorders.
#[derive(Debug)]
pub struct Sampling {
    share: AtomicU64,
    /// Whether lines go to the access log, not only to others.
    log: AtomicBool,
    /// Nanoseconds from which on an exchange is slow.
    slow: AtomicU64,
}

impl Sampling {
    const OFF: u64 = u64::MAX;

    /// No lines at all.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            share: AtomicU64::new(Self::OFF),
            log: AtomicBool::new(true),
            slow: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether lines go to the access log from now on.
    pub fn set_log(&self, on: bool) {
        self.log.store(on, Ordering::Relaxed);
    }

    pub(super) fn logs(&self) -> bool {
        self.log.load(Ordering::Relaxed)
    }

    /// An exchange that takes longer is remarkable from now on.
    pub fn set_slow(&self, slow: Duration) {
        let nanos = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX);
        self.slow.store(nanos, Ordering::Relaxed);
    }

    /// Whether an exchange is kept whatever is sampled: it went wrong, or was slow.
    fn is_remarkable(&self, exchange: &Exchange) -> bool {
        is_remarkable(exchange)
            || exchange.phases.total().as_nanos() > u128::from(self.slow.load(Ordering::Relaxed))
    }

    /// Sets the share, 0 to 1; none turns the log off, for failures too.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a product within 0 and 2^32"
    )]
    pub fn set(&self, share: Option<f64>) {
        const ALL: f64 = 4_294_967_296.0;
        let threshold = share.map_or(Self::OFF, |share| (share.clamp(0.0, 1.0) * ALL) as u64);
        self.share.store(threshold, Ordering::Relaxed);
    }

    fn is_off(&self) -> bool {
        self.share.load(Ordering::Relaxed) == Self::OFF
    }

    fn takes(&self, remarkable: bool, rng: &mut fastrand::Rng) -> bool {
        let threshold = self.share.load(Ordering::Relaxed);
        threshold != Self::OFF && (remarkable || u64::from(rng.u32(..)) < threshold)
    }
}

/// What a worker hands to the observer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) names: Names,
    pub(super) lines: Vec<u8>,
    pub(super) line_count: u64,
    pub(super) records: Vec<Record>,
    pub(super) traces: Vec<trace::Record>,
    pub(super) told: Vec<Told>,
}

/// Emptied buffers on their way back to the workers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    exchanges: Mutex<Vec<Vec<Exchange>>>,
    names: Mutex<Vec<Names>>,
    lines: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    const MAX_BUFFERS: usize = 32;

    /// Never waits: when the pool is in use or empty, the buffer is a new one.
    fn batch(&self, with_lines: bool) -> Batch {
        fn take<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
            pool.try_lock().ok()?.pop()
        }
        let exchanges = take(&self.exchanges);
        let lines = if with_lines {
            take(&self.lines)
        } else {
            Some(Vec::new())
        };
        Batch {
            exchanges: exchanges.unwrap_or_else(|| Vec::with_capacity(FLUSH_EXCHANGES)),
            lines: lines.unwrap_or_else(|| Vec::with_capacity(FLUSH_LINES + FLUSH_LINES / 8)),
            names: take(&self.names).unwrap_or_default(),
            line_count: 0,
            records: Vec::new(),
            traces: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn give_exchanges(&self, buffer: Vec<Exchange>, mut names: Names) {
        Self::give(&self.exchanges, buffer, 2 * FLUSH_EXCHANGES);
        if names.capacity() <= 2 * FLUSH_EXCHANGES
            && let Ok(mut kept) = self.names.try_lock()
            && kept.len() < Self::MAX_BUFFERS
        {
            names.clear();
            kept.push(names);
        }
    }

    pub(super) fn give_lines(&self, buffer: Vec<u8>) {
        Self::give(&self.lines, buffer, 2 * FLUSH_LINES);
    }

    /// Keeps `buffer` unless it is empty of room, grew out of measure in a jam, or enough are kept.
    fn give<T>(pool: &Mutex<Vec<Vec<T>>>, mut buffer: Vec<T>, max_capacity: usize) {
        if !(1..=max_capacity).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        if let Ok(mut kept) = pool.try_lock()
            && kept.len() < Self::MAX_BUFFERS
        {
            kept.push(buffer);
        }
    }
}

/// What every recorder shares with the observer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sampling: Sampling,
    pub(super) drops: Drops,
    pub(super) pool: Pool,
}

/// Records the exchanges of one worker.
#[derive(Debug)]
pub struct Recorder {
    batch: Batch,
    flush_exchanges: usize,
    flush_lines: usize,
    encoder: Encoder,
    rng: fastrand::Rng,
    sender: SyncSender<Batch>,
    shared: Arc<Shared>,
}

impl Recorder {
    pub(super) fn new(sender: SyncSender<Batch>, shared: Arc<Shared>, seed: u64) -> Self {
        Self {
            batch: shared.pool.batch(!shared.sampling.is_off()),
            flush_exchanges: FLUSH_EXCHANGES,
            flush_lines: FLUSH_LINES,
            encoder: Encoder::default(),
            rng: fastrand::Rng::with_seed(seed),
            sender,
            shared,
        }
    }

    /// Records one finished exchange, and its line if the access log takes it.
    pub fn record(&mut self, exchange: Exchange, line: &Line<'_>) {
        let batch = &mut self.batch;
        let remarkable = self.shared.sampling.is_remarkable(&exchange);
        if self.shared.sampling.takes(remarkable, &mut self.rng) {
            if batch.lines.len() < MAX_LINES {
                self.encoder.encode(&mut batch.lines, &exchange, line);
                batch.line_count += 1;
            } else {
                self.shared.drops.add_lines(1);
            }
        }
        let (id, trail) = (line.request_id, line.trail);
        if let Some(record) = Record::of(&exchange, remarkable, id, trail, &mut self.rng) {
            if batch.records.len() < MAX_RECORDS {
                batch.records.push(record);
            } else {
                self.shared.drops.decisions.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(trace) = trace::Record::of(&exchange, line, remarkable) {
            if batch.traces.len() < MAX_TRACES {
                batch.traces.push(trace);
            } else {
                self.shared.drops.traces.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !line.told.is_empty() {
            let room = MAX_TOLD.saturating_sub(batch.told.len());
            let (kept, lost) = line.told.split_at(room.min(line.told.len()));
            batch.told.extend_from_slice(kept);
            let dropped = &self.shared.drops.told;
            dropped.fetch_add(lost.len() as u64, Ordering::Relaxed);
        }
        if batch.exchanges.len() < MAX_EXCHANGES {
            batch.exchanges.push(exchange);
            batch.names.push(line.client);
        } else {
            self.shared.drops.add_exchanges(1);
        }
        if batch.exchanges.len() >= self.flush_exchanges || batch.lines.len() >= self.flush_lines {
            self.flush();
        }
    }

    /// Hands what is recorded to the observer, without waiting. To be called about every 100 ms, so that a quiet
    /// worker's exchanges are seen too.
    pub fn flush(&mut self) {
        if self.batch.exchanges.is_empty() {
            return;
        }
        let full = self.swap();
        match self.sender.try_send(full) {
            Ok(()) => {
                self.flush_exchanges = FLUSH_EXCHANGES;
                self.flush_lines = FLUSH_LINES;
            }
            Err(TrySendError::Full(batch)) => self.keep(batch),
            Err(TrySendError::Disconnected(batch)) => self.lose(&batch),
        }
    }

    fn swap(&mut self) -> Batch {
        let fresh = self.shared.pool.batch(!self.shared.sampling.is_off());
        std::mem::replace(&mut self.batch, fresh)
    }

    /// Goes on filling `batch`, and tries again when it has grown by as much again.
    fn keep(&mut self, batch: Batch) {
        let fresh = std::mem::replace(&mut self.batch, batch);
        self.shared
            .pool
            .give_exchanges(fresh.exchanges, fresh.names);
        self.shared.pool.give_lines(fresh.lines);
        self.flush_exchanges = self.batch.exchanges.len() + FLUSH_EXCHANGES;
        self.flush_lines = self.batch.lines.len() + FLUSH_LINES;
    }

    fn lose(&self, batch: &Batch) {
        self.shared.drops.add_exchanges(batch.exchanges.len());
        self.shared.drops.add_lines(batch.line_count);
        let told = batch.told.len() as u64;
        self.shared.drops.told.fetch_add(told, Ordering::Relaxed);
    }
}

impl Drop for Recorder {
    /// Hands over the rest, waiting for room: the observer never waits for anyone, so this is short.
    fn drop(&mut self) {
        if self.batch.exchanges.is_empty() {
            return;
        }
        let rest = std::mem::take(&mut self.batch);
        if let Err(unsent) = self.sender.send(rest) {
            self.lose(&unsent.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::observe::access_log::tests::line;
    use crate::observe::tables::tests::{answered, refused};

    fn recorder(share: Option<f64>, room: usize) -> (Recorder, Receiver<Batch>, Arc<Shared>) {
        let shared = Arc::new(Shared {
            sampling: Sampling::off(),
            drops: Drops::default(),
            pool: Pool::default(),
        });
        shared.sampling.set(share);
        let (sender, receiver) = sync_channel(room);
        (
            Recorder::new(sender, Arc::clone(&shared), 7),
            receiver,
            shared,
        )
    }

    #[test]
    fn a_full_batch_is_handed_over_unasked() {
        let (mut recorder, batches, _shared) = recorder(None, 4);
        for _ in 0..FLUSH_EXCHANGES + 1 {
            recorder.record(answered(), &line("/"));
        }
        assert_eq!(batches.try_recv().unwrap().exchanges.len(), FLUSH_EXCHANGES);
        assert!(batches.try_recv().is_err());
        recorder.flush();
        assert_eq!(batches.try_recv().unwrap().exchanges, [answered()]);
        recorder.flush();
        assert!(batches.try_recv().is_err(), "an empty batch is not sent");
    }

    #[test]
    fn an_observer_that_lags_costs_the_newest_beyond_the_bound_and_they_are_counted() {
        let (mut recorder, batches, shared) = recorder(Some(1.0), 1);
        let total = 3 * MAX_EXCHANGES;
        let long = "x".repeat(200);
        for _ in 0..total {
            recorder.record(answered(), &line(&long));
        }
        let first = batches.try_recv().unwrap();
        recorder.flush();
        let second = batches.try_recv().unwrap();
        assert_eq!(second.exchanges.len(), MAX_EXCHANGES);
        assert!(second.lines.len() < MAX_LINES + 1_024);
        let kept = (first.exchanges.len() + second.exchanges.len()) as u64;
        assert_eq!(kept + shared.drops.exchanges(), total as u64);
        let lines = first.line_count + second.line_count;
        assert_eq!(lines + shared.drops.lines(), total as u64);
        assert!(shared.drops.lines() > 0);
    }

    #[test]
    fn what_a_dropped_recorder_holds_is_handed_over() {
        let (mut recorder, batches, _shared) = recorder(Some(0.0), 1);
        recorder.record(refused(), &line("/"));
        drop(recorder);
        let batch = batches.recv().unwrap();
        assert_eq!((batch.exchanges.len(), batch.line_count), (1, 1));
        assert!(batches.recv().is_err());
    }

    #[test]
    fn without_an_observer_everything_is_counted_as_dropped() {
        let (mut recorder, batches, shared) = recorder(Some(1.0), 1);
        drop(batches);
        recorder.record(answered(), &line("/"));
        recorder.flush();
        recorder.record(answered(), &line("/"));
        drop(recorder);
        assert_eq!((shared.drops.exchanges(), shared.drops.lines()), (2, 2));
    }

    #[test]
    fn sampling_spares_failures_and_follows_a_reload() {
        let (mut recorder, batches, shared) = recorder(Some(0.25), 64);
        for _ in 0..1_000 {
            recorder.record(answered(), &line("/"));
        }
        recorder.flush();
        let sampled: u64 = batches.try_iter().map(|batch| batch.line_count).sum();
        assert!((200..300).contains(&sampled), "{sampled}");
        recorder.record(refused(), &line("/"));
        shared.sampling.set(Some(0.0));
        shared.sampling.set_slow(Duration::from_millis(20));
        recorder.record(answered(), &line("/slow"));
        recorder.flush();
        assert_eq!(
            batches
                .try_iter()
                .map(|batch| batch.line_count)
                .sum::<u64>(),
            2
        );
        recorder.record(refused(), &line("/"));
        shared.sampling.set(None);
        recorder.record(refused(), &line("/"));
        recorder.flush();
        let last = batches.try_recv().unwrap();
        assert_eq!((last.exchanges.len(), last.line_count), (2, 1));
    }

    #[test]
    fn emptied_buffers_are_used_again() {
        let (mut recorder, batches, shared) = recorder(Some(1.0), 4);
        recorder.record(answered(), &line("/"));
        recorder.flush();
        let batch = batches.try_recv().unwrap();
        let address = batch.lines.as_ptr();
        shared.pool.give_exchanges(batch.exchanges, batch.names);
        shared.pool.give_lines(batch.lines);
        recorder.record(answered(), &line("/"));
        recorder.flush();
        recorder.record(answered(), &line("/"));
        assert_eq!(recorder.batch.lines.as_ptr(), address);
    }
}
