//! Owns the properties that must hold whatever one client sends, as a function that panics when one does not. The
//! fuzzers call it; a server has no use for it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ClientOp, Decoded, ServerInfo, ServerOp};
use parking_lot::Mutex;

use crate::{
    Access, ClientSession, CloseReason, Credential, Engine, Limits, Peer, Permissions,
    ResponseLimit, Settings, SubjectRules, Transport, User, Worker,
};

/// Any bytes, in any pieces, to one of three sessions of an engine with tiny limits: nothing panics, everybody is
/// sent well-formed operations, the others are still served, nothing is left of the session once it is closed, and
/// what it is sent does not depend on the pieces.
///
/// An input is a `u64` of choices, little-endian, and then what the client sends. The lowest bit asks for
/// credentials, the next makes the bound on pending bytes tiny, the third allows large payloads, the fourth makes the
/// client a guest with few permissions; all of it seeds the places where the bytes are split. `now` is any instant, since only the shell reads a clock.
///
/// # Panics
/// When a property does not hold.
pub fn engine_session(data: &[u8], now: Instant) {
    let (choices, input) = data.split_at(data.len().min(8));
    let mut bytes = [0; 8];
    bytes[..choices.len()].copy_from_slice(choices);
    let choices = u64::from_le_bytes(bytes);
    let whole = play(input, choices, None, now);
    let in_pieces = |input: &[u8]| {
        let mut rng = fastrand::Rng::with_seed(choices);
        play(input, choices, Some(&mut rng), now)
    };
    let mut pieces = in_pieces(input);
    // Pending bytes are those of one batch, and a queue group's choice is chance.
    if has_tiny_backlog(choices) || uses_queue_groups(input) {
        return;
    }
    if whole.closed.is_some() && pieces.closed.is_none() {
        // A message with a buffer of its own is looked at when its last byte is there. That the one before is
        // wrong is then known one byte later.
        pieces = in_pieces(&[input, b"\n"].concat());
    }
    assert_eq!(pieces, whole, "in pieces and whole");
}

fn access(choices: u64) -> Access {
    if choices & 8 == 0 {
        return if choices & 1 == 1 {
            Access::token("t")
        } else {
            Access::open()
        };
    }
    let rules = |deny: &str| SubjectRules {
        allow: None,
        deny: vec![deny.to_owned()],
    };
    let guest = Permissions {
        publish: rules("a"),
        subscribe: rules("b q"),
        responses: None,
    };
    let answering_guest = Permissions {
        publish: SubjectRules {
            allow: Some(vec!["b.>".to_owned(), "*".to_owned()]),
            deny: Vec::new(),
        },
        subscribe: rules("*.b"),
        responses: Some(ResponseLimit::default()),
    };
    let user = |name: &str, permissions| User {
        name: name.to_owned(),
        credential: Credential::Password("t".into()),
        permissions,
        ..User::default()
    };
    let is_answering = choices & 1 == 1;
    Access {
        users: vec![
            user("host", None),
            user(
                "guest",
                Some(if is_answering { answering_guest } else { guest }),
            ),
        ],
        no_auth_user: Some("guest".to_owned()),
        ..Access::default()
    }
}

/// What a client was sent, as far as it may not depend on how its bytes arrived: messages by subscription and
/// everything else, each in order.
///
/// Two subscriptions that get the same messages are sent them a batch at a time, so their messages' order to each
/// other does depend on it.
#[derive(Debug, PartialEq)]
struct Sent {
    messages: BTreeMap<Vec<u8>, Vec<String>>,
    others: Vec<String>,
    closed: Option<CloseReason>,
}

/// Runs the conversation, with the input in one piece or in random ones.
fn play(input: &[u8], choices: u64, pieces: Option<&mut fastrand::Rng>, now: Instant) -> Sent {
    let engine = Engine::new(Settings {
        info: ServerInfo {
            headers: true,
            ..ServerInfo::default()
        },
        limits: limits(choices),
        access: access(choices),
        seed: 1,
        cluster: None,
    });
    let mut worker = engine.worker();
    let mut client = Client::open(&engine, now);
    let mut with_headers = Client::open(&engine, now);
    let mut without_headers = Client::open(&engine, now);
    let options =
        br#"CONNECT {"verbose":false,"user":"host","pass":"t","auth_token":"t","headers":true}"#;
    with_headers.feed(
        &[options, &b"\r\nSUB > 1\r\n"[..]].concat(),
        &mut worker,
        None,
        now,
    );
    let options = br#"CONNECT {"verbose":false,"user":"host","pass":"t","auth_token":"t"}"#;
    without_headers.feed(
        &[options, &b"\r\nSUB > 22\r\n"[..]].concat(),
        &mut worker,
        None,
        now,
    );

    client.feed(input, &mut worker, pieces, now);

    let is_slow = |other: &Client| {
        has_tiny_backlog(choices) && other.closed() == Some(CloseReason::SlowConsumerPendingBytes)
    };
    // A client that is alive hears of the others until the end.
    with_headers.feed(b"PUB last 2\r\nhi\r\nPING\r\n", &mut worker, None, now);
    for (other, sid) in [(&with_headers, &b"1"[..]), (&without_headers, b"22")] {
        if is_slow(other) {
            continue;
        }
        assert_eq!(other.closed(), None, "a client that did nothing wrong");
        let sent = other.sent();
        assert_eq!(
            sent.messages.keys().collect::<Vec<_>>(),
            [sid],
            "its own subscription"
        );
        let last = sent.messages.values().flatten().next_back();
        // Unless the one that publishes it was dropped.
        assert!(
            is_slow(&with_headers) || last.is_some_and(|message| message.starts_with("MSG last ")),
            "{last:?}"
        );
    }
    if !is_slow(&with_headers) {
        assert_eq!(
            with_headers.sent().others.last().map(String::as_str),
            Some("Pong")
        );
    }
    let sent = client.sent();
    client.close();
    assert_eq!(
        engine.global_account().subscriptions(),
        2,
        "what the others have"
    );
    with_headers.close();
    without_headers.close();
    assert_eq!(engine.global_account().subscriptions(), 0, "nobody is left");
    assert_eq!(engine.connections(), 0, "nobody is left");
    sent
}

