//! A data worker: one thread, one runtime, its own listening sockets, pools and record buffers.
//!
//! What it shares with the rest of the process is read through an atomic swap or told by commands.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use slab::Slab;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::conn::{Activity, Conn, Order};
use super::id::{Ids, RequestId};
use super::inflight::InFlight;
use super::listener::{Acceptor, Bound};
use super::live::{Connections, Live, LiveListener, View as PlanView};
use super::pool::Pools;
use super::serve;
use super::spare::Spares;
use super::stream::Socket;
use crate::clients::Memo;
use crate::clock::{Instant, SystemClock};
use crate::engine::isolation::Isolations;
use crate::engine::overload::{Overload, Pulse};
use crate::observe::exchange::{Exchange, Line};
use crate::observe::inflight::View;
use crate::observe::recorder::Recorder;

/// How often records are handed to the observer, and how often it is seen how late the loop is. Not in step with the 100 ms by
/// which the kernel bounds a control group's processor time: else all beats, or none, would fall into its pauses.
const FLUSH_EVERY: Duration = Duration::from_millis(83);
/// Flushes between two sweeps of connections and pools.
const FLUSHES_PER_SWEEP: u32 = 6;
/// How long a connection must have been idle before a drain closes it: closing one that its client is
/// about to use again would lose that request.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// The pause after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest `Retry-After` before it is spread, in seconds.
const MAX_RETRY_AFTER: u128 = 300;
/// The longest `Retry-After` of a quota, before it is spread, in seconds: a month.
const MAX_QUOTA_AFTER: u128 = 31 * 86_400;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The plan in force.
    pub live: ArcSwap<Live>,
    /// Grows with every plan, so that workers notice without touching the plan itself.
    pub generation: AtomicU64,
    /// Whether the process drains.
    pub draining: AtomicBool,
    /// Connections one worker may have open.
    pub max_connections: usize,
    /// What client keys are hashed with.
    pub hasher: RandomState,
    /// Who is still admitted when the process runs short of something.
    pub overload: Overload,
    /// Whom operators hold apart.
    pub isolations: Arc<Isolations>,
    /// How late each worker's event loop runs.
    pub pulses: Vec<Pulse>,
    /// Open upstream connections by endpoint index, by worker; written by each worker's sweep.
    pub upstream_connections: Vec<ArcSwap<Vec<(usize, usize)>>>,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept on this socket.
    Listen(Bound, Arc<LiveListener>),
    /// New connections of this listener follow new settings.
    Update(Arc<LiveListener>),
    /// Stop accepting for this listener, and drain its connections.
    Unlisten(Arc<str>),
    /// Stop accepting, finish what is in flight, and end.
    Drain,
    /// End at once: the drain took too long.
    Cut,
    /// Tell the oldest requests under way, at most so many, and how many there are.
    InFlight(usize, oneshot::Sender<(Vec<View>, usize)>),
}

/// A worker's handle.
#[derive(Debug)]
pub struct Handle {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Where the worker hears.
    #[must_use]
    pub fn inbox(&self) -> UnboundedSender<Command> {
        self.commands.clone()
    }

    /// Tells the worker. A worker that has ended hears nothing.
    pub fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("a worker that has ended was told something");
        }
    }

    /// Whether the worker has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the worker's end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

/// Starts worker `index`.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn start(
    index: usize,
    shared: Arc<Shared>,
    recorder: Recorder,
    seed: u64,
) -> io::Result<Handle> {
    let (commands, inbox) = unbounded_channel();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let worker = Rc::new(Worker::new(index, shared, recorder, seed));
                    runtime.block_on(worker.run(inbox));
                }
                Err(error) => tracing::error!(%error, "a worker has no runtime"),
            }
        })?;
    Ok(Handle { commands, thread })
}

/// One worker's state. Lives and dies on its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    live: RefCell<Rc<PlanView>>,
    generation: Cell<u64>,
    pools: Pools,
    recorder: RefCell<Recorder>,
    in_flight: InFlight,
    rng: RefCell<fastrand::Rng>,
    memo: RefCell<Memo>,
    spares: Rc<Spares>,
    ids: Ids,
    connections: RefCell<Slab<Rc<Conn>>>,
    listeners: RefCell<HashMap<Arc<str>, Listening>>,
    /// Connections accepted and not closed, their greeting included.
    open: Cell<usize>,
    draining: Cell<bool>,
    drain_began: Cell<Instant>,
    cutting: Cell<bool>,
    /// The wall clock at the last flush, and the monotonic time it was read at.
    wall: Cell<(u64, Instant)>,
}

