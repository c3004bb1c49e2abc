//! Conversations between real servers, recorded by a proxy between them, byte for byte and in the pieces in which they
//! arrived. They are read, and written again to the same bytes.
//!
//! A recording is a list of pieces: `>` for what the side that dialled sent or `<` for the other, a blank, the number
//! of bytes, a line feed, the bytes, a line feed. Where the name does not say so, both sides are 2.15.1 and have
//! `pool_size: -1`. Most are of the same traffic: interest, plain and in queue groups, in `foo` and `bar` on the side that was
//! dialled, messages from the other, an answer, and the end of the interest.

use std::path::Path;

use natterjack_wire::client::error_text;
use natterjack_wire::error::ErrorReply;
use natterjack_wire::route::{
    self, Compression, Decoded, GossipMode, MessageHead, RouteConnect, RouteInfo, RouteLimits,
    RouteOp, decode_route,
};
use natterjack_wire::s2::Decompressor;

/// What one side said, from its first byte to its last.
#[derive(Default)]
struct Side {
    /// As they arrived.
    pieces: Vec<Vec<u8>>,
}

struct Talk {
    dialling: Side,
    dialled: Side,
}

fn talk(name: &str) -> Talk {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/route");
    let bytes = std::fs::read(folder.join(format!("{name}.talk"))).expect("a recording");
    let mut talk = Talk {
        dialling: Side::default(),
        dialled: Side::default(),
    };
    let mut rest = &bytes[..];
    while let Some(line_end) = rest.iter().position(|&byte| byte == b'\n') {
        let (head, behind) = rest.split_at(line_end);
        let length: usize = str::from_utf8(&head[2..])
            .expect("digits")
            .parse()
            .expect("a number");
        let (piece, behind) = behind[1..].split_at(length);
        let side = match head[0] {
            b'>' => &mut talk.dialling,
            b'<' => &mut talk.dialled,
            other => panic!("{other} is no side"),
        };
        side.pieces.push(piece.to_vec());
        rest = &behind[1..];
    }
    assert!(rest.is_empty());
    talk
}

impl Side {
    /// Hands every operation to `each`. A side that compresses does so behind its first `INFO`.
    fn read(&self, limits: &RouteLimits, mut each: impl FnMut(&RouteOp<'_>, &[u8])) {
        let mut wire = Vec::new();
        let mut plain = Vec::new();
        let mut decompressor: Option<Decompressor> = None;
        for piece in &self.pieces {
            wire.extend_from_slice(piece);
            loop {
                match &mut decompressor {
                    None => plain.append(&mut wire),
                    Some(decompressor) => {
                        let mut taken = 0;
                        while let Decoded::Op { consumed, .. } = decompressor
                            .read(&wire[taken..], &mut plain)
                            .expect("an S2 stream")
                        {
                            taken += consumed;
                        }
                        wire.drain(..taken);
                    }
                }
                let mut taken = 0;
                let mut compresses = false;
                while let Decoded::Op { op, consumed } =
                    decode_route(&plain[taken..], limits).expect("a real server said it")
                {
                    each(&op, &plain[taken..taken + consumed]);
                    taken += consumed;
                    if matches!(op, RouteOp::Info(_)) && decompressor.is_none() {
                        compresses = self.is_compressed();
                        if compresses {
                            break;
                        }
                    }
                }
                plain.drain(..taken);
                if !compresses {
                    break;
                }
                decompressor = Some(Decompressor::default());
                // What came behind the INFO in the same piece is compressed already.
                wire.append(&mut plain);
            }
        }
        assert!(wire.is_empty() && plain.is_empty(), "all is read");
    }

    /// Whether any piece starts a stream of S2; a server set to accept does not say so in its first `INFO`.
    fn is_compressed(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| piece.starts_with(b"\xFF\x06\x00\x00S2sTwO"))
    }

