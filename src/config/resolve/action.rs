//! Checks of `[actions.CAUSE]`.

use std::time::Duration;

use super::Check;
use super::protection::mode;
use crate::config::diagnostic::suggest;
use crate::config::plan::{ACTED_ON, Action};
use crate::config::raw::{Raw, RawAction, Spanned};

/// As long as an operator may isolate somebody.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

impl Check<'_> {
    pub(super) fn actions(&mut self, raw: &Raw) -> Vec<Action> {
        let actions = raw.actions.iter();
        actions
            .filter_map(|(cause, one)| self.action(cause, one))
            .collect()
    }

    fn action(&mut self, name: &Spanned<String>, raw: &Spanned<RawAction>) -> Option<Action> {
        let cause = ACTED_ON.into_iter().find(|cause| *cause == name.as_str());
        if cause.is_none() {
            self.error_hint(
                name.span(),
                format!(
                    "nothing can be done about `{}` by itself",
                    name.escape_debug()
                ),
                suggest(name, &ACTED_ON).hint,
            );
        }
        let ttl = self.above_zero(&raw.ttl, "ttl");
        if ttl > LONGEST {
            self.error(raw.ttl.span(), "`ttl` must be at most 7d");
        }
        Some(Action {
            cause: cause?,
            mode: mode(raw.mode),
            confidence: raw.confidence.0,
            after: raw.after.0,
            ttl,
        })
    }
}
