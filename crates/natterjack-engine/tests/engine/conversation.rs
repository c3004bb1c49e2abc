//! What one client is told.

use natterjack_engine::{Access, CloseReason, Limits};

use crate::harness::Harness;

/// Sends `input` after a quiet CONNECT and compares what comes back.
#[track_caller]
fn check(options: &str, input: &str, expected: &str) {
    let mut harness = Harness::new();
    let mut client = harness.connect(options);
    harness.send(&mut client, input.as_bytes());
    assert_eq!(client.take(), expected);

    // The same in single bytes.
    let mut harness = Harness::new();
    let mut client = harness.connect(options);
    for byte in input.as_bytes() {
        harness.send(&mut client, &[*byte]);
    }
    assert_eq!(client.take(), expected, "byte by byte");
}

#[test]
fn info_comes_first() {
    let harness = Harness::new();
    let client = harness.open();
    let text = client.take();
    assert!(text.starts_with("INFO {\"server_id\":\"TEST\""), "{text}");
    assert!(text.contains("\"max_payload\":1048576"), "{text}");
    assert!(text.ends_with(" \r\n"), "{text}");
}

#[test]
fn publish_and_subscribe() {
    check(
        "",
        "SUB foo 1\r\nPUB foo 5\r\nhello\r\n",
        "MSG foo 1 5\r\nhello\r\n",
    );
    check(
        "",
        "SUB foo.* 1\r\nPUB foo.a r.1 2\r\nhi\r\n",
        "MSG foo.a 1 r.1 2\r\nhi\r\n",
    );
    check(
        "",
        "SUB foo 1\r\nPUB\tfoo\t r \t 05 \r\nhello\r\n",
        "MSG foo 1 r 05\r\nhello\r\n",
    );
    check("\"echo\":false", "SUB foo 1\r\nPUB foo 0\r\n\r\n", "");
}

#[test]
fn replies_and_messages_keep_their_order() {
    check(
        "\"verbose\":true",
        "SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\nPING\r\n",
        "+OK\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\nMSG a 1 1\r\ny\r\nPONG\r\n",
    );
    check(
        "",
        "SUB a 1\r\nPUB a 1\r\nx\r\nPING\r\nPUB a 1\r\ny\r\n",
        "MSG a 1 1\r\nx\r\nPONG\r\nMSG a 1 1\r\ny\r\n",
    );
}

#[test]
fn first_ping_is_followed_by_the_connect_info() {
    let mut harness = Harness::new();
    let mut client = harness.connect("\"protocol\":1");
    harness.send(&mut client, b"PING\r\nPING\r\n");
    let text = client.take();
    let info = text.strip_prefix("PONG\r\nINFO ").expect("PONG, then INFO");
    assert!(
        info.contains("\"connect_info\":true,\"remote_account\":\"$G\""),
        "{info}"
    );
    assert!(info.ends_with("\r\nPONG\r\n"), "{info}");
}

#[test]
fn unsubscribing() {
    check("", "SUB a 1\r\nUNSUB 1\r\nPUB a 1\r\nx\r\n", "");
    check(
        "",
        "SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n",
        "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n",
    );
    // Messages delivered before the maximum was set count.
    check(
        "",
        "SUB a 1\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nUNSUB 1 2\r\nPUB a 1\r\n3\r\n",
        "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n",
    );
    // The id is free again once the maximum is reached.
    check(
        "",
        "SUB a 1\r\nUNSUB 1 1\r\nPUB a 1\r\n1\r\nSUB b 1\r\nPUB b 1\r\n2\r\n",
        "MSG a 1 1\r\n1\r\nMSG b 1 1\r\n2\r\n",
    );
    check(
        "",
        "SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\n",
        "MSG a 1 1\r\ny\r\n",
    );
}

#[test]
fn headers_reach_who_understands_them() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("\"headers\":true");
    let mut modern = harness.connect("\"headers\":true");
    let mut plain = harness.connect("");
    harness.send(&mut modern, b"SUB a 1\r\n");
    harness.send(&mut plain, b"SUB a 1\r\n");
    harness.send(
        &mut publisher,
        b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB a 2\r\nho\r\nHPUB a 0 2\r\nhe\r\n",
    );
    assert_eq!(
        modern.take(),
        "HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG a 1 2\r\nho\r\nMSG a 1 2\r\nhe\r\n"
    );
    assert_eq!(
        plain.take(),
        "MSG a 1 r 2\r\nhi\r\nMSG a 1 2\r\nho\r\nMSG a 1 2\r\nhe\r\n"
    );

    let mut without = harness.connect("");
    harness.send(&mut without, b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n");
    assert_eq!(without.take(), "");
    assert_eq!(without.closed(), Some(CloseReason::ProtocolViolation));
}

