//! `$name`: what it stands for. Looked up in the blocks around it, from the inside out, then in the environment, whose text
//! is read as a value (nats-server: conf/parse.go `lookupVariable`).
//!
//! Every use is a copy of the value. What copies may add up to is bounded, because lists that name each other double with
//! every line.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Severity};
use crate::limits::{
    CANDIDATES_MAX, DEPTH_MAX, ENVIRONMENT_DEPTH_MAX, VARIABLE_BYTES_MAX, VARIABLE_VALUES_MAX,
};
use crate::nearest::nearest;
use crate::render::quoted;
use crate::source::{Origin, SourceId, Span};
use crate::value::{Data, Key, Value, Variable, VariableSource};

use super::Reading;
use super::machine::{Content, Machine};

/// nats-server lets hashes of this kind of bcrypt stand without quotes.
const BCRYPT_PREFIX: &str = "2a$";

impl Machine<'_, '_> {
    /// The value of `$name`, which stands at `span`. None if there is none, which has then been complained about.
    pub(super) fn variable(&mut self, name: &str, span: Span) -> Option<Value> {
        if name.starts_with(BCRYPT_PREFIX) {
            return Some(Value {
                data: Data::Text(format!("${name}")),
                span,
                variable: None,
            });
        }
        let value = |data, from| {
            let name = name.to_owned();
            Value {
                data,
                span,
                variable: Some(Variable { name, from }),
            }
        };
        if let Some((data, from)) = self.definition(name, span) {
            return Some(value(data?, from));
        }
        let found = self.environment_value(name, span)?;
        let depth = self.depth();
        let data = self.reading.copy(&found, span, depth)?;
        Some(value(data, VariableSource::Environment))
    }

    /// A copy of what a key around this place has as its value; no copy if it would be too large.
    fn definition(&mut self, name: &str, span: Span) -> Option<(Option<Data>, VariableSource)> {
        let depth = self.depth();
        let Self {
            frames, reading, ..
        } = self;
        frames.iter_mut().rev().find_map(|frame| {
            let (Content::Top(map) | Content::Map(map)) = &mut frame.content else {
                return None;
            };
            let value = &map.reference(name)?.value;
            let from = VariableSource::Definition(value.span);
            Some((reading.copy(value, span, depth), from))
        })
    }

    fn environment_value(&mut self, name: &str, span: Span) -> Option<Value> {
        if let Some(value) = self.reading.environment_values.get(name) {
            return value.clone();
        }
        let open = &self.reading.environment_open;
        if open.iter().any(|(open, _)| open == name) || open.len() >= ENVIRONMENT_DEPTH_MAX {
            let chain = open.iter().map(|(open, _)| format!("${open} -> "));
            let message = format!(
                "the environment variables refer to each other: {}${name}",
                chain.collect::<String>()
            );
            let place = self.reading.place_in_file(span);
            self.reading.report(Diagnostic::error(place, message));
            return None;
        }
        let Some(text) = self.reading.environment.variable(name) else {
            self.undefined_variable(name, span);
            return None;
        };
        let shown = format!("${name}");
        let path = PathBuf::from(&shown);
        let origin = Origin::Environment(span);
        let text = self.reading.add(path, text.as_bytes(), origin);
        let depth = self.depth();
        let value = text.and_then(|text| {
            let place = self.reading.place_in_file(span);
            self.reading.environment_open.push((name.to_owned(), span));
            let before = self.reading.diagnostics.len();
            let source = text.source;
            let key = Key {
                text: shown.clone(),
                span: Span::new(source, 0, 0),
            };
            let map = Machine::new(self.reading, text, depth).run_value(key);
            self.reading.environment_open.pop();
            self.reading.hide_environment(name, source, before, place);
            map.get(&shown).map(|entry| entry.value.clone())
        });
        self.reading
            .environment_values
            .insert(name.to_owned(), value.clone());
        value
    }

