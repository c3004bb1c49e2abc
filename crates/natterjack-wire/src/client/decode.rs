//! Owns what a server reads from a client: bytes to [`ClientOp`]s. What the operations mean is not
//! decided here.
//!
//! Input is refused as early as nats-server refuses it: a wrong letter at that letter, a line that is
//! too long at the first byte over the limit, a payload that is too large at its control line, a wrong
//! payload terminator at its first wrong byte. The letters of an operation may have either case.

use crate::error::ProtocolError;
use crate::frame::{Behind, Decoded, Operation, body, one_more, operation};
use crate::scan::{is_blank, plain_last_size, plain_word, rest_of_line, size, skip_blanks, split};

/// What one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of arguments in a control line, without operation, leading blanks and line end
    /// (`max_control_line`).
    pub control_line_bytes_max: usize,
    /// Bytes of one message, header included (`max_payload`).
    pub payload_bytes_max: usize,
    /// Whether `HPUB` is welcome: the client's CONNECT announced headers.
    pub headers: bool,
}

impl Limits {
    /// What a client should allow a server: an `INFO` that names a large cluster is long, and the payload
    /// is bounded by the nine digits of its size.
    pub const FROM_SERVER: Self = Self {
        control_line_bytes_max: 1024 * 1024,
        payload_bytes_max: 999_999_999,
        headers: true,
    };

    /// What a program has spelled itself, and need not be checked for its size.
    pub const UNBOUNDED: Self = Self {
        control_line_bytes_max: usize::MAX,
        payload_bytes_max: usize::MAX,
        headers: true,
    };
}

impl Default for Limits {
    /// The defaults of nats-server (client protocol, section 9).
    fn default() -> Self {
        Self {
            control_line_bytes_max: 4096,
            payload_bytes_max: 1024 * 1024,
            headers: true,
        }
    }
}

