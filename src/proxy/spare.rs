//! What exchanges leave to those after them, so that it need not be made and thrown away for each. Of one worker.

use std::cell::{RefCell, RefMut};

use bytes::BytesMut;
use http::HeaderMap;

use super::guard::Span;
use super::h1::{Outbox, Plain};
use super::pool::Timer;

/// Timers kept; as many as a worker may have exchanges that wait at once.
const MAX_TIMERS: usize = 1_024;

/// Maps kept.
const MAX_MAPS: usize = 64;

/// The room of a map that is worth keeping, in fields.
const MAX_FIELDS: usize = 64;

/// The room for a head that is worth keeping, in bytes.
const MAX_TEXT: usize = 4_096;

/// Buffers kept, and the room in one that is worth it.
const MAX_BUFFERS: usize = 16;
const LEAST_ROOM: usize = 1_024;

/// Spare parts.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    timers: RefCell<Vec<Timer>>,
    headers: RefCell<Vec<HeaderMap>>,
    buffers: RefCell<Vec<BytesMut>>,
    spans: RefCell<Vec<Span>>,
    text: RefCell<String>,
    #[expect(
        clippy::vec_box,
        reason = "heads travel boxed; unboxing here would copy them"
    )]
    plains: RefCell<Vec<Box<Plain>>>,
    outbox: Outbox,
}

impl Spares {
    /// What is sent at the end of a turn.
    pub(crate) const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// A timer, which may be armed.
    pub(crate) fn take_timer(&self) -> Option<Timer> {
        self.timers.borrow_mut().pop()
    }

    pub(crate) fn give_timer(&self, timer: Timer) {
        let mut timers = self.timers.borrow_mut();
        if timers.len() < MAX_TIMERS {
            timers.push(timer);
        }
    }

    /// A map without fields.
    pub(crate) fn take_headers(&self) -> HeaderMap {
        self.headers.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_headers(&self, mut headers: HeaderMap) {
        let mut spare = self.headers.borrow_mut();
        if spare.len() < MAX_MAPS && (1..=MAX_FIELDS).contains(&headers.capacity()) {
            headers.clear();
            spare.push(headers);
        }
    }

    /// An empty buffer, with or without room. What was read into the same memory before may still be in use.
    pub(crate) fn take_buffer(&self) -> BytesMut {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Where the fields of a head are noted while it is read.
    pub(crate) fn spans(&self) -> RefMut<'_, Vec<Span>> {
        self.spans.borrow_mut()
    }

    /// Room for the fields of a response.
    pub(crate) fn take_plain(&self) -> Box<Plain> {
        self.plains.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_plain(&self, plain: Box<Plain>) {
        let mut plains = self.plains.borrow_mut();
        if plains.len() < MAX_MAPS && plain.room() <= MAX_TEXT {
            plains.push(plain);
        }
    }

    /// Room for a text that nobody needs for long.
    pub(crate) fn text(&self) -> RefMut<'_, String> {
        let mut text = self.text.borrow_mut();
        text.clear();
        text
    }

    /// Takes the room that is left behind what was read.
    pub(crate) fn give_buffer(&self, buffer: BytesMut) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < MAX_BUFFERS && buffer.is_empty() && buffer.capacity() >= LEAST_ROOM {
            buffers.push(buffer);
        }
    }
}
