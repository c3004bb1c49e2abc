//! Between clients and servers, what is written reads the same, in both directions, however the bytes are cut on
//! their way.

use natterjack_wire::client::{
    ClientOp, ConnectOptions, Decoded, Limits, Message, ServerInfo, ServerOp, connect, decimal,
    decode_client, decode_server, error, error_text, header_message_head, header_publish, info,
    message_head, ok, ping, pong, publish, subscribe, unsubscribe,
};
use natterjack_wire::error::ErrorReply;
use natterjack_wire::fuzzing;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::stream::{Bytes, body, read_in_pieces, word};

/// What a client says, with its own memory.
#[derive(Clone, Debug, PartialEq)]
enum FromClient {
    Connect(String),
    Publish {
        subject: Bytes,
        reply: Option<Bytes>,
        header: Option<Bytes>,
        payload: Bytes,
    },
    Subscribe {
        subject: Bytes,
        queue: Option<Bytes>,
        sid: Bytes,
    },
    Unsubscribe {
        sid: Bytes,
        max: Option<u64>,
    },
    Ping,
    Pong,
}

/// What a server says, with its own memory.
#[derive(Clone, Debug, PartialEq)]
enum FromServer {
    Info(String),
    Message {
        subject: Bytes,
        sid: Bytes,
        reply: Option<Bytes>,
        header: Option<Bytes>,
        payload: Bytes,
    },
    Ping,
    Pong,
    Ok,
    PublishDenied(String),
}

impl FromClient {
    fn write(&self, out: &mut Bytes) {
        match self {
            Self::Connect(name) => {
                connect(
                    out,
                    &ConnectOptions {
                        name: name.clone(),
                        ..ConnectOptions::default()
                    },
                );
            }
            Self::Publish {
                subject,
                reply,
                header: None,
                payload,
            } => {
                publish(out, subject, reply.as_deref(), payload);
            }
            Self::Publish {
                subject,
                reply,
                header: Some(header),
                payload,
            } => {
                header_publish(out, subject, reply.as_deref(), header, payload);
            }
            Self::Subscribe {
                subject,
                queue,
                sid,
            } => {
                subscribe(out, subject, queue.as_deref(), sid);
            }
            Self::Unsubscribe { sid, max } => unsubscribe(out, sid, *max),
            Self::Ping => ping(out),
            Self::Pong => pong(out),
        }
    }

    fn from_op(op: &ClientOp<'_>) -> Self {
        match *op {
            ClientOp::Connect(json) => {
                let mut options = ConnectOptions::default();
                options.merge_json(json).expect("written by us");
                Self::Connect(options.name)
            }
            ClientOp::Publish(message) => {
                assert_eq!(message.total_len_text, &*decimal(message.body.len()));
                Self::Publish {
                    subject: message.subject.to_vec(),
                    reply: message.reply.map(<[u8]>::to_vec),
                    header: message.header_len.map(|_| message.header().to_vec()),
                    payload: message.payload().to_vec(),
                }
            }
            ClientOp::Subscribe(wish) => Self::Subscribe {
                subject: wish.subject.to_vec(),
                queue: wish.queue.map(<[u8]>::to_vec),
                sid: wish.sid.to_vec(),
            },
            ClientOp::Unsubscribe(end) => Self::Unsubscribe {
                sid: end.sid.to_vec(),
                max: end.max,
            },
            ClientOp::Ping => Self::Ping,
            ClientOp::Pong => Self::Pong,
            ClientOp::Info(_) | ClientOp::Ok | ClientOp::Err(_) => panic!("nobody wrote {op:?}"),
        }
    }
}

