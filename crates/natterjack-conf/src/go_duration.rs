//! Durations as Go writes and reads them: `1h30m`, `500ms`, `1.5s` (Go `time.ParseDuration`, `time.Duration.String`).
//!
//! The language itself has no durations: it is up to an option whether its text is one.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoDuration {
    /// It is empty, or not made of numbers and units.
    #[error("a duration is numbers with units, such as \"2m\" or \"1h30m\"")]
    Malformed,
    /// A number is alone.
    #[error("a number without a unit: add ns, us, ms, s, m or h, as in \"10s\"")]
    NoUnit,
    /// A unit is none of Go's.
    #[error("there is no such unit: use ns, us, ms, s, m or h; a day is \"24h\"")]
    UnknownUnit,
    /// It is below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// It is more than an `i64` of nanoseconds.
    #[error("longer than 292 years")]
    TooLong,
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration that is not negative. Linear in the text's length.
///
/// # Errors
/// If it is none.
pub fn parse(text: &str) -> Result<Duration, NoDuration> {
    if let Some(rest) = text.strip_prefix('-') {
        return match parse(rest) {
            Ok(Duration::ZERO) => Ok(Duration::ZERO),
            Ok(_) => Err(NoDuration::Negative),
            Err(error) => Err(error),
        };
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(NoDuration::Malformed);
    }
    let mut nanoseconds = 0u64;
    while !rest.is_empty() {
        let is_number = |character: char| character.is_ascii_digit() || character == '.';
        let (number, after) = split_at(rest, |character| !is_number(character));
        let (unit, after) = split_at(after, is_number);
        let part = part(number, unit)?;
        nanoseconds = nanoseconds
            .checked_add(part)
            .filter(|&sum| i64::try_from(sum).is_ok())
            .ok_or(NoDuration::TooLong)?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn split_at(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

fn part(number: &str, unit: &str) -> Result<u64, NoDuration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(NoDuration::Malformed);
    }
    if unit.is_empty() {
        return Err(NoDuration::NoUnit);
    }
    let (_, scale) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or(NoDuration::UnknownUnit)?;
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| NoDuration::TooLong)?,
    };
    let mut nanoseconds = whole.checked_mul(scale).ok_or(NoDuration::TooLong)?;
    // Below a nanosecond nothing counts; no unit has more than 3.6e12 of them.
    let mut place = scale;
    for digit in fraction.bytes().take(13) {
        place /= 10;
        nanoseconds = nanoseconds.saturating_add(u64::from(digit - b'0') * place);
    }
    Ok(nanoseconds)
}

/// Writes a duration, without the units that are zero: `2m`, not `2m0s` as Go does.
#[must_use]
pub fn show(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000_000_000 {
        for (unit, scale) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1)] {
            if nanoseconds.is_multiple_of(scale) {
                return format!("{}{unit}", nanoseconds / scale);
            }
        }
    }
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, count) in [("h", seconds / 3600), ("m", seconds / 60 % 60)] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    match (seconds % 60, duration.subsec_nanos()) {
        (0, 0) => {}
        (seconds, 0) => text.push_str(&format!("{seconds}s")),
        (seconds, fraction) => {
            let fraction = format!("{fraction:09}");
            text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
            ("+1s", 1_000_000_000),
            ("-0s", 0),
            ("1s1s", 2_000_000_000),
            ("0.0000000001s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for (text, error) in [
            ("", NoDuration::Malformed),
            ("s", NoDuration::Malformed),
            ("1..2s", NoDuration::Malformed),
            ("1.2.3s", NoDuration::Malformed),
            ("10", NoDuration::NoUnit),
            ("1h30", NoDuration::NoUnit),
            ("1d", NoDuration::UnknownUnit),
            ("1 s", NoDuration::UnknownUnit),
            ("1S", NoDuration::UnknownUnit),
            ("-1s", NoDuration::Negative),
            ("9999999h", NoDuration::TooLong),
            ("99999999999999999999s", NoDuration::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (7, "7ns"),
            (250_000_000, "250ms"),
            (1_500_000, "1500us"),
            (1_000_000_000, "1s"),
            (1_250_000_000, "1.25s"),
            (120_000_000_000, "2m"),
            (3_600_000_000_000, "1h"),
            (5_401_000_000_000, "1h30m1s"),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(show(duration), text);
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
    }
}
