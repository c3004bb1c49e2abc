//! Who may do what, as clients see it: logging in, accounts, permissions, and all of it changing.

use std::sync::Arc;
use std::time::Duration;

use natterjack_engine::{
    Access, AccountAccess, AccountLimits, CertificateNames, CloseReason, ConnectionType,
    Credential, Limits, Nonce, Peer, Permissions, ResponseLimit, SubjectRules, Trust, User,
};

use proptest::prelude::*;

use crate::harness::{Client, Harness};

/// `s3cret` with cost 4.
const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";

fn user(name: &str, permissions: Option<Permissions>) -> User {
    User {
        name: name.to_owned(),
        credential: Credential::Password(name.into()),
        permissions,
        ..User::default()
    }
}

fn account(name: &str, users: &[&str], limits: AccountLimits) -> AccountAccess {
    AccountAccess {
        name: name.to_owned(),
        users: users.iter().map(|name| user(name, None)).collect(),
        limits,
        ..AccountAccess::default()
    }
}

fn rules(allow: Option<&[&str]>, deny: &[&str]) -> SubjectRules {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    SubjectRules {
        allow: allow.map(owned),
        deny: owned(deny),
    }
}

fn publish(allow: Option<&[&str]>, deny: &[&str]) -> Option<Permissions> {
    Some(Permissions {
        publish: rules(allow, deny),
        ..Permissions::default()
    })
}

fn subscribe(allow: Option<&[&str]>, deny: &[&str]) -> Option<Permissions> {
    Some(Permissions {
        subscribe: rules(allow, deny),
        ..Permissions::default()
    })
}

fn users(users: Vec<User>) -> Access {
    Access {
        users,
        ..Access::default()
    }
}

fn harness(access: Access) -> Harness {
    assert_eq!(access.problems(), []);
    Harness::with(Limits::default(), access)
}

fn login(harness: &mut Harness, name: &str) -> Client {
    let client = harness.connect(&format!("\"user\":\"{name}\",\"pass\":\"{name}\""));
    assert_eq!(client.closed(), None, "{name}");
    client
}

#[track_caller]
fn exchange(harness: &mut Harness, client: &mut Client, sent: &str, expected: &str) {
    harness.send(client, sent.as_bytes());
    assert_eq!(client.take(), expected, "after {sent:?}");
}

#[test]
fn credentials_of_every_form_let_in_and_wrong_ones_do_not() {
    for (access, right, wrong) in [
        (
            Access::token("t"),
            r#""auth_token":"t""#,
            r#""auth_token":"x""#,
        ),
        (
            Access::user("u", HASH),
            r#""user":"u","pass":"s3cret""#,
            r#""user":"u","pass":"x""#,
        ),
        (
            users(vec![user("a", None)]),
            r#""user":"a","pass":"a""#,
            r#""user":"b","pass":"a""#,
        ),
    ] {
        let mut harness = harness(access);
        let mut client = harness.connect(right);
        exchange(&mut harness, &mut client, "PING\r\n", "PONG\r\n");
        let client = harness.connect(wrong);
        assert_eq!(client.take(), VIOLATION);
        assert_eq!(client.closed(), Some(CloseReason::AuthenticationViolation));
        let mut silent = harness.open();
        assert!(silent.take().contains("\"auth_required\":true"));
        exchange(&mut harness, &mut silent, "PING\r\n", VIOLATION);
    }
}

#[test]
fn while_a_password_is_checked_nothing_else_happens() {
    let mut harness = harness(Access::user("u", HASH));
    let connect = |password: &str| {
        format!(
            "CONNECT {{\"verbose\":false,\"user\":\"u\",\"pass\":\"{password}\"}}\r\nPING\r\nSUB a 1\r\nPU"
        )
    };
    let mut client = harness.open();
    client.take();
    harness.send_unchecked(&mut client, connect("s3cret").as_bytes());
    assert!(client.session.is_checking());
    let check = client.session.pending_check().expect("a check");
    assert!(client.session.pending_check().is_none(), "handed out once");
    assert_eq!(client.take(), "");
    assert!(check.run());
    harness.finish_check(&mut client, true);
    assert!(!client.session.is_checking());
    assert_eq!(client.take(), "PONG\r\n");
    // The operation that had begun goes on.
    exchange(
        &mut harness,
        &mut client,
        "B a 1\r\nx\r\n",
        "MSG a 1 1\r\nx\r\n",
    );

    let mut wrong = harness.open();
    wrong.take();
    harness.send_unchecked(&mut wrong, connect("wrong").as_bytes());
    let check = wrong.session.pending_check().expect("a check");
    harness.finish_check(&mut wrong, check.run());
    assert_eq!(wrong.take(), VIOLATION);

    // The time to log in runs on, and an outcome that comes later changes nothing.
    let mut late = harness.open();
    late.take();
    harness.send_unchecked(&mut late, connect("s3cret").as_bytes());
    harness.pass(&mut late, Duration::from_secs(3));
    assert_eq!(late.closed(), Some(CloseReason::AuthenticationTimeout));
    assert_eq!(late.take(), "-ERR 'Authentication Timeout'\r\n");
    harness.finish_check(&mut late, true);
    assert_eq!(late.take(), "");
}

#[test]
fn strangers_are_read_from_in_small_pieces() {
    let mut harness = harness(Access::token("t"));
    let mut client = harness.open();
    assert!(harness.read_bytes(&mut client) <= 16 * 1024);
    harness.send(&mut client, b"CONNECT {\"auth_token\":\"t\"}\r\n");
    assert!(harness.read_bytes(&mut client) > 16 * 1024);
}

