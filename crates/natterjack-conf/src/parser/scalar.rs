//! Single values: texts with and without quotes, numbers, dates, booleans. What a bare word means depends on all of it
//! (conf/lex.go: `lexValue` and what it leads to): `12` is a number, `12x` a text, `1.2` a number, `1.2.3.4:5` a text.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::diagnostic::Diagnostic;
use crate::render::quoted;
use crate::source::Origin;
use crate::value::{Data, Value};

use super::machine::{Content, Expects, Machine, PendingValue, Style};

const ESCAPES: &str = "there are `\\t`, `\\n`, `\\r`, `\\\"`, `\\\\` and `\\x` with two hexadecimal digits; \
                       between single quotes a `\\` is just a `\\`";

impl Machine<'_, '_> {
    /// A value that is neither list nor block, at its first character.
    pub(super) fn scalar(&mut self) -> Expects {
        let start = self.at;
        match self.peek() {
            Some('\'') => self.single_quoted(),
            Some('"') => self.double_quoted(),
            Some('(') => self.block_text(),
            Some('-' | '0'..='9') => self.number(),
            Some('.') => {
                let digits = self.text[start + 1..].bytes();
                let digits = digits.take_while(u8::is_ascii_digit).count();
                let number = self.text[start..start + 1 + digits].to_owned();
                self.skip_word();
                let error =
                    Diagnostic::error(self.span(start, self.at), "a value cannot begin with a dot");
                let help = match digits {
                    0 => "put a text between quotes".to_owned(),
                    _ => format!("write `0{}`, or put a text between quotes", cut(&number)),
                };
                self.refuse(error.with_help(help))
            }
            _ => self.bare(start),
        }
    }

    // ---- texts ----

    fn single_quoted(&mut self) -> Expects {
        let start = self.at;
        let Some(length) = self.text[start + 1..].find('\'') else {
            return self.unterminated(start);
        };
        let text = self.text[start + 1..start + 1 + length].to_owned();
        self.at = start + 1 + length + 1;
        self.found(start, Some(Data::Text(text)), Style::Quoted)
    }

