//! Waiting on a condition. Nothing else in the tests lets time pass.

use std::time::Duration;

/// How long a test waits for what must happen. Reached only when the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition that cannot wake anybody is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A moment after which waiting is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(std::time::Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the tests: it bounds waiting and decides nothing"
)]
impl Deadline {
    /// The moment `patience` from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(std::time::Instant::now() + patience)
    }

    /// The time left; zero once it has passed.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }

    /// Lets a short while pass; false once the deadline has.
    pub(crate) fn tick(self) -> bool {
        let remaining = self.remaining();
        std::thread::park_timeout(POLL.min(remaining));
        !remaining.is_zero()
    }
}

/// Waits until `condition` holds; panics, naming `what`, when it does not within `patience`.
#[track_caller]
pub(crate) fn eventually(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    eventually_some(what, patience, || condition().then_some(()));
}

/// Waits until `attempt` yields a value; panics, naming `what`, when it does not within `patience`.
#[track_caller]
pub(crate) fn eventually_some<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Deadline::after(patience);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(deadline.tick(), "waited {patience:?} in vain for {what}");
    }
}
