//! What to say when something unexpected follows a value, and where to go on reading so that one mistake gives one
//! complaint.

use crate::diagnostic::{Diagnostic, Severity};
use crate::render::quoted;
use crate::source::Span;

use super::machine::{Content, Expects, Machine, PendingValue, Style};
use super::scalar::in_quotes;

/// A suggestion longer than this is no help.
const SUGGESTION_BYTES_MAX: usize = 60;

impl Machine<'_, '_> {
    /// Something that cannot follow the value that was just read.
    pub(super) fn unexpected_after_value(&mut self) -> Expects {
        let bracket = self.peek().filter(|bracket| matches!(bracket, ']' | '}'));
        if let Some(bracket) = bracket
            && let Some(expects) = self.mismatched(bracket)
        {
            return expects;
        }
        let pending = self.pending.take();
        if let Some(value) = &pending {
            if let Some(expects) = self.value_was_a_key(value) {
                return expects;
            }
            if let Some(expects) = self.quote_was_missing(value) {
                return expects;
            }
            if let Some(expects) = self.element_was_a_key(value) {
                return expects;
            }
        }
        let error = self.unexpected(pending.as_ref());
        self.reading.report(error);
        if pending.is_some() {
            self.drop_key();
        }
        self.recover()
    }

    /// A `]` where a block inside a list is open, or a `}` where a list inside a block is.
    pub(super) fn mismatched(&mut self, bracket: char) -> Option<Expects> {
        let around = self.frames.len().checked_sub(2)?;
        let fits = match self.frames[around].content {
            Content::List(_) => bracket == ']',
            Content::Map(_) => bracket == '}',
            Content::Top(_) | Content::Braces => false,
        };
        if !fits {
            return None;
        }
        if let Some(pending) = self.pending.take() {
            match pending.value {
                Some(value) => self.put(value),
                None => self.drop_key(),
            }
        }
        let line = self.reading.sources.position(self.here()).line;
        self.report_unclosed(Some(format!("before the `{bracket}` in line {line}")));
        self.close_frame();
        Some(Expects::End)
    }

    /// A key alone on its line, and the next line taken for its value.
    fn value_was_a_key(&mut self, value: &PendingValue) -> Option<Expects> {
        let key = self.key.as_ref().filter(|pending| pending.is_alone)?;
        if !matches!(value.style, Style::Bare | Style::Number) {
            return None;
        }
        let error = Diagnostic::error(key.key.span, format!("{} has no value", self.key_name()))
            .with_help("a value follows on the same line; `\"\"` is an empty text");
        self.reading.report(error);
        self.drop_key();
        self.at = value.span.start as usize;
        Some(Expects::Entry)
    }

    /// A text that runs up to the opening quote of the next one.
    fn quote_was_missing(&mut self, value: &PendingValue) -> Option<Expects> {
        let start = value.span.start as usize;
        let text = self.reading.sources.text(value.span);
        if value.style != Style::Quoted || !text.contains('\n') {
            return None;
        }
        let quote = &text[..1];
        // Advice about what was wrongly taken for the rest of the line.
        let given = &mut self.reading.diagnostics;
        let is_behind = |last: &mut Diagnostic| {
            last.severity == Severity::Note && last.span.is_some_and(|span| span >= value.span)
        };
        while given.pop_if(is_behind).is_some() {}
        let line = self.reading.sources.position(self.here()).line;
        let error = Diagnostic::error(
            self.span(start, start + 1),
            format!("the closing {quote} is missing"),
        )
        .with_label(format!("this text would end in line {line}"))
        .with_help(format!("add a {quote} at the end of the text"));
        self.reading.report(error);
        self.drop_key();
        self.at = start;
        self.skip_to_line_end();
        Some(Expects::End)
    }

    /// `key: value` on a line of its own inside a list: the list should have ended above.
    fn element_was_a_key(&mut self, value: &PendingValue) -> Option<Expects> {
        let start = value.span.start as usize;
        let is_list = matches!(self.frame().content, Content::List(_));
        let text = self.reading.sources.text(value.span);
        let is_key = text.ends_with(':') || matches!(self.peek(), Some(':' | '='));
        if !is_list || !is_key || value.style != Style::Bare || self.indentation(start).is_none() {
            return None;
        }
        let line = self.reading.sources.position(value.span).line;
        let place = format!("before {} in line {line}", quoted(text));
        self.report_unclosed(Some(place));
        self.close_frame();
        self.at = start;
        Some(Expects::Entry)
    }

    fn unexpected(&self, pending: Option<&PendingValue>) -> Diagnostic {
        let here = self.here();
        let found = quoted(self.reading.sources.text(here));
        let Some(value) = pending else {
            let expected = match self.frame().content {
                Content::List(_) => "`,` or `]` after this element",
                _ => "the end of the line after this block",
            };
            return Diagnostic::error(here, format!("expected {expected}, found {found}"))
                .with_help("begin a new line, or separate with a `,`");
        };
        let text = self.reading.sources.text(value.span);
        let name = self.key_name();
        if value.style == Style::Bare && (text == "#" || text == "//") {
            return Diagnostic::error(value.span, format!("{name} has no value"))
                .with_label("expected a value before the comment");
        }
        let expected = match self.frame().content {
            Content::List(_) => "`,` or `]` after this element".to_owned(),
            Content::Map(_) => format!("`}}` or the end of the line after the value of {name}"),
            _ => format!("the end of the line after the value of {name}"),
        };
        let error = Diagnostic::error(here, format!("expected {expected}, found {found}"));
        match self.advice(value, here) {
            Some(help) => error.with_help(help),
            None => error,
        }
    }

