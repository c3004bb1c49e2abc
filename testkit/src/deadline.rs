//! The one place in this crate that reads a clock: how long a wait may still last.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Long, since a loaded machine is slow and a passing
/// test never waits it out.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A moment after which waiting has failed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `duration` from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests of real processes run in real time"
    )]
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// The time left, or `None` once the moment has passed. Never zero, which socket timeouts would take for "for ever".
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests of real processes run in real time"
    )]
    pub fn left(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// How long whoever was asked is left in peace.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until there is an answer; `None` when there is none in time. For what another process comes to know without telling:
/// where there is an event, wait for that.
pub fn ask_until<T>(patience: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(patience);
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        thread::park_timeout(PAUSE.min(deadline.left()?));
    }
}
