//! Text of others on a terminal: it is shown, and does nothing.

/// Control characters, and those that turn text around.
fn does_something(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns
}

/// The same without letters that do something.
pub(crate) fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if does_something(letter) {
            plain.extend(letter.escape_default());
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// The same of several lines, which stay lines.
pub(crate) fn lines_escaped(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(escaped).collect();
    lines.join("\n")
}

/// The same value in JSON. JSON itself wants escapes for some of those letters only; the others are in texts, where they may be
/// written so, too.
pub(crate) fn json_escaped(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter != '\n' && does_something(letter) {
            plain.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"a\u{9b}2J\u{202e}": ["\u{1b}[31m", "\u{7f}ä\n\"\\"]});
        let json = json_escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!json.contains(|letter| letter != '\n' && does_something(letter)));
        assert!(
            json.contains("a\\u009b2J\\u202e") && json.contains('ä'),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            value
        );
        assert_eq!(lines_escaped("a\u{9b}\nb\r"), "a\\u{9b}\nb\\r");
    }
}
