//! Text that people write, beyond what the settings need it for: the command line reads the same durations and guesses
//! at the same slips.

use std::time::Duration;

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be offered in place of the other.
const LIKENESS_MIN: f64 = 0.8;

/// The known name that was probably meant, if one is near, whatever its case. Linear in the number of names.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&name, &known.to_ascii_lowercase());
    known
        .into_iter()
        .map(|known| (likeness(known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known)
}

/// A duration in Go's syntax without signs: `1h30m`, `1.5s`, `500ms`. `None` if it is none.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, expected| assert_eq!(duration(text), expected, "{text}");
        check("15s", Some(Duration::from_secs(15)));
        check("1m0s", Some(Duration::from_secs(60)));
        check("1m30s", Some(Duration::from_secs(90)));
        check("1.5h", Some(Duration::from_secs(5400)));
        check("500ms", Some(Duration::from_millis(500)));
        check("0s", Some(Duration::ZERO));
        for bad in ["", "15", "s", "1x", "-1s", "1..2s", "1s2"] {
            check(bad, None);
        }
    }

    #[test]
    fn slips() {
        let known = ["client", "server"];
        assert_eq!(nearest("Sever", known), Some("server"));
        assert_eq!(nearest("zzz", known), None);
    }
}
