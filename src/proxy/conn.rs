//! What is known of one client connection, shared by its I/O, its requests and its worker.
//!
//! Lives on one thread; the worker's sweep and the connection's own task meet here through cells and one
//! waker, so that no timer, channel or lock is spent on a connection that only lies idle.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use http::{HeaderMap, HeaderValue, StatusCode};

use super::guard::Violation;
use super::live::LiveListener;
use super::respond;
use super::track::Track;
use super::upgrade::Tunnel;
use super::worker::Worker;
use crate::clients::KnownPeer;
use crate::clock::Instant;
use crate::model::{Outcome, Phase, Reason};

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    ip: Option<IpAddr>,
    /// The address as X-Forwarded-For carries it.
    pub(crate) text: HeaderValue,
    /// Whether what it says of others is believed.
    pub(crate) trusted: bool,
    /// The DNS names of its certificate, each behind a newline; empty when it showed none.
    pub(crate) sans: Box<str>,
}

impl Peer {
    pub(crate) fn new(address: Option<SocketAddr>, listener: &LiveListener) -> Self {
        let ip = address.map(|address| address.ip().to_canonical());
        let text = match ip {
            Some(ip) => ip.to_string(),
            None => "unknown".to_owned(),
        };
        Self {
            ip,
            text: HeaderValue::try_from(text)
                .unwrap_or_else(|_invalid| HeaderValue::from_static("unknown")),
            trusted: ip.is_some_and(|ip| listener.trusts(ip)),
            sans: Box::default(),
        }
    }

    /// The peer's address; none over a unix socket.
    pub(crate) const fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The peer's address as text.
    pub(crate) fn as_str(&self) -> &str {
        self.text.to_str().unwrap_or_default()
    }
}

/// What a connection is doing, as its timeouts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Its handshake (PROXY header, TLS, HTTP/2 preface) is not done.
    Greeting,
    /// No request is on its way.
    Idle,
    /// A request head has begun.
    Head,
    /// Requests are being answered; their own timeouts hold.
    Busy,
}

/// What the worker asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Say goodbye at the next response, and close.
    Drain,
    /// The head took too long.
    HeadTimeout,
    /// Close now.
    Close,
    /// Let go of what an idle connection does not need.
    Park,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Arc<LiveListener>,
    pub(crate) peer: Peer,
    pub(crate) http2: bool,
    activity: Cell<Activity>,
    since: Cell<Instant>,
    open: Cell<u32>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
    /// Responses handed over whole, whose last byte is not in the kernel yet.
    #[expect(
        clippy::vec_box,
        reason = "tracks travel boxed; unboxing here would copy them"
    )]
    leaving: RefCell<Vec<Box<Track>>>,
    broken_upload: Cell<Option<Violation>>,
    resume: Cell<bool>,
    parked: Cell<bool>,
    tunnel: RefCell<Option<Box<Tunnel>>>,
    interim: Rc<Interim>,
    /// Who its peer is by its address.
    pub(crate) known: KnownPeer,
}

impl Conn {
    pub(crate) fn new(
        worker: Rc<Worker>,
        listener: Arc<LiveListener>,
        peer: Peer,
        http2: bool,
        now: Instant,
    ) -> Self {
        Self {
            worker,
            listener,
            peer,
            http2,
            activity: Cell::new(Activity::Greeting),
            since: Cell::new(now),
            open: Cell::new(0),
            order: Cell::new(None),
            waker: RefCell::new(None),
            leaving: RefCell::new(Vec::new()),
            broken_upload: Cell::new(None),
            resume: Cell::new(false),
            parked: Cell::new(false),
            tunnel: RefCell::new(None),
            interim: Rc::default(),
            known: KnownPeer::default(),
        }
    }