    /// The lines about the account of clients, without payloads.
    fn client_lines(&self, limits: &RouteLimits) -> Vec<String> {
        let mut lines = Vec::new();
        self.read(limits, |op, bytes| {
            let account = match op {
                RouteOp::Message(message) => message.account,
                RouteOp::Subscribe(interest) => interest.account,
                RouteOp::Unsubscribe(end) => end.account,
                _ => None,
            };
            if account == Some(b"$G") {
                let line = bytes.split(|&byte| byte == b'\r').next();
                lines.push(String::from_utf8_lossy(line.expect("a line")).into_owned());
            }
        });
        lines
    }

    fn infos(&self, limits: &RouteLimits) -> Vec<RouteInfo> {
        let mut infos = Vec::new();
        self.read(limits, |op, _| {
            if let RouteOp::Info(json) = op {
                infos.push(RouteInfo::parse(json).expect("a real server said it"));
            }
        });
        infos
    }
}

/// Writes an operation as the real server wrote it.
fn write(op: &RouteOp<'_>, out: &mut Vec<u8>) {
    match *op {
        RouteOp::Connect(json) => {
            route::connect(
                out,
                &RouteConnect::parse(json).expect("a real server said it"),
            );
        }
        RouteOp::Info(json) => {
            route::info(out, &RouteInfo::parse(json).expect("a real server said it"));
            // Only about itself does a server put the blank.
            if !json.ends_with(b" ") {
                out.truncate(out.len() - b" \r\n".len());
                out.extend_from_slice(b"\r\n");
            }
        }
        RouteOp::Message(message) => {
            let head = MessageHead {
                origin: message.origin,
                account: message.account,
                subject: message.subject,
                reply: message.reply,
                queues: &message.queues.collect::<Vec<_>>(),
                header_len_text: message.header_len.map(|_| message.header_len_text),
                total_len_text: message.total_len_text,
            };
            head.write(out);
            out.extend_from_slice(message.body);
            out.extend_from_slice(b"\r\n");
        }
        RouteOp::Subscribe(interest) => route::subscribe(out, &interest),
        RouteOp::Unsubscribe(end) => route::unsubscribe(out, &end),
        RouteOp::Ping => route::ping(out),
        RouteOp::Pong => route::pong(out),
        RouteOp::Err(text) => {
            assert_eq!(
                error_text(text),
                br#"Not possible to have a dedicated route for account "$SYS" between those servers"#
            );
            route::error(
                out,
                &ErrorReply::DedicatedRouteImpossible { account: b"$SYS" },
            );
        }
        RouteOp::AccountSubscribe(_) | RouteOp::AccountUnsubscribe(_) | RouteOp::Ok => {
            panic!("not recorded: {op:?}")
        }
    }
}

/// Go writes `>` inside JSON as an escape, and 2.9 puts two blanks behind `LS-`, as if there were an empty origin.
fn unescaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.replace("\\u003e", ">").replace("LS-  ", "LS- ")
}

const POOL: RouteLimits = RouteLimits {
    control_line_bytes_max: 65_536,
    payload_bytes_max: 1_048_576,
    dedicated: false,
    unsubscribe_origin: true,
};

const DEDICATED: RouteLimits = RouteLimits {
    dedicated: true,
    ..POOL
};

/// The side that dialled is from before origins were named.
const DIALLED_BY_OLD: RouteLimits = RouteLimits {
    unsubscribe_origin: false,
    ..POOL
};

const TALKS: [&str; 14] = [
    "single_connection",
    "pool_place_2",
    "pool_system_account",
    "dialled_by_2_9_10",
    "dials_2_9_10",
    "refuses_2_9_10_for_one_account",
    "compressed_s2_fast",
    "compressed_s2_better_and_s2_best",
    "compressed_accept_and_s2_auto",
    "permissions",
    "gossip_and_lame_duck",
    "leaf_node_behind_a_route",
    "leaf_node_behind_2_9_10",
    "account_leaves_the_pool",
];

#[test]
fn all_are_written_as_they_were_read() {
    let mut ops = 0;
    for name in TALKS {
        let limits = match name {
            "pool_system_account" => DEDICATED,
            "leaf_node_behind_2_9_10" => DIALLED_BY_OLD,
            _ => POOL,
        };
        let talk = talk(name);
        for side in [&talk.dialling, &talk.dialled] {
            side.read(&limits, |op, bytes| {
                let mut again = Vec::new();
                write(op, &mut again);
                assert_eq!(unescaped(&again), unescaped(bytes), "{name}");
                ops += 1;
            });
        }
    }
    assert!(ops > 1000, "{ops} operations were recorded");
}

