//! Text to tree. This file owns what all files of one configuration share: what was read so far, what was found wrong, and
//! how much has been used up. `machine` reads one text, with `scalar` for single values, `variable` and `include` for what
//! comes from elsewhere, and `recovery` for going on after a mistake.
//!
//! The language is nats-server's (conf/lex.go and conf/parse.go), down to its oddities where they mean something. Where it
//! accepts what must be a mistake, or loses a value, this refuses; the cases are listed with reasons in
//! `interop/configuration/`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity};
use crate::environment::Environment;
use crate::limits::{ERRORS_MAX, FILES_BYTES_MAX, INVALID_MAX, NOTES_MAX};
use crate::read;
use crate::render::quoted;
use crate::source::{Origin, SourceId, Sources, Span};
use crate::value::{Map, Value};
use crate::{Parsed, parser::machine::Machine};

mod machine;

mod scalar;

mod variable;

mod include;

mod recovery;

#[cfg(test)]
mod tests;

pub(crate) fn load(path: &Path, environment: &dyn Environment) -> Parsed {
    let mut reading = Reading::new(environment, true);
    match read::read(path) {
        Ok(bytes) => {
            reading.files_open.extend(path.canonicalize());
            reading.main(path.to_path_buf(), &bytes)
        }
        Err(reason) => {
            let message = format!("cannot read {}: {reason}", quoted(&path.to_string_lossy()));
            let unreadable = Diagnostic::new(Severity::Error, None, message);
            reading.diagnostics.push(unreadable);
            reading.finish(Map::default())
        }
    }
}

pub(crate) fn parse(name: &str, bytes: &[u8], environment: &dyn Environment) -> Parsed {
    Reading::new(environment, false).main(PathBuf::from(name), bytes)
}

/// One configuration being read.
struct Reading<'e> {
    environment: &'e dyn Environment,
    may_include: bool,
    sources: Sources,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    notes: usize,
    /// Nothing more is read: there were too many errors, or going on makes no sense.
    is_stopped: bool,
    files_bytes: usize,
    includes: usize,
    /// The files being read, outermost first, by their true paths.
    files_open: Vec<PathBuf>,
    /// What variables of the environment mean; none for those that have been complained about.
    environment_values: HashMap<String, Option<Value>>,
    /// The variables of the environment being read, outermost first, and where they are used.
    environment_open: Vec<(String, Span)>,
    variable_values: usize,
    variable_bytes: usize,
    /// Keys whose value could not be read. What uses them as variables is not to blame.
    keys_without_value: HashSet<String>,
    /// Something that could not be read may have defined any variable.
    is_incomplete: bool,
}

impl<'e> Reading<'e> {
    fn new(environment: &'e dyn Environment, may_include: bool) -> Self {
        Self {
            environment,
            may_include,
            sources: Sources::default(),
            diagnostics: Vec::new(),
            errors: 0,
            notes: 0,
            is_stopped: false,
            files_bytes: 0,
            includes: 0,
            files_open: Vec::new(),
            environment_values: HashMap::new(),
            environment_open: Vec::new(),
            variable_values: 0,
            variable_bytes: 0,
            keys_without_value: HashSet::new(),
            is_incomplete: false,
        }
    }

    fn main(mut self, path: PathBuf, bytes: &[u8]) -> Parsed {
        let name = quoted(&path.to_string_lossy());
        let root = match self.add(path, bytes, Origin::Main) {
            Some(text) => Machine::new(&mut self, text, 0).run(),
            None => Map::default(),
        };
        if root.is_empty() && self.errors == 0 {
            let message = format!("{name} has no values or is empty");
            self.diagnostics
                .push(Diagnostic::new(Severity::Warning, None, message));
        }
        self.finish(root)
    }

    fn finish(self, root: Map) -> Parsed {
        Parsed {
            root,
            sources: self.sources,
            diagnostics: self.diagnostics,
        }
    }

