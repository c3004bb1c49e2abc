//! Routes with compression, between a scripted peer made of `natterjack-wire` and the real nats-server: that what it
//! writes can be read, at every level, and that it reads what we write. The scripted peer is the server here, so only one
//! kind of server is tested.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use libtest_mimic::Trial;
use natterjack_wire::route::{
    self, Compression, Decoded, MessageHead, RemoteSubscribe, RouteConnect, RouteInfo, RouteLimits,
    RouteOp, decode_route,
};
use natterjack_wire::s2::{Compressor, Decompressor, Effort};
use serde_json::json;
use testkit::{Config, Deadline, Kind, Listener, PATIENCE, Peer, ServerUnderTest};

use crate::trial;

/// Large enough for blocks of a megabyte to have more than one, and for every instruction to occur.
const PAYLOAD_BYTES: usize = 900_000;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || Kind::NatsServer.program().map(drop);
    let modes = [
        // What the server is set to, what we are set to, and what it then says.
        ("s2_fast", Compression::S2Fast, "s2_fast"),
        ("s2_better", Compression::S2Fast, "s2_better"),
        ("s2_best", Compression::Accept, "s2_best"),
        ("accept", Compression::S2Uncompressed, "s2_uncompressed"),
        ("s2_auto", Compression::S2Better, "s2_auto"),
    ];
    let dialled = modes.into_iter().map(|(theirs, ours, said)| {
        let name = format!("route_compression::we_dial_one_set_to_{theirs}");
        trial(name, [needs()], move || we_dial(theirs, ours, said))
    });
    let dials = ["s2_fast", "s2_best"].into_iter().map(|theirs| {
        let name = format!("route_compression::one_set_to_{theirs}_dials_us");
        trial(name, [needs()], move || it_dials(theirs))
    });
    dialled.chain(dials).collect()
}

fn we_dial(theirs: &str, ours: Compression, said: &str) {
    let server = server(theirs, "");
    let mut peer = RoutePeer::new(dial(server.listener(Listener::Route)));
    peer.send(|out| route::connect(out, &connect()));
    let first = peer.expect_info();
    let remote = Compression::from_name(&first.compression).expect("a mode");
    let agreed = ours.agreed(remote);
    assert!(agreed.is_compressed(), "{ours:?} with {remote:?}");
    peer.send(|out| route::info(out, &info(agreed)));
    peer.compress(agreed);
    assert_eq!(peer.expect_info().compression, said);
    peer.send(|out| route::info(out, &info(agreed)));
    exchange(&mut peer, &server);
}

fn it_dials(theirs: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of its own");
    let address = listener.local_addr().expect("bound");
    let (sender, accepted) = mpsc::channel();
    thread::spawn(move || sender.send(listener.accept()));
    let server = server(theirs, &format!("routes: [\"nats-route://{address}\"]"));
    let accepted = accepted.recv_timeout(PATIENCE).expect("it dials in time");
    let mut peer = RoutePeer::new(accepted.expect("it dials").0);
    let ours = Compression::Accept;
    let cluster = peer.expect(|op| match op {
        RouteOp::Connect(json) => Some(RouteConnect::parse(json).expect("a CONNECT").cluster),
        _ => None,
    });
    assert_eq!(cluster, "C");
    peer.send(|out| route::info(out, &info(ours)));
    let first = peer.expect_info();
    assert_eq!(first.compression, theirs);
    let agreed = ours.agreed(Compression::from_name(theirs).expect("a mode"));
    peer.compress(agreed);
    peer.send(|out| route::info(out, &info(agreed)));
    assert_eq!(peer.expect_info().compression, theirs);
    exchange(&mut peer, &server);
}

/// Interest and a large message, both ways.
fn exchange(peer: &mut RoutePeer, server: &ServerUnderTest) {
    let interest = RemoteSubscribe {
        origin: None,
        account: Some(b"$G"),
        subject: b"to.us",
        queue: None,
    };
    peer.send(|out| {
        route::subscribe(out, &interest);
        route::ping(out);
    });
    peer.expect(|op| matches!(op, RouteOp::Pong).then_some(()));

    let connect = json!({"verbose": false, "headers": true});
    let mut client = Peer::introduced(server.address(), &connect);
    client.send("SUB to.client 1\r\n");
    client.ping_pong();
    peer.expect(|op| match op {
        RouteOp::Subscribe(interest) => (interest.subject == b"to.client").then_some(()),
        _ => None,
    });

    let payload = payload();
    client.send(
        [
            format!("PUB to.us answers {PAYLOAD_BYTES}\r\n").as_bytes(),
            &payload,
            b"\r\n",
        ]
        .concat(),
    );
    peer.expect(|op| match op {
        RouteOp::Message(message) if message.subject == b"to.us" => {
            assert_eq!(message.reply, Some(&b"answers"[..]));
            assert!(message.body == payload, "the payload is another");
            Some(())
        }
        _ => None,
    });

    let head = MessageHead {
        origin: None,
        account: Some(b"$G"),
        subject: b"to.client",
        reply: None,
        queues: &[],
        header_len_text: None,
        total_len_text: &route::decimal(PAYLOAD_BYTES),
    };
    peer.send(|out| {
        head.write(out);
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\r\n");
    });
    client.expect(
        [
            format!("MSG to.client 1 {PAYLOAD_BYTES}\r\n").as_bytes(),
            &payload,
            b"\r\n",
        ]
        .concat(),
    );
    // Small ones in streams that go on.
    for number in 0..20 {
        peer.send(|out| {
            let head = MessageHead {
                total_len_text: b"2",
                ..head
            };
            head.write(out);
            out.extend_from_slice(format!("{number:02}\r\n").as_bytes());
        });
        client.expect(format!("MSG to.client 1 2\r\n{number:02}\r\n"));
    }
}

