//! The whole protection as a layer, and the service and the future that the single policies have too.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::edge::Edge;
use super::{Anyone, Caller, Classify, Error, Errors, Identify};
use crate::clock::Instant;
use crate::engine::admission::Request;
use crate::engine::protection::{Admission, Decision, Outcome, Protection, Settings, Waiting};
use crate::engine::route::RouteState;
use crate::model::{MethodLabel, Rejection};

/// A waiter that is not let go when it should be looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Breaker, limit and fair queue in front of a service, as the proxy has them in front of an upstream.
/// Whatever it is applied to shares one breaker, one limit and one queue.
#[derive(Clone, Debug)]
pub struct ProtectionLayer<I = Anyone, C = Errors> {
    shared: Arc<Shared>,
    identify: I,
    classify: C,
}

#[derive(Debug)]
struct Shared {
    protection: Protection,
    /// The cost of a request: the service is one route.
    route: RouteState,
    edge: Edge,
}

impl Default for ProtectionLayer {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

impl ProtectionLayer {
    /// With these settings; one client, and errors are failures.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self::at(settings, Edge::new())
    }

    /// With dice that fall the same way each time: for simulations.
    #[must_use]
    pub fn with_seed(settings: &Settings, seed: u64) -> Self {
        Self::at(settings, Edge::with_seed(seed))
    }

    fn at(settings: &Settings, edge: Edge) -> Self {
        Self {
            shared: Arc::new(Shared {
                protection: Protection::new(settings, edge.now()),
                route: RouteState::new(edge.now()),
                edge,
            }),
            identify: Anyone,
            classify: Errors,
        }
    }
}

impl<I, C> ProtectionLayer<I, C> {
    /// The same, telling clients apart by `identify`.
    #[must_use]
    pub fn identify<J>(self, identify: J) -> ProtectionLayer<J, C> {
        ProtectionLayer {
            shared: self.shared,
            identify,
            classify: self.classify,
        }
    }

    /// The same, judging responses by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> ProtectionLayer<I, D> {
        ProtectionLayer {
            shared: self.shared,
            identify: self.identify,
            classify,
        }
    }

    /// Takes over other settings and keeps what was learned.
    pub fn update(&self, settings: &Settings) {
        self.shared.protection.update(settings, self.now());
    }

    /// The policies, for reports and for an operator's orders.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        &self.shared.protection
    }

    /// The time they live by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.edge.now()
    }
}

impl<S, I: Clone, C: Clone> Layer<S> for ProtectionLayer<I, C> {
    type Service = Protected<S, I, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Protected {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind policies.
#[derive(Clone, Debug)]
pub struct Protected<S, I = Anyone, C = Errors> {
    inner: S,
    layer: ProtectionLayer<I, C>,
}

impl<S, R, I, C> Service<R> for Protected<S, I, C>
where
    S: Service<R> + Clone,
    I: Identify<R>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ProtectedFuture<S, R, S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let shared = Arc::clone(&self.layer.shared);
        let caller = self.layer.identify.identify(&request);
        let state = match shared.admit(caller) {
            Decision::Admitted(admission) => State::Running {
                begun: shared.edge.now(),
                admission: Some(admission),
                response: self.inner.call(request),
            },
            Decision::Queued(waiting) => {
                // The one that is ready goes with the request.
                let fresh = self.inner.clone();
                State::Waiting {
                    timer: shared.edge.timer(waiting.expires()),
                    waiting,
                    call: Some((std::mem::replace(&mut self.inner, fresh), request)),
                }
            }
            Decision::Refused(rejection) => State::Refused { rejection },
        };
        ProtectedFuture {
            state,
            shared,
            classify: self.layer.classify.clone(),
        }
    }
}

impl Shared {
    fn admit(&self, caller: Caller) -> Decision {
        let now = self.edge.now();
        let request = Request {
            client: caller.client,
            tier: caller.tier,
            weight: caller.weight,
            cost: self.route.cost(MethodLabel::Other),
            deadline: caller.within.map(|within| now.after(within)),
        };
        // In case nothing completes.
        self.protection.tick(now);
        self.protection.admit(now, &request, &mut self.edge.dice())
    }

    fn complete(&self, admission: Admission, begun: Instant, outcome: Outcome) {
        let now = self.edge.now();
        let took = now.since(begun);
        if outcome == Outcome::Answered {
            self.route.observe(MethodLabel::Other, took);
        }
        let dice = &mut self.edge.dice();
        self.protection
            .complete(admission, now, outcome, took, dice);
    }

    /// Whether the turn of a waiter has come. Its timer wakes it when it has to leave.
    fn poll_turn(
        &self,
        waiting: &mut Waiting,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Admission, Rejection>> {
        loop {
            let now = self.edge.now();
            if let Poll::Ready(fate) = waiting.poll(now, cx) {
                return Poll::Ready(fate);
            }
            ready!(timer.as_mut().poll(cx));
            timer
                .as_mut()
                .reset(self.edge.to_tokio(now.after(LOOK_AGAIN)));
        }
    }
}

pin_project! {
    /// The response of a [`Protected`] service.
    #[derive(Debug)]
    pub struct ProtectedFuture<S, R, F, C> {
        #[pin]
        state: State<S, R, F>,
        shared: Arc<Shared>,
        classify: C,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateNow]
    enum State<S, R, F> {
        Waiting {
            waiting: Waiting,
            #[pin]
            timer: Sleep,
            call: Option<(S, R)>,
        },
        Running {
            #[pin]
            response: F,
            admission: Option<Admission>,
            begun: Instant,
        },
        Refused {
            rejection: Rejection,
        },
    }
}

impl<S, R, C> Future for ProtectedFuture<S, R, S::Future, C>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateNow::Waiting {
                    waiting,
                    timer,
                    call,
                } => match ready!(this.shared.poll_turn(waiting, timer, cx)) {
                    Ok(admission) => {
                        let Some((mut service, request)) = call.take() else {
                            return Poll::Pending;
                        };
                        State::Running {
                            begun: this.shared.edge.now(),
                            admission: Some(admission),
                            response: service.call(request),
                        }
                    }
                    Err(rejection) => State::Refused { rejection },
                },
                StateNow::Running {
                    response,
                    admission,
                    begun,
                } => {
                    let result = ready!(response.poll(cx));
                    if let Some(admission) = admission.take() {
                        let outcome = this.classify.classify(result.as_ref());
                        this.shared.complete(admission, *begun, outcome);
                    }
                    return Poll::Ready(result.map_err(Error::Inner));
                }
                StateNow::Refused { rejection } => {
                    return Poll::Ready(Err(Error::Rejected(*rejection)));
                }
            };
            this.state.set(next);
        }
    }
}
