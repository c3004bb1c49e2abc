//! Owns what a client reads from a server: bytes to [`ServerOp`]s. Also what a test's scripted client
//! reads with.

use super::decode::Limits;
use crate::error::ProtocolError;
use crate::frame::{Behind, Decoded, Operation, body, one_more, operation};
use crate::scan::{rest_of_line, size, skip_blanks, split};

/// What a server says to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// `INFO`: the JSON text, unchecked; see [`ServerInfo::parse`](super::ServerInfo::parse).
    Info(&'a [u8]),
    /// `MSG` or `HMSG`.
    Message(Message<'a>),
    /// `PING`, to be answered with `PONG`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`: what stands behind it, quotes included; see [`error_text`].
    Err(&'a [u8]),
}

/// A message on its way to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it was published to.
    pub subject: &'a [u8],
    /// The subscription it is for.
    pub sid: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// Bytes of header at the start of `body`: `None` for `MSG`, `Some` for `HMSG`. Never more than `body`
    /// holds.
    pub header_len: Option<usize>,
    /// Header and payload, without the `\r\n` behind them.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The header block; empty without one. See [`Headers`](crate::headers::Headers).
    #[inline]
    pub fn header(&self) -> &'a [u8] {
        &self.body[..self.header_len.unwrap_or(0)]
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.body[self.header_len.unwrap_or(0)..]
    }
}

/// Reads the operation at the start of `input`, which must be the start of an operation.
///
/// Works as [`decode_client`](super::decode_client) does, in the other direction;
/// [`Limits::FROM_SERVER`] fits.
///
/// # Errors
/// The first fault of the input, after which the connection is of no more use.
#[inline]
pub fn decode_server<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<ServerOp<'a>>, ProtocolError> {
    const OPERATIONS: [Operation; 7] = [
        Operation::new(b"MSG", Behind::Blank),
        Operation::new(b"HMSG", Behind::Blank),
        Operation::new(b"PING", Behind::Anything),
        Operation::new(b"PONG", Behind::Anything),
        Operation::new(b"+OK", Behind::Anything),
        Operation::new(b"INFO", Behind::Anything),
        Operation::new(b"-ERR", Behind::Blank),
    ];
    let Some(word) = operation(input, &OPERATIONS)? else {
        return Ok(one_more(input));
    };
    let line_bytes_max = limits.control_line_bytes_max;
    let start = match word {
        b"PING" | b"PONG" | b"+OK" => word.len(),
        _ => skip_blanks(input, word.len(), line_bytes_max)?,
    };
    match word {
        b"MSG" => return message(input, start, limits),
        b"HMSG" => return header_message(input, start, limits),
        _ => {}
    }
    let Some((argument, consumed)) = rest_of_line(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let op = match word {
        b"PING" => ServerOp::Ping,
        b"PONG" => ServerOp::Pong,
        b"+OK" => ServerOp::Ok,
        b"INFO" => ServerOp::Info(argument),
        b"-ERR" => ServerOp::Err(argument),
        _ => return Err(ProtocolError::UnknownOperation),
    };
    Ok(Decoded::Op { op, consumed })
}

/// The text of an `-ERR` without the quotes and blanks around it.
pub fn error_text(argument: &[u8]) -> &[u8] {
    let text = argument.trim_ascii();
    text.strip_prefix(b"'")
        .and_then(|text| text.strip_suffix(b"'"))
        .unwrap_or(text)
}

/// `MSG subject sid [reply] size`. Events of nats-server itself have two blanks where a reply would be;
/// runs of blanks count as one.
fn message<'a>(
    input: &'a [u8],
    start: usize,
    limits: &Limits,
) -> Result<Decoded<ServerOp<'a>>, ProtocolError> {
    let Some(line) = split::<4>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let (subject, sid, reply, total) = match line.all() {
        Some(&[subject, sid, total]) => (subject, sid, None, total),
        Some(&[subject, sid, reply, total]) => (subject, sid, Some(reply), total),
        _ => return Err(ProtocolError::MessageArguments),
    };
    let total_len = size(total).ok_or(ProtocolError::PayloadSize)?;
    let frame = body(input, line.end, total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        ServerOp::Message(Message {
            subject,
            sid,
            reply,
            header_len: None,
            body,
        })
    }))
}

