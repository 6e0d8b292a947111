//! The running process: workers, observer, admin API, checks and discovery; reload, drain and hand-over.
//!
//! Everything here runs on the control runtime, apart from the data plane. May depend on every room but
//! the command line.

mod automatic;
mod bundles;
mod changes;
mod fetch;
mod handover;
mod heartbeat;
mod incidents;
mod inflight;
mod isolations;
mod issuers;
mod load;
mod nodes;
mod quotas;
mod snapshot;
mod state;

use std::collections::HashMap;
use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::admin;
use crate::cache::Caches;
use crate::clients::Registry;
use crate::clock::SystemClock;
use crate::config::plan::{self, Bind, HedgeAfter, Plan};
use crate::config::{Source, diff, explain, watch};
use crate::discovery::dns::Discovery;
use crate::discovery::health::{Checks, Tls};
use crate::engine::breaker::Order;
use crate::engine::circuit::Mode;
use crate::engine::overload::{Overload, Pulse};
use crate::engine::rate::{self, Limits};
use crate::engine::registry::Directories;
use crate::engine::route::{Described, Routes};
use crate::engine::upstream::{EndpointState, Upstreams};
use crate::incident::watch::{AskProxy, Latest, Watch};
use crate::model::RateLimitId;
use crate::observe::accounts::KnownClient;
use crate::observe::collector::{Collector, Tap};
use crate::observe::events::Events;
use crate::observe::host::Host;
use crate::observe::status::Status;
use crate::observe::timeline::{Drawer, Timelines};
use crate::proxy::listener::{self, Bound};
use crate::proxy::live::{Connections, Connectors, Live, LiveListener, States};
use crate::proxy::worker::{self, Command, Handle, Shared};
use crate::usage::Ledger;
use crate::usage::writer::Writer;

pub use handover::Inherited;

use self::incidents::Promises;
use self::quotas::Quotas;
use self::state::State;

