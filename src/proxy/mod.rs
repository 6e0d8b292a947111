//! The data plane.

pub mod guard;
