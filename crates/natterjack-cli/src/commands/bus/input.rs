//! Lines of standard input: read by a thread of their own, bounded in length, and checked to be JSON.

use std::io::{self, BufRead};

use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Lines read ahead of the bus.
const LINES_MAX: usize = 64;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Bytes(Vec<u8>),
    /// Longer than could be published, and therefore not kept.
    TooLong {
        bytes_max: usize,
    },
    /// The input broke off here.
    Unreadable(String),
}

impl Line {
    /// Drops the byte order mark that some programs put in front of a text, which is no part of it.
    fn drop_mark(&mut self) {
        if let Self::Bytes(bytes) = self
            && bytes.starts_with(BYTE_ORDER_MARK)
        {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
    }
}

/// The lines of standard input. A thread reads them, because a read of a terminal or pipe cannot be cancelled.
pub(super) struct Lines {
    lines: mpsc::Receiver<Line>,
}

impl Lines {
    /// Lines with more than `bytes_max` bytes are reported as such and skipped.
    pub(super) fn start(bytes_max: usize) -> Self {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || {
            let mut reader = io::stdin().lock();
            let mut is_first = true;
            while let Some(mut line) = read_line(&mut reader, bytes_max) {
                if std::mem::take(&mut is_first) {
                    line.drop_mark();
                }
                let is_last = matches!(line, Line::Unreadable(_));
                if sender.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// The next line, or `None` at the end of input.
    pub(super) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }
}

/// Reads up to a line feed or the end of input, whichever is first; keeps at most `bytes_max` bytes.
fn read_line(reader: &mut impl BufRead, bytes_max: usize) -> Option<Line> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    let mut is_empty = true;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Some(Line::Unreadable(error.to_string())),
        };
        if available.is_empty() && is_empty {
            return None;
        }
        is_empty = false;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if line.len() + part.len() > bytes_max {
            is_too_long = true;
            line = Vec::new();
        }
        if !is_too_long {
            line.extend_from_slice(part);
        }
        let is_end = end.is_some() || available.is_empty();
        let consumed = part.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if is_end {
            return Some(if is_too_long {
                Line::TooLong { bytes_max }
            } else {
                Line::Bytes(line)
            });
        }
    }
}

/// The line's one JSON value, as it is written.
///
/// # Errors
/// What is wrong with the line, for the user.
pub(super) fn parse(line: &Line) -> Result<Box<RawValue>, String> {
    let bytes = match line {
        Line::Bytes(bytes) => bytes,
        Line::TooLong { bytes_max } => {
            return Err(format!(
                "longer than the largest event (max_payload), {bytes_max} bytes; skipped"
            ));
        }
        Line::Unreadable(reason) => return Err(format!("cannot read standard input: {reason}")),
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}; skipped", error.valid_up_to() + 1))?;
    if text.trim().is_empty() {
        return Err("empty, not a JSON value; skipped".into());
    }
    serde_json::from_str(text.trim()).map_err(|error| {
        let reason = error.to_string();
        // The parser sees one line only, so its line number would confuse.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let column = text.len() - text.trim_start().len() + error.column();
        format!("not JSON: {reason} at column {column}; skipped")
    })
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// All lines of a text, read through buffers of every size.
    fn check(text: &str, expected: &[Line]) {
        for capacity in 1..=text.len() + 1 {
            let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
            let lines: Vec<_> = std::iter::from_fn(|| read_line(&mut reader, 5)).collect();
            assert_eq!(lines, expected, "{text:?} by {capacity}");
        }
    }

    fn bytes(text: &str) -> Line {
        Line::Bytes(text.into())
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end() {
        check("", &[]);
        check("a\n", &[bytes("a")]);
        check("a\nb", &[bytes("a"), bytes("b")]);
        check("\n\na\n", &[bytes(""), bytes(""), bytes("a")]);
    }

    #[test]
    fn long_lines_are_skipped_as_a_whole() {
        let too_long = || Line::TooLong { bytes_max: 5 };
        check(
            "12345\n123456\nx\n",
            &[bytes("12345"), too_long(), bytes("x")],
        );
        check("1234567890123", &[too_long()]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        for (text, expected) in [("\u{feff}1", "1"), ("1", "1"), ("", "")] {
            let mut line = bytes(text);
            line.drop_mark();
            assert_eq!(line, bytes(expected));
        }
    }

    #[test]
    fn values_stay_as_they_are_written() {
        for text in [
            "{\"b\":1,\"a\":1.10}",
            "123456789012345678901234567890",
            "null",
            "\"é\"",
            "[1, 2]",
        ] {
            assert_eq!(parse(&bytes(&format!(" {text}\r"))).unwrap().get(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |line: Line, expected: &str| assert_eq!(parse(&line).unwrap_err(), expected);
        check(
            bytes("{\"a\":}"),
            "not JSON: expected value at column 6; skipped",
        );
        check(
            bytes("1 2"),
            "not JSON: trailing characters at column 3; skipped",
        );
        check(
            bytes("  {\"a\":}"),
            "not JSON: expected value at column 8; skipped",
        );
        check(bytes("  "), "empty, not a JSON value; skipped");
        check(
            Line::Bytes(b"\"a\xff\"".to_vec()),
            "not UTF-8 at byte 3; skipped",
        );
        check(
            Line::TooLong { bytes_max: 9 },
            "longer than the largest event (max_payload), 9 bytes; skipped",
        );
    }
}
