//! One engine, and a peer that says what the test says, byte for byte.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use natterjack_engine::{
    Access, AccountAccess, CloseReason, ClusterLogin, ClusterSettings, Compression, Direction,
    Engine, Limits, Nonce, Peer, RoutePeer, RouteSession, ServerInfo, Session, Settings,
    SubjectRules, Transport, Worker,
};

use super::world::{Pipe, cluster};

struct Server {
    engine: Arc<Engine>,
    worker: Worker,
    now: Instant,
}

struct Script {
    session: RouteSession,
    sent: Arc<Pipe>,
}

const CONNECT: &str = r#"CONNECT {"echo":true,"verbose":false,"pedantic":false,"tls_required":false,"headers":true,"name":"PEER","cluster":"c","lnoc":true,"ln":true}"#;

fn info(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        "INFO {{\"server_id\":\"PEER\",\"server_name\":\"peer\",\"version\":\"2.15.1\",\"proto\":3,\"go\":\"go1.27.2\",\
         \"host\":\"0.0.0.0\",\"port\":24352,\"headers\":true,\"max_payload\":1048576,\"cluster\":\"c\",\"lnocu\":true{comma}{more}}} \r\n"
    )
}

impl Server {
    fn new(settings: ClusterSettings) -> Self {
        let mut access = Access::open();
        access.accounts = vec![AccountAccess {
            name: "A".to_owned(),
            ..AccountAccess::default()
        }];
        let engine = Engine::new(Settings {
            info: ServerInfo {
                server_id: "SELF".to_owned(),
                server_name: "self".to_owned(),
                version: "2.15.1".to_owned(),
                headers: true,
                connect_urls: vec!["127.0.0.1:4222".to_owned()],
                ..ServerInfo::default()
            },
            limits: Limits::default(),
            access,
            seed: 1,
            cluster: Some(settings),
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self {
            worker: engine.worker(),
            engine,
            now,
        }
    }

    fn open(&self, direction: Direction) -> Script {
        let sent = Arc::<Pipe>::default();
        let peer = RoutePeer {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 50_000))),
            nonce: Nonce::default(),
            direction,
        };
        let transport = Arc::clone(&sent) as Arc<dyn Transport>;
        let session = self.engine.open_route(peer, transport, self.now);
        Script {
            session: session.expect("a cluster"),
            sent,
        }
    }

    fn accept(&self) -> Script {
        let script = self.open(Direction::Accepted);
        script.sent.text();
        script
    }

    fn dial(&self) -> Option<Script> {
        let mut dials = Vec::new();
        let mesh = self.engine.mesh().expect("a cluster");
        mesh.poll_dials(self.now, Waker::noop(), &mut dials);
        // That of an account comes last.
        dials
            .first()
            .map(|dial| self.open(Direction::Dialled(dial.id)))
    }

    fn send(&mut self, script: &mut Script, text: &str) -> String {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() && script.closed().is_none() {
            let mut count = 0;
            for slice in &mut script.session.read_slices(&mut self.worker) {
                let slice: &mut IoSliceMut<'_> = slice;
                let taken = slice.len().min(bytes.len());
                slice[..taken].copy_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                count += taken;
            }
            script
                .session
                .handle_read(count, &mut self.worker, self.now);
            if let Some(check) = script.session.pending_check() {
                script
                    .session
                    .finish_check(check.run(), &mut self.worker, self.now);
            }
        }
        while script.session.step(self.now) != natterjack_engine::Step::Done {}
        // What a task does that was woken.
        script.session.outbox().flush(self.now);
        script.sent.text()
    }

    /// Has a session go by the configuration in force, in every respect.
    fn adapt(&self, script: &mut Script) {
        script.session.adapt(self.now);
        while script.session.step(self.now) != natterjack_engine::Step::Done {}
    }

    /// The peer's connection that everything is on.
    fn registered(&mut self, more: &str) -> Script {
        let mut script = self.accept();
        let sent = self.send(&mut script, &format!("{CONNECT}\r\n{}", info(more)));
        assert!(script.session.is_registered(), "{sent}");
        script
    }
}

impl Script {
    fn closed(&self) -> Option<CloseReason> {
        self.session.outbox().status().closed
    }
}

#[test]
fn an_acceptor_says_info_at_once() {
    let server = Server::new(ClusterSettings {
        compression: Compression::Accept,
        ..cluster(&[])
    });
    let script = server.open(Direction::Accepted);
    assert_eq!(
        script.sent.text(),
        "INFO {\"server_id\":\"SELF\",\"server_name\":\"self\",\"version\":\"2.15.1\",\"proto\":3,\"go\":\"\",\"host\":\"0.0.0.0\",\
         \"port\":6222,\"headers\":true,\"max_payload\":1048576,\"cluster\":\"c\",\"connect_urls\":[\"127.0.0.1:4222\"],\
         \"compression\":\"accept\",\"lnoc\":true,\"lnocu\":true,\"ln\":true,\"strays\":true,\"account_moves\":1,\"route_pool_size\":3} \r\n"
    );
}