    fn double_quoted(&mut self) -> Expects {
        let start = self.at;
        if !self.is_terminated(start) {
            return self.unterminated(start);
        }
        self.at += 1;
        let mut bytes = Vec::new();
        let mut is_right = true;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                // A wrong escape took the quote's place.
                return self.unterminated(start);
            };
            bytes.extend_from_slice(&rest[..length]);
            let is_end = rest[length] == b'"';
            self.at += length;
            if is_end {
                self.at += 1;
                break;
            }
            match self.escape() {
                Some(byte) => bytes.push(byte),
                None => is_right = false,
            }
        }
        let text = is_right.then(|| self.text_of(bytes, start)).flatten();
        self.found(start, text, Style::Quoted)
    }

    /// Whether a text in double quotes has an end. Looked at first, so that a text without end gives one complaint and
    /// not one for each backslash in the rest of the file.
    fn is_terminated(&self, start: usize) -> bool {
        let mut bytes = self.text.as_bytes()[start + 1..].iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => return true,
                b'\\' => {
                    bytes.next();
                }
                _ => {}
            }
        }
        false
    }

    /// A quote without its partner: reading goes on with the next line.
    pub(super) fn unterminated(&mut self, start: usize) -> Expects {
        let quote = &self.text[start..=start];
        let error = Diagnostic::error(
            self.span(start, start + 1),
            format!("the closing {quote} is missing"),
        )
        .with_label("opened here")
        .with_help(format!("add a {quote} at the end of the text"));
        self.reading.report(error);
        self.drop_key();
        self.pending = None;
        self.at = start;
        self.skip_to_line_end();
        Expects::End
    }

    /// `(`, lines of text as they are, and `)` alone on a line.
    fn block_text(&mut self) -> Expects {
        let start = self.at;
        let body = start + 1;
        let bytes = self.text.as_bytes();
        let mut search = body;
        while let Some(found) = self.text[search..].find("\n)") {
            let newline = search + found;
            let after = newline + 2;
            if matches!(bytes.get(after), None | Some(b'\n')) {
                let text = self.text[body..=newline].to_owned();
                self.at = after;
                return self.found(start, Some(Data::Text(text)), Style::Block);
            }
            search = newline + 1;
        }
        let near = self.text[body..]
            .split('\n')
            .position(|line| line.trim() == ")");
        let line = self.reading.sources.position(self.span(body, body)).line as usize;
        let rule = "a `)` ends the text only if it is alone on its line";
        let help = match near {
            Some(lines) => format!(
                "{rule}, without a blank or carriage return beside it; the one in line {} is not",
                line + lines
            ),
            None => format!("{rule}; add one, or put the text between quotes"),
        };
        let error = Diagnostic::error(
            self.span(start, body),
            "the text that begins with this `(` has no end",
        )
        .with_label("opened here")
        .with_help(help);
        self.reading.report(error);
        self.reading.is_incomplete = true;
        self.drop_key();
        // All the rest was meant to be text, or nobody knows where it ends.
        Expects::Nothing
    }

    /// A word without quotes that began at `start` and is read up to here.
    fn bare(&mut self, start: usize) -> Expects {
        let mut bytes: Option<Vec<u8>> = None;
        let mut copied = start;
        let mut is_right = true;
        let mut style = Style::Bare;
        let end = loop {
            match self.peek() {
                None | Some('\n' | '\r' | ';' | ',' | ']' | '}' | ' ' | '\t') => break self.at,
                Some('\'') => {
                    style = Style::Apostrophe;
                    self.advance();
                    break self.at - 1;
                }
                Some('\\') => {
                    let bytes = bytes.get_or_insert_default();
                    bytes.extend_from_slice(&self.text.as_bytes()[copied..self.at]);
                    match self.escape() {
                        Some(byte) => bytes.push(byte),
                        None => is_right = false,
                    }
                    copied = self.at;
                }
                Some(_) => self.advance(),
            }
        };
        if let Some(mut bytes) = bytes {
            bytes.extend_from_slice(&self.text.as_bytes()[copied..end]);
            let text = is_right.then(|| self.text_of(bytes, start)).flatten();
            return self.found(start, text, style);
        }
        let word = self.text[start..end].to_owned();
        if style == Style::Bare {
            if let Some(truth) = truth(&word) {
                return self.found(start, Some(Data::Bool(truth)), style);
            }
            if let Some(name) = word.strip_prefix('$') {
                let span = self.span(start, end);
                let value = self.variable(name, span);
                self.pending = Some(PendingValue { value, span, style });
                return Expects::End;
            }
            if word.is_empty() {
                self.note_empty();
            }
        }
        self.found(start, Some(Data::Text(word)), style)
    }

    /// nats-server reads nothing before a `,`, a `;` or the end of the file as an empty text.
    fn note_empty(&mut self) {
        // A variable of the environment may well be empty.
        if matches!(
            self.reading.sources.origin(self.source),
            Origin::Environment(_)
        ) || matches!(self.frame().content, Content::List(_))
        {
            return;
        }
        let name = self.key_name();
        let here = self.span(self.at, self.at);
        let note = Diagnostic::note(here, format!("{name} is an empty text here"))
            .with_help("write `\"\"` if that is meant");
        self.reading.report(note);
    }

    /// What a `\` and what follows it stand for. Leaves a wrong one behind itself too.
    fn escape(&mut self) -> Option<u8> {
        let start = self.at;
        let bytes = &self.text.as_bytes()[start + 1..];
        let kind = bytes.first().copied();
        let value = match kind {
            Some(b't') => Some(b'\t'),
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b'"') => Some(b'"'),
            Some(b'\\') => Some(b'\\'),
            Some(b'x') => {
                let digits = bytes
                    .get(1..3)
                    .and_then(|digits| str::from_utf8(digits).ok());
                let digits =
                    digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                if let Some(value) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    self.at += 4;
                    return Some(value);
                }
                None
            }
            _ => None,
        };
        self.at += 1;
        match self.peek() {
            None | Some('\n' | '\r') => {}
            Some(_) => self.advance(),
        }
        if value.is_none() {
            let span = self.span(start, self.at);
            let escape = quoted(&self.text[start..self.at]);
            let message = match kind {
                Some(b'x') => "two hexadecimal digits must follow `\\x`".to_owned(),
                _ => format!("{escape} is not an escape"),
            };
            self.reading
                .report(Diagnostic::error(span, message).with_help(ESCAPES));
        }
        value
    }

    fn text_of(&mut self, bytes: Vec<u8>, start: usize) -> Option<Data> {
        if let Ok(text) = String::from_utf8(bytes) {
            return Some(Data::Text(text));
        }
        let span = self.span(start, self.at);
        let error = Diagnostic::error(span, "the bytes written as `\\x…` are not UTF-8")
            .with_help("a character beyond ASCII takes two to four of them: `\\xc3\\xa4`");
        self.reading.report(error);
        None
    }

    // ---- numbers and dates ----

    fn number(&mut self) -> Expects {
        let start = self.at;
        let is_negative = self.peek() == Some('-');
        if is_negative {
            self.at += 1;
            if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
                self.skip_word();
                let error = Diagnostic::error(
                    self.span(start, self.at.max(start + 1)),
                    "a value that begins with `-` must be a number",
                );
                let word = &self.text[start..self.at];
                let help = match word.strip_prefix("-.") {
                    Some(digits) if digits.starts_with(|digit: char| digit.is_ascii_digit()) => {
                        format!("write `-0.{}`", cut(digits))
                    }
                    _ => format!("put a text between quotes: {}", in_quotes(word)),
                };
                return self.refuse(error.with_help(help));
            }
        }
        self.skip_digits();
        let is_list = matches!(self.frame().content, Content::List(_));
        match self.peek() {
            Some('.') => self.float(start),
            Some('k' | 'K' | 'm' | 'M' | 'g' | 'G' | 't' | 'T' | 'p' | 'P' | 'e' | 'E') => {
                self.number_with_suffix(start)
            }
            _ if is_negative => self.integer(start),
            // nats-server takes `1]` for a text even inside a list, which then has no end: no list of numbers can be
            // closed without a blank there.
            None | Some('\n' | '\r' | '}' | ';' | ',' | ' ' | '\t') => self.integer(start),
            Some(']') if is_list => self.integer(start),
            Some('-') if self.at - start == "2006".len() => self.date(start),
            Some('-') => {
                self.skip_word();
                let span = self.span(start, self.at);
                let word = &self.text[start..self.at];
                let message = format!("{} is neither a number nor a date", quoted(word));
                let help = format!("put a text between quotes: {}", in_quotes(word));
                self.refuse(Diagnostic::error(span, message).with_help(help))
            }
            Some(_) => {
                // Whatever it is, even a quote or a backslash, it makes the word a text.
                self.advance();
                self.bare(start)
            }
        }
    }

    /// A size. With more behind the suffix it is a text: `2m` is two millions, `2m30s` is not a number.
    fn number_with_suffix(&mut self, start: usize) -> Expects {
        self.at += 1;
        while let Some('b' | 'B' | 'i' | 'I') = self.peek() {
            self.at += 1;
        }
        let is_list = matches!(self.frame().content, Content::List(_));
        match self.peek() {
            None | Some('\n' | '\r' | '}' | ';' | ',' | ' ' | '\t') => self.integer(start),
            Some(']') if is_list => self.integer(start),
            Some(_) => self.bare(start),
        }
    }

    fn integer(&mut self, start: usize) -> Expects {
        let span = self.span(start, self.at);
        let word = &self.text[start..self.at];
        let digits = word.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let suffix = &word[digits.len()..];
        let Some(factor) = factor(suffix) else {
            let message = format!("{} is not a size suffix", quoted(suffix));
            let help = "there are k, m, g, t, p and e for powers of 1000, and kb, mb … or ki, mi … or kib, mib … \
                        for powers of 1024; a text needs quotes";
            let error = Diagnostic::error(span, message).with_help(help);
            return self.refuse(error);
        };
        let number = digits
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        let Some(number) = number else {
            let message = format!("{} is too large for a number", quoted(word));
            let help = format!(
                "whole numbers go from {} to {}; a text needs quotes",
                i64::MIN,
                i64::MAX
            );
            let error = Diagnostic::error(span, message).with_help(help);
            return self.refuse(error);
        };
        self.found(start, Some(Data::Integer(number)), Style::Number)
    }

    /// A float, or an address: `1.2` or `1.2.3.4:5`.
    fn float(&mut self, start: usize) -> Expects {
        self.at += 1;
        if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.skip_word();
            let word = &self.text[start..self.at];
            let error = Diagnostic::error(
                self.span(start, self.at),
                format!("a digit must follow the dot in {}", quoted(word)),
            );
            let help = format!(
                "write `.0` after a whole number, or put a text between quotes: {}",
                in_quotes(word)
            );
            return self.refuse(error.with_help(help));
        }
        self.skip_digits();
        if self.peek() == Some('.') {
            while let Some('0'..='9' | '.' | ':' | '-') = self.peek() {
                self.at += 1;
            }
            let text = self.text[start..self.at].to_owned();
            return self.found(start, Some(Data::Text(text)), Style::Number);
        }
        let word = &self.text[start..self.at];
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.found(start, Some(Data::Float(number)), Style::Number)
            }
            _ => {
                let message = format!("{} is too large for a number", quoted(word));
                let error = Diagnostic::error(self.span(start, self.at), message);
                self.refuse(error)
            }
        }
    }

    /// `2006-01-02T15:04:05Z`, after the year.
    fn date(&mut self, start: usize) -> Expects {
        const FORM: &[u8] = b"0000-00-00T00:00:00Z";
        let bytes = &self.text.as_bytes()[start..];
        let is_of_form = bytes.len() >= FORM.len()
            && FORM.iter().zip(bytes).all(|(form, byte)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => form == byte,
            });
        if !is_of_form {
            self.skip_word();
            let word = &self.text[start..self.at];
            let message = format!("{} is neither a number nor a date", quoted(word));
            let help = format!(
                "a date is written `2006-01-02T15:04:05Z`; put a text between quotes: {}",
                in_quotes(word)
            );
            let error = Diagnostic::error(self.span(start, self.at), message);
            return self.refuse(error.with_help(help));
        }
        self.at = start + FORM.len();
        let word = &self.text[start..self.at];
        match timestamp(word) {
            Some(time) => self.found(start, Some(Data::Time(time)), Style::Number),
            None => {
                let message = format!("there is no {}", quoted(word));
                let help = "check the month, the day and the time; the last second is 59";
                let error = Diagnostic::error(self.span(start, self.at), message).with_help(help);
                self.refuse(error)
            }
        }
    }

    // ---- helpers ----

    /// A value from `start` to here waits for what follows it. None: it was complained about.
    fn found(&mut self, start: usize, data: Option<Data>, style: Style) -> Expects {
        let span = self.span(start, self.at);
        let value = data.map(|data| Value {
            data,
            span,
            variable: None,
        });
        self.pending = Some(PendingValue { value, span, style });
        Expects::End
    }

    /// Complains about the value and leaves the rest of its line alone.
    fn refuse(&mut self, error: Diagnostic) -> Expects {
        self.reading.report(error);
        self.drop_key();
        self.recover()
    }

    fn skip_digits(&mut self) {
        while let Some('0'..='9') = self.peek() {
            self.at += 1;
        }
    }

    /// To the end of what looks like one word.
    fn skip_word(&mut self) {
        let rest = &self.text[self.at..];
        let ends = ['\n', '\r', ';', ',', ']', '}', ' ', '\t'];
        self.at += rest.find(ends).unwrap_or(rest.len());
    }
}

/// Seconds past 59, which other readers take for leap seconds, are none here.
fn timestamp(word: &str) -> Option<jiff::Timestamp> {
    if word.get(17..19)? > "59" {
        return None;
    }
    let civil: DateTime = word.trim_end_matches('Z').parse().ok()?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

fn truth(word: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 3]| words.iter().any(|one| word.eq_ignore_ascii_case(one));
    if is_one_of(["true", "yes", "on"]) {
        return Some(true);
    }
    is_one_of(["false", "no", "off"]).then_some(false)
}

/// What a size suffix multiplies with.
fn factor(suffix: &str) -> Option<i64> {
    let (letter, rest) = match suffix.split_at_checked(1) {
        None => return Some(1),
        Some((letter, rest)) => (letter.to_ascii_lowercase(), rest.to_ascii_lowercase()),
    };
    let power = match letter.as_str() {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    match rest.as_str() {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

/// A suggestion how to write a word as a text.
pub(super) fn in_quotes(word: &str) -> String {
    match word.contains(['"', '\\']) {
        false => format!("\"{}\"", cut(word)),
        true => format!("'{}'", cut(word)),
    }
}

/// As much as belongs into a sentence.
fn cut(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}
