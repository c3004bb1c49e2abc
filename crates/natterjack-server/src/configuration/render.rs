//! Diagnostics as text, without the secrets that stand beside what they are about.

use std::ops::Range;

use natterjack_conf::{Diagnostic, Sources, Span};

use super::Loaded;

impl Loaded {
    /// The diagnostic over several lines, with the line it is about and a caret; secrets are masked. Use this instead
    /// of [`Sources::render`](natterjack_conf::Sources::render), which shows the line as it is.
    #[must_use]
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        self.sources
            .render_hiding(diagnostic, |place, line| self.secrets_near(place, line))
    }

    /// The diagnostic on one line: `file:line:column: message`.
    #[must_use]
    pub fn render_short(&self, diagnostic: &Diagnostic) -> String {
        self.sources.render_short(diagnostic)
    }

    /// Where secrets stand in a line, or in a part of one: those that were read, wherever else their text is repeated,
    /// and what looks like one.
    fn secrets_near(&self, place: Span, line: &str) -> Vec<Range<usize>> {
        let mut ranges = secrets_in(line);
        for span in &self.secrets {
            let written = self.sources.text(*span);
            // A variable's name is no secret, and a reader needs it.
            if is_variable(written) {
                continue;
            }
            // The scheme of a URL is none either.
            let scheme = written.find("://").map_or(0, |at| at + 3);
            if span.source == place.source && span.start < place.end && place.start < span.end {
                let start = (span.start as usize + scheme).saturating_sub(place.start as usize);
                let end = (span.end.min(place.end) - place.start) as usize;
                ranges.push(start..end);
            }
            let secret = written[scheme..].trim_matches(['"', '\'']);
            if secret.len() >= REPEATED_BYTES_MIN {
                let repeated = line.match_indices(secret);
                ranges.extend(repeated.map(|(at, text)| at..at + text.len()));
            }
        }
        ranges
    }
}

/// Shorter secrets stand in a line by chance.
const REPEATED_BYTES_MIN: usize = 4;

/// Takes secrets out of what is said about the syntax of a file: it may repeat what stands in the line.
pub(super) fn hide_secrets(diagnostics: &mut [Diagnostic], sources: &Sources) {
    for diagnostic in diagnostics {
        let Some(span) = diagnostic.span else {
            continue;
        };
        let line = sources.text(sources.neighbourhood(span));
        let secrets = secrets_in(line);
        for secret in &secrets {
            diagnostic.message = without(&diagnostic.message, &line[secret.clone()]);
        }
        if !secrets.is_empty() {
            diagnostic.help.take_if(|help| help.contains('"'));
            diagnostic.label.take_if(|label| label.contains('"'));
        }
    }
}

