//! How the pages write times, durations and JSON: to the letter as nats-server does, whose readers parse them.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// A point in time; as text RFC 3339 in UTC, with as many digits of a second as it has, up to nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies outside jiff's range of some ten thousand years is no time of a server.
        let timestamp = Timestamp::try_from(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(formatter, "{timestamp}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How long something has lasted; as text in whole seconds, up to years: `5s`, `1m2s`, `3d4h5m6s`, `1y0d0h0m7s`
/// (nats-server `myUptime`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub Duration);

impl fmt::Display for Uptime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_secs();
        let (seconds, minutes, hours) = (total % 60, total / 60 % 60, total / 3600 % 24);
        let (days, years) = (total / 86_400 % 365, total / 86_400 / 365);
        if years > 0 {
            write!(formatter, "{years}y")?;
        }
        if total >= 86_400 {
            write!(formatter, "{days}d")?;
        }
        if total >= 3600 {
            write!(formatter, "{hours}h")?;
        }
        if total >= 60 {
            write!(formatter, "{minutes}m")?;
        }
        write!(formatter, "{seconds}s")
    }
}

impl Serialize for Uptime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time that a message took on its way; as text in the largest unit that fits: `361µs`, `100.69ms`, `1m2.5s`
/// (Go `time.Duration.String`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundTrip(pub Duration);

impl fmt::Display for RoundTrip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        match nanoseconds {
            0 => formatter.write_str("0s"),
            1..1_000 => write!(formatter, "{nanoseconds}ns"),
            1_000..1_000_000 => write_decimal(formatter, nanoseconds, 1_000, "µs"),
            1_000_000..1_000_000_000 => write_decimal(formatter, nanoseconds, 1_000_000, "ms"),
            _ => {
                let seconds = nanoseconds / 1_000_000_000;
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                if hours > 0 {
                    write!(formatter, "{hours}h")?;
                }
                if seconds >= 60 {
                    write!(formatter, "{minutes}m")?;
                }
                let rest = nanoseconds % 60_000_000_000;
                write_decimal(formatter, rest, 1_000_000_000, "s")
            }
        }
    }
}

fn write_decimal(
    formatter: &mut fmt::Formatter<'_>,
    nanoseconds: u128,
    unit: u128,
    name: &str,
) -> fmt::Result {
    write!(formatter, "{}", nanoseconds / unit)?;
    let fraction = nanoseconds % unit;
    if fraction > 0 {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{fraction:0digits$}");
        write!(formatter, ".{}", fraction.trim_end_matches('0'))?;
    }
    formatter.write_str(name)
}

impl Serialize for RoundTrip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serializes a duration as its number of nanoseconds (Go's JSON of a `time.Duration`).
pub(super) fn nanoseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Whether a field is left out because it says nothing.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// JSON over several lines, indented by two blanks.
pub(super) fn indented_json(page: &impl Serialize) -> Vec<u8> {
    json(page, PrettyFormatter::new())
}

/// JSON on one line.
pub(crate) fn compact_json(page: &impl Serialize) -> Vec<u8> {
    json(page, CompactFormatter)
}

fn json(page: &impl Serialize, layout: impl Formatter) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, GoStyle(layout));
    page.serialize(&mut serializer)
        .expect("pages have text keys and are written to memory, which cannot fail");
    text
}

/// The layout of another formatter, with numbers and texts as Go writes them: `2` for 2.0, and no character in a
/// text that means something in HTML (Go `json.HTMLEscape`).
struct GoStyle<F>(F);

impl<F: Formatter> Formatter for GoStyle<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write!(writer, "{value}")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        while let Some(at) = rest.find(special) {
            let (plain, from) = rest.split_at(at);
            let mut characters = from.chars();
            let character = characters.next().map_or(0, u32::from);
            write!(writer, "{plain}\\u{character:04x}")?;
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn times_have_no_more_digits_than_they_need() {
        let at = |seconds, nanoseconds| {
            Time(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)).to_string()
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(
            at(1_795_316_765, 145_205_970),
            "2026-11-22T03:06:05.14520597Z"
        );
        assert_eq!(at(1_795_316_765, 1), "2026-11-22T03:06:05.000000001Z");
        assert_eq!(at(1_795_316_765, 500_000_000), "2026-11-22T03:06:05.5Z");
    }

    #[test]
    fn uptimes_begin_with_their_largest_unit() {
        let text = |seconds| Uptime(Duration::from_secs(seconds)).to_string();
        assert_eq!(Uptime(Duration::from_millis(999)).to_string(), "0s");
        assert_eq!(text(59), "59s");
        assert_eq!(text(62), "1m2s");
        assert_eq!(text(3600), "1h0m0s");
        assert_eq!(text(3 * 86_400 + 4 * 3600 + 5 * 60 + 6), "3d4h5m6s");
        assert_eq!(text(365 * 86_400 + 7), "1y0d0h0m7s");
        assert_eq!(text(730 * 86_400 - 1), "1y364d23h59m59s");
    }

    #[test]
    fn round_trips_are_written_as_go_writes_durations() {
        let text = |nanoseconds| RoundTrip(Duration::from_nanos(nanoseconds)).to_string();
        assert_eq!(text(0), "0s");
        assert_eq!(text(999), "999ns");
        assert_eq!(text(361_000), "361µs");
        assert_eq!(text(1_500), "1.5µs");
        assert_eq!(text(100_690_000), "100.69ms");
        assert_eq!(text(1_000_001), "1.000001ms");
        assert_eq!(text(2_000_000_000), "2s");
        assert_eq!(text(62_500_000_000), "1m2.5s");
        assert_eq!(text(3_600_000_000_001), "1h0m0.000000001s");
    }

    #[test]
    fn json_is_written_as_go_writes_it() {
        #[derive(Serialize)]
        struct Page {
            whole: f64,
            part: f64,
            subject: &'static str,
            none: Vec<u8>,
            empty: BTreeMap<String, u8>,
            some: Vec<&'static str>,
        }
        let page = Page {
            whole: 2.0,
            part: 3.0 / 11.0,
            subject: "a.>\n\"<&é\u{2028}",
            none: Vec::new(),
            empty: BTreeMap::new(),
            some: vec!["x", ""],
        };
        assert_eq!(
            String::from_utf8(indented_json(&page)).expect("JSON is UTF-8"),
            "{\n  \"whole\": 2,\n  \"part\": 0.2727272727272727,\n  \
             \"subject\": \"a.\\u003e\\n\\\"\\u003c\\u0026é\\u2028\",\n  \"none\": [],\n  \"empty\": {},\n  \
             \"some\": [\n    \"x\",\n    \"\"\n  ]\n}"
        );
        assert_eq!(compact_json(&["<"]), br#"["\u003c"]"#);
    }
}
