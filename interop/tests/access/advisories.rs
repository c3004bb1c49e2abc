//! What the security advisories of nats-server were about, tried on both servers, class by class.
//!
//! | class | advisories | here |
//! | --- | --- | --- |
//! | A: sizes and limits before login | CVE-2019-13126; 2026-11 and -25 (buffers of strangers), 2026-22 (line ends in subjects), 2026-28 (`connz`) | `sizes_that_overflow`, `strangers_are_bounded`, `half_a_connect_is_not_waited_for`, `line_ends_inject_nothing`, `pages_with_absurd_numbers` |
//! | B: nothing a peer sends may end the server | CVE-2020-26521, 2026-04/-10/-19 (repeated handshakes), 2026-23 (short keys), permissions of blanks (2.14.4) | `handshakes_out_of_order`, `keys_of_every_length`, `permissions_of_blanks` |
//! | C: authorization | CVE-2022-24450, CVE-2022-29946, CVE-2023-47090, 2026-15/-20 (traces), 2026-16/-24 (first operation), 2026-17/-18 (overlapping denials), users of certificates (2.14.4) | `an_account_of_ones_choice`, `denials_reach_queue_groups`, `only_a_system_account`, `traces_go_nowhere_forbidden`, `the_first_operation_is_no_way_in`, `denials_overlap`; users of certificates: `logins::clear_text_where_tls_is_optional` |
//! | C, also | 2026-07/-21 by their kind (other names for a subject) | `denials_hold_for_imports`, `denials_hold_for_mappings` |
//! | D: credentials | 2026-13 (order of names in subjects), CVE-2021-3127 (grants that were only warned about), 2026-08/-09 (request info made up by clients) | `logins::subjects_in_any_order`, `listener::subjects_with_several_values`, `imports_that_are_not_granted`, `who_asks_cannot_be_made_up` |
//! | D, by its kind | CVE-2025-30215 (requests without a look at the account) | `answers_are_for_whom_they_are`, `system_services_look_at_the_account` |
//! | E: circles | CVE-2020-28466, CVE-2022-42709 | `imports_in_a_circle`, `services_in_a_circle`, `files_in_a_circle` |
//! | F: paths | CVE-2022-28357 by its kind | `paths_lead_nowhere` |
//! | G: TLS | CVE-2021-32026, 2026-01 (sessions taken up elsewhere) | `flags_keep_the_files_ciphers`, `a_session_does_not_outlive_stricter_rules` |
//! | H: secrets shown | 2026-14 (arguments in `/debug/vars`) and by its kind | `secrets` |
//!
//! Not applicable, because what they are about is not there: JWTs and callouts (CVE-2020-26892, CVE-2021-3127 as to tokens,
//! CVE-2023-46129, 2026-05), JetStream (CVE-2022-26652,
//! CVE-2022-42708, CVE-2025-30215, 2026-12, -26, replies to snapshots), MQTT (2026-05/-06/-07/-21/-25/-27 themselves),
//! WebSocket (2026-02/-03/-11 themselves), leaf nodes and gateways (2026-04/-10/-19 themselves, 2026-08 as to who asks
//! over a leaf node). CVE-2020-26149 is a client's.
//! Each has to be looked at again when its feature comes.

use std::fmt::Write as _;

use libtest_mimic::Trial;
use serde_json::json;
use testkit::{Config, HttpAnswer, Kind, Listener, Peer, ServerUnderTest};

use super::Test;
use super::authority::{MUTUAL, config};
use super::client::{Client, Outcome, Resumption, Transport};
use super::services::{self, Message, answer, messages, nothing};
use crate::trial;

const TOKEN: &str = "authorization { token: t }\n";
const VIOLATION: &str = "Authorization Violation";

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 26] = [
        ("sizes_that_overflow", sizes_that_overflow),
        ("strangers_are_bounded", strangers_are_bounded),
        (
            "half_a_connect_is_not_waited_for",
            half_a_connect_is_not_waited_for,
        ),
        ("line_ends_inject_nothing", line_ends_inject_nothing),
        ("pages_with_absurd_numbers", pages_with_absurd_numbers),
        ("handshakes_out_of_order", handshakes_out_of_order),
        ("keys_of_every_length", keys_of_every_length),
        ("permissions_of_blanks", permissions_of_blanks),
        ("an_account_of_ones_choice", an_account_of_ones_choice),
        ("denials_reach_queue_groups", denials_reach_queue_groups),
        ("only_a_system_account", only_a_system_account),
        ("traces_go_nowhere_forbidden", traces_go_nowhere_forbidden),
        (
            "the_first_operation_is_no_way_in",
            the_first_operation_is_no_way_in,
        ),
        ("denials_overlap", denials_overlap),
        ("denials_hold_for_imports", denials_hold_for_imports),
        ("denials_hold_for_mappings", denials_hold_for_mappings),
        ("imports_that_are_not_granted", imports_that_are_not_granted),
        ("imports_in_a_circle", imports_in_a_circle),
        ("services_in_a_circle", services_in_a_circle),
        ("who_asks_cannot_be_made_up", who_asks_cannot_be_made_up),
        (
            "answers_are_for_whom_they_are",
            answers_are_for_whom_they_are,
        ),
        (
            "system_services_look_at_the_account",
            system_services_look_at_the_account,
        ),
        ("files_in_a_circle", files_in_a_circle),
        ("paths_lead_nowhere", paths_lead_nowhere),
        ("flags_keep_the_files_ciphers", flags_keep_the_files_ciphers),
        (
            "a_session_does_not_outlive_stricter_rules",
            a_session_does_not_outlive_stricter_rules,
        ),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::advisories::{name}::{}", kind.name());
            let needs = [kind.program().map(drop)];
            trials.push(trial(name, needs, move || run(kind)));
        }
    }
    trials
}

