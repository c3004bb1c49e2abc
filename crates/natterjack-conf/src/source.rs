//! The texts a configuration was read from, and places in them. Owns the translation from byte offsets to lines and
//! columns; reads no files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

/// A stretch of one text, in bytes: from `start` up to `end`, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text.
    pub source: SourceId,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// A place as people and editors say it. Displays as `path:line:column`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The file as it was named, or `$NAME` for the text of a variable of the environment.
    pub path: &'a Path,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// How a text came to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the file (or text) that was asked for.
    Main,
    /// It was included; the span is that of the `include` and its path.
    Included(Span),
    /// It is the value of a variable of the environment; the span is that of the first `$name`.
    Environment(Span),
}

/// All texts of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: Arc<str>,
    origin: Origin,
    /// Where each line starts.
    line_starts: Vec<u32>,
    /// How many characters stand before each multiple of `CHECKPOINT_BYTES`, so that a column on a line of many
    /// megabytes is not counted from its start every time.
    checkpoints: Vec<u32>,
}

const CHECKPOINT_BYTES: usize = 1024;

impl Sources {
    /// Where a span starts. Logarithmic in the number of lines.
    pub fn position(&self, span: Span) -> Position<'_> {
        let source = self.source(span.source);
        let line = source.line_index(span.start);
        let line_start = source.line_starts[line];
        let column = source.characters_before(span.start) - source.characters_before(line_start);
        Position {
            path: &source.path,
            line: line as u32 + 1,
            column: column + 1,
        }
    }

    /// The text of a span as written.
    pub fn text(&self, span: Span) -> &str {
        let text = &self.source(span.source).text;
        text.get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// The whole text of a source.
    pub fn whole(&self, source: SourceId) -> &str {
        &self.source(source).text
    }

    /// The file's path as it was named or, for a variable of the environment, `$NAME`.
    pub fn path(&self, source: SourceId) -> &Path {
        &self.source(source).path
    }

    /// How a source came to be read.
    pub fn origin(&self, source: SourceId) -> &Origin {
        &self.source(source).origin
    }

    /// The files that were read, the main one first, in the order of their inclusion; a file included twice is there
    /// twice.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let is_file = |source: &&Source| !matches!(source.origin, Origin::Environment(_));
        let files = self.sources.iter().filter(is_file);
        files.map(|source| source.path.as_path())
    }

    /// Adds a text, which must be shorter than 4 GiB.
    pub(crate) fn add(&mut self, path: PathBuf, text: Arc<str>, origin: Origin) -> SourceId {
        let id =
            SourceId(u32::try_from(self.sources.len()).expect("the number of includes is bounded"));
        self.sources.push(Source::new(path, text, origin));
        id
    }

    /// The whole line a byte is on, without its line end, and where it starts.
    pub(crate) fn line(&self, source: SourceId, offset: u32) -> (u32, &str) {
        let source = self.source(source);
        let line = source.line_index(offset);
        let start = source.line_starts[line] as usize;
        let end = source.line_starts.get(line + 1);
        let end = end.map_or(source.text.len(), |&next| next as usize - 1);
        let text = &source.text[start..end.max(start)];
        (start as u32, text.strip_suffix('\r').unwrap_or(text))
    }

    /// The index of the line a span starts on.
    pub(crate) fn line_index(&self, span: Span) -> usize {
        self.source(span.source).line_index(span.start)
    }

    fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize]
    }
}

impl Source {
    fn new(path: PathBuf, text: Arc<str>, origin: Origin) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let starts = ends.map(|(index, _)| index as u32 + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        let checkpoints = text.as_bytes().chunks(CHECKPOINT_BYTES);
        let checkpoints = checkpoints.scan(0, |characters, chunk| {
            let before = *characters;
            *characters += characters_in(chunk);
            Some(before)
        });
        Self {
            checkpoints: checkpoints.collect(),
            path,
            text,
            origin,
            line_starts,
        }
    }

    /// The index of the line a byte is on.
    fn line_index(&self, offset: u32) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    fn characters_before(&self, offset: u32) -> u32 {
        let offset = (offset as usize).min(self.text.len());
        let checkpoint = offset / CHECKPOINT_BYTES;
        let before = self.checkpoints.get(checkpoint);
        match before {
            Some(before) => {
                before + characters_in(&self.text.as_bytes()[checkpoint * CHECKPOINT_BYTES..offset])
            }
            // Only the end of a text whose length is a multiple, or of an empty one.
            None => match self.checkpoints.last() {
                Some(before) => {
                    let start = (checkpoint - 1) * CHECKPOINT_BYTES;
                    before + characters_in(&self.text.as_bytes()[start..offset])
                }
                None => 0,
            },
        }
    }
}

/// How many characters start among these bytes of UTF-8.
fn characters_in(bytes: &[u8]) -> u32 {
    let continuation = |byte: &&u8| **byte & 0xc0 == 0x80;
    (bytes.len() - bytes.iter().filter(continuation).count()) as u32
}

impl Span {
    pub(crate) fn new(source: SourceId, start: usize, end: usize) -> Self {
        Self {
            source,
            start: start as u32,
            end: end as u32,
        }
    }
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(formatter, "{path}:{}:{}", self.line, self.column)
    }
}
