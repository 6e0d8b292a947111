//! Where the processes of a fleet meet.

use std::fmt;

use super::Secret;

/// `redis` of `[shared]`. Shown without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// One server, or the nodes of a cluster that are asked for the others: where, and with which password.
    pub urls: Vec<Secret>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// The same without a password.
    pub shown: String,
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