    fn advice(&self, value: &PendingValue, here: Span) -> Option<String> {
        let is_adjacent = value.span.end == here.start;
        match (value.style, is_adjacent, self.peek()) {
            (_, false, Some('=' | ':')) => {
                Some("put a `,` between two settings on one line".to_owned())
            }
            (_, false, _) if self.another_setting_follows() => {
                Some("put a `,` between two settings on one line".to_owned())
            }
            _ if self.text[..self.at].ends_with('/') && self.peek() == Some('*') => {
                Some("a comment begins with `//` or `#` and ends with the line".to_owned())
            }
            (Style::Number, false, _) if self.size_unit_follows() => {
                Some("write the unit right behind the number, as in 4KB".to_owned())
            }
            (Style::Bare | Style::Number | Style::Apostrophe, ..) => {
                let is_list = matches!(self.frame().content, Content::List(_));
                let words = self.rest_of_value(value.span.start as usize);
                let quotes = match words {
                    Some(words) => format!("put a text between quotes: {}", in_quotes(words)),
                    None => "put a text between quotes".to_owned(),
                };
                Some(match is_list && !is_adjacent {
                    true => format!("put a `,` between two elements, or {quotes}"),
                    false => quotes,
                })
            }
            (_, _, _) if matches!(self.frame().content, Content::List(_)) => {
                Some("put a `,` between two elements".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the suffix of a size comes next, and nothing behind it that would make it a text.
    fn size_unit_follows(&self) -> bool {
        let rest = &self.text[self.at..];
        let len = rest
            .find(|character: char| !character.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(len);
        let unit = unit.to_ascii_lowercase();
        let is_unit = unit.strip_prefix(['k', 'm', 'g', 't', 'p', 'e']);
        let is_unit = matches!(is_unit, Some("" | "b" | "i" | "ib"));
        let behind = behind.trim_start_matches([' ', '\t']);
        is_unit && (behind.is_empty() || behind.starts_with(['\n', '\r', ',', ';', '}', '#', '/']))
    }

    /// Whether a word and a separator come next, in a block.
    fn another_setting_follows(&self) -> bool {
        let is_list = matches!(self.frame().content, Content::List(_));
        let rest = self.text[self.at..].bytes().take(SUGGESTION_BYTES_MAX);
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'"' | b'.');
        let mut behind = rest.skip_while(is_word).skip_while(|byte| *byte == b' ');
        !is_list && matches!(behind.next(), Some(b':' | b'=' | b'{'))
    }

    /// All words from here to where the value was probably meant to end.
    fn rest_of_value(&self, start: usize) -> Option<&str> {
        let rest = &self.text[start..];
        let limit = rest.len().min(SUGGESTION_BYTES_MAX);
        let ends = |character| matches!(character, '\n' | '\r' | ';' | ',' | ']' | '}' | '#' | '{');
        let end = rest.find(ends).unwrap_or(rest.len());
        let words = rest.get(..end.min(limit))?.trim_end();
        (end <= limit && !words.contains(" //")).then_some(words)
    }

    /// Skips to where the next entry can begin: a line end, or what closes or separates in a block or list. Brackets on the
    /// way are skipped with what they enclose, unless they enclose all the rest.
    pub(super) fn recover(&mut self) -> Expects {
        let start = self.at;
        self.at = match self.next_boundary(start) {
            Some(end) => end,
            None => {
                self.at = start;
                self.skip_to_line_end();
                self.at
            }
        };
        Expects::End
    }

    fn next_boundary(&self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let closing = match self.frame().content {
            Content::List(_) => Some(b']'),
            Content::Map(_) | Content::Braces => Some(b'}'),
            Content::Top(_) => None,
        };
        let mut depth = 0_usize;
        let mut at = start;
        let mut end_of_line = start;
        while let Some(&byte) = bytes.get(at) {
            if at >= end_of_line {
                end_of_line = line_end(bytes, at + 1);
            }
            match byte {
                b'\n' | b'\r' if depth == 0 => return Some(at),
                b',' if depth == 0 && closing.is_some() => return Some(at),
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                _ if depth == 0 && Some(byte) == closing => return Some(at),
                b'"' | b'\'' => at = quote_end(bytes, at, end_of_line),
                b'#' => at = end_of_line - 1,
                b'/' if bytes.get(at + 1) == Some(&b'/') => at = end_of_line - 1,
                _ => {}
            }
            at += 1;
        }
        (depth == 0).then_some(bytes.len())
    }

    pub(super) fn skip_to_line_end(&mut self) {
        self.at = line_end(self.text.as_bytes(), self.at);
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let at = at.min(bytes.len());
    let length = bytes[at..]
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'));
    at + length.unwrap_or(bytes.len() - at)
}

/// The other quote of a text that ends on its line, or this one.
fn quote_end(bytes: &[u8], at: usize, end_of_line: usize) -> usize {
    let line = &bytes[at + 1..end_of_line.max(at + 1)];
    match line.iter().position(|&byte| byte == bytes[at]) {
        Some(length) => at + 1 + length,
        None => at,
    }
}