/// How long the observer may take, after the last exchange, to write what it holds.
const OBSERVER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How long the ledger may take after that.
const LEDGER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long each cache may take to write what it stored last.
const CACHE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a drain looks whether the workers have ended.
const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(20);

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
        let lag = Arc::new(AtomicU64::new(0));
        let proxy = load::proxy(Arc::clone(&lag), fd_limit, plan.server.workers);
        let watch = watch(&upstreams, &directories, proxy, &latest);
        let mut promises = Promises::new(plan.server.state_dir.as_deref());
        let ledger = Ledger::of(&plan.usage);
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
        let states = States {
            upstreams: upstreams.apply(&plan, &directories, SystemClock.now()),
            routes: routes.apply(described(&plan), SystemClock.now()),
            limits: limits.apply(rate_limits(&plan, &directories), quotas::now()),
            caches: caches.apply(&plan.caches),
        };
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
        let quotas = Quotas::new(state, Arc::clone(&shared));
        let mut process = Self {
            source,
            fd_limit,
            plan: Arc::new(ArcSwap::new(Arc::clone(&plan))),
            views: Arc::new(snapshot::Views::new(
                Arc::clone(&shared),
                Arc::clone(&upstreams),
                Arc::clone(&latest),
                Arc::clone(&promises.objectives),
                Arc::clone(&promises.bundles),
                Arc::clone(&caches),
                Arc::clone(&ledger.health),
            )),
            shared,
            workers: Vec::new(),
            listeners: HashMap::new(),
            sockets: handover::Sockets::default(),
            upstreams,
            routes,
            limits,
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
        process.begin_tasks(lag, events);
        process.sockets.admin(inherited);
        Ok(process)
    }

    /// Starts what goes on beside requests: health checks, the beat, keys of issuers, what outlives the process.
    fn begin_tasks(&self, lag: Arc<AtomicU64>, events: Arc<Events>) {
        let checks = Checks::new(check_tls, seed());
        let upstreams = Arc::clone(&self.upstreams);
        tokio::spawn(checks.supervise(upstreams, Arc::clone(&self.changed)));
        tokio::spawn(heartbeat::run(
            Arc::clone(&self.upstreams),
            Arc::clone(&self.shared),
            load::Gauges::new(self.fd_limit),
            lag,
            changes::Changes::new(events),
        ));
        tokio::spawn(issuers::fetch(Arc::clone(&self.shared)));
        tokio::spawn(nodes::watch(Arc::clone(&self.upstreams)));
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

    /// Binds and loads what `plan` listens on and is not open yet; touches nothing that runs.
    fn open(&self, plan: &Plan, inherited: &mut Inherited) -> Result<Vec<Opened>, Error> {
        let mut opened = Vec::new();
        for listener in &plan.listeners {
            let former = self.listeners.get(&listener.name);
            let connections =
                former.map_or_else(Arc::default, |open| Arc::clone(&open.connections));
            let live = Arc::new(LiveListener::build(listener, connections)?);
            let sockets = match former {
                Some(open) if open.bind == listener.bind => Vec::new(),
                _ => match inherited.take(&listener.bind) {
                    Some(sockets) => sockets,
                    None => listener::bind(&listener.bind, plan.server.workers)?,
                },
            };
            opened.push(Opened { live, sockets });
        }
        Ok(opened)
    }

    /// Puts what was opened to use.
    fn adopt(&mut self, opened: Vec<Opened>) {
        let mut views = Vec::new();
        for Opened { live, sockets } in opened {
            let name = Arc::clone(&live.listener.name);
            if sockets.is_empty() {
                for worker in &self.workers {
                    worker.tell(Command::Update(Arc::clone(&live)));
                }
            } else {
                if self.listeners.contains_key(&name) {
                    self.close(&name);
                }
                self.sockets.keep(&live.listener.bind, &sockets);
                let workers = self.workers.len().max(1);
                for (index, socket) in sockets.into_iter().enumerate() {
                    if let Some(worker) = self.workers.get(index % workers) {
                        worker.tell(Command::Listen(socket, Arc::clone(&live)));
                    }
                }
            }
            let open = Open {
                bind: live.listener.bind.clone(),
                connections: Arc::clone(&live.connections),
            };
            views.push((
                Arc::clone(&name),
                self.sockets.address(&open.bind),
                Arc::clone(&open.connections),
            ));
            self.listeners.insert(name, open);
        }
        self.views.set_listeners(views);
    }

    fn close(&mut self, name: &Arc<str>) {
        for worker in &self.workers {
            worker.tell(Command::Unlisten(Arc::clone(name)));
        }
        if let Some(open) = self.listeners.remove(name) {
            self.sockets.forget(&open.bind);
        }
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

    /// Loads the configuration again: takes it whole, or keeps the old one.
    fn reload(&mut self) -> Result<String, String> {
        let result = self.try_reload();
        let detail = match &result {
            Ok(hash) => json!({ "taken": true, "hash": hash }),
            Err(error) => json!({ "taken": false, "error": error }),
        };
        self.events.tell("reload", "configuration", detail);
        match &result {
            Ok(hash) => tracing::info!(%hash, "configuration reloaded"),
            Err(error) => tracing::error!("configuration not reloaded, the old one stays: {error}"),
        }
        self.status.reloaded(
            SystemClock,
            result.as_ref().map(|_| ()).map_err(Clone::clone),
        );
        result
    }

    fn try_reload(&mut self) -> Result<String, String> {
        let mut plan = self
            .source
            .load(self.fd_limit)
            .map_err(|error| error.to_string())?;
        let old = self.plan.load_full();
        let changes = diff::diff(&old, &plan);
        for change in &changes {
            let restart = if change.needs_restart {
                " (needs a restart)"
            } else {
                ""
            };
            tracing::info!("configuration: {change}{restart}");
        }
        // What only a restart can change stays as it is.
        plan.server.workers = old.server.workers;
        plan.server.max_connections = old.server.max_connections;
        plan.server.state_dir.clone_from(&old.server.state_dir);
        plan.admin = old.admin.clone();
        plan.clients.hash_key.clone_from(&old.clients.hash_key);
        let plan = Arc::new(plan);
        let connectors = Connectors::load(&plan).map_err(|error| error.to_string())?;
        let opened = self
            .open(&plan, &mut Inherited::default())
            .map_err(|error| error.to_string())?;
        let former = self.shared.live.load();
        let hasher = Arc::clone(former.clients.hasher());
        let clients = Registry::load(&plan.clients, hasher, Some(&former.clients))
            .map_err(|error| error.to_string())?;
        drop(former);
        // Nothing fails from here on, and nothing that runs has been touched before.
        let now = SystemClock.now();
        let states = States {
            upstreams: self.upstreams.apply(&plan, &self.directories, now),
            routes: self.routes.apply(described(&plan), now),
            limits: self
                .limits
                .apply(rate_limits(&plan, &self.directories), quotas::now()),
            caches: self.caches.apply(&plan.caches),
        };
        let clients = Arc::new(clients);
        let live = Live::new(
            Arc::clone(&plan),
            &connectors,
            &states,
            clients,
            &self.directories,
        );
        self.shared
            .overload
            .update(plan.server.overload, plan.tiers.len());
        self.shared.live.store(Arc::new(live));
        self.shared.generation.fetch_add(1, Ordering::Release);
        let gone: Vec<Arc<str>> = self
            .listeners
            .keys()
            .filter(|name| {
                !plan
                    .listeners
                    .iter()
                    .any(|listener| listener.name == **name)
            })
            .cloned()
            .collect();
        for name in &gone {
            self.close(name);
        }
        self.adopt(opened);
        self.collector.apply(&plan.telemetry);
        self.promises.follow(&plan, &self.directories);
        self.collector.metrics().set_known_clients(known(&plan));
        self.discovery.reconcile(&self.upstreams);
        self.changed.notify_one();
        if let Some(watch) = &self.watch {
            watch.set_files(watch::files(&plan));
        }
        let hash = plan.hash.clone();
        self.plan.store(plan);
        Ok(hash)
    }

    /// Stops accepting, lets exchanges finish, and ends the workers.
    async fn drain(mut self) {
        self.status.begin_drain();
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping]) {
            tracing::warn!(%error, "the service manager could not be told");
        }
        let timeout = self.plan.load().server.drain_timeout;
        tracing::info!(?timeout, "draining");
        if self.sockets.is_handed_over() {
            self.quotas.hand_over();
        }
        let timeout_seconds = timeout.as_secs_f64();
        let detail = json!({ "timeout_seconds": timeout_seconds });
        self.events.tell("drain", "process", detail);
        // A socket is closed when its last descriptor is: ours first, then each worker's.
        self.sockets.close();
        self.shared.draining.store(true, Ordering::Relaxed);
        let until = SystemClock.now().after(timeout);
        for worker in &self.workers {
            worker.tell(Command::Drain);
        }
        while !self.workers.iter().all(Handle::is_finished) && SystemClock.now() < until {
            let look = SystemClock.to_std(SystemClock.now().after(DRAIN_LOOK));
            tokio::time::sleep_until(tokio::time::Instant::from_std(look)).await;
        }
        for worker in &self.workers {
            worker.tell(Command::Cut);
        }
        for worker in self.workers.drain(..) {
            worker.join();
        }
        self.quotas.write();
        self.caches.close(CACHE_PATIENCE);
        if !self.collector.stop(OBSERVER_PATIENCE) {
            tracing::warn!("the access log's target was too slow; its last lines are lost");
        }
        // The observer is gone, and with it whoever hands anything to the ledger.
        let until = SystemClock.now().after(LEDGER_PATIENCE);
        while !self.writer.is_finished() && SystemClock.now() < until {
            let look = SystemClock.to_std(SystemClock.now().after(DRAIN_LOOK));
            tokio::time::sleep_until(tokio::time::Instant::from_std(look)).await;
        }
        tracing::info!("drained");
    }
}

