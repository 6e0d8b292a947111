//! Measurements: what has been seen, in a bounded space.
//!
//! Pure: no clock, no I/O, no threads. Depends on the model and the clock's types only.

pub mod habits;
pub mod histogram;
pub mod native;
pub mod peak;
pub mod recent;
pub mod share;
pub mod sketch;
pub mod slo;
pub mod slots;
pub mod topk;
pub mod window;
