//! What the engine reports, and the server's own connection.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use natterjack_engine::{
    Access, AccountAccess, CloseReason, Credential, Limits, Report, SystemConnection,
    SystemMessage, Transport, User,
};
use parking_lot::Mutex;

use crate::harness::Harness;

/// What reaches the server itself.
struct Ear {
    heard: Mutex<Vec<u8>>,
    room: AtomicUsize,
}

impl Transport for Ear {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for slice in slices {
            let room = self.room.load(Ordering::Relaxed);
            let fits = room.min(slice.len());
            self.room.store(room - fits, Ordering::Relaxed);
            self.heard.lock().extend(&slice[..fits]);
            count += fits;
        }
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }

    fn wake(&self) {}
}

impl Ear {
    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::default(),
            room: AtomicUsize::new(room),
        })
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.heard.lock())).expect("text")
    }
}

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        credential: Credential::Password("p".into()),
        ..User::default()
    }
}

/// Users `a` in `A`, and `sys` in the system account `S`.
fn harness() -> Harness {
    let account = |name: &str, user_name: &str| AccountAccess {
        name: name.to_owned(),
        users: vec![user(user_name)],
        ..AccountAccess::default()
    };
    Harness::with(
        Limits::default(),
        Access {
            accounts: vec![account("A", "a"), account("S", "sys")],
            system_account: Some("S".to_owned()),
            ..Access::default()
        },
    )
}

fn open(harness: &Harness, ear: &Arc<Ear>) -> SystemConnection {
    harness.engine.open_system(Arc::clone(ear) as _)
}

const A: &str = r#""user":"a","pass":"p""#;
const SYSTEM: &str = r#""user":"sys","pass":"p""#;

fn reports(harness: &Harness) -> Vec<String> {
    let mut taken = Vec::new();
    let dropped = harness
        .engine
        .take_reports(usize::MAX, &mut taken, Waker::noop());
    assert!(dropped.is_empty());
    let shown = |report: Report| match report {
        Report::Connected(client) => format!("connected {}", client.client.account),
        Report::Disconnected(client) => {
            let reason = client.stop.expect("it ended").reason;
            format!("disconnected {} {reason:?}", client.client.account)
        }
        Report::AuthenticationFailed(client) => format!("failed {:?}", client.client.user),
        Report::AccountConnections(account) => format!("changed {}", account.name()),
        other => format!("{other:?}"),
    };
    taken.into_iter().map(shown).collect()
}

