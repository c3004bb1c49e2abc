//! Subjects, patterns and messages that can be told apart: every message carries who published it and which of
//! its messages it is, in its payload or, if that is too small, in its reply subject. And how clients of every game
//! take apart what they are sent.

use natterjack_wire::client::{self, Decoded, Limits, Message, ServerOp, decode_server};
use natterjack_wire::error::ProtocolError;

pub(crate) const SUBJECTS: [&str; 8] = ["a", "b", "a.a", "a.b", "b.a", "a.b.a", "b.b.b", "a.a.b.b"];

pub(crate) const PATTERNS: [&str; 14] = [
    "a", "b", "a.a", "a.b", "b.a", "a.b.a", "*", ">", "a.*", "*.b", "a.>", "*.b.*", "*.>", "b.b.b",
];

pub(crate) const QUEUES: [&str; 2] = ["workers", "others"];

/// Bytes of a payload that say whose message it is.
const IDENTITY_BYTES: usize = 8;

/// Largest payload made here.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

/// Filler; payloads start in it at different places.
static FILLER: [u8; PAYLOAD_BYTES_MAX + 1024] = filler();

const fn filler() -> [u8; PAYLOAD_BYTES_MAX + 1024] {
    let mut bytes = [0; PAYLOAD_BYTES_MAX + 1024];
    let mut index = 0;
    while index < bytes.len() {
        // Line ends among them, and no period that a buffer's size divides.
        bytes[index] = if index % 61 == 0 {
            b'\r'
        } else if index % 61 == 1 {
            b'\n'
        } else {
            (index % 251) as u8
        };
        index += 1;
    }
    bytes
}

/// What was published.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// Index into [`SUBJECTS`].
    pub(crate) subject: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) has_header: bool,
    /// When it was sent, and when its publisher knew that the server had handled it; in steps.
    pub(crate) sent: u64,
    pub(crate) acknowledged: Option<u64>,
}

impl Publication {
    /// Appends it as its publisher sends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>, publisher: usize, sequence: usize) {
        let payload = self.payload(publisher, sequence);
        let reply = self.reply(publisher, sequence);
        let reply = reply.as_deref().map(str::as_bytes);
        if self.has_header {
            let header = header(sequence);
            client::header_publish(
                out,
                SUBJECTS[self.subject].as_bytes(),
                reply,
                header.as_bytes(),
                &payload,
            );
        } else {
            client::publish(out, SUBJECTS[self.subject].as_bytes(), reply, &payload);
        }
    }

    /// What is wrong with `message` as a delivery of this to a client that knows headers or not.
    pub(crate) fn difference(
        &self,
        message: &Message<'_>,
        publisher: usize,
        sequence: usize,
        headers: bool,
    ) -> Option<&'static str> {
        let header = if self.has_header && headers {
            header(sequence)
        } else {
            String::new()
        };
        if message.subject != SUBJECTS[self.subject].as_bytes() {
            Some("another subject")
        } else if message.reply
            != self
                .reply(publisher, sequence)
                .as_deref()
                .map(str::as_bytes)
        {
            Some("another reply subject")
        } else if message.header() != header.as_bytes() {
            Some("another header")
        } else if message.payload() != self.payload(publisher, sequence) {
            Some("another payload")
        } else {
            None
        }
    }

    fn reply(&self, publisher: usize, sequence: usize) -> Option<String> {
        (self.payload_bytes < IDENTITY_BYTES).then(|| format!("id.{publisher}.{sequence}"))
    }

    fn payload(&self, publisher: usize, sequence: usize) -> Vec<u8> {
        let start = (publisher * 31 + sequence * 7) % 1024;
        let mut payload = FILLER[start..start + self.payload_bytes].to_vec();
        if let Some(identity) = payload.first_chunk_mut::<IDENTITY_BYTES>() {
            identity[..4].copy_from_slice(&(publisher as u32).to_le_bytes());
            identity[4..].copy_from_slice(&(sequence as u32).to_le_bytes());
        }
        payload
    }
}

/// Publisher and sequence of a message that arrived.
pub(crate) fn identity(message: &Message<'_>) -> Option<(usize, usize)> {
    if let Some(identity) = message.payload().first_chunk::<IDENTITY_BYTES>() {
        let number = u64::from_le_bytes(*identity);
        return Some((number as u32 as usize, (number >> 32) as usize));
    }
    let reply = std::str::from_utf8(message.reply?).ok()?;
    let (publisher, sequence) = reply.strip_prefix("id.")?.split_once('.')?;
    Some((publisher.parse().ok()?, sequence.parse().ok()?))
}

fn header(sequence: usize) -> String {
    format!("NATS/1.0\r\nSequence: {sequence}\r\n\r\n")
}

/// Whether a pattern matches a subject; the slow obvious way, and no code of the server's.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Gives every whole operation at the start of what was received to `handle`. Returns what is left, and what is wrong with
/// it if it is no operation.
pub(crate) fn read_operations<'a>(
    received: &'a [u8],
    mut handle: impl FnMut(&ServerOp<'a>),
) -> (&'a [u8], Option<ProtocolError>) {
    let mut rest = received;
    loop {
        match decode_server(rest, &Limits::FROM_SERVER) {
            Ok(Decoded::Op { op, consumed }) => {
                handle(&op);
                rest = &rest[consumed..];
            }
            Ok(Decoded::Incomplete { .. }) => return (rest, None),
            Err(error) => return (rest, Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, subject, expected) in [
            ("a", "a", true),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.>", "a.b.a", true),
            ("a.>", "a", false),
            ("*.b.*", "a.b.a", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_message_tells_whose_it_is() {
        for payload_bytes in [0, 7, 8, 9, 3000] {
            let publication = Publication {
                subject: 3,
                payload_bytes,
                has_header: false,
                sent: 0,
                acknowledged: None,
            };
            let payload = publication.payload(3, 70_000);
            let reply = publication.reply(3, 70_000);
            let message = Message {
                subject: b"a.b",
                sid: b"1",
                reply: reply.as_deref().map(str::as_bytes),
                header_len: None,
                body: &payload,
            };
            assert_eq!(identity(&message), Some((3, 70_000)));
            assert_eq!(publication.difference(&message, 3, 70_000, true), None);
            assert!(publication.difference(&message, 3, 70_001, true).is_some());
        }
    }
}
