//! Owns what a server reads from another: bytes to [`RouteOp`]s. What the operations mean is not decided here.
//!
//! Input is refused as early as that of clients is, see [`decode_client`](crate::client::decode_client). Lines of
//! messages are cut in two ways: [`plain_message`] knows the form that every server writes and gives up on
//! anything else, [`unusual_message`] knows every form. Both count words from the front and from the back of the
//! line; what is left in the middle is a reply, or a list of queue groups behind a sign.

use memchr::memchr;

use crate::error::ProtocolError;
use crate::frame::{Behind, Decoded, Operation, body, one_more, operation};
use crate::scan::{
    first_word, is_blank, last_word, plain_last_size, plain_word, rest_of_line, size, skip_blanks,
    split,
};

/// What one connection between servers may carry, and how its lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// Bytes of arguments in a line, `INFO` included. nats-server allows sixteen times what clients may send.
    pub control_line_bytes_max: usize,
    /// Bytes of one message, header included. nats-server has no limit here but the nine digits of the size: what
    /// may be published was decided where it was.
    pub payload_bytes_max: usize,
    /// The connection is for one account (`route_account`): lines do not name one.
    pub dedicated: bool,
    /// The `LS-` of the other side names the origin (it announced `lnocu`, and is 2.10 or later).
    pub unsubscribe_origin: bool,
}

impl Default for RouteLimits {
    /// A connection of the pool with a current nats-server. Payload: the most that servers let clients publish, unless their
    /// `max_pending` was raised, too.
    fn default() -> Self {
        Self {
            control_line_bytes_max: 16 * 4096,
            payload_bytes_max: 64 * 1024 * 1024,
            dedicated: false,
            unsubscribe_origin: true,
        }
    }
}

/// What a server says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOp<'a> {
    /// `CONNECT`: the JSON text, unchecked; see [`RouteConnect::parse`](super::RouteConnect::parse).
    Connect(&'a [u8]),
    /// `INFO`: the JSON text, unchecked; see [`RouteInfo::parse`](super::RouteInfo::parse).
    Info(&'a [u8]),
    /// `RMSG`, `HMSG` or `LMSG`.
    Message(RouteMessage<'a>),
    /// `RS+` or `LS+`.
    Subscribe(RemoteSubscribe<'a>),
    /// `RS-` or `LS-`.
    Unsubscribe(RemoteUnsubscribe<'a>),
    /// `A+`: a gateway speaks of an account. nats-server ignores it on a route.
    AccountSubscribe(&'a [u8]),
    /// `A-`, likewise.
    AccountUnsubscribe(&'a [u8]),
    /// `PING`, to be answered with `PONG`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`: what stands behind it, quotes included; see [`error_text`](crate::client::error_text). nats-server
    /// closes the connection on which it reads one.
    Err(&'a [u8]),
}

/// A message on its way to the subscribers of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMessage<'a> {
    /// `LMSG`: the cluster of leaf nodes that it came from, to which it must not return.
    pub origin: Option<&'a [u8]>,
    /// The account; `None` on a connection that is for one account.
    pub account: Option<&'a [u8]>,
    /// Where it was published to.
    pub subject: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// The queue groups of which one member each is to get it, besides everybody who is in none.
    pub queues: Queues<'a>,
    /// Bytes of header at the start of `body`; never more than it holds. `None` for `RMSG`, and for an `LMSG` that
    /// says 0, which is how it says that there is no header.
    pub header_len: Option<usize>,
    /// `header_len` as it was written, empty without. nats-server hands it on to subscribers verbatim.
    pub header_len_text: &'a [u8],
    /// The length of `body` as it was written, handed on verbatim like `header_len_text`.
    pub total_len_text: &'a [u8],
    /// Header and payload, without the `\r\n` behind them.
    pub body: &'a [u8],
}

impl<'a> RouteMessage<'a> {
    /// The header block; empty without one.
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

/// Names of queue groups, in the order of the line and still in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queues<'a> {
    text: &'a [u8],
}

impl<'a> Queues<'a> {
    /// Names with blanks between them.
    #[inline]
    pub fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    /// The rest of the names as they stand in the line.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.text
    }

    /// Whether no group is named.
    #[inline]
    pub fn is_empty(&self) -> bool {
        first_word(self.text).is_none()
    }
}

impl<'a> Iterator for Queues<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (word, rest) = first_word(self.text)?;
        self.text = rest;
        Some(word)
    }
}

impl PartialEq for Queues<'_> {
    /// The same names in the same order.
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Queues<'_> {}

/// Interest of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSubscribe<'a> {
    /// `LS+`: the cluster of leaf nodes whose interest it is.
    pub origin: Option<&'a [u8]>,
    /// The account; `None` on a connection that is for one account.
    pub account: Option<&'a [u8]>,
    /// What to listen to, unchecked.
    pub subject: &'a [u8],
    /// In a queue group.
    pub queue: Option<QueueInterest<'a>>,
}

/// Interest of a queue group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueInterest<'a> {
    /// Name of the group.
    pub name: &'a [u8],
    /// Members there. 0 as well for what is no number, which nats-server takes without complaint; it then never
    /// chooses the server for a message.
    pub weight: u32,
}

/// The end of an interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteUnsubscribe<'a> {
    /// Whether it is `LS-`; only [`RouteLimits::unsubscribe_origin`] decides whether that names an origin.
    pub leaf: bool,
    /// As in [`RemoteSubscribe::origin`].
    pub origin: Option<&'a [u8]>,
    /// As in [`RemoteSubscribe::account`].
    pub account: Option<&'a [u8]>,
    /// As in [`RemoteSubscribe::subject`].
    pub subject: &'a [u8],
    /// Name of the queue group.
    pub queue: Option<&'a [u8]>,
}

