//! The ways of HTTP.

use http::{Request, Response};

use super::{Blame, Classify, Outcome, Replay};
use crate::engine::retry;
use crate::model::MethodLabel;

/// Judges a response by its status as the proxy does: 502 to 504 are failures, other 5xx errors of the application,
/// everything else answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpStatus;

impl<B, E: Blame> Classify<Response<B>, E> for HttpStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => Outcome::from_status(response.status().as_u16()),
            Err(error) => error.outcome(),
        }
    }
}

/// Repeats requests with an idempotent method (RFC 9110 section 9.2.2) or an Idempotency-Key. Their bodies
/// must be [`Clone`], which a streamed one is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idempotent;

impl<B: Clone> Replay<Request<B>> for Idempotent {
    fn copy(&self, request: &Request<B>) -> Option<Request<B>> {
        let method = MethodLabel::from_token(request.method().as_str());
        let repeatable =
            retry::is_idempotent(method) || request.headers().contains_key("idempotency-key");
        repeatable.then(|| request.clone())
    }
}