#[test]
fn no_responders() {
    let requester = "\"headers\":true,\"no_responders\":true";
    let notice = "HMSG r 9 37 37\r\nNATS/1.0 503\r\nNats-Subject: noone\r\n\r\n\r\n";
    check(requester, "SUB r 9\r\nPUB noone r 1\r\nx\r\n", notice);
    check(requester, "SUB r q 9\r\nPUB noone r 1\r\nx\r\n", "");
    check(requester, "SUB r 9\r\nPUB noone 1\r\nx\r\n", "");
    check(
        "\"headers\":true,\"no_responders\":true,\"echo\":false",
        "SUB r 9\r\nSUB noone 1\r\nSUB noone q 2\r\nPUB noone r 1\r\nx\r\n",
        notice,
    );
    check("", "SUB r 9\r\nPUB noone r 1\r\nx\r\n", "");
    // The first of two requests in one batch is heard by a subscription that then ends.
    check(
        requester,
        "SUB noone 1\r\nUNSUB 1 1\r\nSUB r 9\r\nPUB noone r 1\r\nx\r\nPUB noone r 1\r\ny\r\n",
        &format!("MSG noone 1 r 1\r\nx\r\n{notice}"),
    );
    // Found among the client's own subscriptions, when others wait for the same reply.
    let mut harness = Harness::new();
    let mut others = harness.connect("");
    harness.send(&mut others, b"SUB r 1\r\nSUB r 2\r\nSUB r 3\r\n");
    let mut client = harness.connect(requester);
    harness.send(
        &mut client,
        b"SUB r 9\r\nSUB r 10\r\nPUB noone.x r 1\r\nx\r\n",
    );
    assert_eq!(
        client.take(),
        notice.replace("37 37", "39 39").replace("noone", "noone.x")
    );
}

#[test]
fn refusals_leave_the_connection_open() {
    check(
        "",
        "SUB a..b 1\r\nPING\r\n",
        "-ERR 'Invalid Subject'\r\nPONG\r\n",
    );
    check(
        "\"pedantic\":true",
        "SUB > 1\r\nPUB a.* 1\r\nx\r\n",
        "-ERR 'Invalid Publish Subject'\r\nMSG a.* 1 1\r\nx\r\n",
    );
    check(
        "",
        "PUB $NRG.x 1\r\nx\r\nPUB $GR.x 1\r\nx\r\nPUB a _R_.x 1\r\nx\r\n",
        "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n\
         -ERR 'Permissions Violation for Publish to \"$GR.x\"'\r\n\
         -ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n",
    );
}

#[test]
fn messages_with_the_same_control_line_are_each_handled() {
    let message = "PUB a 1\r\nx\r\n";
    let delivery = "MSG a 1 1\r\nx\r\n";
    check(
        "",
        &format!("SUB a 1\r\n{}", message.repeat(5)),
        &delivery.repeat(5),
    );
    check(
        "",
        &format!(
            "SUB a 1\r\n{message}{message}UNSUB 1\r\n{message}{message}SUB a 1\r\n{message}{message}"
        ),
        &delivery.repeat(4),
    );
    let refused = "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n";
    check(
        "",
        &format!(
            "SUB > 1\r\n{message}{0}{0}{message}",
            "PUB $NRG.x 1\r\nx\r\n"
        ),
        &format!("{delivery}{refused}{refused}{delivery}"),
    );
    let invalid = "-ERR 'Invalid Publish Subject'\r\n";
    check(
        "\"pedantic\":true",
        &"PUB a.* 1\r\nx\r\n".repeat(2),
        &invalid.repeat(2),
    );
    check(
        "\"verbose\":true",
        &message.repeat(3),
        &format!("+OK\r\n{}", "+OK\r\n".repeat(3)),
    );
}