#[test]
fn nothing_is_reported_unless_somebody_listens() {
    let mut harness = harness();
    let ear = Ear::with_room(usize::MAX);
    let mut own = open(&harness, &ear);
    own.subscribe(b"$SYS.REQ.X").expect("a subject");
    drop(harness.connect(A));
    let mut operator = harness.connect(SYSTEM);
    assert_eq!(reports(&harness), Vec::<String>::new());
    harness.send(&mut operator, b"SUB $SYS.> 1\r\n");
    let mut client = harness.connect(A);
    assert_eq!(reports(&harness), ["changed A", "connected A"]);
    while !client.session.close_step(CloseReason::ClientClosed) {}
    drop(harness.connect(r#""user":"a","pass":"wrong""#));
    assert_eq!(
        reports(&harness),
        [
            "changed A",
            "disconnected A ClientClosed",
            "failed Some(\"a\")",
            "disconnected $G AuthenticationViolation",
        ]
    );
    drop(own);
    drop(harness.connect(A));
    assert_eq!(reports(&harness), Vec::<String>::new());
}

/// The header and the rest of a message that the server itself got, with its reply subject.
fn heard(ear: &Ear) -> (String, String) {
    let heard = ear.take();
    let reply = heard
        .split_ascii_whitespace()
        .find(|word| word.starts_with("_R_."));
    (reply.unwrap_or_default().to_owned(), heard)
}

#[test]
fn what_every_account_may_ask_comes_to_the_system_account() {
    let mut harness = harness();
    let ear = Ear::with_room(usize::MAX);
    let mut client = harness.connect(&format!("\"headers\":true,\"no_responders\":true,{A}"));
    harness.send(&mut client, b"SUB answer 1\r\n");
    let question = b"PUB $SYS.REQ.USER.INFO answer 2\r\n{}\r\n";
    harness.send(&mut client, question);
    assert!(client.take().contains(" 503\r\n"), "nobody is there");
    let mut own = open(&harness, &ear);
    for subject in ["USER.*.INFO", "ACCOUNT.*.CONNZ", "ACCOUNT.*.STATZ"] {
        let subject = format!("$SYS.REQ.{subject}");
        own.subscribe(subject.as_bytes()).expect("a subject");
    }
    let system = Arc::clone(own.account());
    let (now, mut worker) = (harness.now, harness.engine.worker());
    let mut answer = |reply: &str| {
        let message = SystemMessage {
            subject: reply.as_bytes(),
            reply: None,
            header: b"",
            payload: b"yes",
        };
        own.publish(&system, message, &mut worker, now);
    };
    harness.send(&mut client, question);
    let (reply, message) = heard(&ear);
    assert!(
        message.starts_with("HMSG $SYS.REQ.USER.A.INFO 1 _R_."),
        "{message}"
    );
    let details = r#"{"id":1,"acc":"A","user":"a","rtt":1,"kind":"Client","client_type":"nats"}"#;
    assert!(message.contains(details), "{message}");
    assert_eq!(client.take(), "");
    answer(&reply);
    assert_eq!(client.take(), "MSG answer 1 3\r\nyes\r\n");
    answer(&reply);
    assert_eq!(client.take(), "", "one answer");
    for (asked, subject) in [
        ("ACCOUNT.PING.CONNZ", "ACCOUNT.A.CONNZ 2"),
        ("SERVER.PING.CONNZ", "ACCOUNT.A.CONNZ 2"),
        ("ACCOUNT.PING.STATZ", "ACCOUNT.A.STATZ 3"),
    ] {
        let question = format!("PUB $SYS.REQ.{asked} answer 0\r\n\r\n");
        harness.send(&mut client, question.as_bytes());
        let (reply, message) = heard(&ear);
        assert!(message.starts_with(&format!("HMSG $SYS.REQ.{subject} _R_.")));
        assert!(
            message.contains("Info: {\"acc\":\"A\",\"rtt\":1}\r\n"),
            "{message}"
        );
        // Every server of a cluster answers.
        (0..2).for_each(|_| answer(&reply));
        assert_eq!(client.take(), "MSG answer 1 3\r\nyes\r\n".repeat(2));
    }
    for other in ["SERVER.PING", "ACCOUNT.S.CONNZ", "USER.S.INFO"] {
        let question = format!("PUB $SYS.REQ.{other} answer 0\r\n\r\n");
        harness.send(&mut client, question.as_bytes());
        assert_eq!(ear.take(), "", "{other}");
        assert!(client.take().contains(" 503\r\n"), "{other}");
    }
    // In the system account itself users ask about themselves that way; for the rest they need no detour.
    let mut operator = harness.connect(&format!("\"headers\":true,{SYSTEM}"));
    harness.send(&mut operator, b"PUB $SYS.REQ.USER.INFO answer 0\r\n\r\n");
    let (_, message) = heard(&ear);
    assert!(
        message.starts_with("HMSG $SYS.REQ.USER.S.INFO 1 _R_."),
        "{message}"
    );
    harness.send(
        &mut operator,
        b"PUB $SYS.REQ.ACCOUNT.PING.STATZ answer 0\r\n\r\n",
    );
    assert_eq!(
        ear.take(),
        "MSG $SYS.REQ.ACCOUNT.PING.STATZ 3 answer 0\r\n\r\n"
    );
}

#[test]
fn what_the_server_says_may_have_headers() {
    const HEADER: &[u8] = b"NATS/1.0\r\nA: b\r\n\r\n";
    let mut harness = harness();
    let ear = Ear::with_room(usize::MAX);
    let mut own = open(&harness, &ear);
    own.subscribe(b"$SYS.REQ.USER.*.INFO").expect("a subject");
    let mut operator = harness.connect(&format!("\"headers\":true,{SYSTEM}"));
    let mut plain = harness.connect(SYSTEM);
    let mut client = harness.connect(&format!("\"headers\":true,{A}"));
    harness.send(&mut operator, b"SUB told 1\r\n");
    harness.send(&mut plain, b"SUB told 2\r\n");
    harness.send(&mut client, b"SUB answer 3\r\n");
    harness.send(&mut client, b"PUB $SYS.REQ.USER.INFO answer 0\r\n\r\n");
    let (reply, _) = heard(&ear);
    let system = Arc::clone(own.account());
    let (now, mut worker) = (harness.now, harness.engine.worker());
    for subject in ["told", &reply] {
        let message = SystemMessage {
            subject: subject.as_bytes(),
            reply: None,
            header: HEADER,
            payload: b"yes",
        };
        own.publish(&system, message, &mut worker, now);
    }
    let told = operator.take();
    assert!(
        told.ends_with("HMSG told 1 18 21\r\nNATS/1.0\r\nA: b\r\n\r\nyes\r\n"),
        "{told}"
    );
    assert!(plain.take().ends_with("MSG told 2 3\r\nyes\r\n"));
    let answer = client.take();
    assert!(
        answer.ends_with("HMSG answer 3 18 21\r\nNATS/1.0\r\nA: b\r\n\r\nyes\r\n"),
        "{answer}"
    );
}

#[test]
fn the_servers_connection_is_in_no_list_and_hears_only_what_it_asked_for() {
    let mut harness = harness();
    let ear = Ear::with_room(usize::MAX);
    let mut own = open(&harness, &ear);
    assert_eq!(own.subscribe(b"$SYS.REQ.*").expect("a subject"), 1);
    assert!(own.subscribe(b"not..one").is_err());
    assert_eq!(harness.engine.connections(), 0);
    assert!(harness.engine.open_outboxes().is_empty());
    harness.engine.close_all(CloseReason::ServerShutdown);
    let mut operator = harness.connect(SYSTEM);
    let mut client = harness.connect(A);
    harness.send(&mut client, b"PUB $SYS.REQ.X answer 1\r\n1\r\n");
    harness.send(&mut operator, b"PUB $SYS.REQ.X answer 1\r\n2\r\n");
    assert_eq!(ear.take(), "MSG $SYS.REQ.X 1 answer 1\r\n2\r\n");
    // It is no delivery to a client.
    assert_eq!(harness.engine.totals().messages_out, 0);

    let system = Arc::clone(own.account());
    let now = harness.now;
    let mut worker = harness.engine.worker();
    harness.send(&mut operator, b"SUB answer 7\r\n");
    assert!(own.is_heard(b"answer"));
    assert!(!own.is_heard(b"$SYS.REQ.X"), "by itself alone");
    for subject in [&b"answer"[..], b"$SYS.REQ.X"] {
        let message = SystemMessage {
            subject,
            reply: None,
            header: b"",
            payload: b"yes",
        };
        own.publish(&system, message, &mut worker, now);
    }
    assert!(operator.take().ends_with("MSG answer 7 3\r\nyes\r\n"));
    assert_eq!(ear.take(), "");
    let totals = harness.engine.totals();
    assert_eq!((totals.messages_out, totals.bytes_out), (1, 3));
    assert_eq!(totals.messages_in, 2);
}

#[test]
fn what_the_server_is_too_slow_for_is_dropped_and_slows_nobody() {
    let mut harness = harness();
    let ear = Ear::with_room(0);
    let mut own = open(&harness, &ear);
    own.subscribe(b"$SYS.REQ.X").expect("a subject");
    let mut operator = harness.connect(SYSTEM);
    let mut request = format!("PUB $SYS.REQ.X {}\r\n", 256 * 1024).into_bytes();
    request.extend(std::iter::repeat_n(b'x', 256 * 1024));
    request.extend(b"\r\n");
    for _ in 0..20 {
        harness.send(&mut operator, &request);
        assert!(!operator.session.is_stalled(Waker::noop(), harness.now));
    }
    assert!(harness.engine.totals().messages_dropped >= 10);
    assert!(own.outbox().status().closed.is_none());
    assert!(own.outbox().status().pending_bytes <= 2 * 1024 * 1024);
}