fn server(kind: Kind, text: &str) -> ServerUnderTest {
    ServerUnderTest::start(kind, &config(text))
}

/// Everybody else is served as before.
#[track_caller]
fn still_serves(server: &ServerUnderTest, connect: &serde_json::Value) {
    let mut connect = connect.clone();
    connect["verbose"] = false.into();
    let mut peer = Peer::introduced(server.address(), &connect);
    peer.send("SUB alive 1\r\nPUB alive 2\r\nok\r\n");
    peer.expect("MSG alive 1 2\r\nok\r\n");
}

/// Sends this as the first thing; returns what the server says before it hangs up.
#[track_caller]
fn told_and_closed(server: &ServerUnderTest, bytes: impl AsRef<[u8]>) -> String {
    let mut peer = Peer::connect(server.address());
    peer.expect_info();
    peer.send(bytes);
    let rest = peer.try_rest().unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&rest).into_owned()
}

fn sizes_that_overflow(kind: Kind) {
    let open = server(kind, "max_payload: 1000");
    let closed = server(kind, TOKEN);
    for size in [
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967297",
        "9223372036854775807",
        "18446744073709551616",
        "99999999999999999999999999",
        "-1",
        "0x10",
    ] {
        for operation in [
            format!("PUB a {size}\r\n"),
            format!("HPUB a 12 {size}\r\n"),
            format!("HPUB a {size} {size}\r\n"),
        ] {
            let connect = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
            let told = told_and_closed(&open, format!("{connect}{operation}"));
            // Some sizes are worth no word.
            let is_refusal = told.is_empty() || told.starts_with("-ERR '");
            assert!(is_refusal, "{operation:?}: {told:?}");
            // Who is not logged in gets no further than that.
            let told = told_and_closed(&closed, &operation);
            assert_eq!(told, format!("-ERR '{VIOLATION}'\r\n"), "{operation:?}");
        }
        let unsubscribe = format!("CONNECT {{\"verbose\":false}}\r\nSUB a 1\r\nUNSUB 1 {size}\r\n");
        let mut peer = Peer::connect(open.address());
        peer.expect_info();
        peer.send(unsubscribe);
        // Taken or refused, but answered.
        peer.send("PING\r\n");
        let _ = peer.try_ping_pong();
    }
    still_serves(&open, &json!({}));
    still_serves(&closed, &json!({"auth_token": "t"}));
}

fn strangers_are_bounded(kind: Kind) {
    let server = server(kind, TOKEN);
    for begin in [
        "CONNECT {\"auth_token\":\"",
        "CONNECT ",
        "CONNECT {\"a\":[[[[",
        "+OK ",
        "-ERR ",
        "PING ",
        "x",
    ] {
        // More than a control line, no end of line: the server must not take it all.
        let mut bytes = begin.as_bytes().to_vec();
        bytes.resize(1024 * 1024, b'[');
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.send(bytes);
        // The end may be a reset, since not everything was read.
        let told = peer.try_rest().unwrap_or_default();
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.is_empty() || told.starts_with("-ERR '"),
            "{begin}: {told}"
        );
    }
    still_serves(&server, &json!({"auth_token": "t"}));
}

fn half_a_connect_is_not_waited_for(kind: Kind) {
    let server = server(kind, "authorization { token: t, timeout: 0.5 }");
    for half in [
        "",
        "C",
        "CONNECT {\"auth_token\":\"t\"",
        "CONNECT {\"auth_token\":\"t\"}",
    ] {
        let told = told_and_closed(&server, half);
        assert_eq!(told, "-ERR 'Authentication Timeout'\r\n", "{half:?}");
    }
    still_serves(&server, &json!({"auth_token": "t"}));
}

fn line_ends_inject_nothing(kind: Kind) {
    let server = server(
        kind,
        "authorization { users: [ { user: a, password: a, permissions: { publish: \"ok.>\" } }, { user: b, password: b } ] }",
    );
    let mut listener = Client::connect(server.address(), Transport::Plain);
    assert_eq!(
        listener.log_in("\"user\":\"b\",\"pass\":\"b\""),
        Outcome::In("$G".to_owned())
    );
    assert_eq!(listener.exchange("SUB > 1\r\n"), [""; 0]);
    for (subject, reply) in [
        ("ok.\rPUB no 0\r\r", ""),
        ("ok.x", "r\rMSG no 1 0\r"),
        ("ok.\u{0}no", ""),
        ("ok.\x0bPUB", ""),
    ] {
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.send("CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"a\"}\r\n");
        peer.send(format!("PUB {subject} {reply} 1\r\n\r\r\n"));
        let _ = peer.try_ping_pong();
        // Whatever was made of it, it is one message that begins as it may, or none.
        for line in listener.exchange("") {
            assert!(
                line.is_empty() || line.starts_with("MSG ok."),
                "{subject:?}: {line:?}"
            );
        }
    }
    // Nor do names write lines of their own into the log.
    let mut peer = Peer::connect(server.address());
    peer.expect_info();
    peer.send(
        "CONNECT {\"user\":\"x\\n[1] [INF] forged\",\"pass\":\"x\",\"name\":\"y\\r\\nforged\"}\r\n",
    );
    peer.expect_error(VIOLATION);
    let line = server.wait_for_log("authentication error");
    assert!(line.contains("cid:"), "{line}");
    let log = server.log();
    let forged = log
        .lines()
        .any(|line| line.starts_with("[1] [INF] forged") || line.starts_with("forged"));
    assert!(!forged, "{log}");
}