#[test]
fn faults_close_the_connection_after_what_came_before() {
    #[track_caller]
    fn check_closed(input: &[u8], expected: &str) {
        let mut harness = Harness::new();
        let mut client = harness.connect("");
        harness.send(&mut client, b"SUB a 1\r\n");
        harness.send(&mut client, &[b"PUB a 1\r\nx\r\n", input].concat());
        assert_eq!(client.take(), format!("MSG a 1 1\r\nx\r\n{expected}"));
        assert!(client.closed().is_some());
    }
    check_closed(b"HELLO\r\n", "-ERR 'Unknown Protocol Operation'\r\n");
    check_closed(b"PUB a 1048577\r\n", "-ERR 'Maximum Payload Violation'\r\n");
    check_closed(
        b"PUB a 1\r\nxy\r\n",
        "-ERR 'Unknown Protocol Operation'\r\n",
    );
    check_closed(b"PUB a\r\n", "");
    check_closed(b"CONNECT {\"verbose\":1}\r\n", "");
    check_closed(
        b"CONNECT {\"verbose\":false,\"protocol\":3}\r\n",
        "-ERR 'invalid client protocol'\r\n",
    );
}

#[test]
fn limits_are_told() {
    let limits = Limits {
        subscriptions_max: Some(1),
        connections_max: 2,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut client = harness.connect("");
    harness.send(&mut client, b"SUB a 1\r\nSUB b 2\r\nUNSUB 1\r\nSUB b 3\r\n");
    assert_eq!(client.take(), "-ERR 'maximum subscriptions exceeded'\r\n");
    let second = harness.open();
    let third = harness.open();
    assert!(
        third
            .take()
            .ends_with("-ERR 'maximum connections exceeded'\r\n")
    );
    assert_eq!(third.closed(), Some(CloseReason::ConnectionsExceeded));
    third.close();
    second.close();
    let fourth = harness.open();
    assert_eq!(fourth.closed(), None);
}

#[test]
fn a_second_connect_drops_the_subscriptions() {
    let again = "CONNECT {\"verbose\":false}\r\n";
    check("", &format!("SUB a 1\r\n{again}PUB a 1\r\nx\r\n"), "");

    // Also several times in one batch, with the same id each time.
    let mut harness = Harness::new();
    let mut client = harness.connect("");
    let input = format!("SUB a 1\r\n{again}SUB a 1\r\n{again}SUB a 1\r\nPUB a 1\r\nx\r\n");
    harness.send(&mut client, input.as_bytes());
    assert_eq!(client.take(), "MSG a 1 1\r\nx\r\n");
    assert_eq!(harness.engine.global_account().subscriptions(), 1);
}

#[test]
fn credentials() {
    let token = || Access::token("s3cret");
    let mut harness = Harness::with(Limits::default(), token());
    let mut early = harness.open();
    assert!(early.take().contains("\"auth_required\":true"));
    harness.send(&mut early, b"PING\r\n");
    assert_eq!(early.take(), "-ERR 'Authorization Violation'\r\n");

    let wrong = harness.connect("\"auth_token\":\"guess\"");
    assert_eq!(wrong.take(), "-ERR 'Authorization Violation'\r\n");
    assert_eq!(wrong.closed(), Some(CloseReason::AuthenticationViolation));

    let mut right = harness.connect("\"auth_token\":\"s3cret\"");
    harness.send(&mut right, b"PING\r\n");
    assert_eq!(right.take(), "PONG\r\n");
}

/// A worker's buffer has room for 256 KiB, and `max_control_line` may be more.
#[test]
fn control_lines_of_any_length_may_come_in_pieces() {
    let limits = Limits {
        control_line_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let name = "x".repeat(600_000);
    let body = "y".repeat(200_000);
    let input = format!(
        "CONNECT {{\"verbose\":false,\"name\":\"{name}\"}}\r\nSUB foo 1\r\nPUB foo 5\r\nhello\r\n\
         PUB foo 200000\r\n{body}\r\nPING\r\n"
    );
    let expected = format!("MSG foo 1 5\r\nhello\r\nMSG foo 1 200000\r\n{body}\r\nPONG\r\n");
    for piece_bytes in [1000, 100_000, 128 * 1024 + 1, 300_000, 1_000_000] {
        let mut harness = Harness::with(limits.clone(), Access::open());
        let mut client = harness.open();
        client.take();
        for piece in input.as_bytes().chunks(piece_bytes) {
            harness.send(&mut client, piece);
        }
        assert!(client.take() == expected, "in pieces of {piece_bytes}");
    }
}
