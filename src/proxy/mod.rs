//! The data plane.

pub mod path;
pub mod router;
