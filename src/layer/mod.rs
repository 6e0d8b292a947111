//! The policies inside a service: tower layers over the engine that the proxy runs on.
//!
//! | layer | what it does |
//! | --- | --- |
//! | [`ProtectionLayer`] | breaker, limit and fair queue in the order of the proxy |
//! | [`ConcurrencyLimitLayer`] | limit and fair queue alone |
//! | [`CircuitBreakerLayer`] | the breaker alone |
//! | [`RetryLayer`] | sends again what failed and may be repeated, within a budget |
//!
//! They keep to tower's conventions: all that a layer makes share one state, services are [`Clone`] and ready when the service
//! inside is, futures have names and nothing is boxed. The outermost is the retry, because each attempt is
//! admitted like a request of its own; then the breaker, which saves a wait; then the limit. A refusal is
//! [`Error::Rejected`], and no layer counts one as a failure of the service or sends it again.
//!
//! Who asks is said by an [`Identify`], how it went by a [`Classify`], what may be repeated by a [`Replay`];
//! a closure will do for each, and there are some for HTTP: [`HttpStatus`], [`Idempotent`].
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, error_handling::HandleErrorLayer, routing::get};
//! use http::{Request, StatusCode, header::RETRY_AFTER};
//! use tidegate::engine::breaker::{Order, Position};
//! use tidegate::layer::{Caller, Error, HttpStatus, ProtectionLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! type Body = axum::body::Body;
//!
//! /// What a refused client is told.
//! async fn refused(error: Error<std::convert::Infallible>) -> impl axum::response::IntoResponse {
//!     let wait = error.rejection().map_or(0, |rejection| rejection.retry_after.as_secs() + 1);
//!     (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, wait.to_string())], error.to_string())
//! }
//!
//! let protection = ProtectionLayer::default()
//!     .identify(|request: &Request<Body>| Caller::named(&request.headers().get("x-api-key")))
//!     .classify(HttpStatus);
//! let app: Router = Router::new()
//!     .route("/report", get(|| async { "numbers" }))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(HandleErrorLayer::new(refused))
//!             .layer(protection.clone()),
//!     );
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let ask = || Request::get("/report").body(Body::empty());
//! assert_eq!(app.clone().oneshot(ask()?).await?.status(), StatusCode::OK);
//!
//! // An operator may stop everything for a while.
//! let now = protection.now();
//! let until = now.after(Duration::from_secs(30));
//! let order = Order { position: Position::Open, until, reason: "maintenance".into() };
//! protection.protection().circuit().breaker().force(order, now);
//! assert_eq!(app.oneshot(ask()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! What they do badly: a slot is held until the response is there, not until a streamed body has ended; a
//! request that waits keeps the inner service it was promised, with whatever that has reserved; and a policy
//! that only observes tells nobody. The proxy does all three.
//!
//! Depends on engine, model and the clock's [`Instant`](crate::clock::Instant).

mod breaker;
mod classify;
mod edge;
mod error;
mod http;
mod identify;
mod limit;
mod protection;
mod retry;
#[cfg(test)]
mod tests;

pub use self::breaker::CircuitBreakerLayer;
pub use self::classify::{Blame, Classify, Errors};
pub use self::error::Error;
pub use self::http::{HttpStatus, Idempotent};
pub use self::identify::{Anyone, Caller, Identify};
pub use self::limit::ConcurrencyLimitLayer;
pub use self::protection::{Protected, ProtectedFuture, ProtectionLayer};
pub use self::retry::{Replay, Retry, RetryFuture, RetryLayer};
pub use crate::engine::protection::Outcome;