#[test]
fn who_dials_says_connect_then_info_and_ping_once_it_has_a_place() {
    let mut server = Server::new(cluster(&[0]));
    let mut script = server.dial().expect("a seed");
    assert_eq!(
        script.sent.text(),
        format!("{CONNECT}\r\n").replace("PEER", "SELF")
    );
    let said = server.send(
        &mut script,
        &info("\"compression\":\"off\",\"route_pool_size\":3"),
    );
    assert!(said.starts_with("INFO {\"server_id\":\"SELF\""), "{said}");
    assert!(said.contains("\"compression\":\"off\""), "{said}");
    assert!(
        said.ends_with("\"route_pool_size\":3} \r\nPING\r\n"),
        "{said}"
    );
    assert_eq!(
        server.engine.mesh().expect("a cluster").next_dial_at(),
        None
    );
    assert_eq!(server.send(&mut script, "PONG\r\n"), "");
    // Only then the next one.
    let mut next = server.dial().expect("a place is free");
    next.sent.text();
    let said = server.send(&mut next, &info("\"route_pool_size\":3"));
    assert!(
        said.contains("\"route_pool_size\":3,\"route_pool_idx\":1}"),
        "{said}"
    );
}

#[test]
fn strangers_are_refused_in_nats_servers_words() {
    let connect =
        |more: &str| format!("CONNECT {{\"name\":\"PEER\",\"cluster\":\"c\",{more}}}\r\n");
    let known = |more: &str| format!("{CONNECT}\r\n{}", info(more));
    let cases = [
        (
            "PING\r\n".to_owned(),
            "-ERR 'Authorization Violation'\r\n",
            CloseReason::AuthenticationViolation,
        ),
        (
            info(""),
            "-ERR 'Authorization Violation'\r\n",
            CloseReason::AuthenticationViolation,
        ),
        (
            connect("\"lang\":\"go\""),
            "-ERR 'attempted to connect to route port'\r\n",
            CloseReason::WrongPort,
        ),
        (
            connect("\"gateway\":\"g\""),
            "-ERR 'Rejecting connection from gateway \"g\" on the Route port'\r\n",
            CloseReason::WrongGateway,
        ),
        (
            "CONNECT {\"name\":\"PEER\",\"cluster\":\"d\"}\r\n".to_owned(),
            "-ERR 'Rejecting connection, cluster name \"d\" does not match \"c\"'\r\n",
            CloseReason::ClusterNameConflict,
        ),
        (
            "CONNECT {\r\n".to_owned(),
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            format!("{CONNECT}\r\nINFO [\r\n"),
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            format!("{CONNECT}\r\nRS+ $G a\r\n"),
            "",
            CloseReason::ProtocolViolation,
        ),
        // Of which nothing is kept.
        (
            format!("{CONNECT}\r\nRMSG $G a 60000000\r\nx"),
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            known("").replace("PEER", "SELF"),
            "",
            CloseReason::DuplicateRoute,
        ),
        (
            known("").replace("\"peer\"", "\"self\""),
            "",
            CloseReason::DuplicateServerName,
        ),
        (
            known("").replace("\"peer\"", "\"\""),
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            known("").replace("\"server_id\":\"PEER\"", "\"server_id\":\"\""),
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            known("").replace("\"cluster\":\"c\",\"lnocu\"", "\"cluster\":\"d\",\"lnocu\""),
            "",
            CloseReason::ClusterNameConflict,
        ),
        (
            known("\"route_pool_size\":3,\"route_pool_idx\":7"),
            "-ERR 'Invalid route pool index: 7 - pool size is 3'\r\n",
            CloseReason::ProtocolViolation,
        ),
        (
            known("\"route_pool_size\":3,\"route_account\":\"NOPE\""),
            "-ERR 'Unable to lookup account \"NOPE\": account missing'\r\n",
            CloseReason::MissingAccount,
        ),
        (
            known("\"route_pool_size\":3,\"route_account\":\"A\\nB\""),
            "-ERR 'Unable to lookup account \"A\\nB\": account missing'\r\n",
            CloseReason::MissingAccount,
        ),
        (
            known("\"route_pool_size\":3,\"route_account\":\"A\""),
            "-ERR 'No route for account \"A\"'\r\n",
            CloseReason::ProtocolViolation,
        ),
        (
            known("\"route_account\":\"$SYS\""),
            "-ERR 'Not possible to have a dedicated route for account \"$SYS\" between those servers'\r\n",
            CloseReason::ProtocolViolation,
        ),
        (
            known("\"compression\":\"zstd\""),
            "-ERR 'unsupported route compression mode \"zstd\"'\r\n",
            CloseReason::ProtocolViolation,
        ),
        (
            "GET / HTTP/1.1\r\n".to_owned(),
            "-ERR 'Authorization Violation'\r\n",
            CloseReason::AuthenticationViolation,
        ),
    ];
    for (said, answer, reason) in cases {
        let mut server = Server::new(ClusterSettings {
            compression: Compression::Accept,
            ..cluster(&[])
        });
        let mut script = server.accept();
        assert_eq!(server.send(&mut script, &said), answer, "{said}");
        assert_eq!(script.closed(), Some(reason), "{said}");
        while !script.session.close_step(CloseReason::ClientClosed) {}
        let snapshot = server.engine.mesh().expect("a cluster").snapshot();
        assert!(snapshot.peers.is_empty());
    }
}