    fn undefined_variable(&mut self, name: &str, span: Span) {
        let is_excused =
            self.reading.is_incomplete || self.reading.keys_without_value.contains(name);
        if is_excused && self.reading.errors > 0 {
            return;
        }
        let message = match name {
            "" => "a name must follow the `$`".to_owned(),
            _ => format!("the variable {} is not defined", quoted(name)),
        };
        let error = Diagnostic::error(span, message).with_label("not found");
        let maps = self
            .frames
            .iter()
            .rev()
            .filter_map(|frame| match &frame.content {
                Content::Top(map) | Content::Map(map) => Some(map),
                _ => None,
            });
        let known = maps
            .flat_map(|map| map.iter())
            .map(|entry| entry.key.text.as_str());
        let help = match nearest(name, known.take(CANDIDATES_MAX)) {
            _ if name.starts_with("2b$") || name.starts_with("2y$") => {
                "this looks like a bcrypt hash; put it between quotes".to_owned()
            }
            _ if name.is_empty() => "put a text between quotes".to_owned(),
            Some(near) => format!("did you mean `${near}`?"),
            // What the including file defines looks as if it were there.
            None if matches!(
                self.reading.sources.origin(span.source),
                Origin::Included(_)
            ) =>
            {
                format!(
                    "define {} above in this file, which does not see the variables of the file that includes it, \
                     or set the environment variable of that name",
                    quoted(name)
                )
            }
            None => format!(
                "define {} above, or set the environment variable of that name",
                quoted(name)
            ),
        };
        let index = self.reading.diagnostics.len();
        self.reading.report(error.with_help(help));
        self.undefined.push((index, name.to_owned()));
    }

    /// How many blocks and lists are open around this place.
    pub(super) fn depth(&self) -> usize {
        self.depth_before + self.frames.len() - 1
    }
}

impl Reading<'_> {
    /// Where the file stands that a place in the environment is about.
    fn place_in_file(&self, span: Span) -> Span {
        self.environment_open
            .first()
            .map_or(span, |&(_, place)| place)
    }

    /// Says in one sentence what was said about the text of a variable of the environment since `before`. It may be a
    /// password, so nothing of it is shown.
    fn hide_environment(&mut self, name: &str, source: SourceId, before: usize, place: Span) {
        let mut mistake = None;
        for diagnostic in self.diagnostics.split_off(before) {
            match diagnostic.span.filter(|span| span.source == source) {
                Some(span) if diagnostic.severity == Severity::Error => {
                    mistake = mistake.or(Some(span));
                }
                Some(_) => {}
                None => self.diagnostics.push(diagnostic),
            }
        }
        if let Some(mistake) = mistake {
            let position = self.sources.position(mistake);
            let line = match position.line {
                1 => String::new(),
                line => format!(" in line {line}"),
            };
            let message = format!("the environment variable {} is not a value", quoted(name));
            let help = format!(
                "its text is read like a value in a file, and character {}{line} of it makes no sense; a text with blanks \
                 or marks needs quotes inside: {name}='\"…\"'",
                position.column
            );
            let error = Diagnostic::error(place, message).with_label("used here");
            self.report(error.with_help(help));
        }
    }

    /// The data of a value for another place, if that is not too much.
    fn copy(&mut self, value: &Value, span: Span, depth: usize) -> Option<Data> {
        let mut size = Size::default();
        size.add(&value.data, depth);
        self.variable_values += size.values;
        self.variable_bytes += size.bytes;
        let message = if size.is_too_deep {
            format!("with this variable, blocks and lists are nested more than {DEPTH_MAX} deep")
        } else if self.variable_values > VARIABLE_VALUES_MAX {
            format!("variables stand for more than {VARIABLE_VALUES_MAX} values in all")
        } else if self.variable_bytes > VARIABLE_BYTES_MAX {
            let mebibytes = VARIABLE_BYTES_MAX >> 20;
            format!("variables stand for more than {mebibytes} MiB of text in all")
        } else {
            return Some(value.data.clone());
        };
        self.report(Diagnostic::error(span, message));
        self.is_stopped = true;
        None
    }
}

/// How much a value is.
#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
    is_too_deep: bool,
}

impl Size {
    // Recursion is bounded: no tree is deeper than `DEPTH_MAX`.
    fn add(&mut self, data: &Data, depth: usize) {
        self.values += 1;
        match data {
            Data::Text(text) => self.bytes += text.len(),
            Data::List(values) => {
                self.is_too_deep |= depth >= DEPTH_MAX;
                for value in values {
                    self.add(&value.data, depth + 1);
                }
            }
            Data::Map(map) => {
                self.is_too_deep |= depth >= DEPTH_MAX;
                for entry in map.iter().chain(map.shadowed()) {
                    self.bytes += entry.key.text.len();
                    self.add(&entry.value.data, depth + 1);
                }
            }
            Data::Integer(_) | Data::Float(_) | Data::Bool(_) | Data::Time(_) => {}
        }
    }
}
