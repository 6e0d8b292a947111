//! The circuit breaker as a layer.

use tower_layer::Layer;

use super::{Anyone, Errors, Protected, ProtectionLayer};
use crate::clock::Instant;
use crate::engine::breaker::{Breaker, Config};
use crate::engine::protection::{Mode, Settings};

/// A circuit breaker in front of a service. Whatever it is applied to shares one.
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<C = Errors>(ProtectionLayer<Anyone, C>);

impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl CircuitBreakerLayer {
    /// One that opens as `config` says; errors are failures.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(ProtectionLayer::new(&Settings {
            breaker_config: config,
            limit: Mode::Off,
            ..Settings::default()
        }))
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// The same, judging responses by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> CircuitBreakerLayer<D> {
        CircuitBreakerLayer(self.0.classify(classify))
    }

    /// The breaker, for reports and for an operator's orders.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.0.protection().circuit().breaker()
    }

    /// The time it lives by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now()
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = Protected<S, Anyone, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}