/// What a server takes from its clients it passes on, and who may have lengthened the header on the way.
#[test]
fn messages_of_peers_may_be_as_long_as_those_of_their_clients() {
    let mut server = Server::new(cluster(&[]));
    let usual = 64 * 1024 * 1024;
    for (takes, bytes, closed) in [
        ("1048576", usual + 1000, None),
        ("200000000", 200_001_000, None),
        ("1048576", 200_000_000, Some(CloseReason::PayloadExceeded)),
    ] {
        let mut script = server.accept();
        let info = info("").replace("1048576", takes);
        server.send(&mut script, &format!("{CONNECT}\r\n{info}"));
        assert!(script.session.is_registered());
        server.send(&mut script, &format!("RMSG $G a {bytes}\r\nx"));
        assert_eq!(script.closed(), closed, "{bytes} of {takes}");
        while !script.session.close_step(CloseReason::ClientClosed) {}
    }
}

/// Who compresses says INFO twice, and might say something else the second time.
#[test]
fn what_is_said_again_is_looked_at_again() {
    let cases = [
        (("PEER", "SELF"), CloseReason::DuplicateRoute),
        (("\"PEER\"", "\"\""), CloseReason::ProtocolViolation),
        (("\"peer\"", "\"\""), CloseReason::ProtocolViolation),
        (("\"peer\"", "\"self\""), CloseReason::DuplicateServerName),
        (
            ("\"cluster\":\"c\"", "\"cluster\":\"d\""),
            CloseReason::ClusterNameConflict,
        ),
    ];
    for ((right, wrong), reason) in cases {
        let mut server = Server::new(ClusterSettings {
            compression: Compression::S2Fast,
            ..cluster(&[])
        });
        let mut script = server.accept();
        let hello = info("\"compression\":\"s2_fast\"");
        server.send(&mut script, &format!("{CONNECT}\r\n{hello}"));
        assert_eq!(
            script.session.take_compression(),
            Some(Compression::S2Fast),
            "{wrong}"
        );
        assert_eq!(script.closed(), None, "{wrong}");
        server.send(&mut script, &hello.replace(right, wrong));
        assert_eq!(script.closed(), Some(reason), "{wrong}");
        assert!(!script.session.is_registered(), "{wrong}");
    }
}

#[test]
fn passwords_are_checked() {
    for password in [
        "secret",
        "$2a$04$V5eyYJtWmyE3vEVEeSZ6Fuj3nq8hVBwcZ9hVxZRlXVgDQGlJzzLsq",
    ] {
        for (user, given) in [("u", "wrong"), ("x", "secret"), ("", "")] {
            let mut server = Server::new(ClusterSettings {
                login: Some(ClusterLogin {
                    user: "u".to_owned(),
                    password: password.into(),
                }),
                ..cluster(&[])
            });
            let mut script = server.accept();
            let connect = format!(
                "CONNECT {{\"name\":\"PEER\",\"cluster\":\"c\",\"user\":\"{user}\",\"pass\":\"{given}\"}}\r\n"
            );
            let said = server.send(&mut script, &connect);
            assert_eq!(said, "-ERR 'Authorization Violation'\r\n", "{user} {given}");
            assert_eq!(script.closed(), Some(CloseReason::AuthenticationViolation));
        }
    }
    let mut server = Server::new(ClusterSettings {
        login: Some(ClusterLogin {
            user: "u".to_owned(),
            password: "secret".into(),
        }),
        ..cluster(&[])
    });
    let mut script = server.accept();
    let connect =
        "CONNECT {\"name\":\"PEER\",\"cluster\":\"c\",\"user\":\"u\",\"pass\":\"secret\"}\r\n";
    assert_eq!(
        server.send(&mut script, &format!("{connect}{}", info(""))),
        ""
    );
    assert!(script.session.is_registered());
    // And who says nothing is not waited for.
    let mut silent = server.accept();
    server.now += Duration::from_secs(2);
    silent.session.handle_timeout(server.now);
    assert_eq!(silent.sent.text(), "-ERR 'Authentication Timeout'\r\n");
}

#[test]
fn interest_is_kept_as_the_peer_says_it() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.registered("");
    let lines = "RS+ $G a\r\nRS+ $G a\r\nRS+ $G a q 2\r\nRS+ $G a q 5\r\nLS+ leaf $G a\r\nLS+ other $G a\r\nRS+ NOPE a\r\n";
    assert_eq!(server.send(&mut script, lines), "");
    assert_eq!(script.session.peer_interest(), 5);
    assert_eq!(
        server.send(&mut script, "RS+ $G a..b\r\nPING\r\n"),
        "-ERR 'Invalid Subscription'\r\nPONG\r\n"
    );
    let lines = "RS- $G a\r\nRS- $G a q\r\nLS- leaf $G a\r\nRS- $G never\r\nRS- NOPE a\r\nA+ x\r\nA- x\r\n+OK\r\n";
    assert_eq!(server.send(&mut script, lines), "");
    assert_eq!(script.session.peer_interest(), 1);
    server.send(&mut script, "LS- other $G a\r\n");
    assert_eq!(script.session.peer_interest(), 0);
    assert_eq!(server.send(&mut script, "RS+ $G a q\r\n"), "");
    assert_eq!(script.closed(), Some(CloseReason::ProtocolViolation));
}

