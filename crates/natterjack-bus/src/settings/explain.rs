//! Settings as a document that can be read again, each line with where its value comes from.

use std::fmt::Write as _;

use super::origin::Origins;
use super::table::ROWS;
use super::value::{Shown, show};
use super::{Loaded, Origin, Settings};

/// Where origins begin, if values leave the room.
const ORIGIN_COLUMN: usize = 52;

impl Loaded {
    /// The settings in force as a YAML document, each line with where its value comes from. Reading it gives the same
    /// settings, wherever it is read.
    #[must_use]
    pub fn explain(&self) -> String {
        explain(&self.settings, &self.origins)
    }
}

fn explain(settings: &Settings, origins: &Origins) -> String {
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let names: Vec<&str> = row.path.split('.').collect();
        let (name, sections) = names.split_last().expect("no path is empty");
        let common = open
            .iter()
            .zip(sections)
            .take_while(|(one, other)| one == other)
            .count();
        open.truncate(common);
        for section in &sections[common..] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}{section}:", "  ".repeat(open.len()));
            open.push(section);
        }
        let indent = "  ".repeat(open.len());
        let origin = origins.at(index);
        match show(row.slot, settings) {
            Shown::One(value) => line(
                &mut text,
                format!("{indent}{name}: {}", scalar(&value)),
                origin,
            ),
            Shown::Many(values) if !values.is_empty() => {
                line(&mut text, format!("{indent}{name}:"), origin);
                for value in values {
                    let _ = writeln!(text, "{indent}  - {}", scalar(&value));
                }
            }
            Shown::Nothing | Shown::Many(_) => {
                let _ = writeln!(text, "{indent}# {name}: none");
            }
        }
    }
    text
}

fn line(text: &mut String, written: String, origin: &Origin) {
    let width = ORIGIN_COLUMN.max(written.chars().count() + 2);
    // A name of a file is whatever it is; a comment is one line.
    let origin = origin.to_string().escape_debug().to_string();
    let _ = writeln!(text, "{written:width$}# {origin}");
}

/// A value as YAML, quoted wherever it might be taken for something else.
fn scalar(value: &str) -> String {
    let is_number = value
        .parse::<u64>()
        .is_ok_and(|number| number.to_string() == value);
    let is_word = |word: &str| {
        !word.is_empty()
            && word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/')
            && word
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter))
    };
    // The words that some reader of YAML or other takes for something else.
    let is_taken = ["null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|taken| taken.eq_ignore_ascii_case(value));
    if (is_number || is_word(value)) && !is_taken {
        value.into()
    } else {
        // Every JSON text is YAML.
        serde_json::Value::from(value).to_string()
    }
}