    /// Takes a text in, unless it is none; then the diagnostic has been given.
    fn add(&mut self, path: PathBuf, bytes: &[u8], origin: Origin) -> Option<Text> {
        self.files_bytes += bytes.len();
        let decoded = Decoded::new(bytes);
        let text = Arc::<str>::from(decoded.text);
        let source = self.sources.add(path, Arc::clone(&text), origin);
        if self.files_bytes > FILES_BYTES_MAX {
            let mebibytes = FILES_BYTES_MAX >> 20;
            let message = format!("this configuration is longer than {mebibytes} MiB");
            self.report(Diagnostic::error(Span::new(source, 0, 0), message));
            self.is_stopped = true;
            return None;
        }
        if let Some(garbage) = decoded.garbage {
            let span = Span::new(source, garbage.shown_at, garbage.shown_at);
            let message = format!("this is not a text file: {}", garbage.reason);
            let diagnostic = Diagnostic::error(span, message);
            self.report(match garbage.help {
                Some(help) => diagnostic.with_help(help),
                None => diagnostic,
            });
            self.is_incomplete = true;
            return None;
        }
        Some(Text {
            source,
            text,
            start: decoded.start,
            invalid: decoded.invalid,
        })
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error if self.is_stopped => return,
            Severity::Error => {
                self.errors += 1;
                self.is_incomplete |= self.errors >= ERRORS_MAX;
            }
            Severity::Note => {
                self.notes += 1;
                if self.notes > NOTES_MAX {
                    return;
                }
            }
            Severity::Warning => {}
        }
        self.diagnostics.push(diagnostic);
        if self.errors == ERRORS_MAX {
            self.is_stopped = true;
            let message = format!("there are more than {ERRORS_MAX} errors; the rest is not read");
            self.diagnostics
                .push(Diagnostic::new(Severity::Error, None, message));
        }
    }
}

/// A text that was taken in.
struct Text {
    source: SourceId,
    text: Arc<str>,
    /// Where it begins: after the byte order mark, if there is one.
    start: usize,
    invalid: Vec<Invalid>,
}

/// A byte that is not UTF-8. nats-server does not look at what comments are made of, so it is only wrong elsewhere.
#[derive(Clone, Copy)]
struct Invalid {
    /// Where its replacement stands in the text.
    shown_at: usize,
    /// Where it stands in the file.
    byte: usize,
    value: u8,
}

/// Bytes as a text, if they are one.
struct Decoded {
    text: String,
    start: usize,
    invalid: Vec<Invalid>,
    garbage: Option<Garbage>,
}

struct Garbage {
    shown_at: usize,
    reason: String,
    help: Option<&'static str>,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

impl Decoded {
    fn new(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut invalid = Vec::new();
        let mut byte = 0;
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            byte += chunk.valid().len();
            if let Some(&value) = chunk.invalid().first() {
                invalid.push(Invalid {
                    shown_at: text.len(),
                    byte,
                    value,
                });
                if invalid.len() > INVALID_MAX {
                    break;
                }
                text.push(char::REPLACEMENT_CHARACTER);
                byte += chunk.invalid().len();
            }
        }
        let garbage = Self::garbage(bytes, &text, &invalid);
        let start = if text.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        Self {
            text,
            start,
            invalid,
            garbage,
        }
    }

    fn garbage(bytes: &[u8], text: &str, invalid: &[Invalid]) -> Option<Garbage> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Some(Garbage {
                shown_at: 0,
                reason: "it is encoded as UTF-16".into(),
                help: Some("save it as UTF-8"),
            });
        }
        if let Some(shown_at) = text.find('\0') {
            let byte = bytes.iter().position(|&byte| byte == 0).unwrap_or(shown_at);
            return Some(Garbage {
                shown_at,
                reason: format!("byte {byte} is zero"),
                help: None,
            });
        }
        let first = invalid.first().filter(|_| invalid.len() > INVALID_MAX)?;
        Some(Garbage {
            shown_at: first.shown_at,
            reason: first.to_string(),
            help: None,
        })
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { byte, value, .. } = self;
        write!(formatter, "byte {byte} (0x{value:02x}) is not UTF-8")
    }
}
