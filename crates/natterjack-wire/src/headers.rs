//! Owns the header block of `HPUB` and `HMSG`: reading one without allocating, and building one. A server
//! hands blocks on as they are and has no need of this module on a message's way.
//!
//! ```
//! use natterjack_wire::headers::{HeaderBuilder, Headers};
//!
//! let block = HeaderBuilder::new().entry(b"Colour", b"green")?.entry(b"Colour", b"brown")?.finish();
//! assert_eq!(block, b"NATS/1.0\r\nColour: green\r\nColour: brown\r\n\r\n");
//!
//! let headers = Headers::parse(&block)?;
//! assert_eq!(headers.first(b"Colour"), Some(&b"green"[..]));
//! assert_eq!(headers.all(b"Colour").count(), 2);
//! # Ok::<(), natterjack_wire::headers::HeaderError>(())
//! ```

use memchr::memchr;
use thiserror::Error;

/// First bytes of every block.
const VERSION: &[u8] = b"NATS/1.0";
const LINE_END: &[u8] = b"\r\n";

/// A block that is no header, or an entry that cannot be in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The block does not start with `NATS/1.0`.
    #[error("header block does not start with NATS/1.0")]
    Version,
    /// A name is empty, or has a colon, a blank or a control character.
    #[error("header name is empty or has a colon, a blank or a control character")]
    Name,
    /// A value has a line end.
    #[error("header value has a line end")]
    Value,
}

/// A header block, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    /// What stands behind the version, without blanks around it.
    status_line: &'a [u8],
    /// All lines behind the first.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the first line of a block; the others are read as they are asked for.
    ///
    /// # Errors
    /// When the block is not NATS/1.0. Anything else is forgiven: see [`Headers::entries`].
    pub fn parse(block: &'a [u8]) -> Result<Self, HeaderError> {
        let (first, lines) = take_line(block);
        let status_line = first
            .strip_prefix(VERSION)
            .ok_or(HeaderError::Version)?
            .trim_ascii();
        Ok(Self { status_line, lines })
    }

    /// The status code, such as 503 for a request that nobody heard.
    pub fn status(&self) -> Option<u16> {
        let code = self.status_line.get(..3)?;
        if !code.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(
            code.iter()
                .fold(0, |value, digit| value * 10 + u16::from(digit - b'0')),
        )
    }

    /// What stands behind the status code; empty without one.
    pub fn status_text(&self) -> &'a [u8] {
        match self.status() {
            Some(_) => self.status_line[3..].trim_ascii(),
            None => b"",
        }
    }

    /// Names and values in their order, several of one name as several entries. Blanks around a value are
    /// not part of it, and it may be empty. Lines without a colon or a name are skipped, and the end of the
    /// block stands for a missing empty line.
    pub fn entries(&self) -> Entries<'a> {
        Entries { lines: self.lines }
    }

    /// The first value of `name`, spelled exactly so.
    pub fn first(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.entries()
            .find(|(entry, _)| *entry == name)
            .map(|(_, value)| value)
    }

    /// All values of `name`, spelled exactly so.
    pub fn all(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.entries()
            .filter(move |(entry, _)| *entry == name)
            .map(|(_, value)| value)
    }
}

/// Iterator over names and values; see [`Headers::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    lines: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.lines.is_empty() {
            let (line, rest) = take_line(self.lines);
            self.lines = rest;
            if line.is_empty() {
                self.lines = b"";
                return None;
            }
            match memchr(b':', line) {
                None | Some(0) => {}
                Some(colon) => return Some((&line[..colon], line[colon + 1..].trim_ascii())),
            }
        }
        None
    }
}

/// The first line without its end, and what follows.
fn take_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr(b'\n', text) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &b""[..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Builds a header block; see the [module](self) for an example.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    block: Vec<u8>,
}

impl HeaderBuilder {
    /// A block without entries.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// The same, with room for entries of that many bytes: names, values and four more for each.
    pub fn with_capacity(entries_bytes: usize) -> Self {
        let mut block = Vec::with_capacity(VERSION.len() + 2 * LINE_END.len() + entries_bytes);
        block.extend_from_slice(VERSION);
        block.extend_from_slice(LINE_END);
        Self { block }
    }

