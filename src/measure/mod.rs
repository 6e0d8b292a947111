//! Measurements: what has been seen, in a bounded space.
//!
//! Pure: no clock, no I/O, no threads. Depends on the model and the clock's types only.

pub mod histogram;
pub mod recent;
pub mod sketch;
