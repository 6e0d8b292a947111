//! Gives names their identities, and keeps them over reloads.
//!
//! A name is never given up, so an identity in an old record always means the same thing; the number of
//! names a process ever sees is the number of names its operators wrote (and endpoints DNS returned).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Every directory of a process.
#[derive(Debug, Default)]
pub struct Directories {
    /// Routes by name.
    pub routes: Directory,
    /// Upstreams by name.
    pub upstreams: Directory,
    /// Tiers by name.
    pub tiers: Directory,
    /// Rate limits by name.
    pub rate_limits: Directory,
    /// Endpoints as `upstream/address`.
    pub endpoints: Directory,
}

/// An append-only directory: names in, dense indices out.
#[derive(Debug, Default)]
pub struct Directory(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    names: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u32>,
}

impl Directory {
    /// The index of `name`, given out now if it is new.
    pub fn intern(&self, name: &str) -> u32 {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = inner.index.get(name) {
            return index;
        }
        let index = u32::try_from(inner.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        inner.names.push(Arc::clone(&name));
        inner.index.insert(name, index);
        index
    }

    /// The index of `name`, if it has one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.index.get(name).copied()
    }

    /// The name with this index.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<Arc<str>> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.names.get(index).cloned()
    }
}
