//! Between servers, what is written reads the same, however the bytes are cut on their way and whatever the
//! connection is for.

use natterjack_wire::fuzzing;
use natterjack_wire::route::{
    self, AccountMove, Decoded, GossipMode, MessageHead, QueueInterest, RemoteSubscribe,
    RemoteUnsubscribe, RouteConnect, RouteInfo, RouteLimits, RouteOp, SubjectPermission, decimal,
    decode_route,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::stream::{Bytes, body, read_in_pieces, word};

/// What a server says, with its own memory.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Connect(RouteConnect),
    Info(Box<RouteInfo>),
    Message {
        origin: Option<Bytes>,
        account: Option<Bytes>,
        subject: Bytes,
        reply: Option<Bytes>,
        queues: Vec<Bytes>,
        header: Option<Bytes>,
        payload: Bytes,
    },
    Subscribe {
        origin: Option<Bytes>,
        account: Option<Bytes>,
        subject: Bytes,
        queue: Option<(Bytes, u32)>,
    },
    Unsubscribe {
        leaf: bool,
        origin: Option<Bytes>,
        account: Option<Bytes>,
        subject: Bytes,
        queue: Option<Bytes>,
    },
    Ping,
    Pong,
}

impl Said {
    fn write(&self, out: &mut Bytes) {
        match self {
            Self::Connect(options) => route::connect(out, options),
            Self::Info(info) => route::info(out, info),
            Self::Message {
                origin,
                account,
                subject,
                reply,
                queues,
                header,
                payload,
            } => {
                let queues: Vec<&[u8]> = queues.iter().map(Vec::as_slice).collect();
                let header_len = header.as_ref().map(|header| decimal(header.len()));
                let header = header.as_deref().unwrap_or_default();
                let head = MessageHead {
                    origin: origin.as_deref(),
                    account: account.as_deref(),
                    subject,
                    reply: reply.as_deref(),
                    queues: &queues,
                    header_len_text: header_len.as_deref(),
                    total_len_text: &decimal(header.len() + payload.len()),
                };
                head.write(out);
                out.extend_from_slice(header);
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Self::Subscribe {
                origin,
                account,
                subject,
                queue,
            } => {
                let queue = queue.as_ref().map(|(name, weight)| QueueInterest {
                    name,
                    weight: *weight,
                });
                let interest = RemoteSubscribe {
                    origin: origin.as_deref(),
                    account: account.as_deref(),
                    subject,
                    queue,
                };
                route::subscribe(out, &interest);
            }
            Self::Unsubscribe {
                leaf,
                origin,
                account,
                subject,
                queue,
            } => {
                let end = RemoteUnsubscribe {
                    leaf: *leaf,
                    origin: origin.as_deref(),
                    account: account.as_deref(),
                    subject,
                    queue: queue.as_deref(),
                };
                route::unsubscribe(out, &end);
            }
            Self::Ping => route::ping(out),
            Self::Pong => route::pong(out),
        }
    }

    fn from_op(op: &RouteOp<'_>) -> Self {
        let owned = |word: Option<&[u8]>| word.map(<[u8]>::to_vec);
        match *op {
            RouteOp::Connect(json) => Self::Connect(RouteConnect::parse(json).expect("ours")),
            RouteOp::Info(json) => Self::Info(Box::new(RouteInfo::parse(json).expect("ours"))),
            RouteOp::Message(message) => Self::Message {
                origin: owned(message.origin),
                account: owned(message.account),
                subject: message.subject.to_vec(),
                reply: owned(message.reply),
                queues: message.queues.map(<[u8]>::to_vec).collect(),
                header: message.header_len.map(|_| message.header().to_vec()),
                payload: message.payload().to_vec(),
            },
            RouteOp::Subscribe(interest) => Self::Subscribe {
                origin: owned(interest.origin),
                account: owned(interest.account),
                subject: interest.subject.to_vec(),
                queue: interest
                    .queue
                    .map(|queue| (queue.name.to_vec(), queue.weight)),
            },
            RouteOp::Unsubscribe(end) => Self::Unsubscribe {
                leaf: end.leaf,
                origin: owned(end.origin),
                account: owned(end.account),
                subject: end.subject.to_vec(),
                queue: owned(end.queue),
            },
            RouteOp::Ping => Self::Ping,
            RouteOp::Pong => Self::Pong,
            _ => panic!("nobody wrote {op:?}"),
        }
    }

    /// As it would be said on a connection for one account, or to a server from before origins were named.
    fn on(mut self, limits: &RouteLimits) -> Self {
        match &mut self {
            Self::Message {
                origin,
                account,
                header,
                ..
            } => {
                if limits.dedicated {
                    *account = None;
                }
                // With an origin, an empty header is none.
                if origin.is_some() && header.as_ref().is_some_and(Vec::is_empty) {
                    *header = None;
                }
            }
            Self::Subscribe { account, .. } if limits.dedicated => *account = None,
            Self::Unsubscribe {
                leaf,
                origin,
                account,
                ..
            } => {
                if limits.dedicated {
                    *account = None;
                }
                if *leaf != origin.is_some() || !limits.unsubscribe_origin {
                    *origin = None;
                    *leaf = *leaf && !limits.unsubscribe_origin;
                }
            }
            _ => {}
        }
        self
    }
}

fn connect() -> impl Strategy<Value = RouteConnect> {
    let texts = (".{0,20}", ".{0,20}", ".{0,20}", "[a-z]{0,3}", ".{0,5}");
    (texts, any::<[bool; 8]>()).prop_map(|((name, cluster, user, pass, gateway), flags)| {
        let [
            echo,
            verbose,
            tls_required,
            headers,
            cluster_dynamic,
            lnoc,
            lnocu,
            ln,
        ] = flags;
        RouteConnect {
            echo,
            verbose,
            pedantic: !verbose,
            user,
            pass,
            tls_required,
            headers,
            name,
            cluster,
            cluster_dynamic,
            lnoc,
            lnocu,
            ln,
            gateway,
            lang: String::new(),
        }
    })
}

fn permission() -> impl Strategy<Value = Option<SubjectPermission>> {
    let subjects = || vec("[a-z.*>]{1,6}", 0..3);
    option::of((subjects(), subjects()).prop_map(|(allow, deny)| SubjectPermission { allow, deny }))
}

fn info() -> impl Strategy<Value = RouteInfo> {
    let texts = vec(".{0,12}", 12);
    let numbers = (any::<u16>(), any::<i64>(), 0..5_i64, 0..5_i64, 0..3_u8);
    let lists = vec(vec(".{0,12}", 0..3), 3);
    let flags = any::<[bool; 11]>();
    let parts = (texts, numbers, lists, flags, permission(), permission());
    parts.prop_map(|(texts, numbers, lists, flags, import, export)| {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().expect("enough");
        let mut lists = lists.into_iter();
        let mut list = || lists.next().expect("enough");
        let [
            headers,
            auth_required,
            tls_required,
            tls_verify,
            tls_available,
            ..,
        ] = flags;
        let [.., jetstream, cluster_dynamic, ldm, lnoc, lnocu, ln] = flags;
        let (port, max_payload, route_pool_size, route_pool_idx, gossip_mode) = numbers;
        RouteInfo {
            server_id: text(),
            server_name: text(),
            version: text(),
            proto: route_pool_size,
            git_commit: text(),
            go: text(),
            host: text(),
            port,
            headers,
            auth_required,
            tls_required,
            tls_verify,
            tls_available,
            max_payload,
            jetstream,
            ip: text(),
            nonce: text(),
            cluster: text(),
            cluster_dynamic,
            domain: text(),
            connect_urls: list(),
            ws_connect_urls: list(),
            ldm,
            compression: text(),
            import,
            export,
            lnoc,
            lnocu,
            strays: false,
            ln,
            route_pool_size,
            route_pool_idx,
            route_account: text(),
            route_acc_add_reqid: String::new(),
            account_moves: 1,
            account_move: AccountMove::from(gossip_mode),
            account_move_number: 7,
            gossip_mode: GossipMode::from(gossip_mode),
            gateway_url: String::new(),
            leafnode_urls: list(),
        }
    })
}

fn said() -> impl Strategy<Value = Said> {
    let origin = || option::weighted(0.2, word());
    let account = || word().prop_map(Some);
    let message = (
        origin(),
        account(),
        word(),
        option::of(word()),
        vec(word(), 0..5),
        option::of(body()),
        body(),
    );
    let subscribe = (
        origin(),
        account(),
        word(),
        option::of((word(), 0..1000_u32)),
    );
    let unsubscribe = (
        any::<bool>(),
        origin(),
        account(),
        word(),
        option::of(word()),
    );
    prop_oneof![
        1 => connect().prop_map(Said::Connect),
        1 => info().prop_map(|info| Said::Info(Box::new(info))),
        8 => message.prop_map(|(origin, account, subject, reply, queues, header, payload)| {
            Said::Message { origin, account, subject, reply, queues, header, payload }
        }),
        3 => subscribe.prop_map(|(origin, account, subject, queue)| {
            Said::Subscribe { origin, account, subject, queue }
        }),
        3 => unsubscribe.prop_map(|(leaf, origin, account, subject, queue)| {
            Said::Unsubscribe { leaf, origin, account, subject, queue }
        }),
        1 => Just(Said::Ping),
        1 => Just(Said::Pong),
    ]
}

proptest! {
    #[test]
    fn what_a_server_writes_a_server_reads(
        said in vec(said(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..30),
        dedicated in any::<bool>(),
        unsubscribe_origin in any::<bool>(),
    ) {
        let limits = RouteLimits { dedicated, unsubscribe_origin, ..RouteLimits::default() };
        let said: Vec<Said> = said.into_iter().map(|said| said.on(&limits)).collect();
        let mut stream = Vec::new();
        said.iter().for_each(|op| op.write(&mut stream));
        let take = |input: &[u8]| match decode_route(input, &limits).expect("valid") {
            Decoded::Op { op, consumed } => Some((Said::from_op(&op), consumed)),
            Decoded::Incomplete { .. } => None,
        };
        prop_assert_eq!(read_in_pieces(&stream, &cuts, take), said);
    }

    /// The fuzzer's properties on valid streams with some bytes changed; the fuzzer itself goes further.
    #[test]
    fn damaged_streams_keep_the_properties(
        said in vec(said(), 0..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        choices in any::<u64>(),
    ) {
        let mut data = choices.to_le_bytes().to_vec();
        said.iter().for_each(|op| op.write(&mut data));
        for (place, byte) in damage {
            let place = place.index(data.len());
            data[place] = byte;
        }
        fuzzing::fuzz_route(&data);
    }

    #[test]
    fn noise_keeps_the_properties(data in vec(any::<u8>(), 0..200)) {
        fuzzing::fuzz_route(&data);
        fuzzing::fuzz_s2(&data);
    }
}
