//! Who asks.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

/// What the fair queue is to know about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose it is: a hash.
    pub client: u64,
    /// How important it is: 0 is the most important tier. *Default* 1, the middle of three.
    pub tier: u8,
    /// The client's share relative to others of its tier. *Default* 1.
    pub weight: u32,
    /// How long its answer is of use. *Default* for ever.
    pub within: Option<Duration>,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            client: 0,
            tier: 1,
            weight: 1,
            within: None,
        }
    }
}

impl Caller {
    /// The client of this name. The hash is keyed anew in each process, so nobody can choose a name that
    /// shares its queues with another's.
    #[must_use]
    pub fn named(name: &impl Hash) -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self {
            client: KEYS.hash_one(name),
            ..Self::default()
        }
    }
}

/// Tells who sends a request.
pub trait Identify<R> {
    /// The caller of `request`.
    fn identify(&self, request: &R) -> Caller;
}

impl<R, F> Identify<R> for F
where
    F: Fn(&R) -> Caller,
{
    fn identify(&self, request: &R) -> Caller {
        self(request)
    }
}

/// All requests come from one client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl<R> Identify<R> for Anyone {
    fn identify(&self, _request: &R) -> Caller {
        Caller::default()
    }
}
