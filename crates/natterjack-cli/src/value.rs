//! Values of arguments: durations, sizes, headers.

use std::time::Duration;

/// `1.5s`, `200ms`, `2m`, `1h`; a number alone counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!(
                "unknown unit `{unit}`; use ms, s, m or h, as in 1.5s"
            ));
        }
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| "write a number and a unit, such as 500ms or 5s".into())
}

/// Bytes: `512`, `16k`, `1m`, in units of 1024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        unit => return Err(format!("unknown unit `{unit}`; use k or m, as in 16k")),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "write a number of bytes, such as 128 or 16k".into())
}

/// `Key: value` or `Key:value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as Key:Value")?;
    // What a header may be on the wire: NATS ADR-4.
    if name.is_empty() || !name.chars().all(|c| matches!(c, '!'..='~')) {
        return Err("a header's key must be printable ASCII without spaces, and not empty".into());
    }
    let value = value.trim();
    if value.contains(['\r', '\n']) {
        return Err("a header's value must be a single line".into());
    }
    Ok((name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("2", 2000),
            ("1.5s", 1500),
            ("20ms", 20),
            ("2m", 120_000),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "s", "1x", "-1s", "1..2s", "1s2"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("128", 128),
            ("16k", 16_384),
            ("1M", 1 << 20),
            ("2KiB", 2048),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "k", "1g", "-1", "99999999999999999999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers() {
        assert_eq!(header("A:b: c"), Ok(("A".into(), "b: c".into())));
        assert_eq!(header("A: b"), Ok(("A".into(), "b".into())));
        assert_eq!(header("A:"), Ok(("A".into(), String::new())));
        for bad in ["A", ":b", "A b:c", "Ä:b", "A:b\r\nC:d"] {
            assert!(header(bad).is_err(), "{bad}");
        }
    }
}