    /// Adds an entry, also when there is one of that name.
    ///
    /// # Errors
    /// When a reader could not tell the entry from another one.
    pub fn entry(mut self, name: &[u8], value: &[u8]) -> Result<Self, HeaderError> {
        if name.is_empty()
            || !name
                .iter()
                .all(|&byte| byte > b' ' && byte != b':' && byte != 0x7F)
        {
            return Err(HeaderError::Name);
        }
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(HeaderError::Value);
        }
        self.block.extend_from_slice(name);
        self.block.extend_from_slice(b": ");
        self.block.extend_from_slice(value);
        self.block.extend_from_slice(b"\r\n");
        Ok(self)
    }

    /// The whole block.
    pub fn finish(mut self) -> Vec<u8> {
        self.block.extend_from_slice(b"\r\n");
        self.block
    }
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_block() {
        #[track_caller]
        fn check(lines: &str, expected: &[(&str, &str)]) {
            let block = format!("NATS/1.0\r\n{lines}");
            let headers = Headers::parse(block.as_bytes()).expect("starts well");
            let expected = expected
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert!(
                headers.entries().eq(expected),
                "{:?}",
                headers.entries().collect::<Vec<_>>()
            );
        }
        check("\r\n", &[]);
        check("", &[]);
        check("A: 1\r\n\r\n", &[("A", "1")]);
        check("A:1\r\nB:  2 \t\r\n\r\n", &[("A", "1"), ("B", "2")]);
        check(
            "A: 1\r\nA: 2\r\na: 3\r\n\r\n",
            &[("A", "1"), ("A", "2"), ("a", "3")],
        );
        check("A:\r\nB: \r\n\r\n", &[("A", ""), ("B", "")]);
        check(
            "Url: http://host:80/\r\n\r\n",
            &[("Url", "http://host:80/")],
        );
        // Forgiven: line feeds alone, a missing end, lines that say nothing.
        check("A: 1\nB: 2\n\n", &[("A", "1"), ("B", "2")]);
        check("A: 1", &[("A", "1")]);
        check("nonsense\r\n: nameless\r\nA: 1\r\n\r\n", &[("A", "1")]);
        // Nothing behind the empty line belongs to the block.
        check("A: 1\r\n\r\nB: 2\r\n", &[("A", "1")]);
    }

    #[test]
    fn status_lines() {
        #[track_caller]
        fn check(block: &str, expected: Option<(Option<u16>, &str)>) {
            let headers = Headers::parse(block.as_bytes()).ok();
            let found = headers.map(|headers| (headers.status(), headers.status_text()));
            assert_eq!(
                found,
                expected.map(|(status, text)| (status, text.as_bytes()))
            );
        }
        check("NATS/1.0\r\n\r\n", Some((None, "")));
        check("NATS/1.0 503\r\n\r\n", Some((Some(503), "")));
        check(
            "NATS/1.0 100 FlowControl Request\r\n\r\n",
            Some((Some(100), "FlowControl Request")),
        );
        check(
            "NATS/1.0 408 Request Timeout \n",
            Some((Some(408), "Request Timeout")),
        );
        check("NATS/1.0 1x3 No\r\n\r\n", Some((None, "")));
        check("NATS/1.0 50\r\n\r\n", Some((None, "")));
        check("NATS/1.", None);
        check("HTTP/1.1 200\r\n\r\n", None);
        check("", None);
    }

    #[test]
    fn lookups_take_the_spelling_as_it_is() {
        let headers = Headers::parse(b"NATS/1.0\r\nA: 1\r\na: 2\r\nA: 3\r\n\r\n").expect("valid");
        assert_eq!(headers.first(b"A"), Some(&b"1"[..]));
        assert_eq!(headers.all(b"A").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(headers.first(b"b"), None);
    }

    #[test]
    fn a_builder_refuses_what_would_read_differently() {
        #[track_caller]
        fn check(name: &[u8], value: &[u8], expected: Result<(), HeaderError>) {
            assert_eq!(HeaderBuilder::new().entry(name, value).map(drop), expected);
        }
        check(b"Name", b"value: with colon", Ok(()));
        check(b"Name", b"", Ok(()));
        check("Größe".as_bytes(), b"\xFF", Ok(()));
        for name in [
            &b""[..],
            b"a:b",
            b"a b",
            b" a",
            b"a\r",
            b"a\n",
            b"a\t",
            b"a\0",
            b"a\x7F",
        ] {
            check(name, b"", Err(HeaderError::Name));
        }
        for value in [&b"a\r\nB: c"[..], b"\r", b"\n"] {
            check(b"Name", value, Err(HeaderError::Value));
        }
    }
}
