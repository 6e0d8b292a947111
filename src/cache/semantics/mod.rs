//! What a shared cache may store and reuse: RFC 9110, 9111, 5861, 9211 and 9213.
//!
//! Pure functions over header maps and integer times: no I/O, no clock, no configuration but what is handed in.
//! Everything that a hit needs to know of a response is worked out once, when it is stored ([`Model`]); a hit
//! then costs a few additions and comparisons.

pub mod condition;
pub mod control;
pub mod date;
pub mod fields;
pub mod model;
pub mod range;
pub mod reuse;
pub mod status;
pub mod store;
pub mod vary;

pub use self::control::{Control, RequestControl};
pub use self::model::{Millis, Model};

#[cfg(test)]
mod tests;

/// Whether `method` is safe (RFC 9110 section 9.2.1): what is not may change what is stored.
#[must_use]
pub fn is_safe(method: &http::Method) -> bool {
    matches!(
        *method,
        http::Method::GET | http::Method::HEAD | http::Method::OPTIONS | http::Method::TRACE
    )
}
