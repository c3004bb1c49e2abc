//! What ends by itself: the time to log in, the time for a handshake, the permission to answer.

use libtest_mimic::Trial;
use testkit::{Deadline, Kind, PATIENCE, Peer, ServerUnderTest};

use super::Test;
use super::authority::{TLS, config};
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 3] = [
        ("the_time_to_log_in", the_time_to_log_in),
        ("the_time_for_a_handshake", the_time_for_a_handshake),
        ("the_permission_to_answer", the_permission_to_answer),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::waits::{name}::{}", kind.name());
            let needs = [kind.program().map(drop)];
            trials.push(trial(name, needs, move || run(kind)));
        }
    }
    trials
}

fn the_time_to_log_in(kind: Kind) {
    for text in [
        "authorization { token: t, timeout: 0.3 }",
        "authorization { timeout: 0.3, users: [ { user: a, password: a } ] }",
        "authorization { timeout: \"300ms\", user: a, password: a }",
    ] {
        let server = ServerUnderTest::start(kind, &config(text));
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.expect("-ERR 'Authentication Timeout'\r\n");
        peer.expect_closed();
    }
}

fn the_time_for_a_handshake(kind: Kind) {
    let text = format!("tls {{ {TLS}, timeout: 0.3 }}");
    let server = ServerUnderTest::start(kind, &config(&text));
    // None begun, and one that stops after its first bytes.
    for begin in [&[][..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.send(begin);
        let told = peer.try_rest().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(String::from_utf8_lossy(&told), "");
    }
    let mut client = Client::connect(server.address(), Transport::Tls(None));
    assert_eq!(client.log_in(""), Outcome::In("$G".to_owned()));
}

fn the_permission_to_answer(kind: Kind) {
    for (limit, is_unlimited) in [
        ("{ max: -1, expires: \"400ms\" }", true),
        ("{ max: 1000000, expires: \"400ms\" }", true),
        ("{ max: 3, expires: \"1m\" }", false),
    ] {
        let server = ServerUnderTest::start(
            kind,
            &config(&format!(
                "authorization {{ users: [
                   {{ user: r, password: r, permissions: {{ subscribe: req, allow_responses: {limit} }} }}
                   {{ user: b, password: b }} ] }}"
            )),
        );
        let log_in = |name: &str| {
            let mut client = Client::connect(server.address(), Transport::Plain);
            let outcome = client.log_in(&format!("\"user\":\"{name}\",\"pass\":\"{name}\""));
            assert_eq!(outcome, Outcome::In("$G".to_owned()));
            client
        };
        let (mut responder, mut asker) = (log_in("r"), log_in("b"));
        assert_eq!(responder.exchange("SUB req 1\r\n"), [""; 0]);
        assert_eq!(asker.exchange("SUB in 1\r\nPUB req in 0\r\n\r\n"), [""; 0]);
        let deadline = Deadline::after(PATIENCE);
        let mut answers = 0;
        loop {
            let told = responder.exchange("PUB in 0\r\n\r\n");
            if told.iter().any(|line| line.contains("Violation")) {
                let expected = "-ERR 'Permissions Violation for Publish to \"in\"'";
                assert_eq!(told.last().map(String::as_str), Some(expected));
                break;
            }
            answers += 1;
            assert!(
                deadline.left().is_some(),
                "{limit}: still allowed after {answers}"
            );
        }
        let heard = asker
            .exchange("")
            .iter()
            .filter(|line| line.starts_with("MSG in 1"))
            .count();
        assert_eq!(heard, answers, "{limit}");
        if is_unlimited {
            assert!(answers > 3, "{limit}: {answers}");
        } else {
            assert_eq!(answers, 3, "{limit}");
        }
        // And it does not come back by itself.
        let told = responder.exchange("PUB in 0\r\n\r\n");
        assert!(
            told.iter().any(|line| line.contains("Violation")),
            "{told:?}"
        );
    }
}