/// Reads the operation at the start of `input`, which must be the start of an operation.
///
/// Stateless: after [`Decoded::Incomplete`] call it again with the same bytes and more of them. The
/// outcome does not depend on how the bytes arrived. Costs time linear in the length of the line, whatever
/// the payload.
///
/// # Errors
/// The first fault of the input, after which the connection is of no more use;
/// [`ProtocolError::reply`] says what to tell the other side.
#[inline]
pub fn decode_route<'a>(
    input: &'a [u8],
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    // As in `decode_client`: messages are told apart by one comparison.
    if let Some(head) = input.first_chunk::<5>() {
        let letters = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) | 0x2020_2020;
        if is_blank(head[4]) {
            if letters == u32::from_le_bytes(*b"rmsg") {
                return message::<PLAIN>(input, limits);
            }
            if letters == u32::from_le_bytes(*b"hmsg") {
                return message::<HEADED>(input, limits);
            }
            if letters == u32::from_le_bytes(*b"lmsg") {
                return message::<LEAF>(input, limits);
            }
        }
    }
    other_operation(input, limits)
}

/// The three kinds of message: `RMSG`, `HMSG` and `LMSG`.
const PLAIN: u8 = b'R';
const HEADED: u8 = b'H';
const LEAF: u8 = b'L';

/// Where the arguments start.
const MESSAGE_START: usize = "RMSG ".len();

/// What stands between the subject and the sizes.
#[derive(Default)]
struct Middle<'a> {
    reply: Option<&'a [u8]>,
    queues: Queues<'a>,
}

/// The line of a message in pieces; only the size is a number yet.
struct Line<'a> {
    origin: Option<&'a [u8]>,
    account: Option<&'a [u8]>,
    subject: &'a [u8],
    /// `None`: words without a sign before them.
    middle: Option<Middle<'a>>,
    header_len_text: &'a [u8],
    total_len_text: &'a [u8],
    total_len: usize,
    /// Index just past the line feed.
    end: usize,
}