fn pages_with_absurd_numbers(kind: Kind) {
    let server = server(kind, "http: \"127.0.0.1:-1\"");
    let pages = server.listener(Listener::Monitor);
    let numbers = [
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "-1",
        "x",
        "",
    ];
    for page in ["connz", "subsz", "routez", "accstatz"] {
        for offset in numbers {
            for limit in numbers {
                let path = format!("/{page}?subs=1&offset={offset}&limit={limit}&cid={limit}");
                let answer = HttpAnswer::get(pages, &path);
                assert!([200, 400].contains(&answer.status), "{path}: {answer:?}");
            }
        }
    }
    still_serves(&server, &json!({}));
}

fn handshakes_out_of_order(kind: Kind) {
    let server = server(kind, TOKEN);
    let right = "CONNECT {\"verbose\":false,\"auth_token\":\"t\"}\r\n";
    for bytes in [
        "INFO {}\r\n".to_owned(),
        "INFO {\"nonce\":null}\r\nINFO {}\r\n".to_owned(),
        "INFO \r\n".to_owned(),
        "PONG\r\nPONG\r\n".to_owned(),
        "+OK\r\n".to_owned(),
        "-ERR 'x'\r\n".to_owned(),
        "MSG a 1 0\r\n\r\n".to_owned(),
        "RMSG A a 0\r\n\r\n".to_owned(),
        "RS+ A a\r\n".to_owned(),
        "LS+ a\r\n".to_owned(),
        "A+ x\r\n".to_owned(),
        "CONNECT\r\n".to_owned(),
        "CONNECT null\r\n".to_owned(),
        "CONNECT []\r\n".to_owned(),
        "CONNECT \"x\"\r\n".to_owned(),
        "CONNECT {\"auth_token\":[]}\r\n".to_owned(),
        "CONNECT {\"auth_token\":{\"t\":1}}\r\n".to_owned(),
        "CONNECT {\"protocol\":99999999999999999999}\r\n".to_owned(),
        format!(
            "CONNECT {{\"a\":{}{}}}\r\n",
            "[".repeat(1_900),
            "]".repeat(1_900)
        ),
        "CONNECT {\"jwt\":\"..\",\"sig\":\"\",\"nkey\":\"\"}\r\n".to_owned(),
        "CONNECT {\"auth_token\":\"x\"}\r\nCONNECT {\"auth_token\":\"t\"}\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.send(&bytes);
        // What is not refused at once must not let in either.
        peer.send("SUB > 1\r\nPUB x 1\r\nx\r\n");
        let told = peer.try_rest().unwrap_or_default();
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains("MSG x 1"), "{bytes:?}: {told}");
        // And behind a login that is right, in any number.
        let mut peer = Peer::connect(server.address());
        peer.expect_info();
        peer.send(format!("{right}{right}{bytes}{bytes}"));
        let _ = peer.try_ping_pong();
    }
    still_serves(&server, &json!({"auth_token": "t"}));
}

fn keys_of_every_length(kind: Kind) {
    let server = server(
        kind,
        "authorization { users: [ { nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 }, { user: a, password: a } ] }",
    );
    for length in (0..128).chain([255, 256, 1_000, 3_000]) {
        // The letters of a key, so that it is the length and not the alphabet that is looked at.
        let key: String = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
            .chars()
            .cycle()
            .take(length)
            .collect();
        for signature in ["", "AAAA", &"A".repeat(86)] {
            let connect = json!({"nkey": key, "sig": signature});
            let told = told_and_closed(&server, format!("CONNECT {connect}\r\nPING\r\n"));
            assert_eq!(told, format!("-ERR '{VIOLATION}'\r\n"), "{connect}");
        }
    }
    still_serves(&server, &json!({"user": "a", "pass": "a"}));
    // In the file they are refused, in every length but one.
    for key in ["U", "UAAA", &"U".repeat(55), &"U".repeat(57)] {
        let text = format!("authorization {{ users: [ {{ nkey: {key} }} ] }}");
        let refused = ServerUnderTest::try_start(kind, &Config::file(text));
        let told = refused.expect_err("a server with a broken key").to_string();
        assert!(!told.contains("panic"), "{told}");
    }
}

fn permissions_of_blanks(kind: Kind) {
    for blank in ["", " ", "   ", "\\t", " q", "a  ", "  a"] {
        for place in [
            "publish: \"?\"",
            "subscribe: \"?\"",
            "subscribe: { deny: [\"?\"] }",
            "publish: { allow: [\"?\"] }",
        ] {
            let permissions = place.replace('?', blank);
            let text = format!(
                "authorization {{ users: [ {{ user: a, password: a, permissions: {{ {permissions} }} }} ] }}"
            );
            match ServerUnderTest::try_start(kind, &Config::file(&text)) {
                Err(error) => assert!(!error.to_string().contains("panic"), "{text}: {error}"),
                // It may mean anything, but not the end of the server.
                Ok(server) => {
                    let mut peer = Peer::connect(server.address());
                    peer.expect_info();
                    peer.send("CONNECT {\"user\":\"a\",\"pass\":\"a\"}\r\nSUB a 1\r\nSUB a q 2\r\nPUB a 0\r\n\r\n");
                    let _ = peer.try_ping_pong();
                    Peer::connect(server.address()).expect_info();
                }
            }
        }
    }
}