impl FromServer {
    fn write(&self, out: &mut Bytes) {
        match self {
            Self::Info(name) => {
                info(
                    out,
                    &ServerInfo {
                        server_name: name.clone(),
                        ..ServerInfo::default()
                    },
                );
            }
            Self::Message {
                subject,
                sid,
                reply,
                header,
                payload,
            } => {
                let reply = reply.as_deref();
                let header_bytes = header.as_ref().map_or(0, Vec::len);
                let total = decimal(header_bytes + payload.len());
                match header {
                    None => message_head(out, subject, sid, reply, &total),
                    Some(_) => {
                        header_message_head(
                            out,
                            subject,
                            sid,
                            reply,
                            &decimal(header_bytes),
                            &total,
                        );
                    }
                }
                out.extend_from_slice(header.as_deref().unwrap_or_default());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Self::Ping => ping(out),
            Self::Pong => pong(out),
            Self::Ok => ok(out),
            Self::PublishDenied(subject) => {
                error(
                    out,
                    &ErrorReply::PublishDenied {
                        subject: subject.as_bytes(),
                    },
                );
            }
        }
    }

    fn from_op(op: &ServerOp<'_>) -> Self {
        match *op {
            ServerOp::Info(json) => {
                Self::Info(ServerInfo::parse(json).expect("written by us").server_name)
            }
            ServerOp::Message(message) => {
                let Message {
                    subject,
                    sid,
                    reply,
                    header_len,
                    ..
                } = message;
                Self::Message {
                    subject: subject.to_vec(),
                    sid: sid.to_vec(),
                    reply: reply.map(<[u8]>::to_vec),
                    header: header_len.map(|_| message.header().to_vec()),
                    payload: message.payload().to_vec(),
                }
            }
            ServerOp::Ping => Self::Ping,
            ServerOp::Pong => Self::Pong,
            ServerOp::Ok => Self::Ok,
            ServerOp::Err(argument) => {
                let text = String::from_utf8(error_text(argument).to_vec()).expect("quoted");
                let subject = text
                    .strip_prefix("Permissions Violation for Publish to \"")
                    .and_then(|text| text.strip_suffix('"'))
                    .expect("the only error written");
                Self::PublishDenied(subject.to_owned())
            }
        }
    }
}

fn take_from_client(input: &[u8]) -> Option<(FromClient, usize)> {
    match decode_client(input, &Limits::default()).expect("valid") {
        Decoded::Op { op, consumed } => Some((FromClient::from_op(&op), consumed)),
        Decoded::Incomplete { .. } => None,
    }
}

fn take_from_server(input: &[u8]) -> Option<(FromServer, usize)> {
    match decode_server(input, &Limits::FROM_SERVER).expect("valid") {
        Decoded::Op { op, consumed } => Some((FromServer::from_op(&op), consumed)),
        Decoded::Incomplete { .. } => None,
    }
}

fn from_client() -> impl Strategy<Value = FromClient> {
    prop_oneof![
        1 => ".{0,20}".prop_map(FromClient::Connect),
        6 => (word(), option::of(word()), option::of(body()), body()).prop_map(
            |(subject, reply, header, payload)| FromClient::Publish { subject, reply, header, payload }
        ),
        2 => (word(), option::of(word()), word())
            .prop_map(|(subject, queue, sid)| FromClient::Subscribe { subject, queue, sid }),
        1 => (word(), option::of(1..=999_999_999_u64))
            .prop_map(|(sid, max)| FromClient::Unsubscribe { sid, max }),
        1 => Just(FromClient::Ping),
        1 => Just(FromClient::Pong),
    ]
}

fn from_server() -> impl Strategy<Value = FromServer> {
    prop_oneof![
        1 => ".{0,20}".prop_map(FromServer::Info),
        6 => (word(), word(), option::of(word()), option::of(body()), body()).prop_map(
            |(subject, sid, reply, header, payload)| {
                FromServer::Message { subject, sid, reply, header, payload }
            }
        ),
        1 => Just(FromServer::Ping),
        1 => Just(FromServer::Pong),
        1 => Just(FromServer::Ok),
        1 => "[a-z.]{1,20}".prop_map(FromServer::PublishDenied),
    ]
}

proptest! {
    #[test]
    fn what_a_client_writes_a_server_reads(
        said in vec(from_client(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut stream = Vec::new();
        said.iter().for_each(|op| op.write(&mut stream));
        prop_assert_eq!(read_in_pieces(&stream, &cuts, take_from_client), said);
    }

    #[test]
    fn what_a_server_writes_a_client_reads(
        said in vec(from_server(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut stream = Vec::new();
        said.iter().for_each(|op| op.write(&mut stream));
        prop_assert_eq!(read_in_pieces(&stream, &cuts, take_from_server), said);
    }

    /// The fuzzers' properties on valid streams with some bytes changed; the fuzzers themselves go further.
    #[test]
    fn damaged_streams_keep_the_properties(
        said in vec(from_client(), 0..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        choices in any::<u64>(),
    ) {
        let mut data = choices.to_le_bytes().to_vec();
        said.iter().for_each(|op| op.write(&mut data));
        for (place, byte) in damage {
            let place = place.index(data.len());
            data[place] = byte;
        }
        fuzzing::fuzz_client(&data);
    }

    #[test]
    fn noise_keeps_the_properties(data in vec(any::<u8>(), 0..200)) {
        fuzzing::fuzz_client(&data);
        fuzzing::fuzz_server(&data);
        fuzzing::fuzz_headers(&data);
        fuzzing::fuzz_json(&data);
    }
}

/// Large frames byte by byte would take long above; one is enough.
#[test]
fn a_large_frame_is_asked_for_once() {
    let payload = vec![b'x'; 1_000_000];
    let mut stream = Vec::new();
    publish(&mut stream, b"big", None, &payload);
    let limits = Limits::default();
    let Ok(Decoded::Incomplete { needed }) = decode_client(&stream[..20], &limits) else {
        panic!("twenty bytes are no frame");
    };
    assert_eq!(needed, stream.len());
    let whole = decode_client(&stream, &limits).expect("valid");
    assert!(matches!(whole, Decoded::Op { consumed, .. } if consumed == needed));
}
