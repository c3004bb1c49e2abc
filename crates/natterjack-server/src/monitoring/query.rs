//! Parameters of a request: taking the query apart, and reading values, with nats-server's words for what cannot
//! be read. Which parameters there are is each page's affair.

use std::fmt;
use std::num::IntErrorKind;

use thiserror::Error;

use crate::percent;

/// The parameters of one request, decoded.
pub(super) struct Query(Vec<(String, String)>);

/// A parameter whose value cannot be read. Its text is what nats-server answers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Error decoding {kind} for '{name}': strconv.{parser}: parsing {value}: {fault}")]
pub(super) struct BadValue {
    name: &'static str,
    value: Quoted,
    kind: &'static str,
    parser: &'static str,
    fault: &'static str,
}

const SYNTAX: &str = "invalid syntax";
const RANGE: &str = "value out of range";

impl Query {
    /// Takes the text behind the `?` apart. Like Go's `url.ParseQuery` it leaves out pairs with a `;` or a
    /// malformed escape in them.
    pub(super) fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decoded(&text.replace('+', " "));
            Some((decode(name)?, decode(value)?))
        };
        let pairs = text
            .split('&')
            .filter(|text| !text.is_empty() && !text.contains(';'));
        Self(pairs.filter_map(pair).collect())
    }

    /// The first value of a parameter; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        let first = self.0.iter().find(|(given, _)| given == name);
        first.map_or("", |(_, value)| value)
    }

    pub(super) fn boolean(&self, name: &'static str) -> Result<bool, BadValue> {
        match self.text(name) {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            value => Err(BadValue {
                name,
                value: Quoted(value.to_owned()),
                kind: "boolean",
                parser: "ParseBool",
                fault: SYNTAX,
            }),
        }
    }

    /// A number with a sign, if it likes.
    pub(super) fn integer(&self, name: &'static str) -> Result<i64, BadValue> {
        match self.text(name) {
            "" => Ok(0),
            value => value.parse::<i64>().map_err(|error| BadValue {
                name,
                value: Quoted(value.to_owned()),
                kind: "int",
                parser: "Atoi",
                fault: fault(error.kind()),
            }),
        }
    }

    /// A number without a sign.
    pub(super) fn unsigned(&self, name: &'static str) -> Result<u64, BadValue> {
        let value = self.text(name);
        let bad = |fault| BadValue {
            name,
            value: Quoted(value.to_owned()),
            kind: "uint64",
            parser: "ParseUint",
            fault,
        };
        match value {
            "" => Ok(0),
            signed if signed.starts_with('+') => Err(bad(SYNTAX)),
            _ => value
                .parse()
                .map_err(|error: std::num::ParseIntError| bad(fault(error.kind()))),
        }
    }
}

fn fault(kind: &IntErrorKind) -> &'static str {
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => RANGE,
        _ => SYNTAX,
    }
}

/// Replaces `%41` and the like by the byte meant; `None` if an escape is malformed. Bytes that are no UTF-8
/// become replacement characters.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = percent::decoded(text)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A text in double quotes, with escapes where a terminal would show nothing (Go `strconv.Quote`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quoted(String);

impl fmt::Display for Quoted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(formatter, "\\{character}"),
                '\x07' => formatter.write_str("\\a"),
                '\x08' => formatter.write_str("\\b"),
                '\x0c' => formatter.write_str("\\f"),
                '\n' => formatter.write_str("\\n"),
                '\r' => formatter.write_str("\\r"),
                '\t' => formatter.write_str("\\t"),
                '\x0b' => formatter.write_str("\\v"),
                '\0'..' ' | '\x7f' => write!(formatter, "\\x{:02x}", u32::from(character)),
                ' '..='~' => write!(formatter, "{character}"),
                // Rust's own table of what cannot be shown; it is about the same as Go's.
                _ if character.escape_debug().len() == 1 => write!(formatter, "{character}"),
                '\u{10000}'.. => write!(formatter, "\\U{:08x}", u32::from(character)),
                _ => write!(formatter, "\\u{:04x}", u32::from(character)),
            }?;
        }
        formatter.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(query: &str, name: &str) -> String {
        Query::parse(query).text(name).to_owned()
    }

    #[test]
    fn the_first_readable_pair_counts() {
        assert_eq!(text("a=1&a=2", "a"), "1");
        assert_eq!(text("&&a=%zz&a=%4&a=1;2&a=x%20+y", "a"), "x  y");
        assert_eq!(text("%61=%C3%A9&b", "a"), "é");
        assert_eq!(text("a", "a"), "");
        assert_eq!(text("b=1", "a"), "");
        assert_eq!(text("a=b=c", "a"), "b=c");
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        let query =
            Query::parse("yes=T&no=False&minus=-5&plus=%2B3&zeros=007&big=18446744073709551615");
        assert_eq!(query.boolean("yes"), Ok(true));
        assert_eq!(query.boolean("no"), Ok(false));
        assert_eq!(query.boolean("absent"), Ok(false));
        assert_eq!(query.integer("minus"), Ok(-5));
        assert_eq!(query.integer("plus"), Ok(3));
        assert_eq!(query.integer("absent"), Ok(0));
        assert_eq!(query.unsigned("zeros"), Ok(7));
        assert_eq!(query.unsigned("big"), Ok(u64::MAX));
        assert_eq!(query.unsigned("absent"), Ok(0));
    }

    #[test]
    fn bad_values_are_told_in_nats_servers_words() {
        let integer = |value: &str| {
            let error = Query::parse(&format!("n={value}")).integer("n");
            error.expect_err("a bad value").to_string()
        };
        let prefix = "Error decoding int for 'n': strconv.Atoi: parsing";
        assert_eq!(integer("x"), format!("{prefix} \"x\": invalid syntax"));
        assert_eq!(integer("-"), format!("{prefix} \"-\": invalid syntax"));
        assert_eq!(integer("+3"), format!("{prefix} \" 3\": invalid syntax"));
        assert_eq!(
            integer("9223372036854775808"),
            format!("{prefix} \"9223372036854775808\": value out of range")
        );
        assert_eq!(
            integer("a%22b%0a%C3%A9%00%C2%85%F3%A0%80%81\\"),
            format!("{prefix} \"a\\\"b\\né\\x00\\u0085\\U000e0001\\\\\": invalid syntax")
        );
        let query = Query::parse("n=%2B1");
        assert_eq!(
            query.unsigned("n").expect_err("a sign").to_string(),
            "Error decoding uint64 for 'n': strconv.ParseUint: parsing \"+1\": invalid syntax"
        );
        assert_eq!(
            query.boolean("n").expect_err("no boolean").to_string(),
            "Error decoding boolean for 'n': strconv.ParseBool: parsing \"+1\": invalid syntax"
        );
    }
}