/// A listener bound and loaded, not yet in use. Without sockets: those it has stay.
struct Opened {
    live: Arc<LiveListener>,
    sockets: Vec<Bound>,
}

/// What the workers of `plan` share.
fn shared(plan: &Plan, live: Live) -> Shared {
    let workers = plan.server.workers;
    Shared {
        live: ArcSwap::from_pointee(live),
        generation: AtomicU64::new(0),
        draining: AtomicBool::new(false),
        max_connections: plan.server.max_connections.div_ceil(workers),
        hasher: RandomState::new(),
        overload: Overload::new(plan.server.overload, plan.tiers.len()),
        isolations: Arc::default(),
        pulses: (0..workers).map(|_| Pulse::default()).collect(),
        upstream_connections: (0..workers).map(|_| ArcSwap::default()).collect(),
    }
}

/// What observes, as `plan` says; `watch` sees it all.
fn collector(
    plan: &Plan,
    upstreams: &Arc<Upstreams>,
    directories: &Arc<Directories>,
    taps: Vec<Box<dyn Tap>>,
) -> io::Result<Collector> {
    let collector = Collector::start(
        &plan.telemetry,
        Arc::clone(upstreams),
        Arc::clone(directories),
        taps,
    )?;
    collector.metrics().set_known_clients(known(plan));
    Ok(collector)
}

