//! Reads one text: keys, blocks, lists and what stands between them. A loop with a stack of its own, so that no input makes
//! it recurse.
//!
//! nats-server has four kinds of surroundings, each with its own rules for what may follow a value: the top level, a `{ … }`
//! around the whole file (which opens no map), blocks, and lists (conf/lex.go: `lexTop…`, `lexBlock…`, `lexMap…`,
//! `lexArray…`).

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::limits::DEPTH_MAX;
use crate::render::quoted;
use crate::source::{SourceId, Span};
use crate::value::{Data, Key, Map, Value};

use super::{Invalid, Reading, Text};

/// What is indented further is not compared, so that reading stays linear.
const INDENTATION_MAX: usize = 100;

pub(super) struct Machine<'r, 'e> {
    pub(super) reading: &'r mut Reading<'e>,
    pub(super) text: Arc<str>,
    pub(super) source: SourceId,
    /// The next byte to read; always at a character.
    pub(super) at: usize,
    /// What is open, outermost first. The first is the top level and stays.
    pub(super) frames: Vec<Frame>,
    /// How deep the place is where this text is included.
    pub(super) depth_before: usize,
    /// The key that waits for its value.
    pub(super) key: Option<PendingKey>,
    /// A single value that counts as soon as what follows it is right.
    pub(super) pending: Option<PendingValue>,
    invalid: Vec<Invalid>,
    /// A closing bracket that is indented unlike the line of its opening one: where a forgotten bracket may be.
    misaligned: Option<Misaligned>,
    /// Variables that were not defined where they stand, by their diagnostics.
    pub(super) undefined: Vec<(usize, String)>,
}

/// Something that is open.
pub(super) struct Frame {
    pub(super) content: Content,
    /// The opening bracket.
    open: Span,
    /// The key the whole belongs to.
    key: Option<PendingKey>,
    /// The first key that is not indented more than the line of the opening bracket.
    outdented: Option<Span>,
}

pub(super) enum Content {
    Top(Map),
    /// `{ … }` without a key at the top level, as in JSON. What is in it belongs to the top level.
    Braces,
    Map(Map),
    List(Vec<Value>),
}

pub(super) struct PendingKey {
    pub(super) key: Key,
    /// The value starts on a later line and nothing separates it from the key: maybe it is the next key.
    pub(super) is_alone: bool,
}

pub(super) struct PendingValue {
    /// None if the complaint about the value has been made.
    pub(super) value: Option<Value>,
    pub(super) span: Span,
    pub(super) style: Style,
}

/// How a single value was written, for guessing what was meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Bare,
    /// Bare with a `'` that ended it.
    Apostrophe,
    Number,
    Quoted,
    Block,
}

struct Misaligned {
    open: Span,
    close: Span,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    /// A key, an element, or the closing bracket.
    Entry,
    /// What may follow a value.
    End,
    /// What may follow braces inside the braces around a file.
    BracesEnd,
    Nothing,
}

impl<'r, 'e> Machine<'r, 'e> {
    pub(super) fn new(reading: &'r mut Reading<'e>, text: Text, depth_before: usize) -> Self {
        let start = Span::new(text.source, 0, 0);
        Self {
            reading,
            at: text.start,
            source: text.source,
            text: text.text,
            frames: vec![Frame {
                content: Content::Top(Map::default()),
                open: start,
                key: None,
                outdented: None,
            }],
            depth_before,
            key: None,
            pending: None,
            invalid: text.invalid,
            misaligned: None,
            undefined: Vec::new(),
        }
    }

    /// The whole text, from where the machine stands.
    pub(super) fn run(self) -> Map {
        self.run_from(Expects::Entry)
    }

    /// The text as if it stood after `key =`.
    pub(super) fn run_value(mut self, key: Key) -> Map {
        self.key = Some(PendingKey {
            key,
            is_alone: false,
        });
        let expects = self.value();
        self.run_from(expects)
    }

