//! The fingerprint of a configuration, equal to the one nats-server prints for the same file: SHA-256 of the values as
//! Go's `encoding/json` writes them, with a line feed at the end (nats-server: conf/parse.go `configDigest`).
//!
//! Go sorts the keys of a map by their bytes, writes `<`, `>`, `&`, U+2028 and U+2029 as `\u…`, and floats in the shortest
//! form, with an exponent below 1e-6 and from 1e21.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::value::{Data, Map};

/// The digest as nats-server writes it: `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest(root: &Map) -> String {
    let mut json = String::new();
    write_map(&mut json, root);
    json.push('\n');
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(json.as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn write_map(json: &mut String, map: &Map) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by(|one, other| one.key.text.cmp(&other.key.text));
    json.push('{');
    for (index, entry) in entries.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_text(json, &entry.key.text);
        json.push(':');
        write_data(json, &entry.value.data);
    }
    json.push('}');
}

// Recursion is bounded: the parser bounds how deep a tree gets.
fn write_data(json: &mut String, data: &Data) {
    match data {
        Data::Text(text) => write_text(json, text),
        Data::Integer(number) => {
            let _ = write!(json, "{number}");
        }
        Data::Float(number) => write_float(json, *number),
        Data::Bool(truth) => {
            let _ = write!(json, "{truth}");
        }
        Data::Time(time) => {
            let _ = write!(json, "\"{time}\"");
        }
        Data::List(values) => {
            json.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_data(json, &value.data);
            }
            json.push(']');
        }
        Data::Map(map) => write_map(json, map),
    }
}

fn write_float(json: &mut String, number: f64) {
    let size = number.abs();
    if number == 0.0 || (1e-6..1e21).contains(&size) {
        // Shortest digits that read back as the same number, without exponent, "-0" for the negative zero.
        let _ = write!(json, "{number}");
        return;
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            let _ = write!(json, "{digits}e+{exponent}");
        }
        _ => json.push_str(&text),
    }
}

fn write_text(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
}
