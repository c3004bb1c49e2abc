//! Owns the properties that must hold for any input, as functions that panic when one does not. The fuzzers
//! and the tests call them; a server has no use for them.
//!
//! An input is a `u64` of choices, little-endian, and then what a peer sends. The lowest bit picks tiny limits,
//! so that their edges are met; the rest seeds the places where the bytes are split.

use crate::client::{
    ClientOp, ConnectOptions, Decoded, Limits, Message, Publish, ServerInfo, ServerOp, decimal,
    decode_client, decode_server, header_message_head, header_publish, message_head, publish,
    subscribe, unsubscribe, unusual_publish,
};
use crate::error::ProtocolError;
use crate::headers::{HeaderBuilder, Headers};
use crate::route::{
    self, MessageHead, RouteConnect, RouteInfo, RouteLimits, RouteMessage, RouteOp, decode_route,
    unusual_message,
};
use crate::s2::{Compressor, Decompressor, Effort, S2Error, Step, decode_block};

/// What a server may be sent by a client: [`decode_client`] does not depend on how bytes arrive, takes and
/// asks for possible numbers of them, and reads what is written the same.
pub fn fuzz_client(data: &[u8]) {
    let (choices, input) = choices(data);
    let limits = choices.limits();
    let ops = splits_agree(input, choices, |input| {
        let decoded = decode_client(input, &limits);
        if input.len() > 4
            && input[..3].eq_ignore_ascii_case(b"PUB")
            && matches!(input[3], b' ' | b'\t')
        {
            assert_eq!(
                decoded,
                unusual_publish(input, &limits),
                "both ways to read PUB"
            );
        }
        decoded
    });
    for op in ops {
        let mut bytes = Vec::new();
        write_client(&mut bytes, &op);
        let again = decode_client(&bytes, &limits);
        let Ok(Decoded::Op {
            op: again,
            consumed,
        }) = again
        else {
            panic!("{op:?} became {again:?}");
        };
        assert_eq!(without_texts(again), without_texts(op));
        assert_eq!(consumed, bytes.len());
    }
}

/// What a client may be sent by a server: the same for [`decode_server`].
pub fn fuzz_server(data: &[u8]) {
    let (choices, input) = choices(data);
    let limits = choices.limits();
    for op in splits_agree(input, choices, |input| decode_server(input, &limits)) {
        let mut bytes = Vec::new();
        write_server(&mut bytes, &op);
        assert_eq!(
            decode_server(&bytes, &limits),
            Ok(Decoded::Op {
                op,
                consumed: bytes.len()
            })
        );
    }
}

/// What a server may be sent by another: the same for [`decode_route`], whatever the connection is for.
pub fn fuzz_route(data: &[u8]) {
    let (choices, input) = choices(data);
    let limits = choices.route_limits();
    let ops = splits_agree(input, choices, |input| {
        let decoded = decode_route(input, &limits);
        if input.len() > 4
            && input[1..4].eq_ignore_ascii_case(b"MSG")
            && matches!(input[0].to_ascii_uppercase(), b'R' | b'H' | b'L')
            && matches!(input[4], b' ' | b'\t')
        {
            assert_eq!(
                decoded,
                unusual_message(input, &limits),
                "both ways to read a message"
            );
        }
        decoded
    });
    for op in ops {
        let mut bytes = Vec::new();
        write_route(&mut bytes, &op);
        let again = decode_route(&bytes, &limits);
        let Ok(Decoded::Op {
            op: again,
            consumed,
        }) = again
        else {
            panic!("{op:?} became {again:?}");
        };
        assert_eq!(without_route_texts(again), without_route_texts(op));
        assert_eq!(consumed, bytes.len());
    }
}

