//! The policies: what to admit, whom to ask, whom to leave out.
//!
//! Pure: time and randomness are arguments, nothing here does I/O, spawns or reads a clock. Depends on model
//! and clock only, so that hours can be simulated in milliseconds.

pub mod balance;
pub mod breaker;
pub mod concurrency;
pub mod ewma;
pub mod health;
pub mod outlier;
pub mod protect;
pub mod queue;
pub mod rate;
pub mod retry;
pub mod setting;
pub(crate) mod slab;
mod window;