/// The message with stars for what it repeats, between backquotes, of a secret.
fn without(message: &str, secret: &str) -> String {
    let parts = message.split('`').enumerate().map(|(index, part)| {
        let cut = part.trim_end_matches('…');
        // A single character gives nothing away, and may be what is wrong.
        let is_repeated = index % 2 == 1 && cut.chars().count() > 1 && secret.contains(cut);
        if is_repeated { "***" } else { part }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Names after which a secret follows. Where a file has a mistake in its syntax, or in such a name, no value of it may have
/// been found, and the line with the mistake is shown all the same.
const SECRET_NAMES: [&str; 7] = [
    "password", "passwd", "pass", "pwd", "token", "seed", "secret",
];

/// Length of a seed of a key pair in text.
const SEED_BYTES: usize = 58;

/// Whether a secret probably follows this name: one that is known for it, a slip of the pen away from one, or one with
/// something in front, as variables have it.
pub(super) fn is_secret_name(name: &str) -> bool {
    let last = name.rsplit(['_', '-']).next().unwrap_or(name);
    let is_known = SECRET_NAMES
        .iter()
        .any(|known| last.eq_ignore_ascii_case(known));
    is_known || natterjack_conf::nearest(name, SECRET_NAMES).is_some()
}

/// Where the values of options with secrets, passwords of URLs and seeds stand in a line.
fn secrets_in(source: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut at = 0;
    while let Some(word) = next_word(source, at) {
        at = word.end;
        let text = &source[word.clone()];
        if text.len() == SEED_BYTES && text.starts_with('S') {
            secrets.push(word);
        } else if source[at..].starts_with("://") {
            let rest = &source[at + 3..];
            let end = rest
                .find([' ', '\t', '"', '\'', ',', '/'])
                .unwrap_or(rest.len());
            if let Some(user) = rest[..end].rfind('@') {
                secrets.push(at + 3..at + 3 + user);
                at += 3 + user;
            }
        } else if is_secret_name(text)
            && let Some(value) = value_after(source, at)
        {
            at = value.end;
            if !is_variable(&source[value.clone()]) {
                secrets.push(value);
            }
        }
    }
    secrets
}

/// The first word at or behind an offset.
fn next_word(source: &str, from: usize) -> Option<Range<usize>> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    let start = from + source[from..].find(is_part)?;
    let rest = &source[start..];
    let len = rest
        .find(|character| !is_part(character))
        .unwrap_or(rest.len());
    Some(start..start + len)
}

/// The value of the option whose name ends here.
fn value_after(source: &str, name_end: usize) -> Option<Range<usize>> {
    let behind = source[name_end..].trim_start_matches(['"', '\'']);
    let value = behind.trim_start_matches([' ', '\t', ':', '=']);
    if value.len() == behind.len() || value.starts_with('{') || value.trim().is_empty() {
        return None;
    }
    let start = source.len() - value.len();
    Some(start..start + end_of_value(value).max(1))
}

/// Whether a value is a variable and not, say, the hash of a password.
fn is_variable(value: &str) -> bool {
    value.starts_with('$') && !value.starts_with("$2")
}

fn end_of_value(text: &str) -> usize {
    let quote = text
        .chars()
        .next()
        .filter(|first| ['"', '\''].contains(first));
    match quote {
        // Up to the other quote, or to the end where it is missing.
        Some(quote) => text[1..]
            .find(quote)
            .map_or_else(|| text.trim_end().len(), |at| at + 2),
        None => text
            .find([' ', '\t', ',', ';', '}', ']', '\n', '\r'])
            .unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_secret_s_name_is_masked() {
        for (source, expected) in [
            ("password: s3cret", "password: ******"),
            (
                "{ user: a, pass: 's3', x: 1 }",
                "{ user: a, pass: ****, x: 1 }",
            ),
            ("token = \"a b\"", "token = *****"),
            ("token \"a b", "token ****"),
            ("pass: $PASS", "pass: $PASS"),
            ("\"password\": 12", "\"password\": **"),
            ("compass: x", "compass: x"),
            ("tokens_max: 4", "tokens_max: 4"),
            ("max_payload: 1", "max_payload: 1"),
        ] {
            assert_eq!(masked(source), expected);
        }
    }

    #[test]
    fn messages_do_not_repeat_secrets() {
        assert_eq!(
            without("`12s3` is neither a number nor a date", "12s3cret"),
            "`***` is neither a number nor a date"
        );
        assert_eq!(without("found `t` of `x`", "tx"), "found `t` of `x`");
    }

    fn masked(source: &str) -> String {
        let secrets = secrets_in(source);
        let is_hidden = |at: usize| secrets.iter().any(|range| range.contains(&at));
        let characters = source.char_indices();
        characters
            .map(|(at, character)| if is_hidden(at) { '*' } else { character })
            .collect()
    }

    #[test]
    fn so_is_what_looks_like_a_secret() {
        let seed = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY";
        for (source, expected) in [
            ("{ pasword: s3cret }", "{ pasword: ****** }"),
            ("Passwrd=\"s 3\", x", "Passwrd=*****, x"),
            ("tokn: s3", "tokn: **"),
            ("NATS_PASS = s3", "NATS_PASS = **"),
            ("sys-token: s3", "sys-token: **"),
            ("password: $2a$11$xyz", "password: **********"),
            (
                "[\"nats://u:s3@h:1\", nats://tok@h",
                "[\"nats://****@h:1\", nats://***@h",
            ),
            ("nats://h:1/a@b", "nats://h:1/a@b"),
            (
                "path: x, port: 1, host: h, user: u",
                "path: x, port: 1, host: h, user: u",
            ),
            (
                "key_file: x, trace: y, ping_max: 1",
                "key_file: x, trace: y, ping_max: 1",
            ),
        ] {
            assert_eq!(masked(source), expected);
        }
        assert_eq!(
            masked(&format!("nkey: {seed}")),
            format!("nkey: {}", "*".repeat(58))
        );
    }

    #[test]
    fn a_long_line_of_secrets_is_looked_through_once() {
        let line = "password: s3cret, ".repeat(100_000);
        assert_eq!(secrets_in(&line).len(), 100_000);
    }
}