/// S2, both ways. As a stream: what is read does not depend on how the bytes arrive, and never is more than allowed. As
/// content: it is read as it was written. As a block: it is read as by the slow and obvious way.
pub fn fuzz_s2(data: &[u8]) {
    let (choices, input) = choices(data);
    let content_bytes_max = if choices.0 & 1 == 1 { 64 } else { 1 << 20 };
    let mut content = Vec::new();
    let read = decode_block(input, content_bytes_max, &mut content);
    assert_eq!(
        read.ok().map(|()| content),
        block_content(input, content_bytes_max),
        "both ways to read a block"
    );
    let whole = read_s2(input, content_bytes_max, usize::MAX, || input.len());
    let mut steps = choices;
    let piece = steps.next_step();
    let in_pieces = read_s2(input, content_bytes_max, piece, || steps.next_step());
    assert_eq!(in_pieces, whole, "another content when split");

    let mut compressor = Compressor::new(if choices.0 & 2 == 2 {
        Effort::Stored
    } else {
        Effort::Fast
    });
    let mut steps = choices;
    let mut stream = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        // Pieces of up to half a kilobyte, among which there are some that shrink.
        let (piece, behind) = rest.split_at(rest.len().min(8 * steps.next_step()));
        compressor.write(piece, &mut stream);
        rest = behind;
    }
    let (content, error) = read_s2(&stream, 1 << 20, usize::MAX, || stream.len());
    assert!(content == input && error.is_none(), "read as {error:?}");
}

/// What a block of S2 holds, byte by byte.
fn block_content(block: &[u8], content_bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = block.iter().copied();
    let mut number = |count: usize| {
        let mut number = 0_u64;
        for place in 0..count {
            number |= u64::from(bytes.next()?) << (8 * place);
        }
        Some(number)
    };
    let mut length = 0;
    for place in 0..5 {
        let byte = number(1)?;
        length |= (byte & 0x7F) << (7 * place);
        if byte < 0x80 {
            break;
        }
        if place == 4 {
            return None;
        }
    }
    if length > content_bytes_max as u64 {
        return None;
    }
    let mut content = Vec::new();
    let mut back = 0;
    while let Some(tag) = number(1) {
        let upper = tag >> 2;
        let mut copied = 1 + upper;
        match tag & 3 {
            0 => {
                let literal = match upper {
                    60.. => 1 + number(upper as usize - 59)?,
                    _ => 1 + upper,
                };
                for _ in 0..literal {
                    content.push(number(1)? as u8);
                }
                continue;
            }
            1 => {
                let low = number(1)?;
                copied = 4 + upper % 8;
                if upper / 8 == 0 && low == 0 {
                    match upper {
                        5 => copied = 8 + number(1)?,
                        6 => copied = 4 + (1 << 8) + number(2)?,
                        7 => copied = 4 + (1 << 16) + number(3)?,
                        _ => {}
                    }
                } else {
                    back = upper / 8 * 256 + low;
                }
            }
            2 => back = number(2)?,
            _ => back = number(4)?,
        }
        if back == 0 || content.len() as u64 + copied > length {
            return None;
        }
        for _ in 0..copied {
            let from = content.len().checked_sub(back as usize)?;
            content.push(content[from]);
        }
    }
    (content.len() as u64 == length).then_some(content)
}

/// Reads a stream of which `step` more bytes arrive at a time, `piece` bytes of content at one time: its content, and how it
/// ends.
fn read_s2(
    input: &[u8],
    content_bytes_max: usize,
    piece: usize,
    mut step: impl FnMut() -> usize,
) -> (Vec<u8>, Option<S2Error>) {
    let mut decompressor = Decompressor::new(content_bytes_max);
    let mut out = Vec::new();
    // What is good of it.
    let mut good = 0;
    let (mut start, mut arrived) = (0, 0);
    loop {
        let before = out.len();
        match decompressor.step(&input[start..arrived], &mut out, piece) {
            Ok(Step::Whole {
                content_bytes,
                consumed,
            }) => {
                assert!(consumed > 0 && consumed <= arrived - start);
                assert_eq!(out.len(), good + content_bytes);
                assert!(content_bytes <= content_bytes_max, "{content_bytes} bytes");
                good = out.len();
                start += consumed;
            }
            Ok(Step::Unfinished) => {
                assert_eq!(out.len() - before, piece);
                // What follows may arrive meanwhile.
                arrived = input.len().min(arrived + step());
            }
            Ok(Step::Incomplete { needed }) => {
                assert!(needed > arrived - start, "needed {needed}");
                assert_eq!(out.len(), before);
                if arrived == input.len() {
                    return (out, None);
                }
                arrived = input.len().min(arrived + step());
            }
            Err(error) => {
                assert_eq!(out.len(), good, "nothing of a chunk that is wrong");
                return (out, Some(error));
            }
        }
    }
}

