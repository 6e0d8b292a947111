//! The observer: one thread that folds every worker's batches, and passes their lines on to the writer.
//!
//! The tables and the clients' accounts stand each behind a mutex that only this thread, the scrape and the admin
//! API take, for one batch or one copy at a time. Every 100 ms the thread looks how the upstreams stand and lets the
//! accounts judge; whom they find to be throttled it tells the engine. A clean stop loses nothing: once the workers have dropped their recorders, the
//! thread folds what is left, the writer writes what is left, and both end. Depends on its neighbours in
//! this room.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::accounts::{Accounts, KnownClient, Report, Sample, Series};
use super::components::Told;
use super::exchange::Exchange;
use super::export::{Exported, Exports, Thread};
use super::log_writer::LogWriter;
use super::recorder::{Batch, Drops, Pool, Recorder, Sampling, Shared};
use super::tables::{Families, Latencies, Summary, Tables, Totals};
use super::why::{Memory, Why};
use crate::clock::{Instant, SystemClock};
use crate::config::plan::Telemetry;
use crate::engine::circuit::Mode;
use crate::engine::registry::Directories;
use crate::engine::upstream::{UpstreamState, Upstreams};
use crate::measure::histogram::Histogram;
use crate::model::{RouteId, UpstreamId};

/// Batches on their way from all workers to the observer.
const MAX_BATCHES: usize = 64;
/// How often the accounts are told how the upstreams stand.
const TICK: Duration = Duration::from_millis(100);

/// How long what is left may take to be exported at the end.
const EXPORT_PATIENCE: Duration = Duration::from_secs(3);

/// What has been observed; to be shared with whoever shows it.
#[derive(Debug)]
pub struct Metrics {
    tables: Mutex<Tables>,
    accounts: Mutex<Accounts>,
    memory: Mutex<Memory>,
    exports: Exports,
    shared: Arc<Shared>,
}

impl Metrics {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the exported families and the series of each upstream's clients, of one moment: the clients' sums
    /// are those of the families.
    #[must_use]
    pub fn exported(&self) -> (Families, Vec<Series>) {
        let tables = self.tables();
        let series = self.accounts().series();
        (tables.families().clone(), series)
    }

    /// Sums over everything since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.tables().families().totals
    }

    /// What `route` did, since the start and in the last minute; none if nothing.
    #[must_use]
    pub fn route(&self, route: RouteId) -> Option<Summary> {
        self.tables().route(route, SystemClock.now())
    }

    /// What `upstream` did, since the start and in the last minute; none if nothing.
    #[must_use]
    pub fn upstream(&self, upstream: UpstreamId) -> Option<Summary> {
        self.tables().upstream(upstream, SystemClock.now())
    }

    /// The recent latencies of `upstream`; none if nothing was measured.
    #[must_use]
    pub fn latencies(&self, upstream: UpstreamId) -> Option<Box<Latencies>> {
        self.tables().latencies(upstream, SystemClock.now())
    }

    /// What `upstream` said of its own time, by component; what has no name of its own is the last.
    #[must_use]
    pub fn components(&self, upstream: usize) -> Vec<(String, Histogram)> {
        let tables = self.tables();
        let all = tables.families().components.iter();
        let of = all.filter(|(at, ..)| *at == upstream);
        of.map(|(_, name, histogram)| {
            let name = name.map_or_else(|| "__other__".to_owned(), ToString::to_string);
            (name, histogram.clone())
        })
        .collect()
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each upstream's clients did.
    #[must_use]
    pub fn clients(&self) -> Vec<Report> {
        self.accounts().reports()
    }

    /// Follows a reload: the clients that are known by name from now on.
    pub fn set_known_clients(&self, known: Vec<KnownClient>) {
        self.accounts().set_known(known);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the request with this id.
    #[must_use]
    pub fn why(&self, request_id: &str) -> Option<Why> {
        self.memory().find(request_id)
    }

    /// What is known of the newest requests, at most `limit`, that began after `since`, in microseconds since the
    /// Unix epoch; the newest first.
    #[must_use]
    pub fn decided_since(&self, since: u64, limit: usize) -> Vec<Why> {
        self.memory().newest(since, limit)
    }

    /// Since when requests are known, in microseconds since the Unix epoch.
    #[must_use]
    pub fn known_since(&self) -> Option<u64> {
        self.memory().since()
    }

    /// What was exported, and what was not.
    #[must_use]
    pub fn exports(&self) -> [Exported; 4] {
        self.exports.exported()
    }

    /// What was dropped.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.shared.drops
    }
}

/// Somebody else who wants to see every exchange. Called on the observer's thread: must not wait for anything.
pub trait Tap: Send {
    /// These exchanges have ended, each with its client's name.
    fn batch(&mut self, exchanges: &mut dyn Iterator<Item = (&Exchange, &str)>, now: Instant);

    /// What upstreams said of their own time in those exchanges.
    fn told(&mut self, _told: &[Told]) {}

    /// Time has passed: about ten times a second.
    fn tick(&mut self, now: Instant);
}