    fn run_from(mut self, mut expects: Expects) -> Map {
        while expects != Expects::Nothing && !self.reading.is_stopped {
            expects = match expects {
                Expects::Entry => self.entry(),
                Expects::End => self.value_end(),
                Expects::BracesEnd => self.braces_end(),
                Expects::Nothing => break,
            };
        }
        self.finish()
    }

    /// Closes what is still open, so that the caller sees what could be read.
    fn finish(mut self) -> Map {
        while self.frames.len() > 1 {
            self.close_frame();
        }
        if let Some(invalid) = self.invalid.first() {
            let character = char::REPLACEMENT_CHARACTER.len_utf8();
            let span = self.span(invalid.shown_at, invalid.shown_at + character);
            let help = "save the file as UTF-8, or write the byte as `\\x…` between double quotes";
            let error = Diagnostic::error(span, invalid.to_string()).with_help(help);
            self.reading.report(error);
        }
        let top = self.frames.pop().map(|frame| frame.content);
        let Some(Content::Top(map)) = top else {
            unreachable!("the first frame is the top level");
        };
        for (index, name) in self.undefined {
            let Some(entry) = map.get(&name) else {
                continue;
            };
            let line = self.reading.sources.position(entry.key.span).line;
            let help = format!(
                "{} is defined in line {line}; a variable must be defined above its use",
                quoted(&name)
            );
            if let Some(diagnostic) = self.reading.diagnostics.get_mut(index) {
                diagnostic.help = Some(help);
            }
        }
        map
    }

    // ---- entries ----

    fn entry(&mut self) -> Expects {
        self.skip_blank_lines();
        match self.frame().content {
            Content::Top(_) | Content::Braces => self.top_entry(),
            Content::Map(_) => self.map_entry(),
            Content::List(_) => self.list_entry(),
        }
    }

    fn top_entry(&mut self) -> Expects {
        let in_braces = self.frames.len() > 1;
        match self.peek() {
            None if in_braces => {
                let note = Diagnostic::note(self.frame().open, "this `{` is never closed")
                    .with_label("opened here")
                    .with_help("add a `}` at the end of the file");
                self.reading.report(note);
                Expects::Nothing
            }
            None => Expects::Nothing,
            Some('{') => {
                let open = self.take(1);
                self.open(Content::Braces, open)
            }
            Some('}') if in_braces => self.close_braces(),
            Some('}') => {
                let close = self.take(1);
                let is_last = self.text[self.at..].trim_start().is_empty();
                self.stray_brace(close, is_last);
                Expects::Entry
            }
            Some(_) => self.key(),
        }
    }

    fn map_entry(&mut self) -> Expects {
        match self.peek() {
            None => self.unclosed(),
            Some('}') => self.close('}'),
            Some('{') => {
                let open = self.take(1);
                let error = Diagnostic::error(open, "a block needs a key before its `{`");
                self.reading.report(error);
                self.open(Content::Map(Map::default()), open)
            }
            Some(_) => self.key(),
        }
    }

    fn list_entry(&mut self) -> Expects {
        match self.peek() {
            None => self.unclosed(),
            Some(']') => self.close(']'),
            Some(',') => {
                let comma = self.take(1);
                let error = Diagnostic::error(comma, "expected a value, found `,`")
                    .with_help("a comma or a line end separates two elements; remove this comma");
                self.reading.report(error);
                Expects::Entry
            }
            Some('}') => match self.mismatched('}') {
                Some(expects) => expects,
                None => {
                    let brace = self.take(1);
                    let error = Diagnostic::error(brace, "expected a value or `]`, found `}`");
                    self.reading.report(error);
                    Expects::Entry
                }
            },
            Some('/') => self.lone_slash(),
            Some(_) => self.value(),
        }
    }