/// All interest in an account has been told on this connection.
fn told(account: &str, number: u64) -> String {
    format!(
        "INFO {{\"route_account\":\"{account}\",\"account_move\":1,\"account_move_number\":{number}}} \r\n"
    )
}

fn is_answer_to(said: &str, account: &str, number: u64) -> bool {
    said.contains(&format!(
        "\"route_account\":\"{account}\",\"account_move\":3,\"account_move_number\":{number}}}"
    ))
}

#[test]
fn accounts_move_with_a_word_only_between_those_that_know_the_same_way() {
    for (moves, is_known) in [
        ("", false),
        (",\"account_moves\":0", false),
        (",\"account_moves\":1", true),
        (",\"account_moves\":2", false),
    ] {
        let mut server = Server::new(cluster(&[]));
        let more = format!("\"strays\":true,\"route_pool_size\":3{moves}");
        let mut script = server.registered(&more);
        let said = server.send(&mut script, &told("A", 7));
        assert_eq!(is_answer_to(&said, "A", 7), is_known, "{moves}: {said}");
        assert_eq!(script.closed(), None);
    }
}

#[test]
fn on_a_connection_of_one_account_nothing_is_said_of_others() {
    let mut server = Server::new(ClusterSettings {
        accounts: vec!["A".to_owned()],
        ..cluster(&[])
    });
    let mut own =
        server.registered("\"account_moves\":1,\"route_pool_size\":3,\"route_account\":\"A\"");
    server.send(&mut own, "PONG\r\nRS+ a\r\n");
    let elsewhere = "INFO {\"route_account\":\"$G\",\"account_move\":2} \r\n";
    let said = server.send(&mut own, &format!("{}{elsewhere}", told("$G", 7)));
    assert_eq!(said, "");
    assert_eq!(own.session.peer_interest(), 1);
    let said = server.send(&mut own, &told("A", 8));
    assert!(is_answer_to(&said, "A", 8), "{said}");
    assert_eq!(own.closed(), None);
}

/// A peer may have accounts that are not here, and names of them are not kept at any length.
#[test]
fn accounts_that_are_not_here_have_come_when_they_are() {
    for (bytes, is_kept) in [(256, true), (257, false)] {
        let mut server = Server::new(cluster(&[]));
        let mut script = server.registered("\"account_moves\":1");
        let name = "n".repeat(bytes);
        // Nothing is sent in it, so the peer need not wait for that.
        let said = server.send(&mut script, &told(&name, 7));
        assert!(is_answer_to(&said, &name, 7), "{said}");
        let mut configuration = server.engine.configuration();
        configuration.access.accounts[0].name.clone_from(&name);
        drop(server.engine.reconfigure(configuration, server.now));
        server.adapt(&mut script);
        let said = server.send(&mut script, "");
        assert_eq!(is_answer_to(&said, &name, 7), is_kept, "{said}");
        // It may be said again.
        let said = server.send(&mut script, &told(&name, 8));
        assert!(is_answer_to(&said, &name, 8), "{said}");
    }
}

/// What is on its way on a connection that an account leaves may take long, but not for ever.
#[test]
fn a_connection_that_is_left_stays_until_the_peer_has_left_it_too() {
    for is_left_by_peer in [true, false] {
        let mut server = Server::new(ClusterSettings {
            accounts: vec!["A".to_owned()],
            ..cluster(&[])
        });
        let mut shared = server.registered("\"account_moves\":1,\"route_pool_size\":3");
        let mut own =
            server.registered("\"account_moves\":1,\"route_pool_size\":3,\"route_account\":\"A\"");
        server.send(&mut own, "PONG\r\nRS+ a\r\n");
        let mut configuration = server.engine.configuration();
        let settings = configuration.cluster.as_mut().expect("a cluster");
        settings.accounts.clear();
        drop(server.engine.reconfigure(configuration, server.now));
        server.adapt(&mut shared);
        server.adapt(&mut own);
        // All that is told of the account is told on the other connection now.
        let said = server.send(&mut shared, "");
        let (_, number) = said
            .rsplit_once("\"account_move_number\":")
            .expect("a word of it");
        let number: u64 = number
            .split('}')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("its number");
        let taken = format!(
            "INFO {{\"route_account\":\"A\",\"account_move\":3,\"account_move_number\":{number}}} \r\n"
        );
        server.send(&mut shared, &taken);
        let said = server.send(&mut own, "");
        assert!(said.contains("\"account_move\":4"), "{said}");
        let begin = server.now;
        let ends = begin + Duration::from_secs(120);
        while own.session.next_timeout() < ends {
            assert_eq!(own.closed(), None, "{:?}", server.now - begin);
            server.now = own.session.next_timeout();
            own.session.handle_timeout(server.now);
            server.send(&mut own, "PONG\r\nRS+ a\r\n");
            assert_eq!(own.session.peer_interest(), 1);
            if is_left_by_peer && server.now - begin > Duration::from_secs(50) {
                break;
            }
        }
        if is_left_by_peer {
            server.send(
                &mut own,
                "INFO {\"route_account\":\"A\",\"account_move\":2} \r\n",
            );
        } else {
            own.session.handle_timeout(ends);
        }
        assert_eq!(own.closed(), Some(CloseReason::RouteRemoved));
    }
}