/// `HMSG subject sid [reply] header-size total-size`
fn header_message<'a>(
    input: &'a [u8],
    start: usize,
    limits: &Limits,
) -> Result<Decoded<ServerOp<'a>>, ProtocolError> {
    let Some(line) = split::<5>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let (subject, sid, reply, header, total) = match line.all() {
        Some(&[subject, sid, header, total]) => (subject, sid, None, header, total),
        Some(&[subject, sid, reply, header, total]) => (subject, sid, Some(reply), header, total),
        _ => return Err(ProtocolError::HeaderMessageArguments),
    };
    let header_len = size(header).ok_or(ProtocolError::HeaderSize)?;
    let total_len = size(total).ok_or(ProtocolError::PayloadSize)?;
    if header_len > total_len {
        return Err(ProtocolError::HeaderLongerThanMessage);
    }
    let frame = body(input, line.end, total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        ServerOp::Message(Message {
            subject,
            sid,
            reply,
            header_len: Some(header_len),
            body,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolError as Bad;

    #[track_caller]
    fn check(input: &str, expected: Result<ServerOp<'_>, ProtocolError>) {
        let found = decode_server(input.as_bytes(), &Limits::FROM_SERVER);
        let expected = expected.map(|op| Decoded::Op {
            op,
            consumed: input.len(),
        });
        assert_eq!(found, expected, "{input:?}");
    }

    #[test]
    fn messages() {
        let message = Message {
            subject: b"a.b",
            sid: b"7",
            reply: None,
            header_len: None,
            body: b"hello",
        };
        check("MSG a.b 7 5\r\nhello\r\n", Ok(ServerOp::Message(message)));
        // Events of nats-server come with an empty reply.
        check("MSG a.b 7  5\r\nhello\r\n", Ok(ServerOp::Message(message)));
        let replied = Message {
            reply: Some(b"r"),
            ..message
        };
        check("msg a.b 7 r 5\nhello\r\n", Ok(ServerOp::Message(replied)));
        let headed = Message {
            header_len: Some(3),
            ..replied
        };
        check(
            "HMSG a.b 7 r 3 5\r\nhello\r\n",
            Ok(ServerOp::Message(headed)),
        );
        assert_eq!(
            (headed.header(), headed.payload()),
            (&b"hel"[..], &b"lo"[..])
        );
        let headed = Message {
            reply: None,
            ..headed
        };
        check("HMSG a.b 7 3 5\r\nhello\r\n", Ok(ServerOp::Message(headed)));
    }

    #[test]
    fn the_small_ones() {
        check("INFO {\"a\":1} \r\n", Ok(ServerOp::Info(b"{\"a\":1} ")));
        check("PING\r\n", Ok(ServerOp::Ping));
        check("PONG\r\n", Ok(ServerOp::Pong));
        check("+OK\r\n", Ok(ServerOp::Ok));
        check(
            "-ERR 'Stale Connection'\r\n",
            Ok(ServerOp::Err(b"'Stale Connection'")),
        );
        assert_eq!(error_text(b" 'it's' "), b"it's");
        assert_eq!(error_text(b"plain"), b"plain");
        assert_eq!(error_text(b"'"), b"'");
    }

    #[test]
    fn refused() {
        check("PUB", Err(Bad::UnknownOperation));
        check("HTTP/1.1 400 Bad Request", Err(Bad::UnknownOperation));
        check("MSG a 7\r\n", Err(Bad::MessageArguments));
        check("MSG a b c d 5\r\n", Err(Bad::MessageArguments));
        check("MSG a 7 x\r\n", Err(Bad::PayloadSize));
        check("HMSG a 7 5\r\n", Err(Bad::HeaderMessageArguments));
        check("HMSG a 7 x 5\r\n", Err(Bad::HeaderSize));
        check("HMSG a 7 6 5\r\n", Err(Bad::HeaderLongerThanMessage));
        check("MSG a 7 1\r\nxy", Err(Bad::PayloadTerminator));
    }

    #[test]
    fn asks_for_the_whole_frame() {
        let found = decode_server(b"MSG a 7 100\r\nhello", &Limits::FROM_SERVER);
        assert_eq!(
            found,
            Ok(Decoded::Incomplete {
                needed: 13 + 100 + 2
            })
        );
    }
}