fn limits(choices: u64) -> Limits {
    Limits {
        pending_bytes_max: if has_tiny_backlog(choices) {
            1024
        } else {
            64 << 20
        },
        // Sometimes enough for messages that get a buffer of their own.
        payload_bytes_max: if choices & 4 == 4 { 1 << 20 } else { 48 },
        control_line_bytes_max: 256,
        subscriptions_max: Some(6),
        subscription_tokens_max: Some(4),
        ..Limits::default()
    }
}

fn has_tiny_backlog(choices: u64) -> bool {
    choices & 2 == 2
}

/// Whether the input may name a queue group, read without regard for where operations begin.
fn uses_queue_groups(input: &[u8]) -> bool {
    let limits = client::Limits {
        control_line_bytes_max: 256,
        ..client::Limits::default()
    };
    (0..input.len()).any(|start| {
        input[start].eq_ignore_ascii_case(&b'S')
            && matches!(
                client::decode_client(&input[start..], &limits),
                Ok(Decoded::Op { op: ClientOp::Subscribe(subscribe), .. }) if subscribe.queue.is_some()
            )
    })
}

/// A session and what its peer was sent; the peer takes everything at once.
struct Client {
    session: ClientSession,
    peer: Arc<Memory>,
}

#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

impl Transport for Memory {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = self.0.lock();
        slices
            .iter()
            .for_each(|slice| written.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

impl Client {
    fn open(engine: &Arc<Engine>, now: Instant) -> Self {
        let peer = Arc::<Memory>::default();
        let transport = Arc::clone(&peer) as Arc<dyn Transport>;
        Self {
            session: engine.open_client(Peer::default(), transport, now),
            peer,
        }
    }

    fn closed(&self) -> Option<CloseReason> {
        self.session.outbox().status().closed
    }

    /// Lets bytes arrive, as many at a time as the buffers take or in random numbers.
    fn feed(
        &mut self,
        mut bytes: &[u8],
        worker: &mut Worker,
        mut pieces: Option<&mut fastrand::Rng>,
        now: Instant,
    ) {
        while !bytes.is_empty() && self.closed().is_none() {
            let mut piece_bytes = pieces.as_mut().map_or(bytes.len(), |rng| {
                // Small ones far more often.
                let most = rng.usize(1..=64);
                rng.usize(1..=most)
            });
            let mut count = 0;
            for slice in &mut self.session.read_slices(worker) {
                let taken = slice.len().min(bytes.len()).min(piece_bytes);
                slice[..taken].copy_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                piece_bytes -= taken;
                count += taken;
            }
            self.session.handle_read(count, worker, now);
            while self.session.retire_step() {}
            while let Some(check) = self.session.pending_check() {
                self.session.finish_check(check.run(), worker, now);
                while self.session.retire_step() {}
            }
        }
    }

    /// Decodes all that was sent.
    fn sent(&self) -> Sent {
        let mut sent = Sent {
            messages: BTreeMap::new(),
            others: Vec::new(),
            closed: self.closed(),
        };
        let written = self.peer.0.lock();
        let mut at = 0;
        while at < written.len() {
            let decoded = client::decode_server(&written[at..], &client::Limits::FROM_SERVER);
            let Ok(Decoded::Op { op, consumed }) = decoded else {
                panic!(
                    "{decoded:?} at {at} of {:?}",
                    written.escape_ascii().to_string()
                );
            };
            match op {
                ServerOp::Message(message) => {
                    let messages = sent.messages.entry(message.sid.to_vec()).or_default();
                    messages.push(written[at..at + consumed].escape_ascii().to_string());
                }
                other => sent.others.push(format!("{other:?}")),
            }
            at += consumed;
        }
        sent
    }

    fn close(mut self) {
        while !self.session.close_step(CloseReason::ClientClosed) {}
    }
}
