//! Bytes as readable text, for failure messages and for conversations.

use std::fmt::Write as _;

/// Bytes longer than this are shown by their two ends.
const SHOWN_BYTES_MAX: usize = 2_000;

/// `bytes` as printable ASCII: `\r\n` ends a line of output, everything else that is not printable becomes `\xNN`.
///
/// # Examples
/// ```
/// assert_eq!(testkit::escaped(b"PING\r\n"), "PING\\r\\n\n");
/// assert_eq!(testkit::escaped(b"\x00\xff"), "\\x00\\xff");
/// ```
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    if bytes.len() > SHOWN_BYTES_MAX {
        let (head, tail) = (SHOWN_BYTES_MAX / 2, bytes.len() - SHOWN_BYTES_MAX / 2);
        return format!(
            "{} … {} bytes left out … {}",
            escaped(&bytes[..head]),
            tail - head,
            escaped(&bytes[tail..])
        );
    }
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => write!(text, "\\x{other:02x}").expect("writing to a String cannot fail"),
        }
    }
    text
}
