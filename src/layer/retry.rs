//! Sending again as a layer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::edge::Edge;
use super::{Classify, Errors, Outcome};
use crate::engine::retry::{Config, Failure, Request, Retries};

/// Tells which requests may be sent again, and keeps a copy of them.
pub trait Replay<R> {
    /// A copy of `request` to send if this one fails; none when it must not be sent twice.
    fn copy(&self, request: &R) -> Option<R>;
}

impl<R, F> Replay<R> for F
where
    F: Fn(&R) -> Option<R>,
{
    fn copy(&self, request: &R) -> Option<R> {
        self(request)
    }
}

/// Sends requests again that failed and may be repeated, after a jittered wait and within one budget for
/// whatever it is applied to. What was refused by a policy inside is not sent again.
#[derive(Clone, Debug)]
pub struct RetryLayer<P, C = Errors> {
    shared: Arc<Shared>,
    replay: P,
    classify: C,
}

#[derive(Debug)]
struct Shared {
    retries: Retries,
    edge: Edge,
}

impl<P> RetryLayer<P> {
    /// With this many attempts and this budget, for what `replay` gives a copy of; errors are failures.
    #[must_use]
    pub fn new(config: Config, replay: P) -> Self {
        Self::at(config, replay, Edge::new())
    }

    /// With dice that fall the same way each time: for simulations.
    #[must_use]
    pub fn with_seed(config: Config, replay: P, seed: u64) -> Self {
        Self::at(config, replay, Edge::with_seed(seed))
    }

    fn at(config: Config, replay: P, edge: Edge) -> Self {
        Self {
            shared: Arc::new(Shared {
                retries: Retries::new(config, edge.now()),
                edge,
            }),
            replay,
            classify: Errors,
        }
    }
}

impl<P, C> RetryLayer<P, C> {
    /// The same, judging responses by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<P, D> {
        RetryLayer {
            shared: self.shared,
            replay: self.replay,
            classify,
        }
    }

    /// The share of the budget that is left.
    #[must_use]
    pub fn remaining(&self) -> f64 {
        self.shared.retries.remaining(self.shared.edge.now())
    }
}

impl<S, P: Clone, C: Clone> Layer<S> for RetryLayer<P, C> {
    type Service = Retry<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose failures are mended where possible.
#[derive(Clone, Debug)]
pub struct Retry<S, P, C = Errors> {
    inner: S,
    layer: RetryLayer<P, C>,
}

impl<S, R, P, C> Service<R> for Retry<S, P, C>
where
    S: Service<R> + Clone,
    P: Replay<R> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, R, S::Future, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let shared = &self.layer.shared;
        shared.retries.deposit(shared.edge.now());
        let copy = self.layer.replay.copy(&request);
        // The one that is ready takes the request.
        let fresh = self.inner.clone();
        let mut service = std::mem::replace(&mut self.inner, fresh);
        RetryFuture {
            state: State::Sent {
                response: service.call(request),
            },
            service,
            copy,
            attempts: 1,
            layer: self.layer.clone(),
        }
    }
}

impl Shared {
    /// How long to wait before a request that failed is sent again, if it may be.
    fn decide(&self, attempts: u32) -> Option<Duration> {
        let request = Request {
            repeatable: true,
            replayable: true,
            answered: false,
            attempts,
            deadline: None,
            usual: Duration::ZERO,
        };
        let now = self.edge.now();
        let dice = &mut self.edge.dice();
        let failure = Failure::Unavailable;
        self.retries.decide(&request, failure, now, dice).ok()
    }
}

pin_project! {
    /// The response of a [`Retry`] service.
    #[derive(Debug)]
    pub struct RetryFuture<S, R, F, P, C> {
        #[pin]
        state: State<F>,
        service: S,
        copy: Option<R>,
        attempts: u32,
        layer: RetryLayer<P, C>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateNow]
    enum State<F> {
        Sent {
            #[pin]
            response: F,
        },
        Waiting {
            #[pin]
            timer: Sleep,
        },
        Due,
    }
}

impl<S, R, P, C> Future for RetryFuture<S, R, S::Future, P, C>
where
    S: Service<R>,
    P: Replay<R>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let shared = &this.layer.shared;
        loop {
            let next = match this.state.as_mut().project() {
                StateNow::Sent { response } => {
                    let result = ready!(response.poll(cx));
                    let failed = this.layer.classify.classify(result.as_ref()) == Outcome::Failed;
                    if !failed || this.copy.is_none() {
                        return Poll::Ready(result);
                    }
                    let Some(wait) = shared.decide(*this.attempts) else {
                        return Poll::Ready(result);
                    };
                    State::Waiting {
                        timer: shared.edge.timer(shared.edge.now().after(wait)),
                    }
                }
                StateNow::Waiting { timer } => {
                    ready!(timer.poll(cx));
                    State::Due
                }
                StateNow::Due => {
                    ready!(this.service.poll_ready(cx))?;
                    let Some(request) = this.copy.take() else {
                        return Poll::Pending;
                    };
                    *this.copy = this.layer.replay.copy(&request);
                    *this.attempts += 1;
                    State::Sent {
                        response: this.service.call(request),
                    }
                }
            };
            this.state.set(next);
        }
    }
}
