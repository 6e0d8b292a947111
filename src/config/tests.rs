//! Whole configurations.

use std::path::Path;

use super::plan::Plan;
use super::{Diagnostics, Source};

mod mistakes;
mod plans;
mod shipped;

const FD_LIMIT: usize = 100_000;

fn source() -> Source {
    Source {
        file: Some("tidegate.toml".into()),
        ..Source::default()
    }
}

fn load(text: &str) -> Result<Plan, Diagnostics> {
    source().load_text(Some(text.to_owned()), FD_LIMIT)
}

fn plan(text: &str) -> Plan {
    load(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

/// The smallest configuration, with `more` at its end.
fn minimal(more: &str) -> String {
    format!("version = 1\n[upstreams.app]\nendpoints = [\"127.0.0.1:3000\"]\n{more}")
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}
