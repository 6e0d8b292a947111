//! `[usage]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawSecret, Spanned};
use crate::config::units::Time;

/// The ledger of who used what.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawUsage {
    /// `sqlite:PATH`, `postgres://…`, or `memory`: gone with the process, and a day at most. A URL with a password is a
    /// secret.
    pub(crate) store: Spanned<RawSecret>,
    /// How long days are kept. Hours are kept for 90 days, minutes for 8, if that is not longer.
    pub(crate) keep: Spanned<Time>,
}

impl Default for RawUsage {
    fn default() -> Self {
        Self {
            store: RawSecret::Literal("sqlite:tidegate.db".to_owned()).into(),
            keep: Time::secs(400 * 86_400).into(),
        }
    }
}
