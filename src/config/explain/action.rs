//! What Tidegate does by itself, written out again.

use super::protection::mode;
use crate::config::plan::Action;
use crate::config::raw::RawAction;
use crate::config::units::{Ratio, Time};

pub(super) fn action(action: &Action) -> RawAction {
    RawAction {
        mode: mode(action.mode),
        confidence: Ratio(action.confidence).into(),
        after: Time(action.after),
        ttl: Time(action.ttl).into(),
    }
}