/// What a client says to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// `CONNECT`: the JSON text, unchecked; see [`ConnectOptions`](super::ConnectOptions).
    Connect(&'a [u8]),
    /// `INFO`: the JSON text, unchecked. nats-server parses and ignores it, and closes if it is not JSON.
    Info(&'a [u8]),
    /// `PUB` or `HPUB`. nats-server closes without a word on `HPUB` from a client whose `CONNECT` did not ask
    /// for headers, before it looks at the arguments; the decoder does not know and looks.
    Publish(Publish<'a>),
    /// `SUB`.
    Subscribe(Subscribe<'a>),
    /// `UNSUB`.
    Unsubscribe(Unsubscribe<'a>),
    /// `PING`, and whatever stands behind it on the line.
    Ping,
    /// `PONG`, and whatever stands behind it on the line.
    Pong,
    /// `+OK`, which a server ignores.
    Ok,
    /// `-ERR`: its text, quotes included. nats-server closes a client that sends one.
    Err(&'a [u8]),
}

/// A message on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to; any bytes but blanks and line ends.
    pub subject: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// Bytes of header at the start of `body`: `None` for `PUB`, `Some` for `HPUB`, where it may be 0.
    /// Never more than `body` holds.
    pub header_len: Option<usize>,
    /// `header_len` as it was written, empty for `PUB`. nats-server hands it on to subscribers verbatim.
    pub header_len_text: &'a [u8],
    /// The length of `body` as it was written, handed on verbatim like `header_len_text`.
    pub total_len_text: &'a [u8],
    /// Header and payload, without the `\r\n` behind them.
    pub body: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The header block; empty without one. Not validated (client protocol, section 4).
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

/// A wish for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// What to listen to, unchecked.
    pub subject: &'a [u8],
    /// Share the messages with the others of this queue group.
    pub queue: Option<&'a [u8]>,
    /// The client's own name for this subscription.
    pub sid: &'a [u8],
}

/// The end of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The subscription.
    pub sid: &'a [u8],
    /// End it after this many messages, counted from its start; at least 1. `None`: end it now, which is
    /// also what nats-server makes of a number it cannot read and of 0 (client protocol, section 4).
    pub max: Option<u64>,
}

/// Reads the operation at the start of `input`, which must be the start of an operation.
///
/// Stateless: after [`Decoded::Incomplete`] call it again with the same bytes and more of them. The
/// outcome does not depend on how the bytes arrived. Costs time linear in the length of the control
/// line, whatever the payload.
///
/// # Errors
/// The first fault of the input. The connection cannot go on, since what follows has no known start;
/// [`ProtocolError::reply`] says what to tell the client.
#[inline]
pub fn decode_client<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<ClientOp<'a>>, ProtocolError> {
    // Messages are what there is plenty of, so they are told apart by one integer comparison. Setting bit
    // 0x20 folds the case and maps nothing but the two cases of a letter onto that letter.
    if let Some(head) = input.first_chunk::<5>() {
        let letters = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if letters & 0x00FF_FFFF | 0x0020_2020 == u32::from_le_bytes(*b"pub\0") && is_blank(head[3])
        {
            return publish(input, limits);
        }
        if letters | 0x2020_2020 == u32::from_le_bytes(*b"hpub") && is_blank(head[4]) {
            return header_publish(input, limits);
        }
    }
    other_operation(input, limits)
}

/// The message in `text`, of whatever size, that was spelled by [`publish`](super::publish) or
/// [`header_publish`](super::header_publish). `None` if a name in it cannot be spelled, since it has a blank or is none.
pub fn decode_publish(text: &[u8]) -> Option<Publish<'_>> {
    match decode_client(text, &Limits::UNBOUNDED) {
        Ok(Decoded::Op {
            op: ClientOp::Publish(publish),
            ..
        }) => Some(publish),
        _ => None,
    }
}

/// `PUB subject [reply] size`, with single blanks and `\r\n`, as every client writes it.
#[inline]
fn publish<'a>(input: &'a [u8], limits: &Limits) -> Result<Decoded<ClientOp<'a>>, ProtocolError> {
    const START: usize = "PUB ".len();
    let Some(subject) = plain_word(input, START) else {
        return unusual_publish(input, limits);
    };
    let mut start = START + subject.len() + 1;
    let mut reply = None;
    let mut sized = plain_last_size(input, start);
    if sized.is_none() {
        let Some(word) = plain_word(input, start) else {
            return unusual_publish(input, limits);
        };
        reply = Some(word);
        start += word.len() + 1;
        sized = plain_last_size(input, start);
    }
    let Some((total_len, total_len_text)) = sized else {
        return unusual_publish(input, limits);
    };
    let line_end = start + total_len_text.len();
    if line_end - START > limits.control_line_bytes_max {
        return Err(ProtocolError::ControlLineTooLong);
    }
    let frame = body(input, line_end + 2, total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        ClientOp::Publish(Publish {
            subject,
            reply,
            header_len: None,
            header_len_text: b"",
            total_len_text,
            body,
        })
    }))
}

/// `PUB` in any form that is allowed.
#[cold]
pub(crate) fn unusual_publish<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<ClientOp<'a>>, ProtocolError> {
    let start = skip_blanks(input, "PUB ".len(), limits.control_line_bytes_max)?;
    let Some(line) = split::<3>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let (subject, reply, total_len_text) = match line.all() {
        Some(&[subject, total]) => (subject, None, total),
        Some(&[subject, reply, total]) => (subject, Some(reply), total),
        _ => return Err(ProtocolError::PublishArguments),
    };
    if line.bare_carriage_return {
        return Err(ProtocolError::CarriageReturnInLine);
    }
    let total_len = size(total_len_text).ok_or(ProtocolError::PayloadSize)?;
    let frame = body(input, line.end, total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        ClientOp::Publish(Publish {
            subject,
            reply,
            header_len: None,
            header_len_text: b"",
            total_len_text,
            body,
        })
    }))
}

/// `HPUB subject [reply] header-size total-size`
#[inline]
fn header_publish<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<ClientOp<'a>>, ProtocolError> {
    let start = skip_blanks(input, "HPUB ".len(), limits.control_line_bytes_max)?;
    let Some(line) = split::<4>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    // Seen on nats-server: the arguments are not looked at then.
    if !limits.headers {
        return Err(ProtocolError::HeadersNotAnnounced);
    }
    let (subject, reply, header_len_text, total_len_text) = match line.all() {
        Some(&[subject, header, total]) => (subject, None, header, total),
        Some(&[subject, reply, header, total]) => (subject, Some(reply), header, total),
        _ => return Err(ProtocolError::HeaderPublishArguments),
    };
    if line.bare_carriage_return {
        return Err(ProtocolError::CarriageReturnInLine);
    }
    let header_len = size(header_len_text).ok_or(ProtocolError::HeaderSize)?;
    let total_len = size(total_len_text).ok_or(ProtocolError::PayloadSize)?;
    if header_len > total_len {
        return Err(ProtocolError::HeaderLongerThanMessage);
    }
    let frame = body(input, line.end, total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        ClientOp::Publish(Publish {
            subject,
            reply,
            header_len: Some(header_len),
            header_len_text,
            total_len_text,
            body,
        })
    }))
}