/// What is for groups that have no member here any more goes on, to whoever has several of them once.
#[test]
fn strays_go_on_in_one_message() {
    let mut server = Server::new(cluster(&[]));
    let mut from = server.registered("");
    let mut to = server.accept();
    let hello = format!("{CONNECT}\r\n{}", info("\"strays\":true"));
    let hello = hello
        .replace("PEER", "OTHER")
        .replace("\"peer\"", "\"other\"");
    server.send(&mut to, &hello);
    assert!(to.session.is_registered());
    server.send(
        &mut to,
        "RS+ $G a q1 1\r\nRS+ $G a q2 1\r\nRS+ $G a q3 1\r\n",
    );
    server.send(&mut from, "RMSG $G a | q1 q2 5\r\nhello\r\n");
    let said = server.send(&mut to, "");
    assert_eq!(said, "LMSG $STRAY $G a | q1 q2 0 5\r\nhello\r\n");
}

#[test]
fn an_error_of_the_peers_ends_it() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.registered("");
    assert_eq!(server.send(&mut script, "-ERR 'Stale Connection'\r\n"), "");
    assert_eq!(script.closed(), Some(CloseReason::ParseError));
}

#[test]
fn what_an_account_wanted_that_was_not_there_is_there_when_it_comes() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.registered("");
    server.send(&mut script, "RS+ LATER a\r\nRS+ A b\r\n");
    let mut configuration = server.engine.configuration();
    configuration.access.accounts[0].name = "LATER".to_owned();
    drop(server.engine.reconfigure(configuration, server.now));
    server.adapt(&mut script);
    assert_eq!(script.session.peer_interest(), 2);
    let later = server.engine.account("LATER").expect("it has come");
    assert_eq!(later.peer_interest(), 1);
    let mut configuration = server.engine.configuration();
    configuration.access.accounts[0].name = "A".to_owned();
    drop(server.engine.reconfigure(configuration, server.now));
    server.adapt(&mut script);
    assert_eq!(later.peer_interest(), 0);
    assert_eq!(
        server
            .engine
            .account("A")
            .expect("it is back")
            .peer_interest(),
        1
    );
}

#[test]
fn permissions_filter_interest_both_ways_and_may_change() {
    let only = |subject: &str| {
        Some(SubjectRules {
            allow: Some(vec![subject.to_owned()]),
            deny: Vec::new(),
        })
    };
    let settings = ClusterSettings {
        import: only("in.*"),
        export: only("out.*"),
        ..cluster(&[])
    };
    let mut server = Server::new(settings);
    let to_client = Arc::<Pipe>::default();
    let transport = Arc::clone(&to_client) as Arc<dyn Transport>;
    let mut client = server
        .engine
        .open_client(Peer::default(), transport, server.now);
    let subscribe = b"CONNECT {\"verbose\":false}\r\nSUB in.a 1\r\nSUB x 2\r\nSUB in.b 3\r\n";
    client.read_slices(&mut server.worker)[1][..subscribe.len()].copy_from_slice(subscribe);
    client.handle_read(subscribe.len(), &mut server.worker, server.now);
    let mut script = server.accept();
    let said = server.send(&mut script, &format!("{CONNECT}\r\n{}", info("")));
    assert_eq!(said, "RS+ $G in.a\r\nRS+ $G in.b\r\n");
    server.send(&mut script, "RS+ $G out.a\r\nRS+ $G in.a\r\n");
    assert_eq!(script.session.peer_interest(), 1);
    // The peer accepts less, and then all again.
    let said = server.send(&mut script, &info("\"export\":{\"allow\":[\"in.a\"]}"));
    assert_eq!(said, "RS- $G in.b\r\n");
    assert_eq!(server.send(&mut script, &info("")), "RS+ $G in.b\r\n");
    // And this server is reloaded.
    let mut configuration = server.engine.configuration();
    let settings = configuration.cluster.as_mut().expect("a cluster");
    (settings.import, settings.export) = (only("x"), only("elsewhere"));
    drop(server.engine.reconfigure(configuration, server.now));
    server.adapt(&mut script);
    script.session.outbox().flush(server.now);
    let said = script.sent.text();
    assert!(
        said.contains("\"import\":{\"allow\":[\"x\"]},\"export\":{\"allow\":[\"elsewhere\"]}"),
        "{said}"
    );
    assert!(
        said.ends_with("RS- $G in.a\r\nRS+ $G x\r\nRS- $G in.b\r\n"),
        "{said}"
    );
    assert_eq!(script.session.peer_interest(), 0);
}

/// The peer goes by what INFO said at first, and would for as long as the connection lasts.
#[test]
fn permissions_of_a_reload_during_a_handshake_are_told_after_it() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.accept();
    let mut configuration = server.engine.configuration();
    let settings = configuration.cluster.as_mut().expect("a cluster");
    settings.export = Some(SubjectRules {
        allow: Some(vec!["out.*".to_owned()]),
        deny: Vec::new(),
    });
    drop(server.engine.reconfigure(configuration, server.now));
    server.adapt(&mut script);
    let said = server.send(&mut script, &format!("{CONNECT}\r\n{}", info("")));
    assert!(script.session.is_registered(), "{said}");
    assert!(
        said.contains("\"export\":{\"allow\":[\"out.*\"]}"),
        "{said}"
    );
    // And only then.
    let mut script = server.accept();
    let said = server.send(&mut script, &format!("{CONNECT}\r\n{}", info("")));
    assert_eq!(said.matches("INFO").count(), 0, "{said}");
}

