//! A rate limit as a layer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::edge::Edge;
use super::{Anyone, Error, Identify};
use crate::clock::SystemClock;
use crate::engine::circuit::Mode;
use crate::engine::rate::{Cost, Limit, Moment, Quota, Settings, Shares};
use crate::model::Rejection;

/// Callers that are told apart, unless told otherwise.
const KEYS: usize = 1_000_000;

/// A quota for each caller in front of a service. Whatever it is applied to shares what is used of it. A request is
/// refused at once; nothing waits.
///
/// ```
/// use std::convert::Infallible;
///
/// use tidegate::engine::rate::{Period, Quota};
/// use tidegate::layer::{Caller, RateLimitLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let limit = RateLimitLayer::new(Quota::try_new(100, Period::Second, 1)?)
///     .identify(|who: &&'static str| Caller::named(who));
/// let service = limit.layer(service_fn(async |who| Ok::<_, Infallible>(who)));
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// assert!(service.clone().oneshot("ann").await.is_ok());
/// assert!(service.clone().oneshot("bob").await.is_ok());
/// let refused = service.oneshot("ann").await.unwrap_err();
/// assert!(refused.rejection().is_some_and(|rejection| rejection.retry_after.as_millis() <= 10));
/// # });
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer<I = Anyone> {
    shared: Arc<Shared>,
    identify: I,
}

#[derive(Debug)]
struct Shared {
    limit: Arc<Limit>,
    edge: Edge,
    /// The wall clock when the layer was made, in microseconds since the Unix epoch.
    wall: u64,
}

impl RateLimitLayer {
    /// With this quota for each of a million callers at a time; one caller.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self::with_keys(quota, KEYS)
    }

    /// With this quota for each of so many callers at a time, 16 bytes each; one caller. Whoever comes beyond
    /// takes over the place, and the debt, of whoever has used least.
    #[must_use]
    pub fn with_keys(quota: Quota, keys: usize) -> Self {
        let settings = Settings {
            mode: Mode::Enforce,
            quota,
            cost: Cost::Requests,
            count_cache_hits: true,
            max_keys: keys,
        };
        Self {
            shared: Arc::new(Shared {
                limit: Limit::alone(settings),
                edge: Edge::new(),
                wall: SystemClock.unix_micros(),
            }),
            identify: Anyone,
        }
    }
}

impl<I> RateLimitLayer<I> {
    /// The same, with a quota for each client that `identify` tells apart.
    #[must_use]
    pub fn identify<J>(self, identify: J) -> RateLimitLayer<J> {
        RateLimitLayer {
            shared: self.shared,
            identify,
        }
    }

    /// The limit, for reports.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.shared.limit
    }
}

impl Shared {
    fn now(&self) -> Moment {
        let monotonic = self.edge.now();
        let wall = Duration::from_micros(self.wall);
        Moment {
            monotonic,
            unix: (wall + Duration::from_nanos(monotonic.as_nanos())).as_secs(),
        }
    }
}

impl<S, I: Clone> Layer<S> for RateLimitLayer<I> {
    type Service = RateLimited<S, I>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimited {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a quota.
#[derive(Clone, Debug)]
pub struct RateLimited<S, I = Anyone> {
    inner: S,
    layer: RateLimitLayer<I>,
}

impl<S, R, I> Service<R> for RateLimited<S, I>
where
    S: Service<R>,
    I: Identify<R>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = RateLimitedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let shared = &self.layer.shared;
        let key = self.layer.identify.identify(&request).client;
        let asked = std::iter::once((Arc::clone(&shared.limit), key));
        let shares = Shares::ask(asked, shared.now(), |_against| {});
        RateLimitedFuture {
            state: match shares.rejection() {
                Some(rejection) => State::Refused { rejection },
                None => State::Running {
                    response: self.inner.call(request),
                },
            },
        }
    }
}

pin_project! {
    /// The response of a [`RateLimited`] service.
    #[derive(Debug)]
    pub struct RateLimitedFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateNow]
    enum State<F> {
        Running {
            #[pin]
            response: F,
        },
        Refused {
            rejection: Rejection,
        },
    }
}

impl<F, T, E> Future for RateLimitedFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateNow::Running { response } => {
                Poll::Ready(ready!(response.poll(cx)).map_err(Error::Inner))
            }
            StateNow::Refused { rejection } => Poll::Ready(Err(Error::Rejected(*rejection))),
        }
    }
}
