//! Requests on their way to the origin, and those that wait for the same answer.
//!
//! One request leads; the others follow it. What the leader's way brings is handed on as it comes: followers
//! read the body while it arrives. The store has no part in that. A flight is shared between workers, so its
//! state is behind a lock that is held for a few instructions and never across a wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use slab::Slab;

use super::object::{Head, Object};

/// Tables the flights are spread over.
const SHARDS: usize = 16;
/// Requests that may wait for one flight; further ones go by themselves.
const MAX_WAITERS: usize = 10_000;
/// Bytes a body that became too large to keep may be ahead of its slowest reader.
const LEAD: u64 = 1 << 20;

/// What a flight's followers learn.
#[derive(Clone, Debug)]
pub enum News {
    /// The response's head has come and may be shared; its body follows.
    Arriving(Arc<Head>),
    /// What is stored was found good, or the whole of it has come.
    Stored(Arc<Object>),
    /// The response is for one client only: everybody goes by itself.
    NotShared,
    /// The leader came to nothing.
    Failed,
}

/// How a body ended.
#[derive(Clone, Debug)]
enum End {
    Whole(Option<HeaderMap>),
    Broken,
}

#[derive(Debug, Default)]
struct State {
    news: Option<News>,
    frames: std::collections::VecDeque<Bytes>,
    /// Frames dropped from the front, every reader having passed them.
    passed: usize,
    /// Bytes that came.
    bytes: u64,
    end: Option<End>,
    readers: Slab<Reading>,
    /// Whether what was read is dropped: the body is too large to be kept.
    streams: bool,
    /// Whom to wake with news, by waiter.
    waiters: Slab<Option<Waker>>,
    /// The filling task, when it waits for the readers.
    filler: Option<Waker>,
}

/// How far a reader is, and whom to wake when there is more.
#[derive(Debug, Default)]
struct Reading {
    frames: usize,
    trailers: bool,
    waker: Option<Waker>,
}

impl State {
    /// Everybody to be woken.
    fn wake(&mut self) -> Vec<Waker> {
        let waiters = self
            .waiters
            .iter_mut()
            .filter_map(|(_, waker)| waker.take());
        let readers = self.readers.iter_mut();
        let readers = readers.filter_map(|(_, reading)| reading.waker.take());
        waiters.chain(readers).collect()
    }

    /// Drops what every reader has passed.
    fn trim(&mut self) {
        if !self.streams {
            return;
        }
        let slowest = self.readers.iter().map(|(_, read)| read.frames).min();
        let slowest = slowest.unwrap_or(self.passed + self.frames.len());
        while self.passed < slowest && self.frames.pop_front().is_some() {
            self.passed += 1;
        }
    }

    fn buffered(&self) -> u64 {
        self.frames.iter().map(|frame| frame.len() as u64).sum()
    }
}

/// One way to the origin.
#[derive(Debug, Default)]
pub struct Flight(Mutex<State>);

impl Flight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the followers; only the first news counts, but that what arrived is stored.
    fn tell(&self, news: News) {
        let wakers = {
            let mut state = self.state();
            if state.news.is_none() {
                state.news = Some(news);
            }
            state.wake()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A place among those that wait; none when there are too many.
    #[must_use]
    pub fn wait(self: &Arc<Self>) -> Option<Waiter> {
        let mut state = self.state();
        (state.waiters.len() < MAX_WAITERS).then(|| Waiter {
            flight: Arc::clone(self),
            place: state.waiters.insert(None),
        })
    }

    /// Reads the body from its beginning; none when that is no longer there.
    #[must_use]
    pub fn read(self: &Arc<Self>) -> Option<Reader> {
        // A frame of the beginning is dropped only once it was read.
        let reader = self.reader();
        (self.state().passed == 0).then_some(reader)
    }

    pub(super) fn reader(self: &Arc<Self>) -> Reader {
        Reader {
            flight: Arc::clone(self),
            place: self.state().readers.insert(Reading::default()),
        }
    }
}

/// A follower that waits for news.
#[derive(Debug)]
pub struct Waiter {
    flight: Arc<Flight>,
    place: usize,
}

impl Waiter {
    /// What has become of the flight.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<News> {
        let mut state = self.flight.state();
        if let Some(news) = &state.news {
            return Poll::Ready(news.clone());
        }
        if let Some(waker) = state.waiters.get_mut(self.place) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The flight.
    #[must_use]
    pub const fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _waker = self.flight.state().waiters.try_remove(self.place);
    }
}

/// A body that arrives, or its end.
#[derive(Debug)]
pub enum Frame {
    /// Bytes of the body.
    Data(Bytes),
    /// What comes behind it.
    Trailers(HeaderMap),
    /// It is whole.
    End,
    /// It broke off.
    Broken,
}

/// Reads a body while it arrives.
#[derive(Debug)]
pub struct Reader {
    flight: Arc<Flight>,
    place: usize,
}