/// A header block: what can be read can be built, and reads the same.
pub fn fuzz_headers(block: &[u8]) {
    let Ok(headers) = Headers::parse(block) else {
        return assert!(!block.starts_with(b"NATS/1.0"));
    };
    assert!(headers.status().is_none_or(|status| status <= 999));
    let mut builder = HeaderBuilder::new();
    let mut entries = Vec::new();
    for (name, value) in headers.entries() {
        assert!(headers.all(name).any(|other| other == value));
        if let Ok(longer) = builder.clone().entry(name, value) {
            builder = longer;
            entries.push((name, value));
        }
    }
    let built = builder.finish();
    let again = Headers::parse(&built).expect("built by us");
    assert!(
        again.entries().eq(entries),
        "{:?}",
        String::from_utf8_lossy(&built)
    );
}

/// The JSON of `CONNECT` and `INFO`: what can be read can be written, and reads the same.
pub fn fuzz_json(json: &[u8]) {
    let mut options = ConnectOptions::default();
    if options.merge_json(json).is_ok() {
        let mut written = Vec::new();
        options.write_json(&mut written);
        assert!(!written.contains(&b'\n'), "one line");
        let mut again = ConnectOptions::default();
        again.merge_json(&written).expect("written by us");
        assert_eq!(again, options);
    }
    if let Ok(info) = ServerInfo::parse(json) {
        let mut written = Vec::new();
        info.write_json(&mut written);
        assert!(!written.contains(&b'\n'), "one line");
        assert_eq!(ServerInfo::parse(&written).expect("written by us"), info);
    }
    if let Ok(info) = RouteInfo::parse(json) {
        let mut written = Vec::new();
        info.write_json(&mut written);
        assert!(!written.contains(&b'\n'), "one line");
        assert_eq!(RouteInfo::parse(&written).expect("written by us"), info);
    }
    if let Ok(options) = RouteConnect::parse(json) {
        let mut written = Vec::new();
        options.write_json(&mut written);
        assert!(!written.contains(&b'\n'), "one line");
        assert_eq!(
            RouteConnect::parse(&written).expect("written by us"),
            options
        );
    }
}

/// What an input decides besides the bytes themselves.
#[derive(Clone, Copy)]
struct Choices(u64);

fn choices(data: &[u8]) -> (Choices, &[u8]) {
    let (choices, input) = data.split_at(data.len().min(8));
    let mut bytes = [0; 8];
    bytes[..choices.len()].copy_from_slice(choices);
    (Choices(u64::from_le_bytes(bytes)), input)
}

impl Choices {
    fn limits(self) -> Limits {
        if self.0 & 1 == 1 {
            Limits {
                control_line_bytes_max: 24,
                payload_bytes_max: 48,
                headers: true,
            }
        } else {
            Limits::default()
        }
    }

    /// The second and third bit decide how lines look.
    fn route_limits(self) -> RouteLimits {
        let mut limits = RouteLimits {
            dedicated: self.0 & 2 == 2,
            unsubscribe_origin: self.0 & 4 == 0,
            ..RouteLimits::default()
        };
        if self.0 & 1 == 1 {
            limits.control_line_bytes_max = 24;
            limits.payload_bytes_max = 48;
        }
        limits
    }

    /// A number from 1 to 64, small ones far more often; a linear congruential generator is random enough.
    fn next_step(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = (self.0 >> 33) as usize;
        1 + (bits & 63) % (1 + (bits >> 6 & 63))
    }
}

/// Decodes `input` whole, and again as its bytes arrive in pieces, and returns the operations.
fn splits_agree<'a, Op, Decode>(input: &'a [u8], mut choices: Choices, decode: Decode) -> Vec<Op>
where
    Op: Copy + PartialEq + core::fmt::Debug,
    Decode: Fn(&'a [u8]) -> Result<Decoded<Op>, ProtocolError>,
{
    let mut ops = Vec::new();
    let mut start = 0;
    let end = loop {
        match decode(&input[start..]) {
            Ok(Decoded::Op { op, consumed }) => {
                assert!(
                    consumed > 0 && consumed <= input.len() - start,
                    "consumed {consumed}"
                );
                ops.push(op);
                start += consumed;
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > input.len() - start, "needed {needed}");
                break None;
            }
            Err(error) => break Some(error),
        }
    };

    let mut expected = ops.iter();
    let (mut start, mut arrived, mut needed_most) = (0, 0, 0);
    let end_in_pieces = loop {
        match decode(&input[start..arrived]) {
            Ok(Decoded::Op { op, consumed }) => {
                assert_eq!(Some(&op), expected.next(), "another operation when split");
                assert!(
                    needed_most <= consumed,
                    "asked for {needed_most}, took {consumed}"
                );
                needed_most = 0;
                start += consumed;
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > arrived - start, "needed {needed}");
                needed_most = needed_most.max(needed);
                if arrived == input.len() {
                    break None;
                }
                arrived = input.len().min(arrived + choices.next_step());
            }
            Err(error) => break Some(error),
        }
    };
    assert_eq!(expected.next(), None, "fewer operations when split");
    assert_eq!(end_in_pieces, end, "another end when split");
    ops
}

