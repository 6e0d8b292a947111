//! What leaves the process by itself: traces, lines, events and notices, each to whoever the plan names.
//!
//! ```text
//! observer ─► Queue ─► batch ─► OTLP | Zipkin | Splunk
//! incident ─► Queue of each ──► webhook | program | file
//! ```
//! All of it happens on one thread of its own. Queues are bounded; what does not fit, or is not taken in the end, is
//! counted. So a collector that is away costs its own data and nobody's time.

mod client;
mod notify;
mod queue;
mod retry;
mod spill;
mod splunk;
mod traces;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle as Task, LocalSet};

pub(crate) use self::client::system_tls;
use self::notify::MAX_NOTICES;
pub use self::notify::Notice;
pub use self::queue::Counts;
use self::queue::Queue;
use super::trace::Record;
use crate::config::plan::{Exporters, Notify};
use crate::engine::registry::Directories;

/// Requests with a trace that wait to be sent to one server.
const MAX_RECORDS: usize = 16_384;
/// Bytes of lines and events that wait to be sent to Splunk.
const MAX_LINES: usize = 16 << 20;

/// Lines on their way to Splunk.
#[derive(Debug)]
struct Lines {
    block: Vec<u8>,
    kind: &'static str,
}

/// What the rest of the process leaves with.
#[derive(Debug)]
struct Shared {
    otlp: Queue<Arc<Vec<Record>>>,
    zipkin: Queue<Arc<Vec<Record>>>,
    splunk: Queue<Lines>,
    notices: Arc<Counts>,
    /// Who takes any: OTLP, Zipkin, Splunk, those who are told of incidents.
    on: [AtomicBool; 4],
}

impl Shared {
    fn is_on(&self, which: usize) -> bool {
        self.on
            .get(which)
            .is_some_and(|on| on.load(Ordering::Relaxed))
    }
}

/// How much went to one server, and how much did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// `otlp`, `zipkin`, `splunk`, `notify`.
    pub exporter: &'static str,
    /// Whether there is such a server.
    pub on: bool,
    /// Requests, lines and events, or notices, that were taken.
    pub sent: u64,
    /// Those for which there was no room.
    pub dropped: u64,
    /// Those that were not taken in the end.
    pub failed: u64,
    /// Those that wait in memory.
    pub waiting: u64,
}

/// The other threads' side of the export thread.
#[derive(Clone, Debug)]
pub struct Exports {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Apply(Box<Exporters>),
    Tell(Arc<Notice>),
    Stop(Duration),
}

/// The running thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    done: Receiver<()>,
}

impl Thread {
    /// Waits, at most `within`, for it to end after [`Exports::stop`].
    pub fn join(self, within: Duration) -> bool {
        if self.done.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        self.handle.join().is_ok()
    }
}

impl Exports {
    /// Starts the thread; nobody is sent anything yet.
    ///
    /// # Errors
    /// When the system refuses a thread or its runtime.
    pub fn start(directories: Arc<Directories>) -> io::Result<(Self, Thread)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()?;
        let shared = Arc::new(Shared {
            otlp: Queue::new(MAX_RECORDS),
            zipkin: Queue::new(MAX_RECORDS),
            splunk: Queue::new(MAX_LINES),
            notices: Arc::default(),
            on: Default::default(),
        });
        let (orders, inbox) = mpsc::unbounded_channel();
        let (ended, done) = channel();
        let exports = Self {
            shared: Arc::clone(&shared),
            orders,
        };
        let handle = std::thread::Builder::new()
            .name("export".into())
            .spawn(move || {
                let local = LocalSet::new();
                local.block_on(&runtime, run(shared, directories, inbox));
                drop(local);
                // A disk that hangs must not hold up the end.
                runtime.shutdown_background();
                drop::<std::sync::mpsc::Sender<()>>(ended);
            })?;
        Ok((exports, Thread { handle, done }))
    }

    /// Follows the plan: from now on these are sent what there is.
    pub fn apply(&self, exporters: &Exporters) {
        let on = [
            exporters.otlp.is_some(),
            exporters.zipkin.is_some(),
            exporters.splunk.is_some(),
            !exporters.notify.is_empty(),
        ];
        for (flag, on) in self.shared.on.iter().zip(on) {
            flag.store(on, Ordering::Relaxed);
        }
        let order = Order::Apply(Box::new(exporters.clone()));
        // A thread that has ended sends nothing more.
        let _ended = self.orders.send(order);
    }

    /// Has what is left sent within `patience`, and the thread end.
    pub fn stop(&self, patience: Duration) {
        let _ended = self.orders.send(Order::Stop(patience));
    }

    /// Whether Splunk is sent lines.
    #[must_use]
    pub fn takes_lines(&self) -> bool {
        self.shared.is_on(2)
    }

    /// Leaves requests whose traces are kept.
    pub(super) fn records(&self, records: Vec<Record>) {
        let count = records.len();
        let records = Arc::new(records);
        let queues = [&self.shared.otlp, &self.shared.zipkin];
        for (which, queue) in queues.into_iter().enumerate() {
            if self.shared.is_on(which) {
                queue.push(Arc::clone(&records), count, count as u64);
            }
        }
    }

    /// Leaves `count` lines of the access log.
    pub(super) fn lines(&self, block: &[u8], count: u64) {
        self.block(block, "tidegate:access", count);
    }

    /// Leaves an event: one line of JSON.
    pub(super) fn event(&self, line: &[u8]) {
        self.block(line, "tidegate:event", 1);
    }

    /// Tells of an incident.
    pub fn notice(&self, notice: Notice) {
        if self.shared.is_on(3) {
            let _ended = self.orders.send(Order::Tell(Arc::new(notice)));
        }
    }

    fn block(&self, block: &[u8], kind: &'static str, count: u64) {
        if count > 0 && self.takes_lines() {
            let lines = Lines {
                block: block.to_vec(),
                kind,
            };
            self.shared.splunk.push(lines, block.len(), count);
        }
    }

    /// What became of all that was left here.
    #[must_use]
    pub fn exported(&self) -> [Exported; 4] {
        let shared = &self.shared;
        let of = |exporter, which, counts: &Counts| Exported {
            exporter,
            on: shared.is_on(which),
            sent: counts.sent(),
            dropped: counts.dropped(),
            failed: counts.failed(),
            waiting: counts.waiting(),
        };
        [
            of("otlp", 0, shared.otlp.counts()),
            of("zipkin", 1, shared.zipkin.counts()),
            of("splunk", 2, shared.splunk.counts()),
            of("notify", 3, &shared.notices),
        ]
    }
}

