//! The nats.conf configuration language: text to a tree of values with their places, and every mistake in the text.
//!
//! Owns the language as nats-server 2.15 reads it: keys and values, blocks and lists, comments, variables, includes, and
//! the fingerprint of what was read. It knows no option: which keys there are and what their values mean is for the
//! caller, who gets the places of everything to say so in the same way as this crate says what it found.
//!
//! ```
//! use natterjack_conf::{EmptyEnvironment, parse};
//!
//! let parsed = parse("nats.conf", "port: 4222\ncluster { port: 6222 }\n", &EmptyEnvironment);
//! assert!(parsed.diagnostics.is_empty());
//! let cluster = parsed.root.get("cluster").unwrap();
//! assert_eq!(parsed.sources.position(cluster.key.span).to_string(), "nats.conf:2:1");
//!
//! let parsed = parse("nats.conf", "server_name: my server\n", &EmptyEnvironment);
//! assert_eq!(
//!     parsed.sources.render_short(&parsed.diagnostics[0]),
//!     "nats.conf:1:17: expected the end of the line after the value of `server_name`, found `s`",
//! );
//! ```
#![forbid(unsafe_code)]

use std::path::Path;

mod value;

mod source;

mod diagnostic;

mod render;

mod environment;

mod nearest;

pub mod go_duration;

mod digest;

pub mod limits;

mod read;

mod parser;

#[doc(hidden)]
pub mod fuzzing;

pub use diagnostic::{Diagnostic, Severity};
pub use environment::{EmptyEnvironment, Environment, ProcessEnvironment};
pub use nearest::nearest;
pub use render::quoted;
pub use source::{Origin, Position, SourceId, Sources, Span};
pub use value::{Data, Entry, Key, Map, Value, Variable, VariableSource};

/// What a configuration says, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The values. With errors it holds what could be read nevertheless, so that more can be checked in the same run.
    pub root: Map,
    /// The texts all spans point into.
    pub sources: Sources,
    /// All that was found, in the order of reading. The configuration can be used if none is an error.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        let severities = self
            .diagnostics
            .iter()
            .map(|diagnostic| diagnostic.severity);
        severities
            .into_iter()
            .any(|severity| severity == Severity::Error)
    }

    /// The fingerprint of the values: `sha256:` and 64 hexadecimal digits, equal to what `nats-server -t` prints for the
    /// same file. It does not depend on formatting, comments, or the order of keys. Linear in the size of the tree.
    pub fn digest(&self) -> String {
        digest::digest(&self.root)
    }
}

/// Reads a file and what it includes. A file that cannot be read is a diagnostic without a span. Linear in the size of
/// the files; see [`limits`] for how much is accepted.
pub fn load(path: &Path, environment: &dyn Environment) -> Parsed {
    parser::load(path, environment)
}

/// Reads a text; `name` stands for it in diagnostics. Touches no files: an `include` in it is an error.
pub fn parse(name: &str, text: &str, environment: &dyn Environment) -> Parsed {
    parser::parse(name, text.as_bytes(), environment)
}