fn an_account_of_ones_choice(kind: Kind) {
    let server = server(
        kind,
        "accounts { A { users: [ { user: a, password: a } ] }, SYS { users: [ { user: s, password: s } ] } }
         system_account: SYS",
    );
    for account in ["A", "SYS", "$G", "new"] {
        for new in [true, false] {
            for login in [json!({}), json!({"user": "a", "pass": "a"})] {
                let mut connect = login;
                connect["account"] = account.into();
                connect["new_account"] = new.into();
                let told = told_and_closed(&server, format!("CONNECT {connect}\r\nPING\r\n"));
                assert_eq!(told, format!("-ERR '{VIOLATION}'\r\n"), "{connect}");
            }
        }
    }
}

/// What a client with these permissions to subscribe hears of messages, of which each carries its subject, on its only
/// subscription.
fn heard(kind: Kind, permissions: &str, subscription: &str, subjects: &[&str]) -> Vec<String> {
    let server = server(
        kind,
        &format!(
            "authorization {{ users: [ {{ user: a, password: a, permissions: {{ subscribe: {{ {permissions} }} }} }}, {{ user: b, password: b }} ] }}"
        ),
    );
    let mut client = Client::connect(server.address(), Transport::Plain);
    let mut other = Client::connect(server.address(), Transport::Plain);
    let log_in = |client: &mut Client, name: &str| {
        let outcome = client.log_in(&format!("\"user\":\"{name}\",\"pass\":\"{name}\""));
        assert_eq!(outcome, Outcome::In("$G".to_owned()));
    };
    log_in(&mut client, "a");
    log_in(&mut other, "b");
    let refused = client.exchange(&format!("SUB {subscription} 1\r\n"));
    if !refused.is_empty() {
        return refused;
    }
    // One batch, as it travels between servers, and one by one.
    let mut batch = String::new();
    for subject in subjects {
        let _ = write!(batch, "PUB {subject} 0\r\n\r\n");
    }
    assert_eq!(other.exchange(&batch), [""; 0]);
    for subject in subjects {
        assert_eq!(other.exchange(&format!("PUB {subject} 0\r\n\r\n")), [""; 0]);
    }
    let lines = client.exchange("");
    let subjects: Vec<String> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("MSG "))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    let (first, second) = subjects.split_at(subjects.len() / 2);
    assert_eq!(first, second, "alone and in a batch alike");
    first.to_vec()
}

fn denials_reach_queue_groups(kind: Kind) {
    let subjects = ["foo.a", "foo.no", "foo.b"];
    for queue in ["", "q"] {
        for pattern in ["foo.*", "foo.>", "*.*", ">", "*.>"] {
            let subscription = format!("{pattern} {queue}");
            let got = heard(kind, "deny: \"foo.no\"", &subscription, &subjects);
            assert_eq!(got, ["foo.a", "foo.b"], "{subscription}");
        }
    }
}

fn only_a_system_account(kind: Kind) {
    let server = server(
        kind,
        "accounts { $SYS { users: [ { user: admin, password: pw } ] } }",
    );
    let outcome = |fields: &str| Client::connect(server.address(), Transport::Plain).log_in(fields);
    // Everybody may come in, but not into the system account.
    assert_eq!(outcome(""), Outcome::In("$G".to_owned()));
    assert_eq!(
        outcome("\"user\":\"admin\",\"pass\":\"pw\""),
        Outcome::In("$SYS".to_owned())
    );
    for wrong in [
        "\"user\":\"admin\"",
        "\"user\":\"admin\",\"pass\":\"\"",
        "\"user\":\"other\",\"pass\":\"pw\"",
    ] {
        assert_eq!(outcome(wrong), Outcome::Refused(VIOLATION.to_owned()));
    }
}

fn traces_go_nowhere_forbidden(kind: Kind) {
    let server = server(
        kind,
        "authorization { users: [ { user: a, password: a, permissions: { publish: \"ok\" } }, { user: b, password: b } ] }",
    );
    let mut listener = Client::connect(server.address(), Transport::Plain);
    listener.log_in("\"user\":\"b\",\"pass\":\"b\"");
    assert_eq!(listener.exchange("SUB > 1\r\n"), [""; 0]);
    let mut client = Client::connect(server.address(), Transport::Plain);
    client.log_in("\"user\":\"a\",\"pass\":\"a\",\"headers\":true");
    for header in [
        "Nats-Trace-Dest: forbidden",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let headers = format!("NATS/1.0\r\n{header}\r\n\r\n");
        let length = headers.len();
        client.exchange(&format!("HPUB ok {length} {length}\r\n{headers}\r\n"));
    }
    for line in listener.exchange("") {
        assert!(!line.contains("forbidden 1 "), "{line}");
    }
}

