//! What is to be sent, kept back until everybody whose turn it is has had it.
//!
//! Whoever is sent something wakes up, does its part and falls asleep again; sent one by one, with work in between, each
//! message pays for waking its receiver, and the kernel's way of sending is fetched into the processor's caches anew. So
//! short ones are sent one behind the other at the end of a turn of the event loop. Nothing waits longer than the work
//! that was ready when it was put here.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Weak;
use std::task::{Poll, Waker};

use super::session::Shared;
use super::upstream::Wire;

/// What is kept back at most; then it is sent in between.
const MOST: usize = 32;

/// Who has something to send. Who is gone by then does not send it.
#[derive(Debug)]
pub(super) enum Sender {
    Client(Weak<RefCell<Shared>>),
    Endpoint(Weak<RefCell<Wire>>),
}

/// A worker's messages that are kept back.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    senders: RefCell<Vec<Sender>>,
    /// Wakes who sends them; none when nobody does.
    waker: RefCell<Option<Waker>>,
}

impl Outbox {
    /// Has `sender` send in a moment; false when it has to do so itself.
    pub(super) fn put(&self, sender: Sender) -> bool {
        let waker = self.waker.borrow();
        let Some(waker) = &*waker else {
            return false;
        };
        if self.senders.borrow().len() >= MOST {
            self.send();
        }
        let mut kept = self.senders.borrow_mut();
        if kept.is_empty() {
            waker.wake_by_ref();
        }
        kept.push(sender);
        true
    }

    /// Sends what is kept back, at the end of each turn.
    pub(crate) async fn run(&self) -> Infallible {
        poll_fn(|cx| {
            let mut waker = self.waker.borrow_mut();
            waker.get_or_insert_with(|| cx.waker().clone());
            drop(waker);
            self.send();
            Poll::Pending
        })
        .await
    }

    /// Sends what is kept back. Whoever is about to put itself here is borrowed, and has nothing here that counts.
    fn send(&self) {
        let mut kept = self.senders.take();
        for sender in kept.drain(..) {
            match sender {
                Sender::Client(client) => {
                    if let Some(client) = client.upgrade()
                        && let Ok(mut client) = client.try_borrow_mut()
                    {
                        client.send();
                    }
                }
                Sender::Endpoint(wire) => {
                    if let Some(wire) = wire.upgrade()
                        && let Ok(mut wire) = wire.try_borrow_mut()
                    {
                        wire.send();
                    }
                }
            }
        }
        let mut slot = self.senders.borrow_mut();
        if slot.is_empty() {
            // Its room is used again.
            *slot = kept;
        }
    }
}
