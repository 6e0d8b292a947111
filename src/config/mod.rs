//! Configuration: a file becomes a [`plan::Plan`].
//!
//! ```text
//! text → document → Raw → Plan
//!   load      reads the file and the flags into one document
//!   document  finds places, applies `--set`, refuses keys of later versions
//!   raw       one struct per table: shape and units
//!   resolve   references, defaults, files: everything else that can be wrong
//! ```
//!
//! Every step reports all it finds, so one run shows every mistake. Depends on the clock and the model; the
//! rest of the program depends on [`plan`] alone.

pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod plan;
pub mod schema;
pub mod watch;

mod document;
mod load;
mod raw;
mod resolve;
mod units;

use crate::policy::rate::Quota;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use load::Source;

/// The duration that `text` writes in the configuration's form, such as `30m`; else what the form is.
///
/// # Errors
/// When it is not one.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let time: units::Time = text
        .parse()
        .map_err(|error: units::UnitError| error.to_string())?;
    Ok(time.0)
}

/// The quota that `text` writes in the configuration's form, such as `50/s`, all of a second's worth at once; else what
/// the form is.
///
/// # Errors
/// When it is not one.
pub fn quota(text: &str) -> Result<Quota, String> {
    let rate: units::Rate = text
        .parse()
        .map_err(|error: units::UnitError| error.to_string())?;
    Quota::try_new(rate.amount, rate.period, rate.amount).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
