//! Long-lived streams: upgrades, server-sent events, gRPC streams. They hold no slot, for a slot stands for
//! work in progress and a stream mostly idles, but there is a bound on their number.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Gate;

/// One stream; closed when it is dropped.
#[derive(Debug)]
pub struct StreamPermit(Arc<Gate>);

impl StreamPermit {
    pub(super) const fn new(gate: Arc<Gate>) -> Self {
        Self(gate)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