fn the_first_operation_is_no_way_in(kind: Kind) {
    let guests = "accounts { A { users: [ { user: guest, password: g, allowed_connection_types: [?] } ] } }\nno_auth_user: guest";
    for (types, is_let_in) in [
        ("STANDARD", true),
        ("WEBSOCKET", false),
        ("MQTT, LEAFNODE", false),
    ] {
        let server = server(kind, &guests.replace('?', types));
        for first in [
            "PING\r\n",
            "SUB x 1\r\n",
            "PUB x 0\r\n\r\n",
            "CONNECT {\"verbose\":false}\r\n",
        ] {
            let mut peer = Client::connect(server.address(), Transport::Plain);
            peer.send(first).expect("connected");
            peer.send("PING\r\n").expect("connected");
            let mut told = String::new();
            while let Ok(line) = peer.line() {
                told += &line;
                if line.is_empty() || line == "PONG" {
                    break;
                }
            }
            assert_eq!(
                told.ends_with("PONG"),
                is_let_in,
                "{types} {first:?}: {told}"
            );
            assert_eq!(
                told.contains(VIOLATION),
                !is_let_in,
                "{types} {first:?}: {told}"
            );
        }
    }
    // Without such a user nothing but CONNECT helps.
    let server = server(kind, TOKEN);
    for first in ["PING\r\n", "SUB x 1\r\n", "PUB x 0\r\n\r\n", "UNSUB 1\r\n"] {
        assert_eq!(
            told_and_closed(&server, first),
            format!("-ERR '{VIOLATION}'\r\n")
        );
    }
}

fn denials_overlap(kind: Kind) {
    let subjects = ["a.b", "a.c", "b.c", "a.b.c"];
    for (permissions, subscription, expected) in [
        // Neither contains the other.
        ("deny: \"*.c\"", "a.*", &["a.b"][..]),
        ("deny: \"a.*\"", "*.c", &["b.c"]),
        ("deny: \"*.c\"", "a.* q", &["a.b"]),
        ("deny: \"a.>\"", "*.c", &["b.c"]),
        ("deny: \"*.b.>\"", "a.>", &["a.b", "a.c"]),
        ("allow: \">\", deny: [\"*.c\", \"a.b\"]", ">", &["a.b.c"]),
        ("allow: \"a.>\", deny: \"*.c\"", "a.>", &["a.b", "a.b.c"]),
        // What a group is denied is denied to it alone, and takes nothing from what all are denied.
        ("deny: [\"a.b\", \"a.c q\"]", "a.* q", &[]),
        ("deny: [\"a.b\", \"a.c q\"]", "a.*", &["a.c"]),
        ("deny: [\"a.c q\", \"a.b\"]", "a.* p", &["a.c"]),
        ("deny: [\"a.b\", \"a.b q\"]", "a.* q", &["a.c"]),
        ("deny: [\"a.b\", \"a.b q\"]", "a.* p", &["a.c"]),
        ("deny: [\"a.b q\", \"a.b\"]", "a.*", &["a.c"]),
        ("deny: \"* q\"", "a.b q", &["a.b"]),
        ("deny: \"a.* q\"", "*.b q", &[]),
        ("deny: \"a.* *\"", "*.b p", &[]),
        ("deny: \"a.* *\"", "*.b", &["a.b"]),
    ] {
        let got = heard(kind, permissions, subscription, &subjects);
        assert_eq!(got, expected, "{permissions} {subscription}");
    }
}

/// Logs in by the user's name, which is the password too.
#[track_caller]
fn client(server: &ServerUnderTest, name: &str) -> Client {
    let mut client = Client::connect(server.address(), Transport::Plain);
    let outcome = client.log_in(&format!("\"user\":\"{name}\",\"pass\":\"{name}\""));
    assert!(matches!(outcome, Outcome::In(_)), "{name}: {outcome:?}");
    client
}

/// The subjects of what has come, in order.
fn subjects_heard(client: &mut Client) -> Vec<String> {
    let lines = client.exchange("");
    let subject = |line: &String| Some(line.strip_prefix("MSG ")?.split(' ').next()?.to_owned());
    lines.iter().filter_map(subject).collect()
}