/// `RMSG account subject [reply | + reply queue… | \| queue…] size`, with a header's size before the size in
/// `HMSG`, and an origin before the account and a header's size in `LMSG`.
#[inline]
fn message<'a, const KIND: u8>(
    input: &'a [u8],
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    let Some(line) = plain_message::<KIND>(input, limits) else {
        return unusual_message(input, limits);
    };
    if line.end - MESSAGE_START - "\r\n".len() > limits.control_line_bytes_max {
        return Err(ProtocolError::ControlLineTooLong);
    }
    message_of_line::<KIND>(input, line, limits)
}

/// The line as every server writes it: single blanks and `\r\n`.
#[inline]
fn plain_message<'a, const KIND: u8>(input: &'a [u8], limits: &RouteLimits) -> Option<Line<'a>> {
    let mut start = MESSAGE_START;
    let mut next = || {
        let word = plain_word(input, start)?;
        start += word.len() + 1;
        Some(word)
    };
    let origin = if KIND == LEAF { Some(next()?) } else { None };
    let account = if limits.dedicated {
        None
    } else {
        Some(next()?)
    };
    let subject = next()?;
    let middle_start = start;
    // The words behind, up to the one that ends the line: the first two, the last, and how many.
    let mut words: [&[u8]; 2] = [b""; 2];
    let mut last: &[u8] = b"";
    let mut count = 0;
    let (total_len, total_len_text) = loop {
        if let Some(found) = plain_last_size(input, start) {
            break found;
        }
        last = plain_word(input, start)?;
        if let Some(place) = words.get_mut(count) {
            *place = last;
        }
        count += 1;
        start += last.len() + 1;
    };
    let mut middle_end = start;
    if KIND != PLAIN && count > 0 {
        count -= 1;
        middle_end -= last.len() + 1;
    }
    let [first, second] = words;
    let middle = match (count, first) {
        (0, _) => Some(Middle::default()),
        (1, reply) => Some(Middle {
            reply: Some(reply),
            queues: Queues::default(),
        }),
        (_, b"+") => Some(Middle {
            reply: Some(second),
            queues: Queues {
                text: &input[middle_start + "+ ".len() + second.len()..middle_end],
            },
        }),
        (_, b"|") => Some(Middle {
            reply: None,
            queues: Queues {
                text: &input[middle_start + "| ".len()..middle_end],
            },
        }),
        _ => None,
    };
    Some(Line {
        origin,
        account,
        subject,
        middle,
        header_len_text: if KIND == PLAIN { b"" } else { last },
        total_len_text,
        total_len,
        end: start + total_len_text.len() + "\r\n".len(),
    })
}

/// A message in any form that is allowed. The input is known to start with its five bytes.
#[cold]
pub(crate) fn unusual_message<'a>(
    input: &'a [u8],
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    match input[0].to_ascii_uppercase() {
        PLAIN => unusual::<PLAIN>(input, limits),
        HEADED => unusual::<HEADED>(input, limits),
        _ => unusual::<LEAF>(input, limits),
    }
}

fn unusual<'a, const KIND: u8>(
    input: &'a [u8],
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    let line_bytes_max = limits.control_line_bytes_max;
    let start = skip_blanks(input, MESSAGE_START, line_bytes_max)?;
    let Some((text, end)) = rest_of_line(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let Some(mut line) = cut::<KIND>(text, limits) else {
        return Err(arguments_error::<KIND>());
    };
    if memchr(b'\r', text).is_some() {
        return Err(ProtocolError::CarriageReturnInLine);
    }
    line.total_len = size(line.total_len_text).ok_or(ProtocolError::PayloadSize)?;
    line.end = end;
    message_of_line::<KIND>(input, line, limits)
}