/// The running observer and writer threads.
#[derive(Debug)]
pub struct Collector {
    batches: SyncSender<Batch>,
    metrics: Arc<Metrics>,
    log: LogWriter,
    exports: Exports,
    exporting: Thread,
    threads: [JoinHandle<()>; 2],
    done: Receiver<()>,
}

impl Collector {
    /// Starts all threads, with the log and the exports the plan asks for. `upstreams` is who is looked at, and
    /// whose clients are throttled; `taps` see what is observed.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        telemetry: &Telemetry,
        upstreams: Arc<Upstreams>,
        directories: Arc<Directories>,
        mut taps: Vec<Box<dyn Tap>>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            sampling: Sampling::off(),
            drops: Drops::default(),
            pool: Pool::default(),
        });
        let (exports, exporting) = Exports::start(directories)?;
        let metrics = Arc::new(Metrics {
            tables: Mutex::new(Tables::new(SystemClock.now())),
            accounts: Mutex::new(Accounts::new(SystemClock.now())),
            memory: Mutex::default(),
            exports: exports.clone(),
            shared: Arc::clone(&shared),
        });
        let (ended, done) = channel();
        let (log, writer) = LogWriter::start(shared, ended)?;
        let (batches, receiver) = sync_channel(MAX_BATCHES);
        let observer = {
            let (metrics, log) = (Arc::clone(&metrics), log.clone());
            std::thread::Builder::new()
                .name("observer".into())
                .spawn(move || observe(&receiver, &metrics, &upstreams, &mut taps, &log))?
        };
        let collector = Self {
            batches,
            metrics,
            log,
            exports,
            exporting,
            threads: [observer, writer],
            done,
        };
        collector.apply(telemetry);
        Ok(collector)
    }

    /// A recorder for one worker. `seed` decides which exchanges a sampled access log takes.
    #[must_use]
    pub fn recorder(&self, seed: u64) -> Recorder {
        Recorder::new(self.batches.clone(), Arc::clone(&self.metrics.shared), seed)
    }

    /// What has been observed so far.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Follows a reload: every recorder, the writer and the exports do as `telemetry` says from now on.
    pub fn apply(&self, telemetry: &Telemetry) {
        let log = telemetry.access_log.as_ref();
        self.log.set_target(log.map(|log| log.target.clone()));
        let sampling = &self.metrics.shared.sampling;
        // Splunk is sent every line where there is no log to go by.
        let splunk = telemetry.exporters.splunk.as_ref().map(|_| 1.0);
        sampling.set(log.map(|log| log.sample).or(splunk));
        sampling.set_log(log.is_some() || splunk.is_none());
        sampling.set_slow(telemetry.slow);
        self.exports.apply(&telemetry.exporters);
    }

    /// Where traces, lines and events go.
    #[must_use]
    pub const fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Opens the access log's file again: on SIGHUP, after a rotation.
    pub fn reopen_access_log(&self) {
        self.log.reopen();
    }

    /// Ends both threads after everything recorded is folded and written. All recorders must have been
    /// dropped; waits at most `within` for that and for a slow log target, and says whether it sufficed.
    #[must_use]
    pub fn stop(self, within: Duration) -> bool {
        drop(self.batches);
        if self.done.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        self.exports.stop(EXPORT_PATIENCE);
        let exported = self.exporting.join(within);
        self.threads.into_iter().all(|thread| thread.join().is_ok()) && exported
    }
}

