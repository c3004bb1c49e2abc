//! The one place that reads the clock; everything else is told the time.

use std::time::Instant;

/// Now.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the shell's clock")]
    Instant::now()
}

/// Now, by the calendar: for certificates, which name dates.
pub(crate) fn calendar_now() -> std::time::SystemTime {
    #[expect(clippy::disallowed_methods, reason = "this is the shell's clock")]
    std::time::SystemTime::now()
}
