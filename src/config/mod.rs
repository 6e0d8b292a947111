//! Configuration: a file becomes a [`plan::Plan`].

pub mod plan;
