//! Observation: one record per exchange, and everything folded from it.

pub mod exchange;
