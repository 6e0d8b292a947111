//! `[actions.CAUSE]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawMode, Spanned};
use crate::config::units::{Ratio, Time};

/// What Tidegate does by itself about one cause: the isolation that its verdict names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAction {
    /// `observe`: an event tells what it would do.
    pub(crate) mode: RawMode,
    /// How sure the verdict has to be.
    pub(crate) confidence: Spanned<Ratio>,
    /// For how long what it is about has to have been seen.
    pub(crate) after: Time,
    /// When the isolation ends by itself.
    pub(crate) ttl: Spanned<Time>,
}

impl Default for RawAction {
    fn default() -> Self {
        Self {
            mode: RawMode::Observe,
            confidence: Ratio(0.8).into(),
            after: Time::secs(5),
            ttl: Time::secs(900).into(),
        }
    }
}