#[test]
fn the_same_traffic_on_every_connection() {
    const DIALLED: [&str; 12] = [
        "RS+ $G foo",
        "RS+ $G bar q1 1",
        "RS+ $G bar q1 2",
        "RS+ $G bar q2 1",
        "RS+ $G bar",
        "RMSG $G inbox.1 3",
        "RMSG $G inbox.1 2500",
        "RS- $G foo",
        "RS+ $G bar q1 1",
        "RS- $G bar q1",
        // The connection of the client ends.
        "RS- $G bar",
        "RS- $G bar q2",
    ];
    const DIALLING: [&str; 9] = [
        "RMSG $G foo 5",
        "RS+ $G inbox.1",
        "RMSG $G foo inbox.1 5",
        "RMSG $G bar | q1 q2 5",
        "RMSG $G bar + inbox.1 q1 q2 5",
        "HMSG $G bar + inbox.1 q1 q2 22 27",
        "HMSG $G foo 22 27",
        "HMSG $G bar | q1 q2 022 0027",
        "RMSG $G foo 0",
    ];
    for name in [
        "single_connection",
        "pool_place_2",
        "dialled_by_2_9_10",
        "dials_2_9_10",
        "compressed_s2_fast",
        "compressed_s2_better_and_s2_best",
        "compressed_accept_and_s2_auto",
    ] {
        let talk = talk(name);
        let mut dialled = talk.dialled.client_lines(&POOL);
        let mut dialling = talk.dialling.client_lines(&POOL);
        // Groups have no order, neither those of a message nor the interests of a client that is gone.
        for line in dialling.iter_mut().chain(&mut dialled) {
            *line = line.replace("q2 q1", "q1 q2");
        }
        let ended = dialled.len() - 2;
        dialled[ended..].sort();
        assert_eq!(dialled, DIALLED, "{name}");
        // A server that is stopped takes back its interest, or does not come to it.
        dialling.retain(|line| line != "RS- $G inbox.1");
        assert_eq!(dialling, DIALLING, "{name}");
    }
}

#[test]
fn lines_for_one_account_do_not_name_it() {
    let talk = talk("pool_system_account");
    let mut subjects = Vec::new();
    talk.dialled.read(&DEDICATED, |op, _| match op {
        RouteOp::Subscribe(interest) => subjects.push(interest.subject.to_vec()),
        RouteOp::Message(message) => assert!(message.subject.starts_with(b"$SYS.SERVER.")),
        _ => {}
    });
    assert!(subjects.len() > 50, "{} interests", subjects.len());
    assert!(subjects.iter().all(|subject| subject.starts_with(b"$SYS.")));
    let infos = talk.dialling.infos(&DEDICATED);
    assert_eq!(infos[0].route_account, "$SYS");
    assert_eq!(infos[0].route_pool_size, 3);
}

#[test]
fn places_in_the_pool() {
    let infos = talk("pool_place_2").dialling.infos(&POOL);
    assert_eq!((infos[0].route_pool_size, infos[0].route_pool_idx), (3, 2));
    assert_eq!(infos[0].compression, "off");
}

#[test]
fn older_servers_do_not_know_of_it() {
    let talk = talk("dialled_by_2_9_10");
    let (old, new) = (talk.dialling.infos(&POOL), talk.dialled.infos(&POOL));
    let old = old.first().expect("an INFO");
    assert_eq!((old.version.as_str(), old.proto), ("2.9.10", 2));
    assert_eq!(
        Compression::from_name(&old.compression),
        Ok(Compression::NotSupported)
    );
    assert!(old.lnoc && !old.lnocu && !old.ln && old.route_pool_size == 0);
    let new = new.first().expect("an INFO");
    assert!(new.lnoc && new.lnocu && new.ln && new.route_pool_size == 3);
}

