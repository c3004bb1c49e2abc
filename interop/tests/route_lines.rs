//! Lines of routes, right and wrong, put to the real nats-server one connection each: it takes and refuses what our
//! decoder does, with the same `-ERR`. Where the two differ on purpose, `natterjack_wire::route` says so, and there is no
//! line of it here.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use libtest_mimic::Trial;
use natterjack_wire::client::error_text;
use natterjack_wire::route::{
    self, Decoded, RouteConnect, RouteInfo, RouteLimits, RouteOp, decode_route,
};
use testkit::{Config, Deadline, Kind, Listener, PATIENCE, ServerUnderTest};

use crate::trial;

/// Behind a `CONNECT` and an `INFO`, and before a `PING`.
const LINES: [&str; 52] = [
    "RS+ $G foo\r\n",
    "rS+\t$G\t\tfoo \r\n",
    "RS+ $G foo\nRS- $G foo\n",
    "RS+ $G foo q 1\r\n",
    "RS+ $G foo q 0\r\n",
    "RS+ $G foo q x\r\n",
    "RS+ $G foo q -1\r\n",
    "RS+ $G foo q 9999999999\r\n",
    "RS+ $G foo q\r\n",
    "RS+ $G foo q 1 2\r\n",
    "RS+ foo\r\n",
    "RS+x",
    "RS*",
    "RS- $G foo\r\n",
    "RS- $G foo q\r\n",
    "RS- $G foo q 1\r\n",
    "RS- foo\r\n",
    "LS+ o $G foo\r\n",
    "LS+ o $G foo q 2\r\n",
    "LS+ $G foo\r\n",
    "LS+ o $G foo q\r\n",
    "LS- o $G foo\r\n",
    "LS- o $G foo q\r\n",
    "LS- $G foo\r\n",
    "RMSG $G foo 1\r\nx\r\n",
    "rmsg $G foo  01\nx\r\n",
    "RMSG $G foo r 1\r\nx\r\n",
    "RMSG $G foo | 1\r\nx\r\n",
    "RMSG $G foo + r 1\r\nx\r\n",
    "RMSG $G foo + r q1 q2 1\r\nx\r\n",
    "RMSG $G foo | q1 q2 1\r\nx\r\n",
    "RMSG $G foo a b 1\r\nx\r\n",
    "RMSG $G foo ++ b 1\r\nx\r\n",
    "RMSG $G 1\r\nx\r\n",
    "RMSG $G foo x\r\n",
    "RMSG $G foo -1\r\n",
    "RMSG $G foo 0000000001\r\n",
    "RMSG $G foo 1\r\nxyz\r\n",
    "HMSG $G foo 1 1\r\nx\r\n",
    "HMSG $G foo + r q 0 1\r\nx\r\n",
    "HMSG $G foo 1\r\n",
    "HMSG $G foo 2 1\r\n",
    "HMSG $G foo x 1\r\n",
    "HMSG $G foo a b 0 1\r\n",
    "LMSG o $G foo 0 1\r\nx\r\n",
    "LMSG o $G foo | q 0 1\r\nx\r\n",
    "LMSG o $G foo 1\r\n",
    "LMSG o $G foo x 1\r\n",
    "A+ a\r\nA- a\r\n",
    "+OK\r\n",
    "-ERR 'x'\r\n",
    "HTTP/1.1 200\r\n",
];

pub(crate) fn trials() -> Vec<Trial> {
    let needs = [Kind::NatsServer.program().map(drop)];
    let name = "route_lines::taken_and_refused_as_nats_server_does".to_owned();
    vec![trial(name, needs, || {
        let text = "cluster { name: C, listen: \"127.0.0.1:-1\", pool_size: -1 }\n";
        let server = ServerUnderTest::start(Kind::NatsServer, &Config::file(text));
        let address = server.listener(Listener::Route);
        for (number, line) in LINES.into_iter().enumerate() {
            let found = their_answer(address, number, line);
            assert_eq!(found, our_answer(line), "{line:?}");
        }
        let long = |bytes: usize| format!("RS+ $G {}\r\n", "a".repeat(bytes));
        for bytes in [65_000, 65_533, 65_534, 70_000] {
            let line = long(bytes);
            let found = their_answer(address, 100 + bytes, &line);
            assert_eq!(found, our_answer(&line), "{bytes} bytes");
        }
    })]
}

/// What becomes of a connection.
#[derive(Debug, PartialEq)]
enum Answer {
    Goes,
    /// With an `-ERR` or without a word.
    Closes(Option<String>),
}

fn our_answer(line: &str) -> Answer {
    let limits = RouteLimits::default();
    let mut rest = line.as_bytes();
    loop {
        match decode_route(rest, &limits) {
            // Whoever says so is not spoken to any more.
            Ok(Decoded::Op {
                op: RouteOp::Err(_),
                ..
            }) => return Answer::Closes(None),
            Ok(Decoded::Op { consumed, .. }) => rest = &rest[consumed..],
            Ok(Decoded::Incomplete { .. }) => {
                assert!(rest.is_empty(), "{line:?} is not whole");
                return Answer::Goes;
            }
            Err(error) => {
                let text = error.reply().map(|reply| {
                    let mut text = Vec::new();
                    reply.write_text(&mut text);
                    String::from_utf8(text).expect("a fixed text")
                });
                return Answer::Closes(text);
            }
        }
    }
}

fn their_answer(address: SocketAddr, number: usize, line: &str) -> Answer {
    // With the id of one that is only just gone it would be a duplicate.
    let id = format!("PEER{number}");
    let connect = RouteConnect {
        echo: true,
        headers: true,
        name: id.clone(),
        cluster: "C".into(),
        ..RouteConnect::default()
    };
    let info = RouteInfo {
        server_id: id.clone(),
        server_name: id,
        version: "2.15.1".into(),
        proto: 2,
        go: "none".into(),
        host: "127.0.0.1".into(),
        port: 1,
        headers: true,
        max_payload: 1_048_576,
        cluster: "C".into(),
        lnoc: true,
        lnocu: true,
        ..RouteInfo::default()
    };
    let mut bytes = Vec::new();
    route::connect(&mut bytes, &connect);
    route::info(&mut bytes, &info);
    bytes.extend_from_slice(line.as_bytes());
    route::ping(&mut bytes);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.write_all(&bytes).expect("room for some lines");

    let deadline = Deadline::after(PATIENCE);
    let mut received = Vec::new();
    let mut error = None;
    let mut buffer = [0; 65_536];
    loop {
        let left = deadline.left().expect("an answer in time");
        stream.set_read_timeout(Some(left)).expect("not zero");
        match stream.read(&mut buffer) {
            // It hangs up on bytes that it has not read.
            Err(failure) if failure.kind() == ErrorKind::ConnectionReset => {
                return Answer::Closes(error);
            }
            Ok(0) => return Answer::Closes(error),
            read => received.extend_from_slice(&buffer[..read.expect("an answer in time")]),
        }
        let mut taken = 0;
        while let Decoded::Op { op, consumed } =
            decode_route(&received[taken..], &RouteLimits::default())
                .expect("what it says is right")
        {
            taken += consumed;
            match op {
                RouteOp::Pong => return Answer::Goes,
                RouteOp::Err(text) => {
                    error = Some(String::from_utf8_lossy(error_text(text)).into_owned());
                }
                _ => {}
            }
        }
        received.drain(..taken);
    }
}
