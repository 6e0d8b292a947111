//! How much an upstream carries: what a limit can be learned from.
//!
//! Depends on nothing.

/// What the admission of one upstream has counted since it began. Sums only grow (and wrap); a controller
/// works on the differences between two snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests the upstream works on now.
    pub in_flight: u32,
    /// The wrapping sum of the instants, in nanoseconds, at which those in flight were admitted: `in_flight ×
    /// now − started` is the sum of their ages.
    pub started: u64,
    /// Requests that ended in success.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that say nothing about the upstream.
    pub ignored: u64,
    /// Upstream time of the completed, in nanoseconds.
    pub busy: u64,
    /// The sum of the squares of that time, in square microseconds.
    pub busy_square: u64,
    /// Expected upstream time of the completed, in nanoseconds.
    pub cost: u64,
    /// Time during which somebody waited because the limit was full, in nanoseconds.
    pub limited: u64,
}
