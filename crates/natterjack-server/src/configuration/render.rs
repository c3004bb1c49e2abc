//! Diagnostics as text, without the secrets that stand beside what they are about.

use std::ops::Range;

use natterjack_conf::{Diagnostic, Sources};

use super::Loaded;

impl Loaded {
    /// The diagnostic over several lines, with the line it is about and a caret; secrets are masked. Use this instead
    /// of [`Sources::render`](natterjack_conf::Sources::render), which shows the line as it is.
    #[must_use]
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        self.mask(&self.sources.render(diagnostic))
    }

    /// The diagnostic on one line: `file:line:column: message`; secrets are masked.
    #[must_use]
    pub fn render_short(&self, diagnostic: &Diagnostic) -> String {
        self.mask(&self.sources.render_short(diagnostic))
    }

    /// Puts stars for the secrets in the lines of files that are shown. A star for each character, so that carets
    /// stay where they belong.
    fn mask(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            match source_line(line) {
                Some((gutter, source)) => {
                    masked.push_str(gutter);
                    masked.push_str(&self.mask_source(source));
                }
                None => masked.push_str(line),
            }
        }
        masked
    }

    fn mask_source(&self, source: &str) -> String {
        let mut source = mask_after_names(source);
        for span in &self.secrets {
            let secret = self.sources.text(*span).trim_matches(['"', '\'']);
            let secret = secret.split_once("://").map_or(secret, |(_, rest)| rest);
            // A variable's name is no secret, and a reader needs it.
            if !secret.is_empty() && !secret.starts_with('$') {
                source = source.replace(secret, &"*".repeat(secret.chars().count()));
            }
        }
        source
    }
}

/// Takes secrets out of what is said about the syntax of a file: it may repeat what stands in the line.
pub(super) fn hide_secrets(diagnostics: &mut [Diagnostic], sources: &Sources) {
    for diagnostic in diagnostics {
        let Some(span) = diagnostic.span else {
            continue;
        };
        let text = sources.whole(span.source);
        let at = (span.start as usize).min(text.len());
        let start = text.as_bytes()[..at]
            .iter()
            .rposition(|&byte| byte == b'\n');
        let line = text[start.map_or(0, |feed| feed + 1)..].lines().next();
        let line = line.unwrap_or_default();
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

/// A line like `12 | password: x` in its gutter and what was in the file.
fn source_line(line: &str) -> Option<(&str, &str)> {
    let (number, _) = line.split_once(" | ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| line.split_at(number.len() + 3))
}

/// Names after which a secret follows. Where a file has a mistake in its syntax no value of it may have been found, and
/// the line with the mistake is shown all the same.
const SECRET_NAMES: [&str; 4] = ["password", "pass", "token", "seed"];

fn mask_after_names(source: &str) -> String {
    let mut masked = String::with_capacity(source.len());
    let mut end = 0;
    for secret in secrets_in(source) {
        masked.push_str(&source[end..secret.start]);
        let stars = source[secret.clone()].chars().count();
        masked.push_str(&"*".repeat(stars));
        end = secret.end;
    }
    masked.push_str(&source[end..]);
    masked
}

/// Where the values of options with secrets stand in a line.
fn secrets_in(source: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut at = 0;
    while let Some((_, after)) = next_secret(&source[at..]) {
        let start = source.len() - after.len();
        let end = start + end_of_value(after).max(1);
        if !after.starts_with('$') {
            secrets.push(start..end);
        }
        at = end;
    }
    secrets
}

/// Splits in front of the value of the first option with a secret.
fn next_secret(text: &str) -> Option<(&str, &str)> {
    let lower = text.to_ascii_lowercase();
    let starts = SECRET_NAMES.iter().flat_map(|name| {
        lower
            .match_indices(name)
            .map(|(at, _)| (at, at + name.len()))
    });
    let is_word = |at: usize| {
        let before = lower[..at].chars().next_back();
        !before.is_some_and(|before| before.is_ascii_alphanumeric() || before == '_')
    };
    let values = starts
        .filter(|(start, _)| is_word(*start))
        .filter_map(|(_, end)| {
            let value = text[end..].trim_start_matches(['"', '\'']);
            let separated = value.trim_start_matches([' ', '\t', ':', '=']);
            let has_separator = separated.len() < value.len() && !separated.starts_with('{');
            (has_separator && !separated.trim().is_empty()).then(|| text.len() - separated.len())
        });
    let at = values.min()?;
    Some(text.split_at(at))
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
            assert_eq!(mask_after_names(source), expected);
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

    #[test]
    fn only_lines_of_files_are_masked() {
        assert_eq!(
            source_line("12 | password: x\n"),
            Some(("12 | ", "password: x\n"))
        );
        for line in [
            "error: password: must be a text",
            "   | ^^^",
            "   --> a:1:2",
        ] {
            assert_eq!(source_line(line), None, "{line}");
        }
    }
}