    /// Whether a request is being answered, or its response is on its way out.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.get() > 0
    }

    /// Whether it waits for a request of which nothing has come.
    pub(crate) fn is_idle(&self) -> bool {
        self.activity.get() == Activity::Idle && !self.is_busy()
    }

    /// The scheme of its requests' URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.listener.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Whether the kernel can send it pages as they are.
    pub(crate) fn takes_pages(&self) -> bool {
        !self.http2 && self.listener.tls.is_none()
    }

    /// Whether it lies idle without a session.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.get()
    }

    /// The connection is parked until the guard is dropped.
    pub(crate) fn park(&self) -> Parked<'_> {
        self.parked.set(true);
        let count = &self.listener.connections.parked;
        count.fetch_add(1, Ordering::Relaxed);
        Parked(self)
    }

    /// What the connection is doing, and since when.
    pub(crate) fn activity(&self) -> (Activity, Instant) {
        (self.activity.get(), self.since.get())
    }

    /// The connection speaks HTTP and waits for a request.
    pub(crate) fn rest(&self, now: Instant) {
        self.activity.set(Activity::Idle);
        self.since.set(now);
    }

    /// A request head has begun and is not whole.
    pub(crate) fn head_begins(&self) {
        if matches!(self.activity.get(), Activity::Idle | Activity::Greeting) {
            self.activity.set(Activity::Head);
            self.since.set(self.worker.now());
        }
    }

    /// A request head is whole; when its first byte came, as far as that is known.
    pub(crate) fn request_begins(&self, now: Instant) -> Instant {
        let begun = if self.activity.get() == Activity::Head {
            self.since.get()
        } else {
            now
        };
        self.activity.set(Activity::Busy);
        self.open.set(self.open.get() + 1);
        begun
    }

    /// A request's exchange is over.
    fn request_ends(&self, now: Instant) {
        let open = self.open.get().saturating_sub(1);
        self.open.set(open);
        if open == 0 {
            self.rest(now);
        }
    }

    /// The response of `track` was handed over whole. Over HTTP/1 it ends with the flush that follows.
    pub(crate) fn finish(&self, track: Box<Track>) {
        if self.http2 {
            self.complete(track, self.worker.now());
        } else {
            self.leaving.borrow_mut().push(track);
        }
    }

    /// Everything handed over so far is in the kernel.
    pub(crate) fn flushed(&self) {
        if self.leaving.borrow().is_empty() {
            return;
        }
        let now = self.worker.now();
        loop {
            let next = self.leaving.borrow_mut().pop();
            let Some(track) = next else { return };
            self.complete(track, now);
        }
    }

    /// The connection is over: what is on its way out will not arrive, nor is anything tunnelled.
    pub(crate) fn lost(&self) {
        drop(self.leaving.take());
        drop(self.take_tunnel());
    }

    fn complete(&self, mut track: Box<Track>, now: Instant) {
        track.delivered(now);
        drop(track);
    }

    /// An exchange was recorded, however it ended.
    pub(crate) fn recorded(&self, now: Instant) {
        self.request_ends(now);
    }

    /// Gives the connection's task an order, and wakes it.
    pub(crate) fn give_order(&self, order: Order) {
        self.order.set(Some(order));
        self.wake();
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Does what that task would.
    pub(crate) fn in_its_place<T>(&self, act: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = self.waker.borrow();
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        act(&mut Context::from_waker(waker))
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    /// Remembers whom to wake with an order.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    /// The body of the request in progress turned out malformed.
    pub(crate) fn break_upload(&self, violation: Violation) {
        self.broken_upload.set(Some(violation));
    }

    pub(crate) fn broken_upload(&self) -> Option<Violation> {
        self.broken_upload.get()
    }

    /// Writes the answer to something that never became a request into `out`, and records it.
    pub(crate) fn refuse_malformed(self: &Rc<Self>, violation: Violation, out: &mut Vec<u8>) {
        let now = self.worker.now();
        let begun = self.request_begins(now);
        let mut track = Track::begin(self, begun, now);
        let reason = match violation.status {
            413 => Reason::BodyTooLarge,
            414 | 431 => Reason::HeaderTooLarge,
            _ => Reason::BadRequest,
        };
        track.exchange.status = violation.status;
        track.exchange.reason = Some(reason);
        track.exchange.outcome = Outcome::Refused;
        track.phase(Phase::Decide, now);
        let length = respond::write_raw(
            out,
            violation.status,
            reason,
            violation.detail,
            track.request_id().as_str(),
        );
        track.exchange.bytes_out = length;
        self.finish(track);
    }

    /// The upgrade was refused upstream: what the client sent behind its head is its next request.
    pub(crate) fn resume(&self) {
        self.resume.set(true);
    }

    pub(crate) fn take_resume(&self) -> bool {
        self.resume.take()
    }

    /// The upgrade was accepted upstream: what to connect the client with.
    pub(crate) fn set_tunnel(&self, tunnel: Box<Tunnel>) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// Whether the client's next bytes are for a tunnel.
    pub(crate) fn has_tunnel(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.borrow_mut().take()
    }

    /// Where interim responses for this (HTTP/1) connection's request are left.
    pub(crate) fn interim(&self) -> &Rc<Interim> {
        &self.interim
    }
}

/// A connection's time without a session.
#[derive(Debug)]
pub(crate) struct Parked<'a>(&'a Conn);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.set(false);
        let count = &self.0.listener.connections.parked;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Interim responses on their way from upstream to client.
#[derive(Debug, Default)]
pub(crate) struct Interim(RefCell<Vec<(StatusCode, HeaderMap)>>);

/// Interim responses kept at once; more are dropped, as RFC 9110 section 15.2 permits.
const MAX_INTERIM: usize = 16;

impl Interim {
    /// Leaves an interim response, unless it is one that concerns only this hop.
    pub(crate) fn leave(&self, status: StatusCode, headers: &HeaderMap) {
        if matches!(
            status,
            StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS
        ) {
            return;
        }
        let mut heads = self.0.borrow_mut();
        if heads.len() < MAX_INTERIM {
            heads.push((status, headers.clone()));
        }
    }

    /// Takes what was left.
    pub(crate) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.0.take()
    }
}
