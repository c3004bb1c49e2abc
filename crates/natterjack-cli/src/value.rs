//! Values of arguments: durations, subjects, sizes, headers.

use std::time::Duration;

use natterjack_conf::go_duration;

/// `1.5s`, `200ms`, `1m30s`, `1h`; a number alone counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let read = if is_number {
        go_duration::parse(&format!("{text}s"))
    } else {
        go_duration::parse(text)
    };
    read.map_err(|problem| problem.to_string())
}

/// A number of things of which there must be one.
pub(crate) fn some(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a number, 1 or more"),
        Ok(number) => Ok(number),
    }
}

/// A subject to publish to: words separated by dots, without wildcards.
pub(crate) fn subject(text: &str) -> Result<String, String> {
    if text.split('.').any(|word| matches!(word, "*" | ">")) {
        return Err("`*` and `>` are wildcards, which only a subscriber may use".into());
    }
    pattern(text)
}

/// A subject to subscribe to: words separated by dots, of which some may be wildcards.
pub(crate) fn pattern(text: &str) -> Result<String, String> {
    let words: Vec<_> = text.split('.').collect();
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a subject has no blanks".into());
    }
    if words.iter().any(|word| word.is_empty()) {
        return Err("dots separate words, and no word may be empty".into());
    }
    if words[..words.len() - 1].contains(&">") {
        return Err("`>` stands for all remaining words, so it must be the last".into());
    }
    Ok(text.into())
}

/// The name of a queue group.
pub(crate) fn queue(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a queue group's name has no blanks, and is not empty".into());
    }
    Ok(text.into())
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
            ("1m30s", 90_000),
            ("0.5", 500),
            ("0", 0),
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
    fn subjects() {
        for good in ["a", "a.b", "a*.>b", "$SYS.x"] {
            assert_eq!(subject(good).as_deref(), Ok(good));
        }
        for good in ["a.*", ">", "a.>", "*.b"] {
            assert_eq!(pattern(good).as_deref(), Ok(good));
            assert!(subject(good).is_err(), "{good}");
        }
        for bad in ["", ".", "a..b", ".a", "a.", "a b", "a.>.b", "a\t"] {
            assert!(subject(bad).is_err() && pattern(bad).is_err(), "{bad}");
        }
        assert!(queue("").is_err() && queue("a b").is_err() && queue("a.b").is_ok());
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
