//! Connections to endpoints, kept by the worker that made them.
//!
//! An HTTP/1 connection is driven by the exchange that uses it, not by a task of its own: one task switch
//! less in each direction, and an abandoned exchange takes its connection with it. While it lies idle nobody
//! drives it but the worker's sweep, twice a second; the first thing a request sees is then whether it is still open.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Sleep;

use super::connect::Connector;
use super::h1;
use super::spare::Spares;
use super::stream::Stream;
use crate::clock::{Instant, SystemClock};
use crate::model::EndpointId;

/// Idle connections kept for one endpoint by one worker. Further ones are closed.
const MAX_IDLE: usize = 512;

/// One HTTP/1 connection to an endpoint.
#[derive(Debug)]
pub(crate) struct H1Conn {
    pub(crate) connection: h1::Connection,
    /// Whether it has answered a request before.
    pub(crate) reused: bool,
    connector: Arc<Connector>,
    idle_since: Instant,
    _open: OpenCount,
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenCount(Rc<Cell<usize>>);

impl OpenCount {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One HTTP/2 connection to an endpoint. Its own task drives it.
#[derive(Clone, Debug)]
pub(crate) struct H2Conn {
    pub(crate) sender: h2::client::SendRequest<Bytes>,
    pub(crate) state: Rc<H2State>,
    connector: Arc<Connector>,
}

/// What the connection's task tells its users.
#[derive(Debug)]
pub(crate) struct H2State {
    pub(crate) streams: Cell<usize>,
    pub(crate) closed: Cell<bool>,
    idle_since: Cell<Instant>,
    _open: OpenCount,
}

impl H2Conn {
    fn has_room(&self) -> bool {
        !self.state.closed.get()
            && self.state.streams.get() < self.sender.current_max_send_streams().max(1)
    }
}

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "connections travel boxed; unboxing here would copy them"
    )]
    idle: Vec<Box<H1Conn>>,
    shared: Vec<H2Conn>,
    open: Rc<Cell<usize>>,
}

/// All connections of one worker.
#[derive(Debug)]
pub(crate) struct Pools {
    pools: RefCell<Vec<Pool>>,
    spares: Rc<Spares>,
}

impl Pools {
    /// None yet. What is read on them is read into `spares`.
    pub(crate) fn new(spares: &Rc<Spares>) -> Self {
        Self {
            pools: RefCell::default(),
            spares: Rc::clone(spares),
        }
    }

    fn with<T>(&self, endpoint: EndpointId, act: impl FnOnce(&mut Pool) -> T) -> Option<T> {
        let mut pools = self.pools.borrow_mut();
        if pools.len() <= endpoint.index() {
            pools.resize_with(endpoint.index() + 1, Pool::default);
        }
        pools.get_mut(endpoint.index()).map(act)
    }

    /// Takes out an idle HTTP/1 connection that is still alive. The newest first, so that old ones age.
    pub(crate) fn take(
        &self,
        endpoint: EndpointId,
        connector: &Arc<Connector>,
    ) -> Option<Box<H1Conn>> {
        loop {
            let mut conn = self.with(endpoint, |pool| pool.idle.pop())??;
            if Arc::ptr_eq(&conn.connector, connector) && conn.connection.is_alive() {
                return Some(conn);
            }
        }
    }

    /// Puts a connection back after an exchange, if it can carry another.
    pub(crate) fn give_back(&self, endpoint: EndpointId, mut conn: Box<H1Conn>, now: Instant) {
        if !conn.connection.rest() {
            return;
        }
        conn.reused = true;
        conn.idle_since = now;
        self.with(endpoint, |pool| {
            if pool.idle.len() < MAX_IDLE {
                pool.idle.push(conn);
            }
        });
    }

    /// Makes an HTTP/1 connection of `stream`.
    pub(crate) fn h1(
        &self,
        endpoint: EndpointId,
        connector: &Arc<Connector>,
        stream: Stream,
    ) -> Box<H1Conn> {
        let count = self
            .with(endpoint, |pool| Rc::clone(&pool.open))
            .unwrap_or_default();
        Box::new(H1Conn {
            connection: h1::Connection::new(stream, &self.spares),
            reused: false,
            connector: Arc::clone(connector),
            idle_since: SystemClock.now(),
            _open: OpenCount::new(&count),
        })
    }

    /// An HTTP/2 connection with room for another stream.
    pub(crate) fn shared(
        &self,
        endpoint: EndpointId,
        connector: &Arc<Connector>,
    ) -> Option<H2Conn> {
        self.with(endpoint, |pool| {
            pool.shared
                .retain(|conn| !conn.state.closed.get() && Arc::ptr_eq(&conn.connector, connector));
            pool.shared.iter().find(|conn| conn.has_room()).cloned()
        })?
    }

    /// Makes an HTTP/2 connection of `stream`, and shares it.
    pub(crate) async fn h2(
        &self,
        endpoint: EndpointId,
        connector: &Arc<Connector>,
        stream: Stream,
    ) -> Result<H2Conn, h2::Error> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(H2_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let count = self
            .with(endpoint, |pool| Rc::clone(&pool.open))
            .unwrap_or_default();
        let state = Rc::new(H2State {
            streams: Cell::new(0),
            closed: Cell::new(false),
            idle_since: Cell::new(SystemClock.now()),
            _open: OpenCount::new(&count),
        });
        let watched = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended");
            }
            watched.closed.set(true);
        });
        let conn = H2Conn {
            sender,
            state,
            connector: Arc::clone(connector),
        };
        self.with(endpoint, |pool| pool.shared.push(conn.clone()));
        Ok(conn)
    }

    /// Lets go of connections that lie idle for too long, were closed by the other end, or belong to an
    /// older plan.
    pub(crate) fn sweep(&self, now: Instant) {
        for pool in self.pools.borrow_mut().iter_mut() {
            pool.idle.retain_mut(|conn| {
                now.since(conn.idle_since) < conn.connector.idle_timeout
                    && conn.connection.is_alive()
            });
            pool.shared.retain(|conn| {
                if conn.state.streams.get() > 0 {
                    conn.state.idle_since.set(now);
                }
                !conn.state.closed.get()
                    && now.since(conn.state.idle_since.get()) < conn.connector.idle_timeout
            });
        }
    }

    /// Open connections by endpoint index, where there are any.
    pub(crate) fn open(&self) -> Vec<(usize, usize)> {
        let pools = self.pools.borrow();
        let counts = pools
            .iter()
            .enumerate()
            .map(|(index, pool)| (index, pool.open.get()));
        counts.filter(|(_, open)| *open > 0).collect()
    }
}

/// What an endpoint may send on one stream before it hears from us.
const H2_WINDOW: u32 = 1024 * 1024;
/// The same for a whole connection.
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A timer that is used again and again: an exchange that ends leaves it armed for the next, so that the
/// runtime's wheel is touched once per timeout's length, not once per request.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
}

impl Timer {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep_until(to_tokio(until))),
            armed: until,
        }
    }

    /// Ready once `until` has passed.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        if until < self.armed {
            self.arm(until);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.armed >= until {
                return Poll::Ready(());
            }
            self.arm(until);
        }
    }

    fn arm(&mut self, until: Instant) {
        self.armed = until;
        self.sleep.as_mut().reset(to_tokio(until));
    }
}

fn to_tokio(at: Instant) -> tokio::time::Instant {
    tokio::time::Instant::from_std(SystemClock.to_std(at))
}