#[test]
fn accounts_do_not_hear_each_other() {
    let mut harness = harness(Access {
        users: vec![user("g", None)],
        accounts: ["A", "B"]
            .map(|name| account(name, &[&name.to_lowercase()], AccountLimits::default()))
            .to_vec(),
        ..Access::default()
    });
    let mut clients = ["g", "a", "b"].map(|name| login(&mut harness, name));
    for client in &mut clients {
        exchange(&mut harness, client, "SUB > 1\r\n", "");
    }
    let mut other = login(&mut harness, "a");
    exchange(&mut harness, &mut other, "PUB x 1\r\nm\r\n", "");
    let heard: Vec<String> = clients.iter().map(Client::take).collect();
    assert_eq!(heard, ["", "MSG x 1 1\r\nm\r\n", ""]);
    let subscriptions = |name: &str| {
        harness
            .engine
            .account(name)
            .map(|account| account.subscriptions())
    };
    assert_eq!(
        ["$G", "A", "B", "$SYS", "C"].map(subscriptions),
        [Some(1), Some(1), Some(1), Some(0), None]
    );
    for client in clients {
        client.close();
    }
    assert_eq!(
        harness
            .engine
            .account("A")
            .expect("an account")
            .subscriptions(),
        0
    );
}

#[test]
fn a_client_learns_its_account_and_its_bounds() {
    let limits = AccountLimits {
        payload_bytes_max: Some(5),
        subscriptions_max: Some(1),
        connections_max: Some(2),
    };
    let mut harness = harness(Access {
        accounts: vec![
            account("A", &["a"], limits),
            account("$SYS", &["s"], AccountLimits::default()),
        ],
        ..Access::default()
    });
    let mut client = harness.connect(r#""user":"a","pass":"a","protocol":1"#);
    harness.send(&mut client, b"PING\r\n");
    let info = client.take();
    assert!(
        info.contains("\"remote_account\":\"A\"") && info.contains("\"max_payload\":5,"),
        "{info}"
    );
    assert!(!info.contains("acc_is_sys"));
    exchange(
        &mut harness,
        &mut client,
        "SUB a 1\r\nSUB b 2\r\n",
        "-ERR 'maximum subscriptions exceeded'\r\n",
    );
    exchange(
        &mut harness,
        &mut client,
        "PUB a 5\r\n12345\r\n",
        "MSG a 1 5\r\n12345\r\n",
    );
    exchange(
        &mut harness,
        &mut client,
        "PUB a 6\r\n",
        "-ERR 'Maximum Payload Violation'\r\n",
    );

    let mut system = harness.connect(r#""user":"s","pass":"s","protocol":1"#);
    harness.send(&mut system, b"PING\r\n");
    assert!(system.take().contains("\"acc_is_sys\":true"));

    client.close();
    let first = login(&mut harness, "a");
    let _second = login(&mut harness, "a");
    let third = harness.connect(r#""user":"a","pass":"a""#);
    assert_eq!(
        third.take(),
        "-ERR 'maximum account active connections exceeded'\r\n"
    );
    assert_eq!(
        third.closed(),
        Some(CloseReason::AccountConnectionsExceeded)
    );
    third.close();
    first.close();
    login(&mut harness, "a");
}

#[test]
fn a_second_connect_moves_to_another_account() {
    let mut harness = harness(Access {
        accounts: ["A", "B"]
            .map(|name| account(name, &[&name.to_lowercase()], AccountLimits::default()))
            .to_vec(),
        ..Access::default()
    });
    let mut client = login(&mut harness, "a");
    let many: String = (0..3000)
        .map(|sid| format!("SUB s.{sid} {sid}\r\n"))
        .collect();
    exchange(&mut harness, &mut client, &many, "");
    exchange(
        &mut harness,
        &mut client,
        "CONNECT {\"user\":\"b\",\"pass\":\"b\"}\r\nSUB x 1\r\nCONNECT {\"user\":\"a\",\"pass\":\"a\"}\r\nSUB y 1\r\n",
        "",
    );
    let mut publisher = login(&mut harness, "a");
    exchange(
        &mut harness,
        &mut publisher,
        "PUB s.7 0\r\n\r\nPUB x 0\r\n\r\nPUB y 0\r\n\r\n",
        "",
    );
    assert_eq!(client.take(), "MSG y 1 0\r\n\r\n");
    let subscriptions = |name: &str| {
        harness
            .engine
            .account(name)
            .expect("an account")
            .subscriptions()
    };
    assert_eq!((subscriptions("A"), subscriptions("B")), (1, 0));
}

#[test]
fn a_user_for_those_without_credentials() {
    let access = Access {
        accounts: vec![account("A", &["guest", "other"], AccountLimits::default())],
        no_auth_user: Some("guest".to_owned()),
        ..Access::default()
    };
    let mut harness = harness(access);
    let mut silent = harness.open();
    assert!(!silent.take().contains("auth_required"));
    exchange(&mut harness, &mut silent, "SUB x 1\r\n", "+OK\r\n");
    let mut bare = harness.connect("");
    exchange(&mut harness, &mut bare, "PUB x 0\r\n\r\n", "");
    assert_eq!(silent.take(), "MSG x 1 0\r\n\r\n");
    let wrong = harness.connect(r#""user":"guest","pass":"wrong""#);
    assert_eq!(wrong.take(), VIOLATION);
    // Who stays silent altogether is let go all the same.
    let mut idle = harness.open();
    idle.take();
    harness.pass(&mut idle, Duration::from_secs(3));
    assert_eq!(idle.take(), "-ERR 'Authentication Timeout'\r\n");
}

#[test]
fn users_may_be_bound_to_kinds_of_connections() {
    let bound = |kind| User {
        connection_types: vec![kind],
        ..user("a", None)
    };
    let socket = || Peer {
        address: Some(([127, 0, 0, 1], 1).into()),
        ..Peer::default()
    };
    for (kind, peer, is_let_in) in [
        (ConnectionType::Standard, socket(), true),
        (ConnectionType::InProcess, socket(), false),
        (ConnectionType::Standard, Peer::default(), false),
        (ConnectionType::InProcess, Peer::default(), true),
    ] {
        // Neither CONNECT nor its absence leads around it.
        for first in [
            "CONNECT {\"user\":\"a\",\"pass\":\"a\"}\r\n",
            "CONNECT {}\r\n",
            "PING\r\n",
        ] {
            let mut harness = harness(Access {
                no_auth_user: Some("a".to_owned()),
                ..users(vec![bound(kind)])
            });
            let mut client = harness.open_as(peer.clone());
            harness.send(&mut client, first.as_bytes());
            assert_eq!(client.closed().is_none(), is_let_in, "{kind} {first}");
        }
    }
}

#[test]
fn the_embedders_own_clients_need_no_credentials() {
    let mut harness = harness(users(vec![user("a", publish(Some(&["a"]), &[]))]));
    let trusted = |user: Option<&str>| Peer {
        trust: Trust::Embedder(user.map(Arc::from)),
        ..Peer::default()
    };
    let mut own = harness.open_as(trusted(None));
    own.take();
    exchange(
        &mut harness,
        &mut own,
        "CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPUB x 0\r\n\r\n",
        "MSG x 1 0\r\n\r\n",
    );
    let mut as_user = harness.open_as(trusted(Some("a")));
    as_user.take();
    exchange(
        &mut harness,
        &mut as_user,
        "CONNECT {\"verbose\":false}\r\nPUB x 0\r\n\r\n",
        "-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
    );
    let mut nobody = harness.open_as(trusted(Some("b")));
    nobody.take();
    exchange(&mut harness, &mut nobody, "CONNECT {}\r\n", VIOLATION);
}

#[test]
fn an_embedders_client_takes_nothing_along_to_its_users_account() {
    let mut harness = harness(Access {
        accounts: vec![account("A", &["a"], AccountLimits::default())],
        ..Access::default()
    });
    let mut client = harness.open_as(Peer {
        trust: Trust::Embedder(Some("a".into())),
        ..Peer::default()
    });
    client.take();
    exchange(&mut harness, &mut client, "SUB > 1\r\n", "+OK\r\n");
    assert_eq!(harness.engine.global_account().subscriptions(), 1);
    let connect = "CONNECT {\"verbose\":false}\r\nPUB x 0\r\n\r\nPING\r\n";
    exchange(&mut harness, &mut client, connect, "PONG\r\n");
    assert_eq!(harness.engine.global_account().subscriptions(), 0);
}

#[test]
fn a_nonce_is_sent_where_there_is_somebody_to_sign_it() {
    let key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let signing = User {
        name: key.to_owned(),
        credential: Credential::Nkey,
        ..User::default()
    };
    let peer = || Peer {
        nonce: Nonce::new([1; 11]),
        ..Peer::default()
    };
    let mut harness = harness(users(vec![signing]));
    let mut client = harness.open_as(peer());
    assert!(client.take().contains("\"nonce\":\"AQEBAQEBAQEBAQE\""));
    let connect = format!("CONNECT {{\"nkey\":\"{key}\",\"sig\":\"AAAA\"}}\r\n");
    exchange(&mut harness, &mut client, &connect, VIOLATION);
    let harness = Harness::new();
    assert!(!harness.open_as(peer()).take().contains("nonce"));
}

#[test]
fn publishing_where_it_is_not_allowed_is_refused_and_the_connection_stays() {
    let mut harness = harness(users(vec![
        user("a", publish(Some(&["p.*"]), &["p.no"])),
        user("b", None),
    ]));
    let mut listener = login(&mut harness, "b");
    exchange(&mut harness, &mut listener, "SUB > 1\r\n", "");
    let mut client = login(&mut harness, "a");
    // In one batch, each refused between two of the same subject that are not.
    exchange(
        &mut harness,
        &mut client,
        "PUB p.a 1\r\n1\r\nPUB p.no 1\r\n2\r\nPUB p.a 1\r\n3\r\nPUB x r 1\r\n4\r\nPUB p.a 1\r\n5\r\n",
        "-ERR 'Permissions Violation for Publish to \"p.no\"'\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
    );
    assert_eq!(
        listener.take(),
        "MSG p.a 1 1\r\n1\r\nMSG p.a 1 1\r\n3\r\nMSG p.a 1 1\r\n5\r\n"
    );
    // The same subject again and again, over batches: no verdict is mistaken for another.
    for _ in 0..3 {
        exchange(
            &mut harness,
            &mut client,
            "PUB p.no 0\r\n\r\nPUB p.no 0\r\n\r\n",
            &"-ERR 'Permissions Violation for Publish to \"p.no\"'\r\n".repeat(2),
        );
    }
    assert_eq!(listener.take(), "");
    // Another user on the same worker is judged by its own.
    let mut other = login(&mut harness, "b");
    exchange(&mut harness, &mut other, "PUB p.no 0\r\n\r\n", "");
    assert_eq!(listener.take(), "MSG p.no 1 0\r\n\r\n");
}

#[test]
fn a_refused_publish_is_not_acknowledged() {
    let mut harness = harness(users(vec![user("a", publish(Some(&["p"]), &[]))]));
    let mut client = harness.connect(r#""user":"a","pass":"a","verbose":true"#);
    client.take();
    exchange(
        &mut harness,
        &mut client,
        "PUB x 0\r\n\r\nPUB p 0\r\n\r\nSUB a 1\r\n",
        "-ERR 'Permissions Violation for Publish to \"x\"'\r\n+OK\r\n+OK\r\n",
    );
}

#[test]
fn subscribing_where_it_is_not_allowed_is_refused() {
    let permissions = subscribe(Some(&["foo.*", "q v1.*"]), &["foo.no"]);
    let mut harness = harness(users(vec![user("a", permissions)]));
    let mut client = login(&mut harness, "a");
    let denied = |subject: &str| {
        format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n")
    };
    exchange(
        &mut harness,
        &mut client,
        "SUB foo.a 1\r\nSUB foo.* 2\r\nSUB q v1.x 3\r\n",
        "",
    );
    for subject in ["foo.>", ">", "foo.no", "q", "foo..a"] {
        exchange(
            &mut harness,
            &mut client,
            &format!("SUB {subject} 9\r\n"),
            &denied(subject),
        );
    }
    exchange(
        &mut harness,
        &mut client,
        "SUB q v2 9\r\n",
        "-ERR 'Permissions Violation for Subscription to \"q\" using queue \"v2\"'\r\n",
    );
    assert_eq!(harness.engine.global_account().subscriptions(), 3);
}

#[test]
fn what_is_denied_is_withheld_from_wildcard_subscriptions() {
    let permissions = subscribe(None, &["s.no", "s.*.x", "t v2"]);
    let mut harness = harness(users(vec![user("a", permissions), user("b", None)]));
    let mut client = login(&mut harness, "a");
    exchange(
        &mut harness,
        &mut client,
        "SUB s.> 1\r\nSUB t v1 2\r\nSUB * q 3\r\n",
        "",
    );
    let mut publisher =
        harness.connect(r#""user":"b","pass":"b","headers":true,"no_responders":true"#);
    // One batch, whose messages all have the same receivers.
    exchange(
        &mut harness,
        &mut publisher,
        "PUB s.a 1\r\n1\r\nPUB s.no 1\r\n2\r\nPUB s.no 1\r\n3\r\nPUB s.b.x 1\r\n4\r\nPUB s.b.y 1\r\n5\r\n",
        "",
    );
    assert_eq!(client.take(), "MSG s.a 1 1\r\n1\r\nMSG s.b.y 1 1\r\n5\r\n");
    // What is withheld was heard by nobody.
    exchange(
        &mut harness,
        &mut publisher,
        "SUB r 1\r\nPUB s.no r 0\r\n\r\n",
        "HMSG r 1 36 36\r\nNATS/1.0 503\r\nNats-Subject: s.no\r\n\r\n\r\n",
    );
    exchange(&mut harness, &mut publisher, "PUB s.yes r 0\r\n\r\n", "");
    assert_eq!(client.take(), "MSG s.yes 1 r 0\r\n\r\n");
    // A subscription that ends after a number of messages counts only those it got.
    exchange(
        &mut harness,
        &mut client,
        "UNSUB 1\r\nSUB s.* 4\r\nUNSUB 4 2\r\n",
        "",
    );
    exchange(
        &mut harness,
        &mut publisher,
        "PUB s.no 0\r\n\r\nPUB s.1 0\r\n\r\nPUB s.no 0\r\n\r\nPUB s.2 0\r\n\r\nPUB s.3 0\r\n\r\n",
        "",
    );
    assert_eq!(client.take(), "MSG s.1 4 0\r\n\r\nMSG s.2 4 0\r\n\r\n");
}

#[test]
fn a_queue_group_gives_what_is_denied_to_one_member_to_another() {
    let mut harness = harness(users(vec![
        user("a", subscribe(None, &["s.no"])),
        user("b", None),
    ]));
    let mut denied = login(&mut harness, "a");
    exchange(&mut harness, &mut denied, "SUB s.* q 1\r\n", "");
    let mut free = login(&mut harness, "b");
    exchange(&mut harness, &mut free, "SUB s.* q 2\r\n", "");
    let mut publisher = login(&mut harness, "b");
    let batch = "PUB s.no 1\r\nx\r\nPUB s.a 1\r\ny\r\n".repeat(20);
    exchange(&mut harness, &mut publisher, &batch, "");
    let (by_denied, by_free) = (denied.take(), free.take());
    assert_eq!(by_free.matches("MSG s.no 2 1").count(), 20);
    assert!(!by_denied.contains("s.no"));
    let count = |text: &str| text.matches("MSG s.a").count();
    assert_eq!(count(&by_denied) + count(&by_free), 20);
    assert!(count(&by_denied) > 0 && count(&by_free) > 0);
    // If it is denied to all, nobody gets it.
    free.close();
    exchange(&mut harness, &mut publisher, &batch, "");
    assert_eq!(denied.take().matches("MSG s.a 1 1").count(), 20);
}

/// Whatever was reloaded: a request that was received may be answered, unless its user may not answer any more.
#[test]
fn requests_may_be_answered_after_a_reload() {
    let answering = |subject: &str, may_answer: bool| {
        Some(Permissions {
            publish: rules(Some(&[subject]), &[]),
            responses: may_answer.then(ResponseLimit::default),
            ..Permissions::default()
        })
    };
    let access = |subject: &str, may_answer| {
        users(vec![
            user("r", answering(subject, may_answer)),
            user("b", None),
        ])
    };
    let mut harness = harness(access("x", true));
    let mut responder = login(&mut harness, "r");
    let mut client = login(&mut harness, "b");
    exchange(&mut harness, &mut client, "SUB i.* 1\r\n", "");
    exchange(&mut harness, &mut responder, "SUB req 1\r\n", "");
    for (number, may_answer) in [(1, true), (2, false)] {
        harness.send(
            &mut client,
            format!("PUB req i.{number} 0\r\n\r\n").as_bytes(),
        );
        responder.take();
        let mut new = harness.engine.configuration();
        new.access = access(&format!("x.{number}"), may_answer);
        drop(harness.engine.reconfigure(new, harness.now));
        let answer = format!("PUB i.{number} 0\r\n\r\n");
        let violation = format!("-ERR 'Permissions Violation for Publish to \"i.{number}\"'\r\n");
        let refused = if may_answer { "" } else { &violation };
        exchange(&mut harness, &mut responder, &answer, refused);
        // Once.
        exchange(&mut harness, &mut responder, &answer, &violation);
    }
    assert_eq!(client.take(), "MSG i.1 1 0\r\n\r\n");
}

#[test]
fn requests_may_be_answered_as_often_and_as_long_as_allowed() {
    let answering = Some(Permissions {
        subscribe: rules(Some(&["req.>"]), &[]),
        responses: Some(ResponseLimit {
            messages_max: 2,
            expires: Duration::from_secs(1),
            never_expires: false,
        }),
        ..Permissions::default()
    });
    let mut harness = harness(users(vec![user("r", answering), user("b", None)]));
    let mut responder = login(&mut harness, "r");
    let mut client = login(&mut harness, "b");
    exchange(&mut harness, &mut client, "SUB i.* 1\r\n", "");
    let violation = "-ERR 'Permissions Violation for Publish to \"i.1\"'\r\n";
    exchange(
        &mut harness,
        &mut responder,
        "SUB req.* 1\r\nPUB i.1 0\r\n\r\n",
        violation,
    );
    let request = |harness: &mut Harness, client: &mut Client, responder: &Client| {
        harness.send(client, b"PUB req.a i.1 0\r\n\r\n");
        assert_eq!(responder.take(), "MSG req.a 1 i.1 0\r\n\r\n");
    };
    request(&mut harness, &mut client, &responder);
    // Three answers in one batch, of which two are allowed.
    exchange(
        &mut harness,
        &mut responder,
        &"PUB i.1 1\r\nx\r\n".repeat(3),
        violation,
    );
    assert_eq!(client.take(), "MSG i.1 1 1\r\nx\r\n".repeat(2));
    request(&mut harness, &mut client, &responder);
    harness.pass(&mut responder, Duration::from_millis(1100));
    exchange(&mut harness, &mut responder, "PUB i.1 0\r\n\r\n", violation);
    // Members of a queue group answer what they were chosen for, and nothing else.
    exchange(
        &mut harness,
        &mut responder,
        "UNSUB 1\r\nSUB req.q q 2\r\nUNSUB 2 1\r\n",
        "",
    );
    exchange(
        &mut harness,
        &mut client,
        "PUB req.q i.2 0\r\n\r\nPUB req.q i.3 0\r\n\r\n",
        "",
    );
    responder.take();
    exchange(
        &mut harness,
        &mut responder,
        &"PUB i.2 0\r\n\r\n".repeat(2),
        "",
    );
    exchange(
        &mut harness,
        &mut responder,
        "PUB i.2 0\r\n\r\nPUB i.3 0\r\n\r\n",
        "-ERR 'Permissions Violation for Publish to \"i.2\"'\r\n-ERR 'Permissions Violation for Publish to \"i.3\"'\r\n",
    );
}

/// Puts another [`Access`] in force and has the client's session adapt.
fn change(harness: &mut Harness, client: &mut Client, access: Access) {
    let mut new = harness.engine.configuration();
    new.access = access;
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    client.session.adapt(harness.now);
    while let Some(check) = client.session.pending_check() {
        harness.finish_check(client, check.run());
    }
}

#[test]
fn a_changed_password_ends_the_connection_with_a_word_and_a_removed_user_without() {
    let with = |name: &str, password: &str| {
        users(vec![
            User {
                credential: Credential::Password(password.into()),
                ..user(name, None)
            },
            user("other", None),
        ])
    };
    for (after, word, reason) in [
        (
            with("a", "new"),
            VIOLATION,
            CloseReason::AuthenticationViolation,
        ),
        (
            with("a", HASH),
            VIOLATION,
            CloseReason::AuthenticationViolation,
        ),
        (with("b", "a"), "", CloseReason::ClientClosed),
        (Access::token("t"), "", CloseReason::ClientClosed),
    ] {
        let mut harness = harness(with("a", "a"));
        let mut client = login(&mut harness, "a");
        change(&mut harness, &mut client, after);
        assert_eq!(client.take(), word);
        assert_eq!(client.closed(), Some(reason));
    }
}

#[test]
fn a_guest_whose_user_is_removed_is_let_go_without_a_word() {
    let with = |name: &str| Access {
        no_auth_user: Some(name.to_owned()),
        ..users(vec![user(name, None)])
    };
    let mut harness = harness(with("a"));
    let mut client = harness.connect("");
    let closed = Access {
        no_auth_user: None,
        ..with("b")
    };
    change(&mut harness, &mut client, closed);
    assert_eq!(client.take(), "");
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
    // Also if another takes its place: it has to come back as that.
    let mut harness = Harness::with(Limits::default(), with("a"));
    let mut client = harness.connect("");
    change(&mut harness, &mut client, with("b"));
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
}

#[test]
fn a_reload_that_leaves_a_user_alone_disturbs_nobody() {
    let hashed = |more: &[&str]| {
        let mut all = vec![User {
            credential: Credential::Password(HASH.into()),
            ..user("h", None)
        }];
        all.extend(more.iter().map(|name| user(name, None)));
        users(all)
    };
    let mut harness = harness(hashed(&[]));
    let mut client = harness.connect(r#""user":"h","pass":"s3cret""#);
    exchange(&mut harness, &mut client, "SUB a 1\r\n", "");
    let mut new = harness.engine.configuration();
    new.access = hashed(&["b"]);
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    client.session.adapt(harness.now);
    // What it knows already is not checked again, which would take long for many.
    assert!(!client.session.is_checking());
    exchange(
        &mut harness,
        &mut client,
        "PUB a 0\r\n\r\n",
        "MSG a 1 0\r\n\r\n",
    );
    // From clear text to the hash of the same password: checked, and welcome.
    for access in [Access::user("h", "s3cret"), Access::user("h", HASH)] {
        change(&mut harness, &mut client, access);
        exchange(
            &mut harness,
            &mut client,
            "PUB a 0\r\n\r\n",
            "MSG a 1 0\r\n\r\n",
        );
    }
    // As nobody in particular it comes in anew.
    change(&mut harness, &mut client, Access::open());
    assert_eq!(client.take(), "");
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
    // Who never was a user of this server's stays, whatever it calls itself, until credentials are asked for.
    let mut harness = Harness::new();
    let mut client = harness.connect(r#""user":"somebody""#);
    let with_accounts = Access {
        accounts: vec![account("A", &[], AccountLimits::default())],
        ..Access::default()
    };
    change(&mut harness, &mut client, with_accounts);
    exchange(&mut harness, &mut client, "PING\r\n", "PONG\r\n");
    change(&mut harness, &mut client, Access::token("t"));
    assert!(client.closed().is_some());
}

#[test]
fn subscriptions_that_are_not_permitted_any_more_are_removed() {
    let with = |permissions| users(vec![user("a", permissions), user("b", None)]);
    let mut harness = harness(with(None));
    let mut client = login(&mut harness, "a");
    exchange(
        &mut harness,
        &mut client,
        "SUB foo 1\r\nSUB foo q 2\r\nSUB bar 3\r\nSUB s.> 4\r\n",
        "",
    );
    change(
        &mut harness,
        &mut client,
        with(subscribe(None, &["foo", "s.no"])),
    );
    assert_eq!(
        client.take(),
        "-ERR 'Permissions Violation for Subscription to \"foo\" (sid \"1\")'\r\n\
         -ERR 'Permissions Violation for Subscription to \"foo\" using queue \"q\" (sid \"2\")'\r\n"
    );
    assert_eq!(harness.engine.global_account().subscriptions(), 2);
    let mut publisher = login(&mut harness, "b");
    let all = "PUB foo 0\r\n\r\nPUB bar 0\r\n\r\nPUB s.no 0\r\n\r\nPUB s.a 0\r\n\r\n";
    exchange(&mut harness, &mut publisher, all, "");
    assert_eq!(client.take(), "MSG bar 3 0\r\n\r\nMSG s.a 4 0\r\n\r\n");
    // Nor may it publish where it just could.
    exchange(&mut harness, &mut client, "PUB p 0\r\n\r\n", "");
    change(&mut harness, &mut client, with(publish(None, &["p"])));
    exchange(
        &mut harness,
        &mut client,
        "PUB p 0\r\n\r\n",
        "-ERR 'Permissions Violation for Publish to \"p\"'\r\n",
    );
    exchange(&mut harness, &mut publisher, "PUB s.no 0\r\n\r\n", "");
    assert_eq!(client.take(), "MSG s.no 4 0\r\n\r\n");
}

#[test]
fn a_user_that_moves_to_another_account_has_to_come_back() {
    let in_account = |name: &str| Access {
        accounts: vec![account(name, &["a"], AccountLimits::default())],
        ..Access::default()
    };
    let mut harness = harness(in_account("A"));
    let mut client = login(&mut harness, "a");
    change(&mut harness, &mut client, in_account("B"));
    assert_eq!(client.take(), "");
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
    client.close();
    let accounts = harness.engine.accounts();
    let names: Vec<&str> = accounts.iter().map(|account| account.name()).collect();
    assert_eq!(names, ["$G", "$SYS", "B"]);
}

/// A session that does not run for two reloads sees only the second, and its account is another of the same name.
#[test]
fn a_client_of_an_account_that_was_removed_and_came_back_has_to_come_back_too() {
    let with_account = Access {
        accounts: vec![account("A", &["a"], AccountLimits::default())],
        ..users(vec![user("b", None)])
    };
    let mut harness = harness(with_account.clone());
    let mut client = login(&mut harness, "a");
    exchange(&mut harness, &mut client, "SUB x 1\r\n", "");
    let former = harness.engine.account("A").expect("it is there");
    for access in [users(vec![user("b", None)]), with_account] {
        let mut new = harness.engine.configuration();
        new.access = access;
        let _adaptation = harness.engine.reconfigure(new, harness.now);
    }
    client.session.adapt(harness.now);
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
    client.close();
    assert_eq!(former.subscriptions(), 0);
}

#[test]
fn accounts_outlive_a_reload_with_all_that_is_in_them() {
    let with = |password: &str| Access {
        accounts: vec![account("A", &["a", password], AccountLimits::default())],
        ..Access::default()
    };
    let mut harness = harness(with("x"));
    let mut early = login(&mut harness, "a");
    exchange(&mut harness, &mut early, "SUB s 1\r\n", "");
    change(&mut harness, &mut early, with("y"));
    let mut late = login(&mut harness, "a");
    exchange(&mut harness, &mut late, "PUB s 0\r\n\r\n", "");
    assert_eq!(early.take(), "MSG s 1 0\r\n\r\n");
}

/// The reload reaches the session together with a batch, and the batch may end an operation that began before.
#[test]
fn a_batch_that_comes_with_a_reload_waits_until_the_password_is_checked() {
    let large = "x".repeat(100_000);
    let large_start = format!("PUB a 100001\r\n{large}");
    let large_message = format!("MSG a 1 100001\r\n{large}y\r\n");
    for (before, rest, expected) in [
        ("", "PUB a 1\r\ny\r\n", "MSG a 1 1\r\ny\r\n"),
        ("PUB a 2\r\nx", "y\r\n", "MSG a 1 2\r\nxy\r\n"),
        (&large_start, "y\r\n", &large_message),
    ] {
        let mut harness = harness(Access::user("u", "s3cret"));
        let mut client = harness.connect(r#""user":"u","pass":"s3cret""#);
        exchange(&mut harness, &mut client, "SUB a 1\r\n", "");
        exchange(&mut harness, &mut client, before, "");
        let mut new = harness.engine.configuration();
        new.access = Access::user("u", HASH);
        let _adaptation = harness.engine.reconfigure(new, harness.now);
        let batch = format!("{rest}PING\r\nPUB a 1\r\n");
        harness.send_unchecked(&mut client, batch.as_bytes());
        assert!(client.session.is_checking());
        assert_eq!((client.take().as_str(), client.closed()), ("", None));
        let check = client.session.pending_check().expect("a check");
        harness.finish_check(&mut client, check.run());
        assert_eq!(client.take(), format!("{expected}PONG\r\n"));
        exchange(&mut harness, &mut client, "z\r\n", "MSG a 1 1\r\nz\r\n");
    }
}

#[test]
fn what_comes_from_a_user_who_is_gone_is_not_delivered() {
    let mut harness = harness(users(vec![user("a", None), user("b", None)]));
    let mut client = login(&mut harness, "a");
    let mut witness = login(&mut harness, "b");
    exchange(&mut harness, &mut witness, "SUB > 1\r\n", "");
    let mut new = harness.engine.configuration();
    new.access = users(vec![user("b", None)]);
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    harness.send_unchecked(&mut client, b"PUB a 1\r\nx\r\n");
    assert_eq!(client.closed(), Some(CloseReason::ClientClosed));
    assert_eq!(witness.take(), "");
}

/// With certificates that name users, CONNECT may say any name: nobody has looked at its password.
#[test]
fn a_name_that_was_not_looked_at_is_not_believed_after_a_reload() {
    let mapped = Access {
        verify_and_map: true,
        ..users(vec![user("a", None), user("b", None)])
    };
    let mut harness = harness(mapped);
    let address = Some(([127, 0, 0, 1], 1).into());
    let mut client = harness.open_as(Peer {
        address,
        ..Peer::default()
    });
    client.session.set_certificate_names(CertificateNames {
        emails: vec!["a".to_owned()],
        ..CertificateNames::default()
    });
    client.take();
    // The password is that of the user whom the certificate names.
    let connect = "CONNECT {\"verbose\":false,\"user\":\"b\",\"pass\":\"a\"}\r\nPING\r\n";
    exchange(&mut harness, &mut client, connect, "PONG\r\n");
    change(
        &mut harness,
        &mut client,
        users(vec![user("a", None), user("b", None)]),
    );
    assert_eq!(client.take(), VIOLATION);
}

#[test]
fn a_reload_while_a_password_is_checked_asks_again() {
    let mut harness = harness(Access::user("u", HASH));
    let mut client = harness.open();
    client.take();
    harness.send_unchecked(
        &mut client,
        b"CONNECT {\"user\":\"u\",\"pass\":\"s3cret\",\"verbose\":false}\r\nPING\r\n",
    );
    let check = client.session.pending_check().expect("a check");
    let mut new = harness.engine.configuration();
    new.access = Access::user("u", "other");
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    client.session.adapt(harness.now);
    harness.finish_check(&mut client, check.run());
    assert_eq!(client.take(), VIOLATION);
}

/// A pattern of up to three tokens.
fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => "[ab]", 1 => Just("*".to_owned())];
    (prop::collection::vec(token, 1..=3), any::<bool>()).prop_map(|(mut tokens, is_open)| {
        if is_open {
            *tokens.last_mut().expect("at least one") = ">".to_owned();
        }
        tokens.join(".")
    })
}

#[derive(Clone, Debug)]
struct Wish {
    pattern: String,
    queue: Option<String>,
    max: Option<usize>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let queue = prop::option::weighted(0.3, "q[12]");
    let max = prop::option::weighted(0.3, 1..4_usize);
    (pattern(), queue, max).prop_map(|(pattern, queue, max)| Wish {
        pattern,
        queue,
        max,
    })
}

proptest! {
    /// However a client subscribes, and however messages come: it gets what it wants as far as it may, and nothing
    /// else. The rules are read here entry by entry and message by message.
    #[test]
    fn whatever_is_subscribed_to_nothing_arrives_that_is_denied(
        allow in prop::option::of(prop::collection::vec(pattern(), 1..4)),
        deny in prop::collection::vec((pattern(), prop::option::weighted(0.3, "q[12]")), 0..4),
        wishes in prop::collection::vec(wish(), 1..5),
        subjects in prop::collection::vec("[ab](\\.[ab]){0,2}", 1..30),
        batch_len in 1..10_usize,
    ) {
        let matches = |pattern: &str, subject: &str| {
            natterjack_subject::matches(pattern.as_bytes(), subject.as_bytes())
        };
        let deny_texts = deny.iter().map(|(pattern, queue)| match queue {
            Some(queue) => format!("{pattern} {queue}"),
            None => pattern.clone(),
        });
        let permissions = Permissions {
            subscribe: SubjectRules { allow: allow.clone(), deny: deny_texts.collect() },
            ..Permissions::default()
        };
        let mut harness = harness(users(vec![user("a", Some(permissions)), user("b", None)]));
        let mut client = login(&mut harness, "a");
        let mut accepted = Vec::new();
        for (sid, wish) in wishes.iter().enumerate() {
            let queue = wish.queue.as_deref().unwrap_or_default();
            let mut text = format!("SUB {} {queue} {sid}\r\n", wish.pattern);
            if let Some(max) = wish.max {
                text += &format!("UNSUB {sid} {max}\r\n");
            }
            harness.send(&mut client, text.as_bytes());
            accepted.push(client.take().is_empty());
        }
        let mut publisher = login(&mut harness, "b");
        let messages: Vec<String> = subjects.iter().map(|subject| format!("PUB {subject} 0\r\n\r\n")).collect();
        for batch in messages.chunks(batch_len) {
            harness.send(&mut publisher, batch.concat().as_bytes());
        }
        let output = client.take();
        for (sid, wish) in wishes.iter().enumerate() {
            let ending = format!(" {sid} 0");
            let lines = output.lines().filter_map(|line| line.strip_prefix("MSG "));
            let got: Vec<&str> = lines.filter_map(|line| line.strip_suffix(ending.as_str())).collect();
            if !accepted[sid] {
                prop_assert!(got.is_empty());
                continue;
            }
            let is_denied = |subject: &str| deny.iter().any(|(pattern, queue)| {
                matches(pattern, subject) && (queue.is_none() || *queue == wish.queue)
            });
            let is_allowed = |subject: &str| allow.as_ref().is_none_or(|allow| {
                allow.iter().any(|pattern| matches(pattern, subject))
            });
            prop_assert!(got.iter().all(|subject| is_allowed(subject) && !is_denied(subject)), "{sid}: {got:?}");
            if wish.queue.is_none() {
                let wanted = subjects.iter().map(String::as_str);
                let expected: Vec<&str> = wanted
                    .filter(|subject| matches(&wish.pattern, subject) && !is_denied(subject))
                    .take(wish.max.unwrap_or(usize::MAX))
                    .collect();
                prop_assert_eq!(got, expected, "{}", sid);
            }
        }
    }
}

/// What permissions forbid is counted once for each that lost it: a subscription, or a whole group.
#[test]
fn what_is_forbidden_is_counted() {
    let mut harness = harness(users(vec![
        user("free", None),
        user("deaf", subscribe(None, &["a.secret"])),
        user("mute", publish(None, &["a.>"])),
    ]));
    let counted = |harness: &Harness| {
        let totals = harness.engine.totals();
        [totals.publishes_denied, totals.deliveries_denied]
    };
    let [mut free, mut deaf, mut mute] =
        ["free", "deaf", "mute"].map(|name| login(&mut harness, name));
    harness.send(
        &mut mute,
        b"PUB a.b 0\r\n\r\nPUB a.b 0\r\n\r\nPUB b _R_.1 0\r\n\r\nPUB b 0\r\n\r\n",
    );
    assert_eq!(counted(&harness), [3, 0]);
    harness.send(&mut deaf, b"SUB a.* 1\r\nSUB a.> q 2\r\n");
    harness.send(&mut free, b"PUB a.secret 0\r\n\r\nPUB a.other 0\r\n\r\n");
    assert_eq!(counted(&harness), [3, 2]);
    // The group has a member that may have it, and gets it, whoever was asked first.
    harness.send(&mut free, b"SUB a.> q 3\r\n");
    free.take();
    for _ in 0..20 {
        harness.send(&mut free, b"PUB a.secret 0\r\n\r\n");
        assert_eq!(free.take(), "MSG a.secret 3 0\r\n\r\n");
    }
    assert_eq!(counted(&harness), [3, 22]);
    // Nobody was forbidden what nobody is there for.
    drop(free);
    deaf.close();
    harness.send(&mut mute, b"PUB nobody 0\r\n\r\n");
    assert_eq!(counted(&harness), [3, 22]);
}