/// What looks for what is wrong, and leaves it in `latest`.
fn watch(
    upstreams: &Arc<Upstreams>,
    directories: &Arc<Directories>,
    proxy: AskProxy,
    latest: &Arc<Latest>,
) -> Watch {
    let (upstreams, directories) = (Arc::clone(upstreams), Arc::clone(directories));
    Watch::new(
        upstreams,
        directories,
        proxy,
        Arc::clone(latest),
        SystemClock.now(),
    )
}

/// What draws the last minutes of `upstreams` into `timelines`.
fn drawer(upstreams: &Arc<Upstreams>, timelines: &Arc<Timelines>) -> Drawer {
    let (upstreams, timelines) = (Arc::clone(upstreams), Arc::clone(timelines));
    Drawer::new(upstreams, timelines, SystemClock.now())
}

/// How a health check of `endpoint` is secured; none: it is not.
fn check_tls(upstream: &plan::Upstream, endpoint: &EndpointState) -> Option<Tls> {
    let (config, server_name) = crate::proxy::endpoint_tls(upstream, endpoint)?;
    Some(Tls {
        config,
        server_name,
    })
}

/// The machine, sampled from now on.
fn host(plan: &Plan) -> io::Result<Arc<Host>> {
    let host = Arc::new(Host::open(plan.server.state_dir.as_deref()));
    host.start()?;
    Ok(host)
}

/// What `plan` says of its routes.
fn described(plan: &Plan) -> impl Iterator<Item = Described<'_>> {
    plan.routes.iter().map(|route| {
        let upstream = plan.upstreams.get(route.upstream);
        let hedge = upstream.and_then(|upstream| upstream.retry.hedge_after);
        Described {
            name: &route.name,
            breaker: route.breaker.as_ref().map(|one| (one.mode, one.config)),
            late: match hedge {
                Some(HedgeAfter::Quantile(quantile)) => Some(quantile),
                Some(HedgeAfter::Time(_)) | None => None,
            },
        }
    })
}

/// The clients that `plan` knows by name.
fn known(plan: &Plan) -> Vec<KnownClient> {
    plan.clients.known.iter().map(KnownClient::from).collect()
}

/// What `plan` says of its rate limits.
fn rate_limits<'a>(
    plan: &'a Plan,
    directories: &'a Directories,
) -> impl Iterator<Item = rate::Described<'a>> {
    plan.rate_limits.iter().map(|limit| rate::Described {
        name: &limit.name,
        id: RateLimitId::new(directories.rate_limits.intern(&limit.name)),
        per: limit.per.to_string(),
        settings: limit.settings.clone(),
    })
}

/// A seed for a worker's randomness, from the system's.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: where randomness is seeded"
)]
fn seed() -> u64 {
    fastrand::u64(..)
}
