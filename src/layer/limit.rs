//! The concurrency limit and its fair queue as a layer.

use tower_layer::Layer;

use super::{Anyone, Errors, Protected, ProtectionLayer};
use crate::engine::protection::{Algorithm, Mode, Protection, Settings};
use crate::engine::queue;

/// A limit on the requests in a service, and the fair queue in front of it. Whatever it is applied to shares
/// one limit and one queue.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer<I = Anyone, C = Errors>(ProtectionLayer<I, C>);

impl Default for ConcurrencyLimitLayer {
    fn default() -> Self {
        Self::new(Algorithm::default(), queue::Config::default())
    }
}

impl ConcurrencyLimitLayer {
    /// With a limit found like this, and this queue; one client, and errors are failures.
    #[must_use]
    pub fn new(algorithm: Algorithm, queue: queue::Config) -> Self {
        Self(ProtectionLayer::new(&Settings {
            algorithm,
            queue,
            breaker: Mode::Off,
            ..Settings::default()
        }))
    }
}

impl<I, C> ConcurrencyLimitLayer<I, C> {
    /// The same, telling clients apart by `identify`.
    #[must_use]
    pub fn identify<J>(self, identify: J) -> ConcurrencyLimitLayer<J, C> {
        ConcurrencyLimitLayer(self.0.identify(identify))
    }

    /// The same, judging responses by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> ConcurrencyLimitLayer<I, D> {
        ConcurrencyLimitLayer(self.0.classify(classify))
    }

    /// The limit, for reports.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        self.0.protection()
    }
}

impl<S, I: Clone, C: Clone> Layer<S> for ConcurrencyLimitLayer<I, C> {
    type Service = Protected<S, I, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}