/// Before a client hears of it, and without a task of the peer's connection running: this server may be gone by then.
#[test]
fn peers_hear_of_another_at_once() {
    let mut server = Server::new(cluster(&[]));
    let first = server.registered("");
    first.sent.text();
    let mut other = server.accept();
    let hello = format!("{CONNECT}\r\n{}", info(""));
    let hello = hello.replace("PEER", "OTHER").replace("24352", "24353");
    server.send(&mut other, &hello);
    assert!(other.session.is_registered());
    let told = first.sent.text();
    assert!(told.contains("\"server_id\":\"OTHER\""), "{told}");
}

#[test]
fn clients_hear_of_other_servers() {
    let mut server = Server::new(cluster(&[]));
    let to_client = Arc::<Pipe>::default();
    let transport = Arc::clone(&to_client) as Arc<dyn Transport>;
    let mut client = server
        .engine
        .open_client(Peer::default(), transport, server.now);
    let hello = b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n";
    client.read_slices(&mut server.worker)[1][..hello.len()].copy_from_slice(hello);
    client.handle_read(hello.len(), &mut server.worker, server.now);
    to_client.text();
    let told = |client: &mut natterjack_engine::ClientSession, now| {
        client.adapt(now);
        client.outbox().flush(now);
        let text = to_client.text();
        let urls = text
            .split_once("\"connect_urls\":")
            .map(|(_, rest)| rest.to_owned());
        urls.map(|urls| {
            urls.split_once(']')
                .map(|(urls, _)| urls.to_owned())
                .expect("a list")
        })
    };
    let urls = "\"connect_urls\":[\"127.0.0.1:4223\"]";
    let mut script = server.registered(urls);
    assert_eq!(
        told(&mut client, server.now).as_deref(),
        Some("[\"127.0.0.1:4222\",\"127.0.0.1:4223\"")
    );
    // About to go, and coming back.
    server.send(&mut script, &info("\"ldm\":true"));
    assert_eq!(
        told(&mut client, server.now).as_deref(),
        Some("[\"127.0.0.1:4222\"")
    );
    while !script.session.close_step(CloseReason::ClientClosed) {}
    assert_eq!(told(&mut client, server.now), None);
    let mut script = server.registered(urls);
    assert!(told(&mut client, server.now).is_some());
    while !script.session.close_step(CloseReason::ClientClosed) {}
    assert_eq!(
        told(&mut client, server.now).as_deref(),
        Some("[\"127.0.0.1:4222\"")
    );
}

#[test]
fn a_peer_is_asked_for_signs_of_life_and_dropped_without() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.registered("");
    let mut pings = Vec::new();
    while script.closed().is_none() {
        server.now = script.session.next_timeout();
        script.session.handle_timeout(server.now);
        pings.push(script.sent.text());
    }
    assert_eq!(
        pings,
        ["PING\r\n", "PING\r\n", "-ERR 'Stale Connection'\r\n"]
    );
    assert_eq!(script.closed(), Some(CloseReason::StaleConnection));
}

#[test]
fn reloads_dial_new_seeds_and_drop_old_ones() {
    let mut server = Server::new(cluster(&[0]));
    let mut script = server.dial().expect("a seed");
    server.send(&mut script, &info(""));
    server.send(&mut script, "PONG\r\n");
    assert!(script.session.is_registered());
    let mut configuration = server.engine.configuration();
    configuration.cluster.as_mut().expect("a cluster").seeds = cluster(&[1]).seeds;
    drop(server.engine.reconfigure(configuration, server.now));
    assert_eq!(script.closed(), Some(CloseReason::RouteRemoved));
    while !script.session.close_step(CloseReason::ClientClosed) {}
    let mut dials = Vec::new();
    let mesh = server.engine.mesh().expect("a cluster");
    mesh.poll_dials(
        server.now + Duration::from_secs(9),
        Waker::noop(),
        &mut dials,
    );
    assert!(
        dials.iter().all(|dial| dial.port == 6001) && dials.len() == 2,
        "{dials:?}"
    );
}

#[test]
fn a_pool_that_shrinks_leaves_no_places_behind() {
    let mut server = Server::new(ClusterSettings {
        pool_size: 1,
        ..cluster(&[])
    });
    let of_old = |index| format!("\"route_pool_size\":3,\"route_pool_idx\":{index}");
    let mut old: Vec<Script> = (0..3)
        .map(|index| server.registered(&of_old(index)))
        .collect();
    let shared = |server: &Server| {
        let snapshot = server.engine.mesh().expect("a cluster").snapshot();
        snapshot.peers[0].shared.len()
    };
    assert_eq!(shared(&server), 3);
    // The peer has been reloaded: of its connections the end of one has been heard of when the first new one comes.
    let mut first = old.remove(0);
    while !first.session.close_step(CloseReason::ClientClosed) {}
    let new = server.registered("\"route_pool_size\":1");
    assert_eq!(new.closed(), None);
    assert_eq!(shared(&server), 1);
    for script in &old {
        assert_eq!(script.closed(), Some(CloseReason::RouteRemoved));
    }
}

