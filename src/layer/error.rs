//! What a layer answers instead of the service inside.

use std::fmt;

use crate::model::Rejection;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error<E> {
    /// A policy refused the request; the service inside has not seen it.
    Rejected(Rejection),
    /// The service inside failed.
    Inner(E),
}

impl<E> Error<E> {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(_) => None,
        }
    }
}

impl<E> Error<Error<E>> {
    /// Of two layers, whichever refused.
    #[must_use]
    pub fn flatten(self) -> Error<E> {
        match self {
            Self::Rejected(rejection) => Error::Rejected(rejection),
            Self::Inner(error) => error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(
                f,
                "refused ({}): saw {:.3} {unit}, allowed {:.3} {unit}",
                rejection.reason,
                rejection.value,
                rejection.threshold,
                unit = rejection.unit.as_str(),
            ),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => error.source(),
        }
    }
}
