//! The configuration as it is in force, in the language of configuration files, each line with where it came from.

use std::collections::BTreeMap;

use natterjack_conf::Sources;

use super::Loaded;
use super::origin::Origin;
use super::reader::join;
use super::table;

/// Column in which the comments begin, unless a line is longer.
const COMMENT_COLUMN: usize = 48;

/// Writes options as lines of a configuration file.
pub(crate) struct Printer<'a> {
    text: String,
    depth: usize,
    path: String,
    origins: &'a BTreeMap<String, Origin>,
    sources: &'a Sources,
}

impl Printer<'_> {
    /// `key: value  # where it came from`
    pub(crate) fn line(&mut self, key: &str, value: &str) {
        let origin = self.origin(key);
        self.write(&format!("{key}: {value}"), &origin);
    }

    /// `key {`, what is in it, `}`; nothing if there is nothing in it.
    pub(crate) fn block(&mut self, key: &str, print: impl FnOnce(&mut Self)) {
        self.enclose(key, &format!("{key} {{"), "}", print);
    }

    /// The same with a name that may need quotes, and even if there is nothing in it.
    pub(crate) fn named_block(&mut self, name: &str, print: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        let quoted = super::codec::quote(name);
        self.enclose(name, &format!("{quoted} {{"), "}", print);
        if self.text.len() == before {
            let origin = self.origin(name);
            self.write(&format!("{quoted} {{}}"), &origin);
        }
    }

    /// A line whose key may need quotes.
    pub(crate) fn named_line(&mut self, name: &str, value: &str) {
        let origin = self.origin(name);
        self.write(&format!("{}: {value}", super::codec::quote(name)), &origin);
    }

    /// The same with `[` and `]`.
    pub(crate) fn list(&mut self, key: &str, print: impl FnOnce(&mut Self)) {
        self.enclose(key, &format!("{key}: ["), "]", print);
    }

    /// An entry of a list whose key, with its index, is `key`.
    pub(crate) fn entry(&mut self, key: &str, value: &str) {
        let list = self.path.rsplit_once('.').map_or("", |(outer, _)| outer);
        let origin = self.text_of(self.origins.get(&join(list, key)));
        self.write(value, &origin);
    }

    fn enclose(&mut self, key: &str, begin: &str, end: &str, print: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        let origin = self.origin(key);
        self.write(begin, &origin);
        let after = self.text.len();
        let path = join(&self.path, key);
        let outer = std::mem::replace(&mut self.path, path);
        self.depth += 1;
        print(self);
        self.depth -= 1;
        self.path = outer;
        if self.text.len() == after {
            self.text.truncate(before);
        } else {
            self.write(end, "");
        }
    }

    fn origin(&self, key: &str) -> String {
        self.text_of(self.origins.get(&join(&self.path, key)))
    }

    fn text_of(&self, origin: Option<&Origin>) -> String {
        origin.map_or_else(|| "default".to_owned(), |origin| origin.text(self.sources))
    }

    fn write(&mut self, line: &str, comment: &str) {
        let indented = format!("{:indent$}{line}", "", indent = self.depth * 2);
        self.text.push_str(&indented);
        if !comment.is_empty() {
            let width = indented.chars().count();
            let blanks = COMMENT_COLUMN.saturating_sub(width).max(2);
            // A path could hold anything; a line end in it would end the comment.
            let comment = comment.replace(['\n', '\r'], " ");
            self.text.push_str(&format!("{:blanks$}# {comment}", ""));
        }
        self.text.push('\n');
    }
}

impl Loaded {
    /// The configuration as it is in force, as a configuration file with a comment on each line that tells where the
    /// value came from. Secrets are masked. Options without a value are left out.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut printer = Printer {
            text: String::new(),
            depth: 0,
            path: String::new(),
            origins: &self.origins,
            sources: &self.sources,
        };
        table::TOP.explain(&self.configuration, &mut printer);
        printer.text
    }
}