/// A peer has been reloaded and has no pool any more, of which one connection hears before another: those from before, and
/// the one that there is now, do not serve accounts side by side.
#[test]
fn connections_of_a_pool_and_one_without_are_never_there_at_one_time() {
    let settings = ClusterSettings {
        accounts: vec!["A".to_owned()],
        ..cluster(&[])
    };
    let mut server = Server::new(settings);
    let of_account = "\"route_pool_size\":3,\"route_account\":\"A\"";
    let hello = |more: &str| format!("{CONNECT}\r\n{}", info(more));
    for (first, second) in [(of_account, ""), ("", of_account)] {
        let mut old = server.registered(first);
        let mut new = server.accept();
        server.send(&mut new, &hello(second));
        assert_eq!(new.closed(), Some(CloseReason::DuplicateRoute), "{second}");
        if first == of_account {
            // The peer that has no pool any more has perhaps forgotten it, and would never end it.
            assert_eq!(old.closed(), Some(CloseReason::RouteRemoved));
        } else {
            assert_eq!(old.closed(), None);
            server.adapt(&mut old);
            let asked = old.sent.text();
            assert!(asked.contains("PING"), "whether it is still there: {asked}");
        }
        while !new.session.close_step(CloseReason::ClientClosed) {}
        while !old.session.close_step(CloseReason::ClientClosed) {}
        let mut new = server.registered(second);
        while !new.session.close_step(CloseReason::ClientClosed) {}
    }
}

/// A connection on which this server has said what was so before a reload is not let in after it.
#[test]
fn who_was_told_of_another_pool_comes_again() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.accept();
    let mut configuration = server.engine.configuration();
    (configuration.cluster.as_mut().expect("a cluster")).pool_size = 0;
    drop(server.engine.reconfigure(configuration, server.now));
    server.send(&mut script, &format!("{CONNECT}\r\n{}", info("")));
    assert!(!script.session.is_registered());
    server.registered("");
}

/// Whoever reaches the port can come as a server again and again, as another one each time.
#[test]
fn servers_are_not_taken_without_end() {
    let mut server = Server::new(cluster(&[]));
    let mut scripts = Vec::new();
    let refused = loop {
        let mut script = server.accept();
        let name = format!("PEER{}", scripts.len());
        let hello = format!("{CONNECT}\r\n{}", info("")).replace("PEER", &name);
        let sent = server.send(&mut script, &hello);
        if !script.session.is_registered() {
            break (script, sent);
        }
        scripts.push(script);
        assert!(scripts.len() < 5000);
    };
    let (script, sent) = refused;
    assert!(
        sent.ends_with("-ERR 'maximum connections exceeded'\r\n"),
        "{sent}"
    );
    assert_eq!(script.closed(), Some(CloseReason::ConnectionsExceeded));
    assert_eq!(scripts.len(), 1024);
    // There is room again once one has gone.
    let mut first = scripts.swap_remove(0);
    while !first.session.close_step(CloseReason::ClientClosed) {}
    server.registered("");
}

#[test]
fn one_that_is_no_seed_any_more_is_not_dialled_for_what_others_tell_of_it() {
    for is_dropped in [false, true] {
        let mut server = Server::new(cluster(&[0]));
        let mut script = server.dial().expect("a seed");
        server.send(&mut script, &info(""));
        server.send(&mut script, "PONG\r\n");
        let mut third = server.accept();
        let of_third = |text: &str| text.replace("PEER", "THIRD").replace("24352", "24353");
        server.send(&mut third, &of_third(&format!("{CONNECT}\r\n{}", info(""))));
        let mut configuration = server.engine.configuration();
        let settings = configuration.cluster.as_mut().expect("a cluster");
        if is_dropped {
            settings.seeds.clear();
        }
        drop(server.engine.reconfigure(configuration, server.now));
        script.session.outbox().close(CloseReason::ClientClosed);
        while !script.session.close_step(CloseReason::ClientClosed) {}
        let dials = || {
            let mut dials = Vec::new();
            let mesh = server.engine.mesh().expect("a cluster");
            let later = server.now + Duration::from_secs(9);
            mesh.poll_dials(later, Waker::noop(), &mut dials);
            dials.iter().filter(|dial| dial.port != 24353).count()
        };
        let before = dials();
        server.send(
            &mut third,
            &info("\"ip\":\"nats-route://127.0.0.1:24352/\""),
        );
        server.send(
            &mut third,
            &info("\"ip\":\"nats-route://127.0.0.1:24354/\"").replace("PEER", "FOURTH"),
        );
        let mut after = Vec::new();
        let mesh = server.engine.mesh().expect("a cluster");
        let later = server.now + Duration::from_secs(9);
        mesh.poll_dials(later, Waker::noop(), &mut after);
        let is_to = |port| after.iter().any(|dial| dial.port == port);
        assert_eq!(before > 0, !is_dropped);
        assert!(is_to(24354), "{after:?}");
        assert_eq!(is_to(24352), !is_dropped, "{after:?}");
    }
}