/// The words of a line from both its ends, or `None` if there are too few. The numbers are left at 0.
fn cut<'a, const KIND: u8>(text: &'a [u8], limits: &RouteLimits) -> Option<Line<'a>> {
    let mut rest = text;
    let mut next = || {
        let (word, behind) = first_word(rest)?;
        rest = behind;
        Some(word)
    };
    let origin = if KIND == LEAF { Some(next()?) } else { None };
    let account = if limits.dedicated {
        None
    } else {
        Some(next()?)
    };
    let subject = next()?;
    let (mut between, total_len_text) = last_word(rest)?;
    let mut header_len_text: &[u8] = b"";
    if KIND != PLAIN {
        (between, header_len_text) = last_word(between)?;
    }
    Some(Line {
        origin,
        account,
        subject,
        middle: middle(between),
        header_len_text,
        total_len_text,
        total_len: 0,
        end: 0,
    })
}

/// What the pieces mean, and the body.
#[inline]
fn message_of_line<'a, const KIND: u8>(
    input: &'a [u8],
    line: Line<'a>,
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    let Some(Middle { reply, queues }) = line.middle else {
        return Err(arguments_error::<KIND>());
    };
    let mut header_len = None;
    if KIND != PLAIN {
        if line.header_len_text.is_empty() {
            return Err(arguments_error::<KIND>());
        }
        let length = size(line.header_len_text).ok_or(ProtocolError::HeaderSize)?;
        if length > line.total_len {
            return Err(ProtocolError::HeaderLongerThanMessage);
        }
        if KIND == HEADED || length > 0 {
            header_len = Some(length);
        }
    }
    let frame = body(input, line.end, line.total_len, limits.payload_bytes_max)?;
    Ok(frame.map(|body| {
        RouteOp::Message(RouteMessage {
            origin: line.origin,
            account: line.account,
            subject: line.subject,
            reply,
            queues,
            header_len,
            header_len_text: if header_len.is_some() {
                line.header_len_text
            } else {
                b""
            },
            total_len_text: line.total_len_text,
            body,
        })
    }))
}

/// Reply and queue groups between the subject and the sizes: nothing, one word that is a reply whatever it
/// looks like, or a sign and words. `None` if there are words without a sign.
fn middle(text: &[u8]) -> Option<Middle<'_>> {
    let Some((first, rest)) = first_word(text) else {
        return Some(Middle::default());
    };
    let Some((second, behind)) = first_word(rest) else {
        return Some(Middle {
            reply: Some(first),
            queues: Queues::default(),
        });
    };
    match first {
        b"+" => Some(Middle {
            reply: Some(second),
            queues: Queues { text: behind },
        }),
        b"|" => Some(Middle {
            reply: None,
            queues: Queues { text: rest },
        }),
        _ => None,
    }
}

#[cold]
fn arguments_error<const KIND: u8>() -> ProtocolError {
    match KIND {
        PLAIN => ProtocolError::RoutedMessageArguments,
        HEADED => ProtocolError::RoutedHeaderMessageArguments,
        _ => ProtocolError::LeafMessageArguments,
    }
}