/// A server's task, and what it was begun with.
struct Running<C> {
    config: C,
    task: Task<()>,
}

/// Turns a task over to `config`, unless that is what it has.
fn turn<C: PartialEq + Clone>(
    running: &mut Option<Running<C>>,
    config: Option<C>,
    begin: impl FnOnce(C) -> Task<()>,
) {
    if running.as_ref().map(|one| &one.config) == config.as_ref() {
        return;
    }
    if let Some(one) = running.take() {
        one.task.abort();
    }
    *running = config.map(|config| Running {
        task: begin(config.clone()),
        config,
    });
}

async fn run(
    shared: Arc<Shared>,
    directories: Arc<Directories>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let host: Arc<str> = host().into();
    let (mut otlp, mut zipkin, mut splunk) = (None, None, None);
    let mut told: Vec<Told> = Vec::new();
    let spawn =
        |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| tokio::task::spawn_local(future);
    let patience = loop {
        match orders.recv().await {
            Some(Order::Apply(exporters)) => {
                let all = || {
                    (
                        Arc::clone(&shared),
                        Arc::clone(&directories),
                        Arc::clone(&host),
                    )
                };
                turn(&mut otlp, exporters.otlp, |config| {
                    let (shared, directories, host) = all();
                    spawn(Box::pin(async move {
                        traces::otlp(&config, &shared.otlp, &directories, &host).await;
                    }))
                });
                turn(&mut zipkin, exporters.zipkin, |config| {
                    let (shared, directories, _host) = all();
                    spawn(Box::pin(async move {
                        traces::zipkin(&config, &shared.zipkin, &directories).await;
                    }))
                });
                turn(&mut splunk, exporters.splunk, |config| {
                    let (shared, _directories, host) = all();
                    spawn(Box::pin(async move {
                        splunk::run(config, &shared.splunk, host).await;
                    }))
                });
                told = follow(told, exporters.notify, &shared.notices);
            }
            Some(Order::Tell(notice)) => {
                for one in &told {
                    one.queue.push(Arc::clone(&notice), 1, 1);
                }
            }
            Some(Order::Stop(patience)) => break patience,
            None => break Duration::ZERO,
        }
    };
    shared.otlp.close();
    shared.zipkin.close();
    shared.splunk.close();
    told.iter().for_each(|one| one.queue.close());
    let mut tasks = [
        otlp.map(|one: Running<_>| one.task),
        zipkin.map(|one: Running<_>| one.task),
        splunk.map(|one: Running<_>| one.task),
    ];
    let all = async {
        let told = told.iter_mut().map(|one| &mut one.running.task);
        for task in tasks.iter_mut().flatten().chain(told) {
            // A task that was cut off has counted what it lost.
            let _cut = task.await;
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        let lost: u64 = [
            shared.otlp.lose(),
            shared.zipkin.lose(),
            shared.splunk.lose(),
        ]
        .into_iter()
        .chain(told.iter().map(|one| one.queue.lose()))
        .sum();
        tracing::warn!(
            lost,
            "not all that was to be exported could be sent before the end"
        );
    }
}

/// One who is told of incidents.
struct Told {
    running: Running<Notify>,
    queue: Arc<Queue<Arc<Notice>>>,
}

/// Those of `told` who are still wanted, and the new ones; the others are told nothing more.
fn follow(mut told: Vec<Told>, wanted: Vec<Notify>, counts: &Arc<Counts>) -> Vec<Told> {
    let kept = wanted.into_iter().map(|config| {
        let place = told.iter().position(|one| one.running.config == config);
        place.map_or_else(
            || {
                let queue = Arc::new(Queue::counted(MAX_NOTICES, Arc::clone(counts)));
                let task =
                    tokio::task::spawn_local(notify::run(config.clone(), Arc::clone(&queue)));
                let running = Running {
                    config: config.clone(),
                    task,
                };
                Told { running, queue }
            },
            |place| told.swap_remove(place),
        )
    });
    let kept = kept.collect();
    for one in told {
        one.running.task.abort();
        one.queue.lose();
    }
    kept
}

/// What this machine is called.
pub fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
