//! Words for numbers, as short as columns want them, and numbers for the words of the pages.

use std::time::Duration;

use jiff::Timestamp;

const SECONDS_PER_DAY: u64 = 86_400;

/// How many, or how many a second: `0`, `0.4`, `17`, `1.23k`, `45.6M`.
pub(super) fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// A number of bytes: `0B`, `512B`, `1.50KiB`, `23.4MiB`.
pub(super) fn bytes(number: f64) -> String {
    scaled(
        number,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    )
}

fn scaled(mut number: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // What would be rounded up to the next unit belongs there.
    while number >= base - 0.5 && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    let digits = match unit {
        0 if number > 0.0 && number < 9.95 && number.fract() != 0.0 => 1,
        0 => 0,
        _ if number >= 99.95 => 0,
        _ if number >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.digits$}{}", units[unit])
}

/// A number in full, its digits in groups: `1,234,567`.
pub(super) fn exact(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long something has lasted, in its two largest units: `5s`, `1m2s`, `3h4m`, `12d5h`.
pub(super) fn span(time: Duration) -> String {
    let total = time.as_secs();
    let (seconds, minutes, hours) = (total % 60, total / 60 % 60, total / 3600 % 24);
    let days = total / SECONDS_PER_DAY;
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{seconds}s"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// How long a message took on its way: `361µs`, `1.2ms`, `3.4s`. Nothing if it was never measured.
pub(super) fn round_trip(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return String::new();
    };
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1.0 => format!("{}ns", time.as_nanos()),
        ..999.5 => format!("{micros:.0}µs"),
        ..9_995.0 => format!("{:.2}ms", micros / 1e3),
        ..99_950.0 => format!("{:.1}ms", micros / 1e3),
        ..999_500.0 => format!("{:.0}ms", micros / 1e3),
        _ => format!("{:.1}s", micros / 1e6),
    }
}

/// The time that a page tells in words, those of nats-server's uptime and those of Go's durations alike; none if there are
/// none, or the sum is 0.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit_seconds = match unit {
            "ns" => 1e-9,
            "µs" | "μs" | "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "y" => 31_536_000.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit_seconds;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
}

/// Time from one point to another; less than nothing is nothing.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Time left until something ends: `43d`, `5h`, `3m`, `over`.
pub(super) fn left(end: Timestamp, now: Timestamp) -> String {
    let left = between(now, end).as_secs();
    match left {
        0 => "over".into(),
        1..3600 => format!("{}m", left / 60),
        3600..SECONDS_PER_DAY => format!("{}h", left / 3600),
        _ => format!("{}d", left / SECONDS_PER_DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes() {
        for (number, text) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (3.0, "3"),
            (9.96, "10"),
            (999.4, "999"),
            (999.7, "1.00k"),
            (1234.0, "1.23k"),
            (9_996.0, "10.0k"),
            (123_456.0, "123k"),
            (999_700.0, "1.00M"),
            (4.2e9, "4.20G"),
        ] {
            assert_eq!(count(number), text, "{number}");
        }
        for (number, text) in [
            (0.0, "0B"),
            (1023.0, "1023B"),
            (1024.0, "1.00KiB"),
            (1_048_300.0, "1.00MiB"),
            (23.4 * 1048576.0, "23.4MiB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
        assert!(count(f64::MAX).ends_with('E'));
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(exact),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn times() {
        let seconds = Duration::from_secs;
        assert_eq!(span(seconds(59)), "59s");
        assert_eq!(span(seconds(62)), "1m2s");
        assert_eq!(span(seconds(3 * 3600 + 240)), "3h4m");
        assert_eq!(span(seconds(12 * 86_400 + 5 * 3600)), "12d5h");
        for (text, time) in [
            ("361µs", Some(Duration::from_micros(361))),
            ("1m2.5s", Some(Duration::from_millis(62_500))),
            ("1y2d0h0m7s", Some(seconds(31_536_000 + 2 * 86_400 + 7))),
            ("0s", None),
            ("", None),
            ("soon", None),
            ("5", None),
            ("1x", None),
        ] {
            assert_eq!(duration(text), time, "{text}");
        }
        for (micros, text) in [
            (0.5, "500ns"),
            (361.0, "361µs"),
            (999.7, "1.00ms"),
            (12_340.0, "12.3ms"),
            (250_000.0, "250ms"),
            (3_400_000.0, "3.4s"),
        ] {
            let time = Duration::from_secs_f64(micros / 1e6);
            assert_eq!(round_trip(Some(time)), text);
        }
        assert_eq!(round_trip(None), "");
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (end, text) in [
            ("2027-01-04T10:00:01Z", "43d"),
            ("2026-11-22T15:30:00Z", "5h"),
            ("2026-11-22T10:03:30Z", "3m"),
            ("2026-11-21T10:00:00Z", "over"),
        ] {
            assert_eq!(left(end.parse().unwrap(), now), text);
        }
    }
}
