//! How a request went, as far as it tells about the service.

use std::convert::Infallible;

use super::Error;
use crate::engine::protection::Outcome;

/// Tells what a response or an error says about the service that gave it.
pub trait Classify<T, E> {
    /// What `result` says.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;
}

impl<T, E, F> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// An error that knows who is to blame for it. What Tidegate itself refused is no failure of the service, at
/// whatever depth.
pub trait Blame {
    /// What the error says about the service; unless told otherwise, that it has failed.
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

impl Blame for Infallible {}

impl Blame for std::io::Error {}

impl Blame for Box<dyn std::error::Error + Send + Sync> {}

impl<E: Blame> Blame for Error<E> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Rejected(_) => Outcome::Ignored,
            Self::Inner(error) => error.outcome(),
        }
    }
}

/// Every response is an answer, every error as its [`Blame`] says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors;

impl<T, E: Blame> Classify<T, E> for Errors {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Answered,
            Err(error) => error.outcome(),
        }
    }
}