    fn key(&mut self) -> Expects {
        let start = self.at;
        match self.peek() {
            Some(separator @ ('=' | ':')) => {
                let span = self.take(1);
                let message = format!("expected a key, found `{separator}`");
                self.reading.report(Diagnostic::error(span, message));
                self.recover()
            }
            Some(surplus @ (',' | ';' | ']')) => {
                if let Some(expects) = self.mismatched(surplus) {
                    return expects;
                }
                let span = self.take(1);
                let message = format!("expected a key, found `{surplus}`");
                let error = Diagnostic::error(span, message).with_help(match surplus {
                    ']' => "no list is open here; remove it",
                    _ => "one `,`, `;` or line end separates two entries; remove this one",
                });
                self.reading.report(error);
                Expects::Entry
            }
            Some('/') => self.lone_slash(),
            Some(quote @ ('"' | '\'')) => {
                let Some(length) = self.text[start + 1..].find(quote) else {
                    return self.unterminated(start);
                };
                self.at = start + 1 + length + 1;
                let text = self.text[start + 1..start + 1 + length].to_owned();
                self.after_key(text, start)
            }
            _ => self.bare_key(),
        }
    }

    fn lone_slash(&mut self) -> Expects {
        let span = self.take(1);
        let error = Diagnostic::error(span, "`/` does not begin anything")
            .with_help("a comment begins with `//` or `#`; a key or text with a `/` needs quotes");
        self.reading.report(error);
        self.recover()
    }

    fn bare_key(&mut self) -> Expects {
        let start = self.at;
        // A bracket in its first place is part of the key, as in nats-server.
        self.advance();
        while let Some(character) = self.peek() {
            match character {
                '=' | ':' => break,
                '{' | '[' | '"' => {
                    let text = self.text[start..self.at].to_owned();
                    return self.key_without_blank(text, start, character);
                }
                '}' if self.frames.len() > 1 => break,
                _ if character.is_whitespace() => {
                    let text = &self.text[start..self.at];
                    if text.eq_ignore_ascii_case("include") {
                        return self.include(start);
                    }
                    break;
                }
                _ => self.advance(),
            }
        }
        let text = self.text[start..self.at].to_owned();
        self.after_key(text, start)
    }

    /// `cluster{`, which nats-server takes for a key with a `{` in it.
    fn key_without_blank(&mut self, text: String, start: usize, character: char) -> Expects {
        let here = self.span(self.at, self.at + 1);
        let message = format!("`{character}` cannot follow a key directly");
        let error = Diagnostic::error(here, message)
            .with_help(format!("put a blank before it: `{text} {character}`"));
        self.reading.report(error);
        self.key_found(text, start, self.at, false);
        self.value()
    }

    /// The separator, if there is one, and then the value.
    fn after_key(&mut self, text: String, start: usize) -> Expects {
        let end = self.at;
        let in_map = matches!(self.frame().content, Content::Map(_));
        self.skip_whitespace();
        let is_alone = self.text[end..self.at].contains('\n');
        let has_separator = matches!(self.peek(), Some('=' | ':'));
        match self.peek() {
            Some('=' | ':') => {
                self.advance();
                self.key_found(text, start, end, false);
                if in_map {
                    self.skip_whitespace();
                } else {
                    self.skip_blanks();
                }
            }
            None => {
                self.key_found(text, start, end, false);
                let no_value = self.no_value(self.span(start, end));
                self.reading.report(no_value);
                self.drop_key();
                return match in_map {
                    true => self.unclosed(),
                    false => Expects::Nothing,
                };
            }
            Some(_) => self.key_found(text, start, end, is_alone),
        }
        match self.peek() {
            Some('}' | ',') if in_map => self.missing_value(),
            Some('}') if !has_separator && self.frames.len() > 1 => self.missing_value(),
            Some('\n' | '\r') => self.missing_value(),
            _ => self.value(),
        }
    }

    fn key_found(&mut self, text: String, start: usize, end: usize, is_alone: bool) {
        let span = self.span(start, end);
        let frame = self.frame();
        if self.frames.len() > 1 && frame.outdented.is_none() {
            let open = frame.open.start as usize;
            let indentation = self.indentation(start);
            let is_outdented = indentation.is_some_and(|it| it <= self.line_indentation(open));
            if is_outdented && self.line(open) < self.line(start) {
                self.frame_mut().outdented = Some(span);
            }
        }
        self.key = Some(PendingKey {
            key: Key { text, span },
            is_alone,
        });
    }

