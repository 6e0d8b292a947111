//! A request whose trace is kept, on its way from its worker to the export thread.

use super::{Attempts, Context};
use crate::observe::exchange::{Exchange, Line};
use crate::observe::why::Decision;

/// Bytes of a path that are kept.
const MAX_PATH: usize = 1_024;

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in its trace.
    pub context: Context,
    /// How it went.
    pub exchange: Exchange,
    /// Its attempts.
    pub attempts: Attempts,
    /// The decisions taken about it.
    pub decisions: Box<[Decision]>,
    /// Microseconds from its first byte to the end of its head.
    pub head: u32,
    /// Kept whatever is sampled: it failed, was refused or slow, or whoever sent it said so.
    pub forced: bool,
    /// Its id.
    pub request_id: Box<str>,
    /// Who sent it, as in the access log.
    pub client: Box<str>,
    /// Its method as sent.
    pub method: Box<str>,
    /// Its path, cut to a bound.
    pub path: Box<str>,
}

/// What a request's line tells of its trace.
#[derive(Clone, Copy, Debug)]
pub struct Traced<'a> {
    /// Its place in its trace.
    pub context: &'a Context,
    /// Its attempts.
    pub attempts: &'a Attempts,
    /// Microseconds from its first byte to the end of its head.
    pub head: u32,
}

impl Record {
    /// What is kept of a request; none if its trace is not sampled and there is nothing to say about it.
    #[must_use]
    pub fn of(exchange: &Exchange, line: &Line<'_>, remarkable: bool) -> Option<Self> {
        let traced = line.trace?;
        let context = *traced.context;
        (context.sampled || remarkable).then(|| Self {
            context,
            exchange: *exchange,
            attempts: *traced.attempts,
            decisions: line.trail.iter().copied().collect(),
            head: traced.head,
            forced: remarkable || (context.inherited && context.sampled),
            request_id: line.request_id.into(),
            client: line.client.into(),
            method: line.method.into(),
            path: line
                .path
                .get(..line.path.floor_char_boundary(MAX_PATH))
                .unwrap_or_default()
                .into(),
        })
    }
}
