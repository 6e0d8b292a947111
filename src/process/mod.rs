//! The running process: workers, observer, admin API, checks and discovery; reload, drain and hand-over.
//!
//! Everything here runs on the control runtime, apart from the data plane. May depend on every room but
//! the command line.

mod automatic;
mod bundles;
mod changes;
mod drain;
mod fetch;
mod handover;
mod heartbeat;
mod incidents;
mod inflight;
mod isolations;
mod issuers;
mod listeners;
mod load;
mod meeting;
mod memory;
mod nodes;
mod parts;
mod quotas;
mod reload;
mod snapshot;
mod state;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::admin;
use crate::cache::Caches;
use crate::clients::Registry;
use crate::clock::SystemClock;
use crate::config::plan::{Bind, Plan};
use crate::config::{Source, explain, watch};
use crate::discovery::dns::Discovery;
use crate::discovery::health::Checks;
use crate::engine::breaker::Order;
use crate::engine::circuit::Mode;
use crate::engine::rate::Limits;
use crate::engine::registry::Directories;
use crate::engine::route::Routes;
use crate::engine::upstream::Upstreams;
use crate::incident::watch::Latest;
use crate::observe::collector::{Collector, Tap};
use crate::observe::events::Events;
use crate::observe::host::Host;
use crate::observe::status::Status;
use crate::observe::timeline::Timelines;
use crate::proxy::listener::Bound;
use crate::proxy::live::{Connections, Connectors, Live};
use crate::proxy::worker::{self, Handle, Shared};
use crate::usage::Ledger;
use crate::usage::writer::Writer;

pub use handover::Inherited;

use self::incidents::Promises;
use self::load::Lags;
use self::parts::{check_tls, collector, drawer, host, shared, states, watch};
use self::quotas::Quotas;
use self::state::State;