    fn missing_value(&mut self) -> Expects {
        let span = self.span(self.at, self.at);
        let no_value = self.no_value(span);
        self.reading.report(no_value);
        self.drop_key();
        Expects::End
    }

    fn no_value(&self, span: Span) -> Diagnostic {
        let name = self.key_name();
        Diagnostic::error(span, format!("{name} has no value"))
            .with_label("expected a value")
            .with_help("a value follows on the same line; `\"\"` is an empty text")
    }

    // ---- values ----

    pub(super) fn value(&mut self) -> Expects {
        self.skip_blanks();
        match self.peek() {
            Some('[') => {
                let open = self.take(1);
                self.open(Content::List(Vec::new()), open)
            }
            Some('{') => {
                let open = self.take(1);
                self.open(Content::Map(Map::default()), open)
            }
            Some('\n' | '\r') => self.missing_value(),
            _ => self.scalar(),
        }
    }

    fn open(&mut self, content: Content, open: Span) -> Expects {
        if self.frames.len() + self.depth_before > DEPTH_MAX {
            let message = format!("blocks and lists are nested more than {DEPTH_MAX} deep");
            self.reading.report(Diagnostic::error(open, message));
            self.reading.is_stopped = true;
            return Expects::Nothing;
        }
        let key = self.key.take();
        self.frames.push(Frame {
            content,
            open,
            key,
            outdented: None,
        });
        Expects::Entry
    }

    /// Closes the innermost block or list at its bracket.
    fn close(&mut self, bracket: char) -> Expects {
        let close = self.take(bracket.len_utf8());
        let open = self.frame().open;
        let indentation = self.indentation(close.start as usize);
        if self.misaligned.is_none()
            && indentation.is_some_and(|it| it != self.line_indentation(open.start as usize))
            && self.line(open.start as usize) < self.line(close.start as usize)
        {
            self.misaligned = Some(Misaligned { open, close });
        }
        self.close_frame();
        Expects::End
    }

    /// Gives the innermost block or list to what is around it.
    pub(super) fn close_frame(&mut self) {
        if self.frames.len() == 1 {
            return;
        }
        let Some(frame) = self.frames.pop() else {
            return;
        };
        let data = match frame.content {
            Content::Top(_) | Content::Braces => return,
            Content::Map(map) => Data::Map(map),
            Content::List(values) => Data::List(values),
        };
        self.key = frame.key;
        let span = self.span(frame.open.start as usize, self.at);
        self.put(Value {
            data,
            span,
            variable: None,
        });
    }

    fn close_braces(&mut self) -> Expects {
        self.take(1);
        self.frames.pop();
        match self.frame().content {
            Content::Braces => Expects::BracesEnd,
            _ => Expects::Entry,
        }
    }

    /// Adds a value to what is open. Without a key in a block it is lost: the complaint has been made.
    pub(super) fn put(&mut self, value: Value) {
        if let Content::List(values) = &mut self.frame_mut().content {
            values.push(value);
            return;
        }
        if let Some(pending) = self.key.take() {
            self.insert(pending.key, value, false);
        }
    }

    pub(super) fn insert(&mut self, key: Key, value: Value, is_referenced: bool) {
        let span = key.span;
        let name = quoted(&key.text);
        let Some(earlier) = self.map_mut().insert(key, value, is_referenced) else {
            return;
        };
        // To override what an included file says is a way to use includes.
        if earlier.source == self.source && span.source == self.source {
            let line = self.reading.sources.position(earlier).line;
            let message = format!("{name} is written twice; this one counts");
            let note = Diagnostic::note(span, message).with_label(format!("first in line {line}"));
            self.reading.report(note);
        }
    }

