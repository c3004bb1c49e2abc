//! The only file that reads a clock or waits for time to pass.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The current instant, to measure how long something took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970-01-01 UTC.
#[expect(clippy::disallowed_methods, reason = "a record says when it was made")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Microseconds since 1970-01-01 UTC, to tell two processes on one machine how long something took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Leaves a server alone for a while: what is measured then is what it does by itself, so there is no
/// event to wait for.
#[expect(
    clippy::disallowed_methods,
    reason = "an idle server is measured by not using it"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The date in UTC as `2026-03-21 14:05`.
pub(crate) fn date_utc(unix_seconds: u64) -> String {
    let (year, month, day) = civil_from_days(unix_seconds / 86_400);
    let minutes = unix_seconds % 86_400 / 60;
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02}",
        minutes / 60,
        minutes % 60
    )
}

/// Year, month and day of a day counted from 1970-01-01, by walking the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::date_utc;

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date_utc(0), "1970-01-01 00:00");
        assert_eq!(date_utc(951_782_399), "2000-02-28 23:59");
        assert_eq!(date_utc(951_782_400), "2000-02-29 00:00");
        assert_eq!(date_utc(1_767_225_540), "2025-12-31 23:59");
        assert_eq!(date_utc(1_767_225_600), "2026-01-01 00:00");
    }
}
