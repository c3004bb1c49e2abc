//! `include path`: another file's keys, as if they stood here. The file is read on its own, so it does not see the
//! variables of the including one (nats-server: conf/parse.go `itemInclude`).

use crate::diagnostic::Diagnostic;
use crate::limits::{INCLUDE_DEPTH_MAX, INCLUDES_MAX};
use crate::read;
use crate::render::quoted;
use crate::source::{Origin, Span};

use super::machine::{Expects, Machine};

impl Machine<'_, '_> {
    /// The word `include` began at `start`; white space follows it.
    pub(super) fn include(&mut self, start: usize) -> Expects {
        self.skip_blanks();
        let path_start = self.at;
        let (path, path_span) = match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let Some(length) = self.text[path_start + 1..].find(quote) else {
                    return self.unterminated(path_start);
                };
                self.at = path_start + 1 + length + 1;
                let path = self.text[path_start + 1..path_start + 1 + length].to_owned();
                (path, self.span(path_start, self.at))
            }
            Some('[' | '{' | '(' | '\\' | '-' | '0'..='9' | '\n' | '\r') | None => {
                let error =
                    Diagnostic::error(self.here(), "expected the path of a file to include")
                        .with_help(
                            "`include \"file.conf\"`; a path that begins with a digit needs quotes",
                        );
                self.reading.report(error);
                self.reading.is_incomplete = true;
                return self.recover();
            }
            Some(_) => {
                let rest = &self.text[path_start..];
                let ends = ['\n', '\r', ';', '}', ' ', '\t', '\''];
                let length = rest.find(ends).unwrap_or(rest.len());
                let path = rest[..length].to_owned();
                self.at += length;
                let path_span = self.span(path_start, self.at);
                if self.peek() == Some('\'') {
                    self.at += 1;
                }
                (path, path_span)
            }
        };
        let place = self.span(start, path_span.end as usize);
        if let Err(error) = self.include_file(&path, path_span, place) {
            self.reading.report(error);
            self.reading.is_stopped |= self.reading.includes >= INCLUDES_MAX;
            // Any variable may have been defined there.
            self.reading.is_incomplete = true;
        }
        Expects::End
    }

    fn include_file(&mut self, included: &str, span: Span, place: Span) -> Result<(), Diagnostic> {
        let error = |reason: &str| {
            Diagnostic::error(
                span,
                format!("cannot include {}: {reason}", quoted(included)),
            )
        };
        if !self.reading.may_include {
            return Err(error("this text is not a file"));
        }
        if matches!(
            self.reading.sources.origin(self.source),
            Origin::Environment(_)
        ) {
            return Err(error("a variable of the environment cannot include files"));
        }
        if self.reading.includes >= INCLUDES_MAX {
            let message = format!("more than {INCLUDES_MAX} files are included");
            return Err(Diagnostic::error(span, message));
        }
        self.reading.includes += 1;
        let path = read::included_path(self.reading.sources.path(self.source), included);
        let tried = quoted(&path.to_string_lossy());
        let bytes = read::read_included(&path).map_err(|reason| {
            let error = error(&reason).with_label(format!("looked for {tried}"));
            match included.starts_with('/') {
                true => error.with_help(
                    "the path is relative to the folder of the including file, even if it begins with `/`",
                ),
                false => error,
            }
        })?;
        let true_path = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.reading.files_open.contains(&true_path) {
            return Err(error("it includes itself").with_help(self.chain(&tried)));
        }
        if self.reading.files_open.len() > INCLUDE_DEPTH_MAX {
            let reason = format!("files include each other more than {INCLUDE_DEPTH_MAX} deep");
            return Err(error(&reason));
        }
        let Some(text) = self.reading.add(path, &bytes, Origin::Included(place)) else {
            return Ok(());
        };
        self.reading.files_open.push(true_path);
        let depth = self.depth();
        let map = Machine::new(self.reading, text, depth).run();
        self.reading.files_open.pop();
        for entry in map.into_entries() {
            self.insert(entry.key, entry.value, entry.is_referenced);
        }
        Ok(())
    }

    /// The files from the main one to the one that comes round again.
    fn chain(&self, last: &str) -> String {
        let mut names = vec![last.to_owned()];
        let mut source = self.source;
        loop {
            let path = self.reading.sources.path(source);
            names.push(quoted(&path.to_string_lossy()));
            match self.reading.sources.origin(source) {
                Origin::Included(place) | Origin::Environment(place) => source = place.source,
                Origin::Main => break,
            }
        }
        names.reverse();
        names.join(" includes ")
    }
}