fn server(compression: &str, routes: &str) -> ServerUnderTest {
    let text = format!(
        "cluster {{ name: C, listen: \"127.0.0.1:-1\", pool_size: -1, compression: {compression}\n {routes} }}\n"
    );
    ServerUnderTest::start(Kind::NatsServer, &Config::file(text))
}

fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, PATIENCE).expect("it listens")
}

fn connect() -> RouteConnect {
    RouteConnect {
        echo: true,
        headers: true,
        name: "PEER".into(),
        cluster: "C".into(),
        ..RouteConnect::default()
    }
}

fn info(compression: Compression) -> RouteInfo {
    RouteInfo {
        server_id: "PEER".into(),
        server_name: "peer".into(),
        version: "2.15.1".into(),
        proto: 2,
        go: "none".into(),
        host: "127.0.0.1".into(),
        port: 1,
        headers: true,
        max_payload: 1_048_576,
        cluster: "C".into(),
        compression: compression.name().into(),
        ..RouteInfo::default()
    }
}

/// Some of it shrinks well, some a little, some not at all.
fn payload() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut out = Vec::with_capacity(PAYLOAD_BYTES + 10_000);
    while out.len() < PAYLOAD_BYTES {
        match rng.u8(..4) {
            0 => out.extend((0..rng.usize(..3000)).map(|_| rng.u8(..))),
            1 => out.extend(std::iter::repeat_n(rng.u8(..), rng.usize(..9000))),
            2 if out.len() > 10_000 => {
                // From anywhere, so that far copies occur.
                let from = rng.usize(..out.len() - 5000);
                out.extend_from_within(from..from + rng.usize(4..5000));
            }
            _ => {
                for number in 0..rng.usize(..50) {
                    out.extend_from_slice(
                        format!("{{\"sensor\":{number},\"value\":{}}},", rng.u16(..)).as_bytes(),
                    );
                }
            }
        }
    }
    out.truncate(PAYLOAD_BYTES);
    out
}

/// The other end of a route.
struct RoutePeer {
    stream: TcpStream,
    wire: Vec<u8>,
    plain: Vec<u8>,
    compression: Option<(Compressor, Decompressor)>,
}

impl RoutePeer {
    fn new(stream: TcpStream) -> Self {
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        let patience = Some(PATIENCE);
        stream.set_write_timeout(patience).expect("not zero");
        Self {
            stream,
            wire: Vec::new(),
            plain: Vec::new(),
            compression: None,
        }
    }

    /// From here on, both ways.
    fn compress(&mut self, mode: Compression) {
        let effort = match mode {
            Compression::S2Uncompressed => Effort::Stored,
            _ => Effort::Fast,
        };
        assert!(self.plain.is_empty(), "it waits for our INFO");
        self.compression = Some((Compressor::new(effort), Decompressor::default()));
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut plain = Vec::new();
        write(&mut plain);
        let bytes = match &mut self.compression {
            None => plain,
            Some((compressor, _)) => {
                let mut bytes = Vec::new();
                compressor.write(&plain, &mut bytes);
                bytes
            }
        };
        self.stream.write_all(&bytes).expect("it reads");
    }

    #[track_caller]
    fn expect_info(&mut self) -> RouteInfo {
        self.expect(|op| match op {
            RouteOp::Info(json) => Some(RouteInfo::parse(json).expect("an INFO")),
            _ => None,
        })
    }

    /// Reads on until it says what is wanted; answers its `PING`s.
    #[track_caller]
    fn expect<T>(&mut self, wanted: impl Fn(&RouteOp<'_>) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        let limits = RouteLimits::default();
        loop {
            while let Decoded::Op { op, consumed } =
                decode_route(&self.plain, &limits).expect("the protocol of routes")
            {
                let found = wanted(&op);
                let is_ping = op == RouteOp::Ping;
                assert!(!matches!(op, RouteOp::Err(_)), "it says {op:?}");
                self.plain.drain(..consumed);
                if is_ping {
                    self.send(route::pong);
                }
                if let Some(found) = found {
                    return found;
                }
            }
            self.receive(deadline);
        }
    }

    #[track_caller]
    fn receive(&mut self, deadline: Deadline) {
        let left = deadline.left().expect("it says so in time");
        self.stream.set_read_timeout(Some(left)).expect("not zero");
        let mut buffer = [0; 65_536];
        let read = self.stream.read(&mut buffer).expect("it says so in time");
        assert!(read > 0, "it has hung up");
        match &mut self.compression {
            None => self.plain.extend_from_slice(&buffer[..read]),
            Some((_, decompressor)) => {
                self.wire.extend_from_slice(&buffer[..read]);
                let mut taken = 0;
                while let Decoded::Op { consumed, .. } = decompressor
                    .read(&self.wire[taken..], &mut self.plain)
                    .expect("an S2 stream")
                {
                    taken += consumed;
                }
                self.wire.drain(..taken);
            }
        }
    }
}
