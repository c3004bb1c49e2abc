//! Diagnostics as text for people: the message, where, the line with a caret under the place, and advice. Plain text,
//! without colours.
//!
//! What is shown of a file is made harmless: tabs become blanks, control characters and those that turn the direction of
//! writing are spelled out, long lines are cut around the caret.

use std::fmt::Write as _;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use crate::diagnostic::Diagnostic;
use crate::source::{Origin, Sources, Span};

/// Lines longer than this are cut.
const COLUMNS_MAX: usize = 120;
/// How much of a cut line stands before the caret.
const COLUMNS_BEFORE_MAX: usize = 50;
/// How much of a line is looked at before and behind a place in it: more than is shown. Lines may have megabytes.
const NEIGHBOURHOOD_BYTES: usize = 4096;
/// How much of a word from a file is repeated in a message.
const QUOTED_CHARACTERS_MAX: usize = 60;
const TAB_COLUMNS: usize = 4;
/// How many files up the chain of includes is told.
const ORIGINS_MAX: usize = 8;

impl Sources {
    /// The diagnostic over several lines, as compilers show them. Ends with a line feed.
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        self.render_hiding(diagnostic, |_, _| Vec::new())
    }

    /// The same with stars for parts of the line that is shown. `hidden` is given the
    /// [neighbourhood](Self::neighbourhood) of the place, which is more than is shown of a long line, and its text; it
    /// says which ranges of its bytes are hidden.
    pub fn render_hiding(
        &self,
        diagnostic: &Diagnostic,
        hidden: impl FnOnce(Span, &str) -> Vec<Range<usize>>,
    ) -> String {
        let severity = diagnostic.severity.word();
        let mut text = format!("{severity}: {}\n", harmless(&diagnostic.message));
        let mut gutter = 1;
        if let Some(span) = diagnostic.span {
            let position = self.position(span);
            gutter = position.line.to_string().len();
            let place = harmless(&position.to_string());
            let _ = writeln!(text, "{:gutter$}--> {place}", "");
        }
        if let Some(span) = diagnostic.span.filter(|&span| !self.is_secret(span)) {
            let position = self.position(span);
            let (line, carets) = self.excerpt(span, hidden);
            let _ = writeln!(text, "{:gutter$} |", "");
            let _ = writeln!(text, "{} | {line}", position.line);
            let label = diagnostic.label.as_deref().unwrap_or_default();
            let carets = format!("{:gutter$} | {carets} {}", "", harmless(label));
            let _ = writeln!(text, "{}", carets.trim_end());
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(text, "{:gutter$} = help: {}", "", harmless(help));
        }
        for origin in diagnostic
            .span
            .into_iter()
            .flat_map(|span| self.origins(span))
        {
            let _ = writeln!(text, "{:gutter$} = note: {origin}", "");
        }
        text
    }

    /// The diagnostic on one line: `file:line:column: message`.
    pub fn render_short(&self, diagnostic: &Diagnostic) -> String {
        let message = shown_text(&diagnostic.message);
        match diagnostic.span {
            Some(span) => format!(
                "{}: {message}",
                shown_text(&self.position(span).to_string())
            ),
            None => message,
        }
    }

    /// Where the line a span starts on stands, as far as it is near the span.
    pub fn neighbourhood(&self, span: Span) -> Span {
        let (line_start, line) = self.line(span.source, span.start);
        let at = (span.start.saturating_sub(line_start) as usize).min(line.len());
        let is_boundary = |at: &usize| line.is_char_boundary(*at);
        let from = (at.saturating_sub(NEIGHBOURHOOD_BYTES)..=at).find(is_boundary);
        let to = (at..=line.len().min(at + NEIGHBOURHOOD_BYTES)).rfind(is_boundary);
        Span {
            source: span.source,
            start: line_start + from.unwrap_or(0) as u32,
            end: line_start + to.unwrap_or(line.len()) as u32,
        }
    }

    /// Variables of the environment hold passwords more often than not, so their text is not shown.
    fn is_secret(&self, span: Span) -> bool {
        matches!(self.origin(span.source), Origin::Environment(_))
    }

    /// How the text of this span came to be read, from the inside out.
    fn origins(&self, span: Span) -> Vec<String> {
        let mut origins = Vec::new();
        let mut source = span.source;
        while origins.len() < ORIGINS_MAX {
            let (word, place) = match *self.origin(source) {
                Origin::Main => break,
                Origin::Included(place) => ("included", place),
                Origin::Environment(place) => ("environment variable used", place),
            };
            let position = harmless(&self.position(place).to_string());
            origins.push(format!("{word} at {position}"));
            source = place.source;
        }
        origins
    }

    /// The line a span starts on as it can be shown, and the carets that belong under it.
    fn excerpt(
        &self,
        span: Span,
        hidden: impl FnOnce(Span, &str) -> Vec<Range<usize>>,
    ) -> (String, String) {
        let around = self.neighbourhood(span);
        let line_start = around.start;
        let line = self.text(around);
        let line = starred(line, &hidden(around, line));
        let line = line.as_str();
        let place = |offset: u32| {
            let offset = (offset.saturating_sub(line_start) as usize).min(line.len());
            // Spans are made at characters; a hand-made one must do no harm.
            (0..=offset)
                .rev()
                .find(|&offset| line.is_char_boundary(offset))
                .unwrap_or(0)
        };
        let (start, end) = (place(span.start), place(span.end.max(span.start)));
        let (from, to) = window(line, start);
        let cut_before = if from > 0 { "…" } else { "" };
        let cut_after = if to < line.len() { "…" } else { "" };
        let shown = format!(
            "{cut_before}{}{cut_after}",
            shown_text(&line[from..to]).trim_end()
        );
        let before = columns(cut_before) + columns(&shown_text(&line[from..start]));
        let marked = columns(&shown_text(&line[start..end.clamp(start, to.max(start))]));
        (
            shown,
            format!("{}{}", " ".repeat(before), "^".repeat(marked.max(1))),
        )
    }
}