#[test]
fn each_side_says_info_again_once_it_compresses() {
    #[track_caller]
    fn check(name: &str, dialled: [&str; 2], dialling: [&str; 2]) {
        let talk = talk(name);
        let modes = |side: &Side| -> Vec<String> {
            let infos = side.infos(&POOL).into_iter();
            infos.map(|info| info.compression).collect()
        };
        assert_eq!(modes(&talk.dialled), dialled);
        assert_eq!(modes(&talk.dialling), dialling);
    }
    check("compressed_s2_fast", ["s2_fast"; 2], ["s2_fast"; 2]);
    check(
        "compressed_s2_better_and_s2_best",
        ["s2_best"; 2],
        ["s2_better"; 2],
    );
    check(
        "compressed_accept_and_s2_auto",
        ["accept", "s2_fast"],
        ["s2_auto"; 2],
    );
}

#[test]
fn what_is_told_of_others_and_of_oneself() {
    let infos = talk("gossip_and_lame_duck").dialled.infos(&POOL);
    let [first, gossip, lame_duck] = &infos[..] else {
        panic!("{} INFOs", infos.len());
    };
    assert_eq!(gossip.server_name, "C");
    assert_eq!(gossip.gossip_mode, GossipMode::Disabled);
    assert_eq!(
        gossip.ip,
        format!("nats-route://127.0.0.1:{}/", gossip.port)
    );
    assert!(gossip.nonce.is_empty() && !first.nonce.is_empty());
    assert!(lame_duck.ldm && lame_duck.nonce.is_empty() && lame_duck.compression.is_empty());
    assert_eq!(lame_duck.server_id, first.server_id);
}

#[test]
fn permissions_are_told() {
    let infos = talk("permissions").dialled.infos(&POOL);
    let import = infos[0].import.as_ref().expect("there");
    assert_eq!(
        (&import.allow[..], &import.deny[..]),
        (&["foo".to_owned(), ">".into()][..], &["z".to_owned()][..])
    );
    assert_eq!(infos[0].export.as_ref().expect("there").allow, ["foo"]);
}

#[test]
fn leaf_nodes_have_an_origin() {
    let lines = talk("leaf_node_behind_a_route")
        .dialling
        .client_lines(&POOL);
    for line in [
        "LS+ leafcl $G lf",
        "LS+ leafcl $G lq q 1",
        "LMSG leafcl $G rr 0 1",
        "LMSG leafcl $G rr rep 0 1",
        "LMSG leafcl $G rr 12 13",
        "LMSG leafcl $G rq + rep qq 0 1",
        "LS- leafcl $G lf",
        "LS- leafcl $G lq q",
    ] {
        assert!(
            lines.iter().any(|other| other == line),
            "{line} is not in {lines:?}"
        );
    }
}

#[test]
fn origins_were_not_always_named() {
    let lines = talk("leaf_node_behind_2_9_10")
        .dialling
        .client_lines(&DIALLED_BY_OLD);
    for line in [
        "LS+ leafcl $G lf",
        "LMSG leafcl $G rq + rep qq 0 1",
        "LS-  $G lf",
        "LS-  $G lq q",
    ] {
        assert!(
            lines.iter().any(|other| other == line),
            "{line} is not in {lines:?}"
        );
    }
}

/// Both sides are reloaded, one after the other, so that the account X has a connection of its own. The `INFO`s in which
/// they agree on it say nothing about a server.
#[test]
fn an_account_leaves_the_pool() {
    let talk = talk("account_leaves_the_pool");
    let asked = |side: &Side| -> Vec<(String, String)> {
        let infos = side.infos(&POOL).into_iter();
        let infos = infos.filter(|info| !info.route_acc_add_reqid.is_empty());
        infos
            .map(|info| {
                assert!(info.server_id.is_empty() && info.port == 0);
                (info.route_account, info.route_acc_add_reqid)
            })
            .collect()
    };
    let (dialling, dialled) = (asked(&talk.dialling), asked(&talk.dialled));
    let [(account, first), (nothing, second)] = &dialling[..] else {
        panic!("{dialling:?}");
    };
    assert_eq!((account.as_str(), nothing.as_str()), ("X", ""));
    assert_eq!(
        dialled,
        [
            (String::new(), first.clone()),
            ("X".to_owned(), second.clone())
        ]
    );
}