/// Everything that is not a message, and messages of which fewer than five bytes have arrived.
fn other_operation<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<ClientOp<'a>>, ProtocolError> {
    const OPERATIONS: [Operation; 10] = [
        Operation::new(b"SUB", Behind::Blank),
        Operation::new(b"UNSUB", Behind::Blank),
        Operation::new(b"PING", Behind::Anything),
        Operation::new(b"PONG", Behind::Anything),
        Operation::new(b"CONNECT", Behind::Anything),
        Operation::new(b"PUB", Behind::Blank),
        Operation::new(b"HPUB", Behind::Blank),
        Operation::new(b"INFO", Behind::Anything),
        Operation::new(b"+OK", Behind::Anything),
        Operation::new(b"-ERR", Behind::Blank),
    ];
    let Some(word) = operation(input, &OPERATIONS)? else {
        return Ok(one_more(input));
    };
    let line_bytes_max = limits.control_line_bytes_max;
    let start = match word {
        // Recognised at once when five bytes are there, so these are not.
        b"PUB" | b"HPUB" => return Ok(one_more(input)),
        // What stands behind these is not an argument but noise, blanks included.
        b"PING" | b"PONG" | b"+OK" => word.len(),
        b"-ERR" => skip_blanks(input, word.len(), line_bytes_max)?,
        // As seen on nats-server, the first byte of the arguments is one whatever it is. Here a line feed
        // only parts the operation from them; in a message it would travel on, so there it ends the line.
        _ => {
            let start = skip_blanks(input, word.len(), line_bytes_max)?;
            match input.get(start) {
                Some(b'\n') => skip_blanks(input, start + 1, line_bytes_max)?,
                _ => start,
            }
        }
    };
    match word {
        b"SUB" => return subscribe(input, start, line_bytes_max),
        b"UNSUB" => return unsubscribe(input, start, line_bytes_max),
        _ => {}
    }
    let Some((argument, consumed)) = rest_of_line(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let op = match word {
        b"PING" => ClientOp::Ping,
        b"PONG" => ClientOp::Pong,
        b"+OK" => ClientOp::Ok,
        b"CONNECT" => ClientOp::Connect(argument),
        b"INFO" => ClientOp::Info(argument),
        b"-ERR" => ClientOp::Err(argument),
        _ => return Err(ProtocolError::UnknownOperation),
    };
    Ok(Decoded::Op { op, consumed })
}

/// `SUB subject [queue] sid`
fn subscribe(
    input: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<Decoded<ClientOp<'_>>, ProtocolError> {
    let Some(line) = split::<3>(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let (subject, queue, sid) = match line.all() {
        Some(&[subject, sid]) => (subject, None, sid),
        Some(&[subject, queue, sid]) => (subject, Some(queue), sid),
        _ => return Err(ProtocolError::SubscribeArguments),
    };
    let op = ClientOp::Subscribe(Subscribe {
        subject,
        queue,
        sid,
    });
    Ok(Decoded::Op {
        op,
        consumed: line.end,
    })
}

/// `UNSUB sid [max]`
fn unsubscribe(
    input: &[u8],
    start: usize,
    line_bytes_max: usize,
) -> Result<Decoded<ClientOp<'_>>, ProtocolError> {
    let Some(line) = split::<2>(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let (sid, max) = match line.all() {
        Some(&[sid]) => (sid, None),
        Some(&[sid, max]) => (sid, size(max).filter(|&max| max > 0)),
        _ => return Err(ProtocolError::UnsubscribeArguments),
    };
    let op = ClientOp::Unsubscribe(Unsubscribe {
        sid,
        max: max.map(|max| max as u64),
    });
    Ok(Decoded::Op {
        op,
        consumed: line.end,
    })
}

#[cfg(test)]
mod tests;