#[derive(Debug)]
struct Listening {
    current: Arc<LiveListener>,
    /// Ends accepting once nobody waits in the backlog: closing a socket resets whoever does.
    stop: Rc<Notify>,
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, recorder: Recorder, seed: u64) -> Self {
        let live = RefCell::new(Rc::new(PlanView(shared.live.load_full())));
        let spares = Rc::default();
        Self {
            index,
            generation: Cell::new(shared.generation.load(Ordering::Acquire)),
            shared,
            live,
            pools: Pools::new(&spares),
            recorder: RefCell::new(recorder),
            in_flight: InFlight::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            memo: RefCell::default(),
            spares,
            ids: Ids::default(),
            connections: RefCell::default(),
            listeners: RefCell::default(),
            open: Cell::new(0),
            draining: Cell::new(false),
            drain_began: Cell::new(Instant::ZERO),
            cutting: Cell::new(false),
            wall: Cell::new((SystemClock.unix_micros(), SystemClock.now())),
        }
    }

    async fn run(self: Rc<Self>, mut inbox: UnboundedReceiver<Command>) {
        let mut ticks = tokio::time::interval(FLUSH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0_u32;
        let spares = Rc::clone(&self.spares);
        tokio::task::spawn_local(async move { spares.outbox().run().await });
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                _ = ticks.tick() => {
                    tick = tick.wrapping_add(1);
                    if let Some(pulse) = self.shared.pulses.get(self.index) {
                        pulse.beat(self.now(), FLUSH_EVERY);
                    }
                    self.recorder.borrow_mut().flush();
                    self.wall.set((SystemClock.unix_micros(), SystemClock.now()));
                    if tick.is_multiple_of(FLUSHES_PER_SWEEP) {
                        self.sweep();
                    }
                }
            }
            if self.cutting.get() || self.is_drained() {
                break;
            }
        }
        if let Some(pulse) = self.shared.pulses.get(self.index) {
            pulse.stop();
        }
        self.connections.borrow_mut().clear();
        self.recorder.borrow_mut().flush();
    }

    /// Whether a drain has nothing more to wait for. Connections on which no client has said anything yet
    /// are given a moment to begin.
    fn is_drained(&self) -> bool {
        let waited = self.now().since(self.drain_began.get()) >= DRAIN_IDLE;
        self.draining.get()
            && (self.open.get() == 0 || (waited && self.connections.borrow().is_empty()))
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Listen(bound, listener) => {
                if let Err(error) = self.listen(bound, listener) {
                    tracing::error!(%error, "a listening socket cannot be used");
                }
            }
            Command::Update(listener) => {
                if let Some(listening) =
                    self.listeners.borrow_mut().get_mut(&listener.listener.name)
                {
                    listening.current = listener;
                }
            }
            Command::Unlisten(name) => {
                if let Some(listening) = self.listeners.borrow_mut().remove(&name) {
                    listening.stop.notify_one();
                }
                for (_, conn) in self.connections.borrow().iter() {
                    if conn.listener.listener.name == name {
                        conn.give_order(Order::Drain);
                    }
                }
            }
            Command::Drain => {
                self.draining.set(true);
                self.drain_began.set(self.now());
                // They stay listed: whoever is still accepted is served by their settings.
                for listening in self.listeners.borrow().values() {
                    listening.stop.notify_one();
                }
                for (_, conn) in self.connections.borrow().iter() {
                    if conn.http2 {
                        conn.give_order(Order::Drain);
                    }
                }
            }
            Command::Cut => self.cutting.set(true),
            Command::InFlight(limit, reply) => {
                // Whoever asked may have gone.
                let _gone = reply.send(self.in_flight.oldest(limit, self.now()));
            }
        }
    }

    fn listen(self: &Rc<Self>, bound: Bound, listener: Arc<LiveListener>) -> io::Result<()> {
        let acceptor = Acceptor::new(bound)?;
        let name = Arc::clone(&listener.listener.name);
        let stop = Rc::new(Notify::new());
        let worker = Rc::clone(self);
        let (accepted_for, stopped) = (Arc::clone(&name), Rc::clone(&stop));
        tokio::task::spawn_local(async move {
            loop {
                worker.wait_for_room().await;
                let accepted = tokio::select! {
                    biased;
                    accepted = acceptor.accept() => accepted,
                    () = stopped.notified() => return,
                };
                match accepted {
                    Ok((socket, peer)) => worker.accepted(&accepted_for, socket, peer),
                    Err(error) => worker.not_accepted(&error).await,
                }
            }
        });
        let listening = Listening {
            current: listener,
            stop,
        };
        self.listeners.borrow_mut().insert(name, listening);
        Ok(())
    }

    fn accepted(self: &Rc<Self>, name: &str, socket: Socket, peer: Option<std::net::SocketAddr>) {
        let current = self
            .listeners
            .borrow()
            .get(name)
            .map(|listening| Arc::clone(&listening.current));
        if let Some(listener) = current {
            let worker = Rc::clone(self);
            self.open.set(self.open.get() + 1);
            tokio::task::spawn_local(async move {
                let opened = Opened(Rc::clone(&worker));
                serve::serve(worker, listener, socket, peer).await;
                drop(opened);
            });
        }
    }

    async fn not_accepted(&self, error: &io::Error) {
        tracing::warn!(%error, "a client could not be accepted");
        pause(ACCEPT_PAUSE).await;
    }

    /// Leaves clients in the kernel's backlog while there are too many.
    async fn wait_for_room(&self) {
        while self.open.get() >= self.shared.max_connections {
            pause(ACCEPT_PAUSE).await;
        }
    }

    fn sweep(&self) {
        let now = self.now();
        let draining = self.draining.get();
        for (_, conn) in self.connections.borrow().iter() {
            let (activity, since) = conn.activity();
            let idle = activity == Activity::Idle && now.since(since) >= DRAIN_IDLE;
            if draining && idle {
                conn.give_order(Order::Close);
            } else if let Some(order) = serve::overdue(conn, now) {
                conn.give_order(order);
            }
        }
        self.pools.sweep(now);
        if let Some(slot) = self.shared.upstream_connections.get(self.index) {
            slot.store(Arc::new(self.pools.open()));
        }
    }

    /// Registers `conn` until the guard is dropped.
    pub(crate) fn register(self: &Rc<Self>, conn: &Rc<Conn>) -> Registered {
        let key = self.connections.borrow_mut().insert(Rc::clone(conn));
        let count = Arc::clone(&conn.listener.connections);
        count.open.fetch_add(1, Ordering::Relaxed);
        Registered {
            worker: Rc::clone(self),
            conn: Rc::clone(conn),
            key,
            count,
        }
    }

    /// The plan in force.
    pub(crate) fn live(&self) -> Rc<PlanView> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation.get() {
            self.generation.set(generation);
            *self.live.borrow_mut() = Rc::new(PlanView(self.shared.live.load_full()));
        }
        Rc::clone(&self.live.borrow())
    }

    pub(crate) fn now(&self) -> Instant {
        SystemClock.now()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get() || self.shared.draining.load(Ordering::Relaxed)
    }

    /// Whether the drain is over and what is left is cut off.
    pub(crate) fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(crate) fn rng(&self) -> RefMut<'_, fastrand::Rng> {
        self.rng.borrow_mut()
    }

    /// What is remembered of clients.
    pub(crate) fn memo(&self) -> RefMut<'_, Memo> {
        self.memo.borrow_mut()
    }

    /// What exchanges leave to later ones.
    pub(crate) fn spares(&self) -> &Rc<Spares> {
        &self.spares
    }

    /// `Retry-After` in whole seconds: not before `wait`, and spread over as long again, so that clients do
    /// not come back together.
    pub(crate) fn retry_after(&self, wait: Duration) -> u64 {
        let least = (wait.as_millis().div_ceil(1_000)).clamp(1, MAX_RETRY_AFTER);
        let least = u64::try_from(least).unwrap_or(1);
        self.rng.borrow_mut().u64(least..=least.saturating_mul(2))
    }

    /// `Retry-After` of a quota, which comes back at a time that is known: not before `wait`, however long that
    /// is, and spread over a fifth of it, a minute at most.
    pub(crate) fn quota_after(&self, wait: Duration) -> u64 {
        let least = wait.as_millis().div_ceil(1_000).clamp(1, MAX_QUOTA_AFTER);
        let least = u64::try_from(least).unwrap_or(1);
        self.rng
            .borrow_mut()
            .u64(least..=least + (least / 5).min(60))
    }

    /// What client keys are hashed with, so that no hash means anything outside of this process.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.shared.hasher
    }

    /// When a request whose first byte came at `begun` started on the wall clock, and a fresh id for it.
    pub(crate) fn request_id(&self, begun: Instant, now: Instant) -> (u64, RequestId) {
        let (wall, read_at) = self.wall.get();
        let micros =
            |at: Instant| wall + u64::try_from(at.since(read_at).as_micros()).unwrap_or_default();
        let mut random = [0_u8; 10];
        self.rng.borrow_mut().fill(&mut random);
        let id = self.ids.make(micros(now) / 1_000, &random);
        (micros(begun), id)
    }

    /// What the wall clock showed at `at`: milliseconds since the Unix epoch.
    pub(crate) fn unix_millis(&self, at: Instant) -> u64 {
        let (wall, read_at) = self.wall.get();
        let since = u64::try_from(at.since(read_at).as_micros()).unwrap_or_default();
        (wall + since) / 1_000
    }

    /// Who is still admitted when the process runs short of something.
    pub(crate) fn overload(&self) -> &Overload {
        &self.shared.overload
    }

    /// Whom operators hold apart.
    pub(crate) fn isolations(&self) -> &Isolations {
        &self.shared.isolations
    }

    /// The requests under way.
    pub(crate) const fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    pub(crate) fn record(&self, exchange: Exchange, line: &Line<'_>) {
        self.recorder.borrow_mut().record(exchange, line);
    }
}

async fn pause(length: Duration) {
    let until = SystemClock.to_std(SystemClock.now().after(length));
    tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
}

/// Counts one connection from accept to close.
struct Opened(Rc<Worker>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

/// A connection's place in its worker's list.
#[derive(Debug)]
pub(crate) struct Registered {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    key: usize,
    count: Arc<Connections>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A cut has emptied the list already.
        let _left = self.worker.connections.borrow_mut().try_remove(self.key);
        self.count.open.fetch_sub(1, Ordering::Relaxed);
        self.conn.lost();
    }
}
