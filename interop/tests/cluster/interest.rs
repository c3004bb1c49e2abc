//! A peer that announces interest without end: what each of it takes, and that there is a bound.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use libtest_mimic::Trial;
use testkit::{Config, Kind, Listener, PATIENCE, ServerUnderTest, ask_until};

use super::{OURS, REAL, is_full};
use crate::trial;

/// Lines that are written at a time.
const LINES: usize = 10_000;

/// What an interest may take, with a subject of 25 bytes.
const BYTES_EACH_MAX: usize = 340;

pub(super) fn trials() -> Vec<Trial> {
    let needs = || [OURS, REAL].map(|kind| kind.program().map(drop));
    vec![
        trial(
            "cluster::interest::takes_less_than_on_nats_server".to_owned(),
            needs(),
            takes_less_than_on_nats_server,
        ),
        trial(
            "cluster::interest::without_end_is_refused".to_owned(),
            needs(),
            without_end_is_refused,
        ),
    ]
}

fn started(kind: Kind, more: &str) -> ServerUnderTest {
    let text = format!(
        "http: \"127.0.0.1:-1\"\ncluster {{ name: C, listen: \"127.0.0.1:-1\", pool_size: -1\n{more} }}\n"
    );
    ServerUnderTest::start(kind, &Config::file(text))
}

fn takes_less_than_on_nats_server() {
    let count = if is_full() { 1_000_000 } else { 300_000 };
    let [ours, real] = [OURS, REAL].map(|kind| {
        let server = started(kind, "");
        let before = memory(&server);
        let mut peer = Announcer::connect(server.listener(Listener::Route));
        assert_eq!(peer.announce(count), None);
        memory(&server).saturating_sub(before) / count
    });
    assert!(ours <= BYTES_EACH_MAX, "{ours} bytes each");
    assert!(ours < real, "{ours} bytes each, and {real}");
}

/// nats-server knows no bound: it takes all.
fn without_end_is_refused() {
    const TOO_MANY: usize = 200_000;
    let server = started(OURS, "max_interest: 10MB");
    let before = memory(&server);
    let mut peer = Announcer::connect(server.listener(Listener::Route));
    let said = peer.announce(TOO_MANY);
    assert_eq!(
        said.as_deref(),
        Some("-ERR 'maximum subscriptions exceeded'")
    );
    let log = ask_until(PATIENCE, || {
        let log = server.log();
        log.contains("raise `max_interest`").then_some(log)
    });
    assert!(log.is_some(), "{}", server.log());
    let grown = memory(&server).saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{grown} bytes for what is bounded by 10 MB"
    );
    // Everybody else is served.
    let mut other = Announcer::connect(server.listener(Listener::Route));
    assert_eq!(other.announce(LINES), None);

    let server = started(REAL, "");
    let mut peer = Announcer::connect(server.listener(Listener::Route));
    assert_eq!(peer.announce(TOO_MANY), None);
}

/// Memory of the process, as it says itself.
fn memory(server: &ServerUnderTest) -> usize {
    let address = server.listener(Listener::Monitor);
    let page = testkit::HttpAnswer::get(address, "/varz").json();
    usize::try_from(page["mem"].as_u64().expect("a number")).expect("memory is addressed by it")
}

/// A server that has nothing to say but what it wants.
struct Announcer {
    output: TcpStream,
    input: BufReader<TcpStream>,
    announced: usize,
}

impl Announcer {
    fn connect(address: SocketAddr) -> Self {
        let output = TcpStream::connect(address).expect("the server listens");
        output
            .set_read_timeout(Some(PATIENCE))
            .expect("a connected socket takes options");
        let input = BufReader::new(output.try_clone().expect("a socket can be cloned"));
        let mut peer = Self {
            output,
            input,
            announced: 0,
        };
        let local = peer.output.local_addr().expect("connected");
        let port = local.port();
        let hello = format!(
            "CONNECT {{\"name\":\"P{port}\",\"cluster\":\"C\",\"headers\":true}}\r\n\
             INFO {{\"server_id\":\"P{port}\",\"server_name\":\"p{port}\",\"version\":\"2.15.1\",\"proto\":2,\
             \"host\":\"127.0.0.1\",\"port\":{port},\"headers\":true,\"max_payload\":1048576,\"cluster\":\"C\"}}\r\n"
        );
        peer.output
            .write_all(hello.as_bytes())
            .expect("the server reads");
        assert_eq!(peer.round_trip(), None);
        peer
    }

    /// Announces that many subjects. Returns what the server has against it.
    fn announce(&mut self, count: usize) -> Option<String> {
        while self.announced < count {
            let mut text = String::new();
            for _ in 0..LINES {
                self.announced += 1;
                write!(text, "RS+ $G orders.eu.{:016}\r\n", self.announced).expect("into memory");
            }
            if self.output.write_all(text.as_bytes()).is_err() {
                return self.last_word();
            }
            if let Some(refusal) = self.round_trip() {
                return Some(refusal);
            }
        }
        None
    }

    fn round_trip(&mut self) -> Option<String> {
        if self.output.write_all(b"PING\r\n").is_err() {
            return self.last_word();
        }
        loop {
            let line = self.line().expect("the server answers");
            match line.as_str() {
                "PONG" => return None,
                "PING" => self
                    .output
                    .write_all(b"PONG\r\n")
                    .expect("the server reads"),
                line if line.starts_with("-ERR") => return Some(line.to_owned()),
                _ => {}
            }
        }
    }

    fn last_word(&mut self) -> Option<String> {
        while let Some(line) = self.line() {
            if line.starts_with("-ERR") {
                return Some(line);
            }
        }
        Some("it hung up".to_owned())
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(count) if count > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}
