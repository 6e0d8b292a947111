//! `[slos.NAME]`.

use std::sync::Arc;

use crate::engine::slo::{Per, Settings};

/// What is promised of the requests of the routes that name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Unique name.
    pub name: Arc<str>,
    /// Who is held to it apart from others.
    pub per: Per,
    /// What is promised.
    pub settings: Settings,
}