#[test]
fn a_seed_that_stands_for_several_is_dialled_as_those() {
    let mut settings = cluster(&[0]);
    settings.seeds[0].is_resolved = true;
    settings.pool_size = 0;
    let server = Server::new(settings);
    let mesh = server.engine.mesh().expect("a cluster");
    let dials = || {
        let mut dials = Vec::new();
        mesh.poll_dials(server.now, Waker::noop(), &mut dials);
        let mut ports: Vec<_> = dials.iter().map(|dial| dial.port).collect();
        ports.sort_unstable();
        ports
    };
    let target = |port| natterjack_engine::Target {
        host: "10.0.0.1".to_owned(),
        port,
        tls_name: Some("cluster.example.net".to_owned()),
    };
    assert_eq!(dials(), [0_u16; 0]);
    mesh.set_seed_targets(0, &[target(1), target(2)], server.now);
    assert_eq!(dials(), [1, 2]);
    mesh.set_seed_targets(0, &[target(2), target(3)], server.now);
    assert_eq!(dials(), [3]);
}

/// Lines that a peer may say, with bytes of them changed, in pieces: nothing panics, and what a closed connection wanted
/// is gone.
#[test]
fn whatever_a_peer_says_leaves_nothing_behind() {
    let lines = [
        "RS+ $G a\r\n",
        "RS+ $G a.> q 3\r\n",
        "RS- $G a\r\n",
        "LS+ o $G b\r\n",
        "LS- o $G b\r\n",
        "RS+ NOPE c\r\n",
        "RMSG $G a 5\r\nhello\r\n",
        "RMSG $G a | q r 5\r\nhello\r\n",
        "HMSG $G a + r q 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
        "LMSG o $G a 0 5\r\nhello\r\n",
        "PING\r\n",
        "PONG\r\n",
        "INFO {\"server_id\":\"OTHER\",\"ip\":\"nats-route://10.0.0.1:6222/\",\"cluster\":\"c\"}\r\n",
        "INFO {\"server_id\":\"PEER\",\"ldm\":true}\r\n",
        "INFO {\"route_account\":\"A\",\"route_acc_add_reqid\":\"1\"}\r\n",
    ];
    let mut server = Server::new(cluster(&[]));
    for chance in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(chance);
        let mut script = server.registered("");
        let mut text = String::new();
        for _ in 0..rng.usize(1..12) {
            text += lines[rng.usize(..lines.len())];
        }
        let mut bytes = text.into_bytes();
        if rng.bool() {
            let place = rng.usize(..bytes.len());
            bytes[place] = rng.u8(..0x80);
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rng.usize(1..=rest.len()));
            server.send(&mut script, piece);
            rest = behind;
        }
        while !script.session.close_step(CloseReason::ClientClosed) {}
        let accounts = server.engine.accounts();
        assert!(
            accounts.iter().all(|account| account.peer_interest() == 0),
            "seed {chance}"
        );
        let mesh = server.engine.mesh().expect("a cluster");
        assert!(mesh.snapshot().peers.is_empty(), "seed {chance}");
    }
}

#[test]
fn a_handshake_is_not_waited_for_for_ever() {
    let server = Server::new(cluster(&[0]));
    let dialled = server.dial().expect("a seed");
    for mut script in [server.accept(), dialled] {
        let begin = server.now;
        script.sent.text();
        let end = script.session.next_timeout();
        assert_eq!(end - begin, Duration::from_secs(10));
        script.session.handle_timeout(end);
        assert_eq!(script.sent.text(), "-ERR 'Stale Connection'\r\n");
        assert_eq!(script.closed(), Some(CloseReason::StaleConnection));
    }
    // Whoever leaves more time to log in means it.
    let mut settings = cluster(&[]);
    settings.limits.auth_timeout = Duration::from_secs(20);
    let server = Server::new(settings);
    let script = server.accept();
    assert_eq!(
        script.session.next_timeout() - server.now,
        Duration::from_secs(20)
    );
}

/// A peer that tells of servers which are none has this one knock at a few doors at a time, and not for ever.
#[test]
fn who_invents_servers_does_not_have_them_all_dialled_at_once() {
    let mut server = Server::new(cluster(&[]));
    let mut script = server.registered("");
    for number in 0..5000 {
        let other = info(&format!(
            "\"ip\":\"nats-route://10.1.{}.{}:6222/\"",
            number / 250,
            number % 250
        ));
        let other = other.replace("PEER", &format!("OTHER{number}"));
        server.send(&mut script, &other);
    }
    assert_eq!(script.closed(), None);
    let engine = Arc::clone(&server.engine);
    let mesh = engine.mesh().expect("a cluster");
    let mut total = 0;
    loop {
        let mut dials = Vec::new();
        mesh.poll_dials(server.now, Waker::noop(), &mut dials);
        assert!(dials.len() <= 128, "{} at once", dials.len());
        if dials.is_empty() {
            break;
        }
        let mut more = Vec::new();
        mesh.poll_dials(server.now, Waker::noop(), &mut more);
        assert_eq!(more, [], "the others wait");
        if dials.len() == 128 {
            assert_eq!(mesh.next_dial_at(), None, "there is nothing to wake up for");
        }
        total += dials.len();
        for dial in dials {
            mesh.dial_failed(dial.id, &"nobody there", server.now);
        }
    }
    // One connection to share and one for the system account.
    assert!((128..=2 * 1024).contains(&total), "{total} were dialled");
}