impl Reader {
    /// What comes next.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Frame> {
        let (frame, filler) = {
            let mut guard = self.flight.state();
            let state = &mut *guard;
            let Some(reading) = state.readers.get_mut(self.place) else {
                return Poll::Ready(Frame::Broken);
            };
            let at = reading.frames.saturating_sub(state.passed);
            if let Some(frame) = state.frames.get(at).cloned() {
                reading.frames += 1;
                state.trim();
                (Frame::Data(frame), state.filler.take())
            } else {
                let frame = match &state.end {
                    Some(End::Whole(Some(trailers))) if !reading.trailers => {
                        reading.trailers = true;
                        Frame::Trailers(trailers.clone())
                    }
                    Some(End::Whole(_)) => Frame::End,
                    Some(End::Broken) => Frame::Broken,
                    None => {
                        reading.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                };
                (frame, None)
            }
        };
        if let Some(filler) = filler {
            filler.wake();
        }
        Poll::Ready(frame)
    }

    /// Whether everything was read and nothing comes behind it.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let state = self.flight.state();
        let read = state.readers.get(self.place).map_or(0, |it| it.frames);
        matches!(state.end, Some(End::Whole(None))) && read >= state.passed + state.frames.len()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let filler = {
            let mut state = self.flight.state();
            let _read = state.readers.try_remove(self.place);
            state.trim();
            state.filler.take()
        };
        if let Some(filler) = filler {
            filler.wake();
        }
    }
}

/// The flights of a cache, by key and selection.
#[derive(Debug, Default)]
pub(super) struct Flights([Mutex<HashMap<Box<str>, Arc<Flight>>>; SHARDS]);

impl Flights {
    fn shard(&self, key: &str) -> MutexGuard<'_, HashMap<Box<str>, Arc<Flight>>> {
        let sum = key.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let [first, ..] = &self.0;
        let shard = self.0.get(sum % SHARDS).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flight for `key` if there is one, else a new one to lead.
    pub(super) fn join(&self, key: String) -> Result<Arc<Flight>, Listed> {
        match self.shard(&key.clone()).entry(key.into()) {
            Entry::Occupied(flight) => Ok(Arc::clone(flight.get())),
            Entry::Vacant(place) => Err(Listed {
                key: Some(place.key().clone()),
                flight: Arc::clone(place.insert(Arc::default())),
            }),
        }
    }

    fn forget(&self, key: &str, flight: &Arc<Flight>) {
        let mut shard = self.shard(key);
        if shard
            .get(key)
            .is_some_and(|listed| Arc::ptr_eq(listed, flight))
        {
            shard.remove(key);
        }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        let shards = self.0.iter();
        let lock = |shard: &Mutex<HashMap<Box<str>, Arc<Flight>>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        shards.map(lock).sum()
    }
}

/// A flight's leader's hold on it.
#[derive(Debug)]
pub(super) struct Listed {
    /// Where it is listed; none for a flight that nobody can join.
    key: Option<Box<str>>,
    flight: Arc<Flight>,
}

impl Listed {
    /// A flight nobody joins.
    pub(super) fn alone() -> Self {
        Self {
            key: None,
            flight: Arc::default(),
        }
    }

    pub(super) const fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Nobody new finds it any more, and whoever waits is told `news`.
    pub(super) fn land(&mut self, flights: &Flights, news: News) {
        self.leave(flights);
        self.flight.tell(news);
    }

    /// Nobody new finds it any more.
    pub(super) fn leave(&mut self, flights: &Flights) {
        if let Some(key) = self.key.take() {
            flights.forget(&key, &self.flight);
        }
    }

    /// The head has come; whoever joins from now on reads along.
    pub(super) fn arrives(&self, head: Arc<Head>) {
        self.flight.tell(News::Arriving(head));
    }

    pub(super) fn push(&self, frame: Bytes) -> u64 {
        let (bytes, wakers) = {
            let mut state = self.flight.state();
            state.bytes += frame.len() as u64;
            state.frames.push_back(frame);
            (state.bytes, state.wake())
        };
        wakers.into_iter().for_each(Waker::wake);
        bytes
    }

    /// The body became too large to be kept: what was read is dropped from now on.
    pub(super) fn stream(&self) {
        let mut state = self.flight.state();
        state.streams = true;
        state.trim();
    }

    /// Ready when there is room for more; false when nobody reads any more what is not kept.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.flight.state();
        if !state.streams {
            return Poll::Ready(true);
        }
        if state.readers.is_empty() {
            return Poll::Ready(false);
        }
        if state.buffered() < LEAD {
            return Poll::Ready(true);
        }
        state.filler = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What came of the body, unless that was dropped.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        self.flight.state().frames.iter().cloned().collect()
    }

    /// The body has ended. Only its first end counts.
    pub(super) fn end(&self, whole: bool, trailers: Option<HeaderMap>) {
        let wakers = {
            let mut state = self.flight.state();
            let end = if whole {
                End::Whole(trailers)
            } else {
                End::Broken
            };
            state.end.get_or_insert(end);
            state.wake()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}