    /// The map that keys belong to.
    pub(super) fn map_mut(&mut self) -> &mut Map {
        let innermost = self.frames.len() - 1;
        let index = match self.frames[innermost].content {
            Content::Map(_) => innermost,
            _ => 0,
        };
        match &mut self.frames[index].content {
            Content::Top(map) | Content::Map(map) => map,
            _ => unreachable!("the first frame is the top level"),
        }
    }

    /// Forgets the key that waits for a value. Variables of its name are excused.
    pub(super) fn drop_key(&mut self) {
        if let Some(pending) = self.key.take() {
            self.reading.keys_without_value.insert(pending.key.text);
        }
    }

    /// The value that waits for its end counts now.
    fn commit(&mut self) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        match pending.value {
            Some(value) => self.put(value),
            None => self.drop_key(),
        }
    }

    // ---- what follows a value ----

    fn value_end(&mut self) -> Expects {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let is_list = matches!(self.frame().content, Content::List(_));
        let in_block = self.frames.len() > 1;
        match self.peek() {
            // The line end behind the comment ends the value, and nothing else does.
            Some('#') => return self.comment_after_value(),
            Some('/') if rest.starts_with("//") => return self.comment_after_value(),
            // nats-server skips a lone slash after a value.
            Some('/') => {
                let span = self.take(1);
                let note = Diagnostic::note(span, "this `/` does nothing")
                    .with_help("a comment begins with `//` or `#`");
                self.reading.report(note);
                // In a block or list it even separates.
                if matches!(self.frame().content, Content::Top(_) | Content::Braces) {
                    return Expects::End;
                }
            }
            Some('\n' | '\r' | ',') => {
                self.advance();
            }
            Some(';') if !is_list => {
                self.advance();
            }
            Some(']') if is_list => {
                self.commit();
                return self.close(']');
            }
            Some('}') if matches!(self.frame().content, Content::Map(_)) => {
                self.commit();
                return self.close('}');
            }
            Some('}') if !is_list => {
                self.commit();
                if in_block {
                    return self.close_braces();
                }
                let close = self.take(1);
                self.stray_brace(close, true);
            }
            None if in_block => {
                self.commit();
                return self.unclosed();
            }
            None => {}
            Some(_) => return self.unexpected_after_value(),
        }
        self.commit();
        Expects::Entry
    }

    fn braces_end(&mut self) -> Expects {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.at += 1;
        }
        match self.peek() {
            Some(',' | ';') => {
                self.advance();
                Expects::Entry
            }
            Some('#') => Expects::Entry,
            Some('/') if self.text[self.at..].starts_with("//") => Expects::Entry,
            Some('}') => self.close_braces(),
            None => self.unclosed(),
            Some(_) => {
                let span = self.here();
                let error = Diagnostic::error(span, "expected `}` or `,` after the inner braces");
                self.reading.report(error);
                Expects::Entry
            }
        }
    }

    /// nats-server overlooks a `}` at the very end of a file and one right behind a value.
    fn stray_brace(&mut self, close: Span, is_overlooked: bool) {
        let message = "no block is open that this `}` could close";
        let diagnostic = match is_overlooked {
            true => Diagnostic::note(close, message),
            false => Diagnostic::error(close, message),
        };
        let help = match &self.misaligned {
            Some(misaligned) => {
                let sources = &self.reading.sources;
                let close_line = sources.position(misaligned.close).line;
                let open_line = sources.position(misaligned.open).line;
                format!(
                    "the bracket in line {close_line} closes the block opened in line {open_line}, but is indented \
                     differently; is one of the two too much?"
                )
            }
            None => "remove it, or add the `{` it belongs to".into(),
        };
        self.reading.report(diagnostic.with_help(help));
    }

    /// The text ends inside a block or list.
    fn unclosed(&mut self) -> Expects {
        self.report_unclosed(None);
        Expects::Nothing
    }

    /// Complains that the innermost block or list has no closing bracket, which belongs `place`, if that is known.
    pub(super) fn report_unclosed(&mut self, place: Option<String>) {
        let frame = self.frame();
        let (what, bracket) = match frame.content {
            Content::List(_) => ("list", ']'),
            Content::Map(_) | Content::Braces | Content::Top(_) => ("block", '}'),
        };
        let name = frame.key.as_ref().map(|pending| quoted(&pending.key.text));
        let of_key = name.map_or_else(String::new, |name| format!(" of {name}"));
        let sources = &self.reading.sources;
        let help = match (&self.misaligned, frame.outdented) {
            _ if let Some(place) = place => format!("add a `{bracket}` {place}"),
            (Some(misaligned), _) if misaligned.close.start > frame.open.start => {
                let close_line = sources.position(misaligned.close).line;
                let open_line = sources.position(misaligned.open).line;
                format!(
                    "the bracket in line {close_line} closes what line {open_line} opens, but is indented differently; \
                     one is probably missing before it"
                )
            }
            (_, Some(outdented)) => {
                let line = sources.position(outdented).line;
                let key = quoted(sources.text(outdented));
                format!("a `{bracket}` is probably missing before {key} in line {line}")
            }
            _ => format!("add a `{bracket}`"),
        };
        let error = Diagnostic::error(frame.open, format!("the {what}{of_key} is never closed"))
            .with_label("opened here")
            .with_help(help);
        self.reading.report(error);
    }

    // ---- reading ----

    pub(super) fn peek(&self) -> Option<char> {
        match self.text.as_bytes().get(self.at) {
            Some(&byte) if byte.is_ascii() => Some(char::from(byte)),
            Some(_) => self.text[self.at..].chars().next(),
            None => None,
        }
    }

    pub(super) fn advance(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn take(&mut self, length: usize) -> Span {
        let start = self.at;
        self.at += length;
        self.span(start, self.at)
    }

    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, start, end)
    }

    /// The next character.
    pub(super) fn here(&self) -> Span {
        let length = self.peek().map_or(0, char::len_utf8);
        self.span(self.at, self.at + length)
    }

    pub(super) fn skip_blanks(&mut self) {
        while let Some(' ' | '\t') = self.peek() {
            self.at += 1;
        }
    }

    fn skip_whitespace(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.advance();
        }
    }

    /// White space of any kind, line ends and comments.
    fn skip_blank_lines(&mut self) {
        loop {
            self.skip_whitespace();
            let rest = &self.text.as_bytes()[self.at..];
            if !rest.starts_with(b"#") && !rest.starts_with(b"//") {
                return;
            }
            self.skip_comment();
        }
    }

    fn skip_comment(&mut self) {
        let start = self.at;
        self.skip_to_line_end();
        let comment = start..self.at;
        self.invalid
            .retain(|invalid| !comment.contains(&invalid.shown_at));
    }

    fn comment_after_value(&mut self) -> Expects {
        self.skip_comment();
        match self.frame().content {
            Content::Top(_) => {
                self.commit();
                Expects::Entry
            }
            _ => Expects::End,
        }
    }

    /// How far a place is indented, if it is the first on its line.
    pub(super) fn indentation(&self, at: usize) -> Option<usize> {
        let (start, _) = self.reading.sources.line(self.source, at as u32);
        let before = &self.text.as_bytes()[start as usize..at];
        let is_blank = before.len() <= INDENTATION_MAX
            && before.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        is_blank.then_some(before.len())
    }

    /// How far the line of a place is indented.
    fn line_indentation(&self, at: usize) -> usize {
        let (_, line) = self.reading.sources.line(self.source, at as u32);
        let bytes = line.bytes().take(INDENTATION_MAX);
        bytes
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count()
    }

    fn line(&self, at: usize) -> usize {
        self.reading.sources.line_index(self.span(at, at))
    }

    pub(super) fn frame(&self) -> &Frame {
        self.frames.last().expect("the first frame stays")
    }

    pub(super) fn frame_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the first frame stays")
    }

    /// How to call what a value is for.
    pub(super) fn key_name(&self) -> String {
        match &self.key {
            Some(pending) => quoted(&pending.key.text),
            None => "this element".into(),
        }
    }
}