fn denials_hold_for_imports(kind: Kind) {
    let server = server(
        kind,
        "accounts {
           A { users: [ { user: a, password: a } ], exports: [ { stream: \"s.>\" } ] }
           B { imports: [ { stream: { account: A, subject: \"s.>\" }, prefix: from } ], users: [
             { user: all, password: all }
             { user: some, password: some, permissions: { subscribe: { deny: \"from.s.no\" } } }
             { user: few, password: few, permissions: { subscribe: { allow: \"from.s.*\", deny: \"*.*.no\" } } }
             # What it is called in the other account means nothing here.
             { user: other, password: other, permissions: { subscribe: { deny: \"s.no\" } } } ] }
         }",
    );
    let mut clients: Vec<_> = [
        (
            "all",
            "from.>",
            &["from.s.yes", "from.s.no", "from.s.b.c"][..],
        ),
        ("some", "from.>", &["from.s.yes", "from.s.b.c"]),
        ("some", "from.s.* q1", &["from.s.yes"]),
        ("some", ">", &["from.s.yes", "from.s.b.c"]),
        ("few", "from.s.*", &["from.s.yes"]),
        ("few", "from.s.* q2", &["from.s.yes"]),
        ("other", "from.s.*", &["from.s.yes", "from.s.no"]),
    ]
    .into_iter()
    .map(|(name, subscription, expected)| {
        let mut client = client(&server, name);
        assert_eq!(
            client.exchange(&format!("SUB {subscription} 1\r\n")),
            [""; 0]
        );
        (client, subscription, name, expected)
    })
    .collect();
    let mut publisher = client(&server, "a");
    for subject in ["s.yes", "s.no", "t.yes", "s.b.c"] {
        assert_eq!(
            publisher.exchange(&format!("PUB {subject} 0\r\n\r\n")),
            [""; 0]
        );
    }
    for (client, subscription, name, expected) in &mut clients {
        assert_eq!(subjects_heard(client), *expected, "{name} {subscription}");
    }
}

fn denials_hold_for_mappings(kind: Kind) {
    let server = server(
        kind,
        "mappings { \"old.*\": \"new.{{wildcard(1)}}\", \"way\": \"secret\" }
         authorization { users: [
           { user: all, password: all }
           { user: some, password: some, permissions: { subscribe: { deny: [\"new.no\", \"secret\"] } } }
           { user: early, password: early, permissions: { subscribe: { deny: [\"old.no\", \"way\"] } } }
           { user: bound, password: bound, permissions: { publish: { deny: [\"old.no\", \"secret\"] } } } ] }",
    );
    let mut listeners = ["all", "some", "early"].map(|name| {
        let mut client = client(&server, name);
        assert_eq!(client.exchange("SUB > 1\r\n"), [""; 0]);
        client
    });
    let mut publisher = client(&server, "all");
    for subject in ["old.yes", "old.no", "way", "new.no"] {
        publisher.exchange(&format!("PUB {subject} 0\r\n\r\n"));
    }
    // What it is called in the end counts for those who listen.
    let all = ["new.yes", "new.no", "secret", "new.no"];
    let [hears_all, some, early] = &mut listeners;
    assert_eq!(subjects_heard(hears_all), all);
    assert_eq!(subjects_heard(some), ["new.yes"]);
    assert_eq!(subjects_heard(early), all);
    // And for those who publish: no other name leads to what is denied.
    let mut publisher = client(&server, "bound");
    let told = publisher
        .exchange("PUB old.no 0\r\n\r\nPUB secret 0\r\n\r\nPUB old.yes 0\r\n\r\nPUB way 0\r\n\r\n");
    let violation = "-ERR 'Permissions Violation for Publish to \"secret\"'";
    assert_eq!(told, [violation, violation]);
    assert_eq!(subjects_heard(&mut listeners[0]), ["new.no", "new.yes"]);
}

/// What the server says instead of starting.
#[track_caller]
fn refused(kind: Kind, text: &str) -> String {
    match ServerUnderTest::try_start(kind, &Config::file(text)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it starts with {text}"),
    }
}

fn imports_that_are_not_granted(kind: Kind) {
    for export in [
        "{ stream: \"x\", accounts: [C] }",
        "{ stream: \"y\" }",
        "{ stream: \"x.y\" }",
    ] {
        let told = refused(
            kind,
            &format!(
                "accounts {{ A {{ exports: [ {export} ] }}, C {{ }}
                 B {{ users: [ {{ user: b, password: b }} ], imports: [ {{ stream: {{ account: A, subject: \"x\" }} }} ] }} }}"
            ),
        );
        assert!(told.contains("not authorized"), "{export}: {told}");
    }
}

fn imports_in_a_circle(kind: Kind) {
    let account = |name: &str, from: &str| {
        format!(
            "{name} {{ exports: [ {{ stream: \">\" }} ], imports: [ {{ stream: {{ account: {from}, subject: \"x.>\" }} }} ] }}\n"
        )
    };
    for circle in [
        &["A", "B"][..],
        &["A", "B", "C"],
        &["A", "B", "C", "D", "E", "F"],
    ] {
        let next = circle.iter().cycle().skip(1);
        let accounts: String = circle
            .iter()
            .zip(next)
            .map(|(name, from)| account(name, from))
            .collect();
        let told = refused(kind, &format!("accounts {{ {accounts} }}"));
        assert!(told.contains("cycle"), "{circle:?}: {told}");
    }
}

fn services_in_a_circle(kind: Kind) {
    let account = |name: &str, from: &str| {
        format!(
            "{name} {{ exports: [ {{ service: \"x.*\" }} ], imports: [ {{ service: {{ account: {from}, subject: \"x.y\" }} }} ] }}\n"
        )
    };
    // nats-server takes an account that asks itself, and notices while messages run.
    let alone: &[&[&str]] = if kind == Kind::Natterjack {
        &[&["A"]]
    } else {
        &[]
    };
    let others: [&[&str]; 2] = [&["A", "B"], &["A", "B", "C", "D", "E", "F"]];
    for circle in alone.iter().chain(&others) {
        let next = circle.iter().cycle().skip(1);
        let accounts: String = circle
            .iter()
            .zip(next)
            .map(|(name, from)| account(name, from))
            .collect();
        let told = refused(kind, &format!("accounts {{ {accounts} }}"));
        assert!(told.contains("cycle"), "{circle:?}: {told}");
    }
    // A circle that shows only in the names of subjects. nats-server starts, and notices while messages run.
    let renamed = "accounts {
      A { users: [ { user: a, password: a } ], exports: [ { service: x } ], imports: [ { service: { account: B, subject: y }, to: x } ] }
      B { exports: [ { service: y } ], imports: [ { service: { account: C, subject: z }, to: y } ] }
      C { exports: [ { service: z } ], imports: [ { service: { account: A, subject: x }, to: z } ] }
    }";
    if kind == Kind::NatsServer {
        let server = server(kind, renamed);
        let mut client = services::client(&server, "a");
        nothing(&mut client, &"PUB x 0\r\n\r\n".repeat(10));
    } else {
        assert!(refused(kind, renamed).contains("cycle"));
    }
}

/// Accounts A, which answers, and B and C, which ask; users with the names of their accounts.
const SERVICES: &str = "
    A { users: [ { user: a, password: a } ], exports: [ { service: \"svc.*\" }, { stream: \"out.>\" } ] }
    B { users: [ { user: b, password: b } ], imports: [ { service: { account: A, subject: \"svc.*\" } } ] }
    C { users: [ { user: c, password: c } ], imports: [
      { service: { account: A, subject: \"svc.*\" } }, { stream: { account: A, subject: \"out.>\" } } ] }";

/// The one message that has come.
fn only(client: &mut Client) -> Message {
    let mut found = messages(&client.exchange(""));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn who_asks_cannot_be_made_up(kind: Kind) {
    let server = services::server(kind, SERVICES);
    let (mut a, mut b) = (
        services::client(&server, "a"),
        services::client(&server, "b"),
    );
    nothing(&mut a, "SUB svc.* 1\r\n");
    let mut lines = vec![
        "Nats-Request-Info: {\"acc\":\"A\"}",
        "Nats-Request-Info:{\"acc\":\"A\"}",
        "Nats-Request-Info: {\"acc\":\"A\"}\r\nNats-Request-Info: {\"acc\":\"C\"}",
        "X: y\r\nNats-Request-Info: {\"acc\":\"A\",\"svc\":\"B\"}\r\nY: x",
        "Nats-Request-Info: x\r\nX: y",
    ];
    if kind == Kind::Natterjack {
        // Whatever a reader might take for it.
        lines.extend([
            "nats-request-info: {\"acc\":\"A\"}",
            "NATS-REQUEST-INFO: {\"acc\":\"A\"}\r\nNats-Request-Info: {}",
            "Nats-Request-Info : {\"acc\":\"A\"}",
            " Nats-Request-Info: {\"acc\":\"A\"}",
            "X: y\rNats-Request-Info: {\"acc\":\"A\"}",
            "X: y\nNats-Request-Info: {\"acc\":\"A\"}",
        ]);
    }
    for header in lines {
        let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
        let len = block.len();
        nothing(&mut b, &format!("HPUB svc.x {len} {len}\r\n{block}\r\n"));
        let request = only(&mut a);
        assert_eq!(request.info(), json!({"acc": "B"}), "{header:?}");
        let text = request.header.join("\n");
        assert!(
            !text.contains("\"A\"") && !text.contains("\"C\""),
            "{header:?}: {text}"
        );
    }
}

/// Nobody but who asked gets an answer, nobody but who was asked can give one, and nobody more than once.
fn answers_are_for_whom_they_are(kind: Kind) {
    let server = services::server(kind, SERVICES);
    let client = |name: &str| services::client(&server, name);
    let (mut a, mut b, mut c) = (client("a"), client("b"), client("c"));
    let mut curious: Vec<Client> = ["b", "c", "c"].map(client).into();
    nothing(&mut a, "SUB svc.* 1\r\n");
    nothing(&mut b, "SUB r 1\r\n");
    nothing(&mut c, "SUB r 1\r\n");
    nothing(&mut curious[0], "SUB _R_.> 1\r\nSUB _R_.*.* 2\r\n");
    nothing(&mut curious[1], "SUB _R_.> 1\r\n");
    nothing(&mut curious[2], "SUB > 1\r\n");
    nothing(&mut b, "PUB svc.x r 0\r\n\r\n");
    let request = only(&mut a);
    let reply = request.reply.clone().expect("a reply subject");
    assert!(reply.starts_with("_R_."), "{reply}");
    // Others may know where the answer goes, and yet not answer.
    for forger in [&mut c, &mut b] {
        nothing(forger, &format!("PUB {reply} 1\r\nx\r\n"));
    }
    // What was forged where somebody listens is heard there, and nowhere else.
    for client in &mut curious {
        let lines = client.exchange("");
        let all_forged = messages(&lines).iter().all(|heard| heard.payload == "x");
        assert!(all_forged, "{lines:?}");
    }
    nothing(&mut b, "");
    // Nor can anybody say that answers to others are to go there.
    let told = c.exchange(&format!("PUB svc.x {reply} 0\r\n\r\n"));
    assert!(
        told.iter().any(|line| line.contains("Publish with Reply")),
        "{told:?}"
    );
    nothing(&mut a, "");
    answer(&mut a, &request);
    assert_eq!(only(&mut b).payload, "ok");
    nothing(&mut c, "");
    for client in &mut curious {
        nothing(client, "");
    }
    // Once is enough.
    answer(&mut a, &request);
    nothing(&mut b, "");
    // The next ones cannot be told from it.
    let mut replies = vec![reply];
    for _ in 0..20 {
        nothing(&mut b, "PUB svc.x r 0\r\n\r\n");
        replies.push(only(&mut a).reply.expect("a reply subject"));
    }
    let last = |reply: &String| reply.rsplit('.').next().unwrap_or_default().to_owned();
    let mut tokens: Vec<String> = replies.iter().map(last).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 21, "{replies:?}");
}

/// What the server answers of its own is about the account that asks, whatever is asked.
fn system_services_look_at_the_account(kind: Kind) {
    let text = "server_name: one
        system_account: S
        accounts {
          S { users: [ { user: s, password: s } ] }
          A { users: [ { user: a, password: a }, { user: a2, password: a2, permissions: { publish: { allow: \"$SYS.REQ.>\" } } } ] }
          B { users: [ { user: b, password: b } ] }
        }";
    let server = ServerUnderTest::start(kind, &Config::file(text));
    let client = |name: &str| services::client(&server, name);
    let (mut a, mut a2, _b) = (client("a"), client("a2"), client("b"));
    let ask = |client: &mut Client, subject: &str, header: &str, payload: &str| {
        let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
        let (head, all) = (block.len(), block.len() + payload.len());
        let text =
            format!("SUB r 1\r\nHPUB $SYS.REQ.{subject} r {head} {all}\r\n{block}{payload}\r\n");
        let mut lines = client.exchange(&text);
        let deadline = testkit::Deadline::after(testkit::PATIENCE);
        while lines.is_empty() && deadline.left().is_some() {
            lines = client.exchange("");
        }
        nothing(client, "UNSUB 1\r\n");
        lines.join("\n")
    };
    let forged = "Nats-Request-Info: {\"acc\":\"B\",\"id\":1,\"user\":\"b\"}";
    for (subject, payload) in [
        ("ACCOUNT.PING.CONNZ", "{\"acc\":\"B\",\"auth\":true}"),
        ("SERVER.PING.CONNZ", "{\"acc\":\"B\",\"user\":\"b\"}"),
        ("ACCOUNT.PING.STATZ", "{\"accounts\":[\"B\"]}"),
        ("USER.INFO", "{\"user\":\"b\"}"),
    ] {
        for header in ["X: y", forged] {
            let told = ask(&mut a, subject, header, payload);
            assert!(
                !told.contains("\"B\"") && !told.contains("app b"),
                "{subject}: {told}"
            );
        }
    }
    let told = ask(&mut a2, "USER.INFO", forged, "");
    let is_allowed = told.contains("$SYS.REQ.\\u003e") || told.contains("$SYS.REQ.>");
    assert!(told.contains("\"user\":\"a2\"") && is_allowed, "{told}");
    for subject in [
        "ACCOUNT.B.CONNZ",
        "ACCOUNT.A.SUBSZ",
        "USER.B.INFO",
        "SERVER.PING.VARZ",
        "ACCOUNT.B.STATZ",
    ] {
        let told = ask(&mut a, subject, forged, "");
        assert!(told.contains("503"), "{subject}: {told}");
    }
    // Operators may write what they like there: nothing falls over.
    let mut operator = client("s");
    for said in [
        "x",
        "{\"id\":-1}",
        "{\"id\":1e99,\"acc\":[]}",
        "{",
        "null",
        "[]",
    ] {
        let block = format!("NATS/1.0\r\nNats-Request-Info: {said}\r\n\r\n");
        let len = block.len();
        operator.exchange(&format!(
            "HPUB $SYS.REQ.USER.A.INFO r {len} {len}\r\n{block}\r\n"
        ));
    }
    assert!(ask(&mut a, "USER.INFO", "X: y", "").contains("\"user\":\"a\""));
}

fn files_in_a_circle(kind: Kind) {
    // The real server reads on until its stack is used up.
    if kind == Kind::NatsServer {
        return;
    }
    let config = Config::file("include ./one.conf\n")
        .side_file("one.conf", "include ./two.conf\n")
        .side_file("two.conf", "include ./one.conf\n");
    let error = ServerUnderTest::try_start(kind, &config).expect_err("a circle");
    assert!(error.to_string().contains("includes itself"), "{error}");
}

fn paths_lead_nowhere(kind: Kind) {
    let server = server(kind, "http: \"127.0.0.1:-1\"");
    let pages = server.listener(Listener::Monitor);
    for path in [
        "/../server.conf",
        "/%2e%2e/server.conf",
        "/..%2fserver.conf",
        "/server.conf",
        "/varz/../server.conf",
        "//server.conf",
    ] {
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
        let answer = HttpAnswer::to(pages, &request);
        assert!(!answer.body.contains("127.0.0.1:-1"), "{path}: {answer:?}");
    }
}

fn flags_keep_the_files_ciphers(kind: Kind) {
    // An ECDSA certificate: the suite must be one for it.
    let text =
        format!("tls {{ {MUTUAL}, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384] }}");
    for arguments in [&[][..], &["--tlscert", "cert.pem", "--tlskey", "key.pem"]] {
        let mut config = config(&text);
        for argument in arguments {
            config = config.argument(*argument);
        }
        let server = ServerUnderTest::start(kind, &config);
        for (suite, expected) in [
            (
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                Outcome::In("$G".to_owned()),
            ),
            (
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                Outcome::NoHandshake,
            ),
        ] {
            // There, what flags say of TLS takes the place of all that the file says.
            if kind == Kind::NatsServer && !arguments.is_empty() {
                continue;
            }
            let mut client = Client::connect(server.address(), Transport::Suite(suite));
            assert_eq!(client.log_in(""), expected, "{arguments:?} {suite}");
        }
    }
}

fn a_session_does_not_outlive_stricter_rules(kind: Kind) {
    let mut server = server(kind, &format!("tls {{ {MUTUAL} }}"));
    let memory = Resumption::new();
    let log_in = |server: &ServerUnderTest| {
        let transport = Transport::Remembering(&memory);
        Client::connect(server.address(), transport).log_in("")
    };
    for _ in 0..3 {
        assert_eq!(log_in(&server), Outcome::In("$G".to_owned()));
    }
    let told = server.reload(&format!("tls {{ {MUTUAL}, verify: true }}"));
    assert!(told.contains("Reloaded server configuration"), "{told}");
    for _ in 0..3 {
        assert_eq!(
            log_in(&server),
            Outcome::NoHandshake,
            "without a certificate"
        );
    }
}