fn write_client(out: &mut Vec<u8>, op: &ClientOp<'_>) {
    match *op {
        ClientOp::Connect(json) => line(out, "CONNECT ", json),
        ClientOp::Info(json) => line(out, "INFO ", json),
        ClientOp::Publish(message) => match message.header_len {
            None => publish(out, message.subject, message.reply, message.body),
            Some(_) => header_publish(
                out,
                message.subject,
                message.reply,
                message.header(),
                message.payload(),
            ),
        },
        ClientOp::Subscribe(wish) => subscribe(out, wish.subject, wish.queue, wish.sid),
        ClientOp::Unsubscribe(end) => unsubscribe(out, end.sid, end.max),
        ClientOp::Ping => crate::client::ping(out),
        ClientOp::Pong => crate::client::pong(out),
        ClientOp::Ok => crate::client::ok(out),
        ClientOp::Err(text) => line(out, "-ERR ", text),
    }
}

fn write_server(out: &mut Vec<u8>, op: &ServerOp<'_>) {
    match *op {
        ServerOp::Info(json) => line(out, "INFO ", json),
        ServerOp::Message(message) => write_message(out, &message),
        ServerOp::Ping => crate::client::ping(out),
        ServerOp::Pong => crate::client::pong(out),
        ServerOp::Ok => crate::client::ok(out),
        ServerOp::Err(text) => line(out, "-ERR ", text),
    }
}

fn write_message(out: &mut Vec<u8>, message: &Message<'_>) {
    let Message {
        subject,
        sid,
        reply,
        header_len,
        body,
    } = *message;
    let total = decimal(body.len());
    match header_len {
        None => message_head(out, subject, sid, reply, &total),
        Some(header) => header_message_head(out, subject, sid, reply, &decimal(header), &total),
    }
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

fn write_route(out: &mut Vec<u8>, op: &RouteOp<'_>) {
    match *op {
        RouteOp::Connect(json) => line(out, "CONNECT ", json),
        RouteOp::Info(json) => line(out, "INFO ", json),
        RouteOp::Message(message) => write_route_message(out, &message),
        RouteOp::Subscribe(interest) => route::subscribe(out, &interest),
        RouteOp::Unsubscribe(end) => route::unsubscribe(out, &end),
        RouteOp::AccountSubscribe(account) => line(out, "A+ ", account),
        RouteOp::AccountUnsubscribe(account) => line(out, "A- ", account),
        RouteOp::Ping => route::ping(out),
        RouteOp::Pong => route::pong(out),
        RouteOp::Ok => route::ok(out),
        RouteOp::Err(text) => line(out, "-ERR ", text),
    }
}

fn write_route_message(out: &mut Vec<u8>, message: &RouteMessage<'_>) {
    let header = message.header_len.map(decimal);
    let head = MessageHead {
        origin: message.origin,
        account: message.account,
        subject: message.subject,
        reply: message.reply,
        queues: &message.queues.collect::<Vec<_>>(),
        header_len_text: header.as_deref(),
        total_len_text: &decimal(message.body.len()),
    };
    head.write(out);
    out.extend_from_slice(message.body);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, word: &str, argument: &[u8]) {
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

/// Sizes may be written with zeros in front, which a writer of ours does not.
fn without_texts(op: ClientOp<'_>) -> ClientOp<'_> {
    match op {
        ClientOp::Publish(message) => ClientOp::Publish(Publish {
            header_len_text: b"",
            total_len_text: b"",
            ..message
        }),
        other => other,
    }
}

/// The same for routes.
fn without_route_texts(op: RouteOp<'_>) -> RouteOp<'_> {
    match op {
        RouteOp::Message(message) => RouteOp::Message(RouteMessage {
            header_len_text: b"",
            total_len_text: b"",
            ..message
        }),
        other => other,
    }
}