fn observe(
    batches: &Receiver<Batch>,
    metrics: &Metrics,
    upstreams: &Upstreams,
    taps: &mut [Box<dyn Tap>],
    log: &LogWriter,
) {
    let mut next = SystemClock.now().after(TICK);
    loop {
        let now = SystemClock.now();
        if now >= next {
            tick(metrics, upstreams, now);
            taps.iter_mut().for_each(|tap| tap.tick(now));
            next = now.after(TICK);
        }
        match batches.recv_timeout(next.since(now)) {
            Ok(batch) => fold(batch, metrics, taps, log),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    log.stop();
}

fn fold(batch: Batch, metrics: &Metrics, taps: &mut [Box<dyn Tap>], log: &LogWriter) {
    let now = SystemClock.now();
    // Both for the whole batch, so that a scrape finds it in both or in neither.
    let (mut tables, mut accounts) = (metrics.tables(), metrics.accounts());
    for exchange in &batch.exchanges {
        tables.fold(exchange, now);
    }
    for record in &batch.traces {
        tables.fold_trace(record);
    }
    for told in &batch.told {
        tables.fold_told(told);
    }
    for (exchange, client) in batch.exchanges.iter().zip(batch.names.iter()) {
        accounts.fold(exchange, client, now);
    }
    drop((tables, accounts));
    for tap in taps {
        tap.batch(&mut batch.exchanges.iter().zip(batch.names.iter()), now);
        tap.told(&batch.told);
    }
    if !batch.records.is_empty() {
        metrics.memory().keep(batch.records);
    }
    metrics
        .shared
        .pool
        .give_exchanges(batch.exchanges, batch.names);
    if !batch.traces.is_empty() {
        metrics.exports.records(batch.traces);
    }
    metrics.exports.lines(&batch.lines, batch.line_count);
    if metrics.shared.sampling.logs() {
        log.write(batch.lines, batch.line_count);
    } else {
        metrics.shared.pool.give_lines(batch.lines);
    }
}

fn tick(metrics: &Metrics, upstreams: &Upstreams, now: Instant) {
    let upstreams = upstreams.all();
    let samples: Vec<_> = upstreams
        .iter()
        .map(|one| (one.id(), sample(one)))
        .collect();
    let throttles = metrics
        .accounts()
        .tick(now, SystemClock.unix_micros(), &samples);
    for (id, throttled) in throttles {
        if let Some(upstream) = upstreams.iter().find(|upstream| upstream.id() == id) {
            upstream.throttle().hold(throttled);
        }
    }
}

fn sample(upstream: &UpstreamState) -> Sample {
    let protection = upstream.protection();
    if protection.limit_mode() == Mode::Off {
        return Sample::default();
    }
    let gate = protection.gate();
    Sample {
        limit: gate.limit(),
        in_flight: gate.in_flight(),
        waiting: gate.waiting(),
        throttles: upstream.throttle().mode() == Mode::Enforce,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::plan::{AccessLog, LogTarget};
    use crate::observe::access_log::tests::line;
    use crate::observe::tables::tests::answered;

    /// Telemetry with an access log of everything and nothing else.
    fn logging_to(path: &std::path::Path) -> Telemetry {
        Telemetry {
            access_log: Some(AccessLog {
                target: LogTarget::File(path.to_owned()),
                sample: 1.0,
            }),
            slow: Duration::MAX,
            ..Telemetry::default()
        }
    }

    fn start(telemetry: &Telemetry) -> Collector {
        Collector::start(telemetry, Arc::default(), Arc::default(), Vec::new()).unwrap()
    }

    const SOON: Duration = Duration::from_secs(30);

    /// Metrics of exactly these exchanges.
    pub(crate) fn metrics_of(exchanges: &[Exchange]) -> Arc<Metrics> {
        let collector = start(&Telemetry::default());
        let metrics = Arc::clone(collector.metrics());
        let mut recorder = collector.recorder(1);
        for exchange in exchanges {
            recorder.record(*exchange, &line("/"));
        }
        drop(recorder);
        assert!(collector.stop(SOON));
        metrics
    }

    #[test]
    fn a_clean_stop_loses_no_exchange_and_no_line() {
        const WORKERS: usize = 4;
        const EACH: usize = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = logging_to(&path);
        let collector = start(&log);
        let metrics = Arc::clone(collector.metrics());
        let workers: Vec<_> = (0..WORKERS)
            .map(|seed| {
                let mut recorder = collector.recorder(seed as u64);
                std::thread::spawn(move || {
                    for _ in 0..EACH {
                        recorder.record(answered(), &line("/orders"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(collector.stop(SOON));

        let total = (WORKERS * EACH) as u64;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count() as u64;
        assert_eq!(
            metrics.totals().exchanges + metrics.drops().exchanges(),
            total
        );
        assert_eq!(lines + metrics.drops().lines(), total);
        assert!(
            text.lines()
                .all(|l| l.starts_with("{\"ts\"") && l.ends_with("\"}"))
        );
        assert!(text.ends_with('\n'));
        let route = metrics.route(RouteId::new(1)).unwrap();
        assert_eq!(route.requests, metrics.totals().exchanges);
    }

    #[test]
    fn a_scrape_at_any_moment_finds_an_exchange_in_both_or_in_neither() {
        let collector = start(&Telemetry::default());
        let metrics = Arc::clone(collector.metrics());
        let mut recorder = collector.recorder(1);
        let worker = std::thread::spawn(move || {
            for _ in 0..100_000 {
                recorder.record(answered(), &line("/"));
            }
        });
        let mut looks = 0;
        while !worker.is_finished() || looks == 0 {
            let (families, series) = metrics.exported();
            let of_clients = series.iter().map(|one| {
                let named = one.clients.values().map(|(sums, _)| sums.requests());
                named.sum::<u64>() + one.other.0.requests()
            });
            assert_eq!(of_clients.sum::<u64>(), families.totals.exchanges);
            looks += 1;
        }
        worker.join().unwrap();
        assert!(collector.stop(SOON));
    }

    #[test]
    fn a_recorder_that_is_kept_bounds_the_wait_and_is_told() {
        let collector = start(&Telemetry::default());
        let recorder = collector.recorder(1);
        assert!(!collector.stop(Duration::ZERO));
        drop(recorder);
    }

    #[test]
    fn a_reload_turns_the_log_on_and_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = logging_to(&path);
        let collector = start(&Telemetry::default());
        let mut recorder = collector.recorder(1);
        recorder.record(answered(), &line("/before"));
        collector.apply(&log);
        recorder.record(answered(), &line("/during"));
        collector.apply(&Telemetry::default());
        recorder.record(answered(), &line("/after"));
        drop(recorder);
        assert!(collector.stop(SOON));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("/during"));
    }
}