/// Why the process could not start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket, thread or file could not be had.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A certificate, key or CA file cannot be used.
    #[error("{0}")]
    Tls(#[from] crate::proxy::live::TlsError),
    /// A file with an issuer's keys cannot be used.
    #[error("{0}")]
    Clients(#[from] crate::clients::Error),
}

/// What a running process can be told from outside its signals.
#[derive(Debug)]
pub struct Stop(oneshot::Sender<()>);

impl Stop {
    /// A stop and what it stops.
    #[must_use]
    pub fn pair() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Drains the process.
    pub fn now(self) {
        // A process that has ended by itself needs no stop.
        let _ended = self.0.send(());
    }
}

/// A process at work.
struct Process {
    source: Source,
    fd_limit: usize,
    plan: Arc<ArcSwap<Plan>>,
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    listeners: HashMap<Arc<str>, Open>,
    sockets: handover::Sockets,
    upstreams: Arc<Upstreams>,
    routes: Routes,
    limits: Limits,
    meeting: meeting::Meeting,
    quotas: Arc<Quotas>,
    keeper: Arc<isolations::Keeper>,
    caches: Arc<Caches>,
    directories: Arc<Directories>,
    collector: Collector,
    latest: Arc<Latest>,
    timelines: Arc<Timelines>,
    promises: Promises,
    events: Arc<Events>,
    host: Arc<Host>,
    ledger: Ledger,
    writer: Writer,
    status: Arc<Status>,
    views: Arc<snapshot::Views>,
    discovery: Discovery,
    changed: Arc<Notify>,
    watch: Option<watch::Watch>,
}

/// An open listener.
struct Open {
    bind: Bind,
    connections: Arc<Connections>,
}

/// Runs `plan`, which was loaded from `source`, until a signal or `stop` ends it.
///
/// # Errors
/// When it cannot start: an address in use, a certificate that cannot be used. Nothing is left running.
pub fn run(
    source: Source,
    fd_limit: usize,
    plan: Plan,
    inherited: Inherited,
    stop: oneshot::Receiver<()>,
    ready: impl FnOnce(&str),
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(step_back)
        .build()?;
    runtime.block_on(async {
        let (commands, inbox) = mpsc::channel(16);
        let (changes, changed_files) = mpsc::unbounded_channel();
        let mut process = Process::start(source, fd_limit, plan, inherited)?;
        let admin_stop = Arc::new(Notify::new());
        let admin = process.serve_admin(commands, Arc::clone(&admin_stop))?;
        process.watch(changes);
        ready(&admin);
        process.announce_ready();
        process.attend(inbox, changed_files, stop).await?;
        process.drain().await;
        admin_stop.notify_one();
        Ok(())
    })
}

/// How much less than a worker a thread that renders, packs and waits for disks is given of a processor that both want.
const STEP_BACK: i32 = 10;

/// No request waits for what is handed to such a thread.
fn step_back() {
    // On Linux this is of the thread alone. Where it is refused, the thread is as important as any.
    let _refused = rustix::process::nice(STEP_BACK);
}

impl Process {
    fn start(
        source: Source,
        fd_limit: usize,
        plan: Plan,
        mut inherited: Inherited,
    ) -> Result<Self, Error> {
        let directories = Arc::new(Directories::default());
        let upstreams = Arc::new(Upstreams::new());
        let latest = Arc::new(Latest::default());
        let lags = Arc::new(Lags::default());
        let proxy = load::proxy(Arc::clone(&lags), fd_limit, plan.server.workers);
        let watch = watch(&upstreams, &directories, proxy, &latest);
        let mut promises = Promises::new(plan.server.state_dir.as_deref());
        let ledger = Ledger::of(&plan.usage, plan.server.state_dir.as_deref());
        let (writer, folder) = ledger.start(&directories)?;
        let timelines = Arc::new(Timelines::default());
        let taps: Vec<Box<dyn Tap>> = vec![
            Box::new(watch),
            Box::new(promises.tap(&latest, &directories)),
            Box::new(folder),
            Box::new(drawer(&upstreams, &timelines)),
        ];
        let collector = collector(&plan, &upstreams, &directories, taps)?;
        let events = Arc::new(Events::new(collector.exports().clone()));
        let plan = Arc::new(plan);
        let connectors = Connectors::load(&plan)?;
        let routes = Routes::default();
        let limits = Limits::default();
        let caches = Arc::new(Caches::default());
        let states = states(&plan, &directories, &upstreams, &routes, &limits, &caches);
        let status = Arc::new(Status::new(SystemClock));
        let state = Arc::new(State::open(&plan, Arc::clone(&status))?);
        promises.begin(&plan, &directories, &events, collector.exports(), &state);
        let hasher = Arc::new(state.hasher());
        let clients = Arc::new(Registry::load(&plan.clients, hasher, None)?);
        quotas::restore(&state, &states.limits);
        let live = Live::new(
            Arc::clone(&plan),
            &connectors,
            &states,
            clients,
            &directories,
        );
        let shared = Arc::new(shared(&plan, live));
        let changed = Arc::new(Notify::new());
        let discovery = Discovery::new(Arc::clone(&directories), Arc::clone(&changed))
            .map_err(|error| io::Error::other(format!("cannot read the DNS settings: {error}")))?;
        let keeper = isolations::Keeper::restore(
            Arc::clone(&shared.isolations),
            Arc::clone(&upstreams),
            Arc::clone(&events),
            Arc::clone(&state),
        );
        let meeting = meeting::Meeting::new(limits.fleet(), state.own_key(&plan));
        let quotas = Quotas::new(state, Arc::clone(&shared));
        let mut process = Self {
            source,
            fd_limit,
            plan: Arc::new(ArcSwap::new(Arc::clone(&plan))),
            views: Arc::new(snapshot::Views {
                shared: Arc::clone(&shared),
                upstreams: Arc::clone(&upstreams),
                latest: Arc::clone(&latest),
                objectives: Arc::clone(&promises.objectives),
                bundles: Arc::clone(&promises.bundles),
                caches: Arc::clone(&caches),
                usage: Arc::clone(&ledger.health),
                fleet: Arc::clone(&meeting.fleet),
                meeting: Arc::clone(&meeting.health),
                listeners: std::sync::Mutex::default(),
            }),
            shared,
            workers: Vec::new(),
            listeners: HashMap::new(),
            sockets: handover::Sockets::default(),
            upstreams,
            routes,
            limits,
            meeting,
            caches,
            directories,
            collector,
            latest,
            timelines,
            promises,
            events: Arc::clone(&events),
            host: host(&plan)?,
            ledger,
            writer,
            status,
            quotas,
            keeper,
            discovery,
            changed,
            watch: None,
        };
        let opened = process.open(&plan, &mut inherited)?;
        process.start_workers(plan.server.workers)?;
        process.adopt(opened);
        process.discovery.reconcile(&process.upstreams);
        process.begin_tasks(lags, events);
        process.sockets.admin(inherited);
        Ok(process)
    }

    /// Starts what goes on beside requests: health checks, the beat, keys of issuers, what outlives the process.
    fn begin_tasks(&mut self, lags: Arc<Lags>, events: Arc<Events>) {
        let checks = Checks::new(check_tls, seed());
        self.meeting
            .begin(&self.plan, &self.shared, Arc::clone(&events), seed());
        let upstreams = Arc::clone(&self.upstreams);
        tokio::spawn(checks.supervise(upstreams, Arc::clone(&self.changed)));
        tokio::spawn(heartbeat::run(
            Arc::clone(&self.upstreams),
            Arc::clone(&self.shared),
            load::Gauges::new(self.fd_limit),
            lags,
            changes::Changes::new(events),
        ));
        tokio::spawn(issuers::fetch(Arc::clone(&self.shared)));
        tokio::spawn(nodes::watch(Arc::clone(&self.upstreams)));
        tokio::spawn(memory::give_back());
        tokio::spawn(Arc::clone(&self.quotas).keep());
        tokio::spawn(Arc::clone(&self.keeper).keep());
    }

    fn start_workers(&mut self, count: usize) -> Result<(), Error> {
        for index in 0..count {
            let recorder = self.collector.recorder(seed());
            let shared = Arc::clone(&self.shared);
            self.workers
                .push(worker::start(index, shared, recorder, seed())?);
        }
        Ok(())
    }

    /// Serves the admin API; its address.
    fn serve_admin(
        &mut self,
        commands: mpsc::Sender<admin::Command>,
        stop: Arc<Notify>,
    ) -> Result<String, Error> {
        let plan = self.plan.load_full();
        let bound = self.sockets.admin_socket(&plan.admin.bind)?;
        let address = bound.address();
        let listener = match bound {
            Bound::Tcp(socket) => admin::Listener::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Bound::Unix(socket) => {
                admin::Listener::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        };
        let views = Arc::clone(&self.views);
        let inboxes: Vec<_> = self.workers.iter().map(Handle::inbox).collect();
        let state = admin::AdminState {
            plan: Arc::clone(&self.plan),
            caches: Arc::clone(&self.caches),
            isolations: Arc::clone(&self.shared.isolations),
            directories: Arc::clone(&self.directories),
            metrics: Arc::clone(self.collector.metrics()),
            latest: Arc::clone(&self.latest),
            timelines: Arc::clone(&self.timelines),
            feed: Arc::default(),
            objectives: Arc::clone(&self.promises.objectives),
            incidents: Arc::clone(&self.promises.incidents),
            bundles: Arc::clone(&self.promises.bundles),
            events: Arc::clone(&self.events),
            host_samples: Arc::clone(&self.host),
            usage: self.ledger.clone(),
            status: Arc::clone(&self.status),
            snapshot: Arc::new(move || views.snapshot()),
            inflight: Arc::new(move |limit| Box::pin(inflight::collect(inboxes.clone(), limit))),
            explain: explain::to_json,
            token: plan.admin.token.clone(),
            host: None,
            commands,
        };
        self.promises.capture(&state);
        let (keeper, upstreams) = (Arc::clone(&self.keeper), Arc::clone(&self.upstreams));
        tokio::spawn(automatic::Automatic::new(state.clone(), keeper, upstreams).run());
        let router = admin::router(state);
        tokio::spawn(admin::serve(listener, router, async move {
            stop.notified().await
        }));
        Ok(address)
    }

    fn watch(&mut self, changes: mpsc::UnboundedSender<()>) {
        if self.source.file.is_none() {
            return;
        }
        let started = watch::Watch::start(watch::files(&self.plan.load()), move |_change| {
            // A process that ends hears no more of its files.
            let _ended = changes.send(());
        });
        match started {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => tracing::warn!(%error, "files cannot be watched; reload with SIGHUP"),
        }
    }

    fn announce_ready(&self) {
        let pid = sd_notify::NotifyState::MainPid(std::process::id());
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready, pid]) {
            tracing::warn!(%error, "the service manager could not be told");
        }
        handover::relieve_parent();
    }

    /// Attends to signals, commands and changed files until it is time to drain.
    async fn attend(
        &mut self,
        mut inbox: mpsc::Receiver<admin::Command>,
        mut changed_files: mpsc::UnboundedReceiver<()>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(), Error> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut upgrade = signal(SignalKind::user_defined2())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = &mut stop => return Ok(()),
                _ = hangup.recv() => {
                    self.collector.reopen_access_log();
                    // The outcome is in log, metric and status.
                    let _told = self.reload();
                }
                Some(()) = changed_files.recv() => {
                    let _told = self.reload();
                }
                _ = upgrade.recv() => {
                    self.quotas.write();
                    if let Err(error) = self.sockets.hand_over() {
                        tracing::error!(%error, "the new binary could not be started; this one goes on");
                    }
                }
                Some(command) = inbox.recv() => match command {
                    admin::Command::Reload { reply, .. } => {
                        // Whoever asked may have gone.
                        let _gone = reply.send(self.reload());
                    }
                    admin::Command::Drain { .. } => return Ok(()),
                    admin::Command::Breaker { upstream, order, reply } => {
                        let _gone = reply.send(self.order_breaker(&upstream, order));
                    }
                    admin::Command::Isolate { order, reply } => {
                        let added = self.keeper.add(order);
                        self.keeper.written(move |kept| {
                            let _gone = reply.send(added.map(|()| kept));
                        });
                    }
                    admin::Command::Release { id, reason, reply } => {
                        let released = self.keeper.release(&id, &reason);
                        self.keeper.written(move |_kept| {
                            let _gone = reply.send(released);
                        });
                    }
                },
            }
        }
    }

    /// Gives the breaker of `upstream` an order, or ends it.
    fn order_breaker(&self, upstream: &str, order: Option<Order>) -> Result<(), admin::NoBreaker> {
        let state = self.upstreams.get(upstream);
        let state = state.ok_or(admin::NoBreaker::NoUpstream)?;
        let circuit = state.protection().circuit();
        match order {
            Some(_) if circuit.mode() != Mode::Enforce => {
                return Err(admin::NoBreaker::NotActing(circuit.mode()));
            }
            Some(order) => circuit.breaker().force(order, SystemClock.now()),
            None => circuit.breaker().auto(SystemClock.now()),
        }
        Ok(())
    }
}

/// A seed for a worker's randomness, from the system's.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: where randomness is seeded"
)]
fn seed() -> u64 {
    fastrand::u64(..)
}