/// The line with a star for each byte of these ranges, so that everything else stays at its offset.
fn starred(line: &str, ranges: &[Range<usize>]) -> String {
    let is_hidden = |at: usize| ranges.iter().any(|range| range.contains(&at));
    let mut starred = String::with_capacity(line.len());
    for (at, character) in line.char_indices() {
        if is_hidden(at) {
            starred.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            starred.push(character);
        }
    }
    starred
}

/// Text of a file or of the environment for use in a message: between backquotes, cut if long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARACTERS_MAX) {
        Some((end, _)) => format!("`{}…`", harmless(&text[..end])),
        None => format!("`{}`", harmless(text)),
    }
}

/// Which part of a long line to show around a byte of it.
fn window(line: &str, around: usize) -> (usize, usize) {
    // No character takes fewer bytes than a quarter of its columns; a line that is short in bytes is short.
    if line.len() <= COLUMNS_MAX {
        return (0, line.len());
    }
    let mut used = 0;
    let mut from = around;
    for (index, character) in line[..around].char_indices().rev() {
        used += shown(character).columns;
        if used > COLUMNS_BEFORE_MAX {
            break;
        }
        from = index;
    }
    let mut to = around;
    for (index, character) in line[around..].char_indices() {
        used += shown(character).columns;
        if used > COLUMNS_MAX {
            break;
        }
        to = around + index + character.len_utf8();
    }
    (from, to)
}

/// The same text without anything a terminal would obey; lines are kept.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => harmless.push('\n'),
            _ => shown(character).push_to(character, &mut harmless),
        }
    }
    harmless
}

fn shown_text(text: &str) -> String {
    let mut shown_text = String::with_capacity(text.len());
    for character in text.chars() {
        shown(character).push_to(character, &mut shown_text);
    }
    shown_text
}

fn columns(shown: &str) -> usize {
    shown
        .chars()
        .map(|character| character.width().unwrap_or(0))
        .sum()
}

/// How a character is shown.
struct Shown {
    columns: usize,
    style: Style,
}

enum Style {
    AsIs,
    Blanks,
    Escaped,
}

fn shown(character: char) -> Shown {
    match character {
        '\t' => Shown {
            columns: TAB_COLUMNS,
            style: Style::Blanks,
        },
        // Directions of writing, invisible marks and line separators.
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => escaped(character),
        _ => match character.width() {
            Some(columns) if !character.is_control() => Shown {
                columns,
                style: Style::AsIs,
            },
            _ => escaped(character),
        },
    }
}

fn escaped(character: char) -> Shown {
    Shown {
        columns: character.escape_unicode().count(),
        style: Style::Escaped,
    }
}

impl Shown {
    fn push_to(&self, character: char, text: &mut String) {
        match self.style {
            Style::AsIs => text.push(character),
            Style::Blanks => text.push_str(&" ".repeat(TAB_COLUMNS)),
            Style::Escaped => text.extend(character.escape_unicode()),
        }
    }
}