/// Everything that is not a message, and messages of which fewer than five bytes have arrived.
fn other_operation<'a>(
    input: &'a [u8],
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    const OPERATIONS: [Operation; 15] = [
        Operation::new(b"RS+", Behind::Blank),
        Operation::new(b"RS-", Behind::Blank),
        Operation::new(b"PING", Behind::Anything),
        Operation::new(b"PONG", Behind::Anything),
        Operation::new(b"LS+", Behind::Blank),
        Operation::new(b"LS-", Behind::Blank),
        Operation::new(b"INFO", Behind::Anything),
        Operation::new(b"CONNECT", Behind::Anything),
        Operation::new(b"RMSG", Behind::Blank),
        Operation::new(b"HMSG", Behind::Blank),
        Operation::new(b"LMSG", Behind::Blank),
        Operation::new(b"+OK", Behind::Anything),
        Operation::new(b"-ERR", Behind::Blank),
        Operation::new(b"A+", Behind::Blank),
        Operation::new(b"A-", Behind::Blank),
    ];
    let Some(word) = operation(input, &OPERATIONS)? else {
        return Ok(one_more(input));
    };
    let line_bytes_max = limits.control_line_bytes_max;
    let start = match word {
        // Recognised at once when five bytes are there, so these are not.
        b"RMSG" | b"HMSG" | b"LMSG" => return Ok(one_more(input)),
        b"PING" | b"PONG" | b"+OK" => word.len(),
        _ => skip_blanks(input, word.len(), line_bytes_max)?,
    };
    match word {
        b"RS+" | b"LS+" => return subscribe(input, start, word == b"LS+", limits),
        b"RS-" | b"LS-" => return unsubscribe(input, start, word == b"LS-", limits),
        _ => {}
    }
    let Some((argument, consumed)) = rest_of_line(input, start, line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let op = match word {
        b"PING" => RouteOp::Ping,
        b"PONG" => RouteOp::Pong,
        b"INFO" => RouteOp::Info(argument),
        b"CONNECT" => RouteOp::Connect(argument),
        b"+OK" => RouteOp::Ok,
        b"-ERR" => RouteOp::Err(argument),
        b"A+" => RouteOp::AccountSubscribe(argument),
        b"A-" => RouteOp::AccountUnsubscribe(argument),
        _ => return Err(ProtocolError::UnknownOperation),
    };
    Ok(Decoded::Op { op, consumed })
}

/// `RS+ account subject [queue weight]`, with an origin before the account in `LS+`.
fn subscribe<'a>(
    input: &'a [u8],
    start: usize,
    leaf: bool,
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::RemoteSubscribeArguments;
    let Some(line) = split::<5>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let mut words = line.all().ok_or(BAD)?;
    let Scope { origin, account } = take_scope(&mut words, leaf, limits).ok_or(BAD)?;
    let (subject, queue) = match *words {
        [subject] => (subject, None),
        [subject, name, weight] => {
            let weight = size(weight).map_or(0, |weight| weight as u32);
            (subject, Some(QueueInterest { name, weight }))
        }
        _ => return Err(BAD),
    };
    Ok(Decoded::Op {
        op: RouteOp::Subscribe(RemoteSubscribe {
            origin,
            account,
            subject,
            queue,
        }),
        consumed: line.end,
    })
}

/// `RS- account subject [queue]`, with an origin before the account in `LS-` from who announced so.
fn unsubscribe<'a>(
    input: &'a [u8],
    start: usize,
    leaf: bool,
    limits: &RouteLimits,
) -> Result<Decoded<RouteOp<'a>>, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::RemoteUnsubscribeArguments;
    let Some(line) = split::<4>(input, start, limits.control_line_bytes_max)? else {
        return Ok(one_more(input));
    };
    let mut words = line.all().ok_or(BAD)?;
    let has_origin = leaf && limits.unsubscribe_origin;
    let Scope { origin, account } = take_scope(&mut words, has_origin, limits).ok_or(BAD)?;
    let (subject, queue) = match *words {
        [subject] => (subject, None),
        [subject, queue] => (subject, Some(queue)),
        _ => return Err(BAD),
    };
    Ok(Decoded::Op {
        op: RouteOp::Unsubscribe(RemoteUnsubscribe {
            leaf,
            origin,
            account,
            subject,
            queue,
        }),
        consumed: line.end,
    })
}

/// Whose interest it is.
struct Scope<'a> {
    origin: Option<&'a [u8]>,
    account: Option<&'a [u8]>,
}

/// Origin and account, as far as the line has them, off the front of its words.
fn take_scope<'a>(
    words: &mut &[&'a [u8]],
    has_origin: bool,
    limits: &RouteLimits,
) -> Option<Scope<'a>> {
    let mut take = || {
        let (&word, rest) = words.split_first()?;
        *words = rest;
        Some(word)
    };
    let origin = if has_origin { Some(take()?) } else { None };
    let account = if limits.dedicated {
        None
    } else {
        Some(take()?)
    };
    Some(Scope { origin, account })
}

#[cfg(test)]
mod tests;
